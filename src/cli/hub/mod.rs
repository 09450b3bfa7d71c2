//! Models of the hub for every command: replaces the configured names by folders on this disk.
//!
//! A run keeps the commits with which it started. They are read from its store and are used instead of
//! what a revision points to now.

mod environment;
mod key;
mod progress;
mod report;

use std::path::Path;

use anyhow::{Context, Result};

pub(super) use report::{HubReport, look};

use super::Command;
use crate::config::Config;
use crate::hub::{Found, Hub, Want};
use crate::policy::is_adapter;
use environment::settings;
use key::{ModelKey, hub_id, looked_for};
use progress::FetchProgress;

/// Replaces every hub name that `command` needs by a folder; fetches models that are not cached.
pub(super) fn resolve_models(config: &mut Config, command: &mut Command, quiet: bool) -> Result<()> {
    let (mut settings, mut policy, mut needs_base) = (settings(), None, false);
    let mut keys = &ModelKey::ALL[..2];
    match command {
        // Only runs have a judge and a reference.
        Command::Run(args) if args.needs_model() => keys = &ModelKey::ALL,
        Command::Pretrain(_) => {}
        Command::Init(args) if args.looks() => {}
        // No model is fetched just to look at a trajectory.
        Command::Inspect(args) if args.needs_tokenizer() => settings.offline = true,
        Command::Eval(args) => policy = Some(&mut args.policy),
        Command::Generate(args) => policy = Some(&mut args.policy),
        Command::Chat(args) => policy = Some(&mut args.policy),
        Command::Logprobs(args) => policy = Some(&mut args.policy),
        // An export has the types of the configured model.
        Command::Export(args) => (policy, needs_base) = (Some(args.policy()), true),
        // The doctor looks for itself, and the other commands need no model.
        _ => return Ok(()),
    }
    let progress = FetchProgress::new(quiet);
    let on_event = |event| progress.on_event(event);
    let hub = Hub::new(settings, &on_event);
    if let Some(policy) = policy
        && let Some(name) = policy.model().map(|model| model.display().to_string())
    {
        if let Some(found) = resolve(&hub, "--model", &name, Want::Either, None, &progress)? {
            policy.found(found.path);
        }
        if !policy.model().is_some_and(is_adapter) && !needs_base {
            return Ok(());
        }
    }
    resolve_config(&hub, config, &progress, keys)
}

/// Resolves the names under these keys, at the commits with which the run started.
fn resolve_config(hub: &Hub, config: &mut Config, progress: &FetchProgress, keys: &[ModelKey]) -> Result<()> {
    for key in keys {
        let name = key.name(config);
        if key.is_hub(&name)? {
            let pinned = key.pinned(config)?;
            let found = resolve(hub, key.key, &name, key.want, pinned.as_deref(), progress)?;
            key.put(config, found);
        }
    }
    Ok(())
}

/// The model on this disk; `None` if `name` is a path that exists.
fn resolve(
    hub: &Hub,
    key: &str,
    name: &str,
    want: Want,
    pinned: Option<&str>,
    progress: &FetchProgress,
) -> Result<Option<Found>> {
    if Path::new(name).exists() {
        return Ok(None);
    }
    let found = hub.resolve(&hub_id(key, name)?, want, pinned).with_context(|| looked_for(key, name))?;
    let because = if pinned.is_some() { ", with which the run started" } else { "" };
    progress.line(&format!("{name} is at commit {}{because}", found.commit));
    Ok(Some(found))
}
