//! Models of the hub for every command: its settings out of the environment, the configured names made into folders,
//! and what is shown meanwhile.
//!
//! A run that has begun keeps the commits that it began with: they are read from its store, and count instead of
//! what the revision means by now.

use std::cell::RefCell;
use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Command;
use super::policy::PolicyArgs;
use crate::config::{Config, JudgeConfig, Snapshot};
use crate::hub::{Event, Found, Hub, HubId, Look, Settings, Want};
use crate::improve::is_adapter;

const ENDPOINT: &str = "https://huggingface.co";

/// The name of the built-in model, which is no path.
const EMBEDDED: &str = "embedded";

/// Between two plain lines of one file.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Makes every name of a hub's model that `command` needs into a folder, fetching it if need be.
pub fn settle(config: &mut Config, command: &mut Command, quiet: bool) -> Result<()> {
    let (mut settings, mut policy, mut needs_base) = (settings(), None, false);
    let mut places = &Place::ALL[..2];
    match command {
        // A judge and a reference are for runs alone.
        Command::Run(args) if args.needs_model() => places = &Place::ALL,
        Command::Pretrain(_) => {}
        // To look at a trajectory is no reason to fetch a model.
        Command::Inspect(args) if args.needs_tokenizer() => settings.offline = true,
        Command::Eval(args) => policy = Some(&mut args.policy),
        Command::Generate(args) => policy = Some(&mut args.policy),
        Command::Logprobs(args) => policy = Some(&mut args.policy),
        // An export has the types of the configured model.
        Command::Export(args) => (policy, needs_base) = (Some(args.policy()), true),
        // The doctor looks before anything is fetched; the rest needs no model.
        _ => return Ok(()),
    }
    let shown = Shown::new(quiet);
    let on_event = |event| shown.on_event(event);
    let hub = Hub::new(settings, &on_event);
    if let Some(folder) = policy.and_then(PolicyArgs::model_mut) {
        let name = folder.display().to_string();
        if let Some(found) = resolve(&hub, "--model", &name, Want::Either, None, &shown)? {
            *folder = found.path;
        }
        if !is_adapter(folder) && !needs_base {
            return Ok(());
        }
    }
    settle_config(&hub, config, &shown, places)
}

/// What the configuration names at these places, at the commits that the run began with.
fn settle_config(hub: &Hub, config: &mut Config, shown: &Shown, places: &[Place]) -> Result<()> {
    for place in places {
        let name = place.name(config);
        if place.is_hub(&name)? {
            let pinned = place.pinned(config)?;
            let found = resolve(hub, place.key, &name, place.want, pinned.as_deref(), shown)?;
            place.put(config, found);
        }
    }
    Ok(())
}

/// What the hub holds of a configured model, for the doctor.
#[derive(Serialize)]
pub struct HubReport {
    key: &'static str,
    model: String,
    commit: String,
    /// Whether everything needed is in the cache.
    cached: bool,
    /// The snapshot, or where it would come to lie.
    folder: PathBuf,
    fetch: Vec<ToFetch>,
}

#[derive(Serialize)]
struct ToFetch {
    file: String,
    bytes: u64,
}

impl HubReport {
    pub fn is_cached(&self) -> bool {
        self.cached
    }

    pub fn lines(&self) -> Vec<String> {
        let Self { key, model, commit, folder, fetch, .. } = self;
        let mut lines = vec![format!("hub          {key} = {model:?} is at commit {commit}")];
        if self.cached {
            lines.push(format!("             cached in {}", folder.display()));
            return lines;
        }
        let bytes = fetch.iter().map(|file| file.bytes).sum();
        lines.push(format!(
            "             not cached: {} files of {} would be fetched to {}",
            fetch.len(),
            mebibytes(bytes),
            folder.display()
        ));
        lines.extend(
            fetch.iter().map(|file| format!("             {:>12} {}", mebibytes(file.bytes), file.file)),
        );
        lines
    }
}

/// Looks for the configured models of the hub, and makes those that are cached into folders; fetches nothing.
pub fn look(config: &mut Config) -> Result<Vec<HubReport>> {
    let shown = Shown::new(true);
    let on_event = |event| shown.on_event(event);
    let hub = Hub::new(settings(), &on_event);
    let mut reports = Vec::new();
    for place in Place::ALL {
        let name = place.name(config);
        if !place.is_hub(&name)? {
            continue;
        }
        let id = hub_id(place.key, &name)?;
        let look = hub.look(&id, place.want, place.pinned(config)?.as_deref());
        reports.push(match look.with_context(|| looked_for(place.key, &name))? {
            Look::Cached(found) => {
                let (commit, folder) = (found.commit.clone(), found.path.clone());
                place.put(config, Some(found));
                HubReport { key: place.key, model: name, commit, cached: true, folder, fetch: Vec::new() }
            }
            Look::Remote { commit, files } => {
                let fetch = files.into_iter().map(|(file, bytes)| ToFetch { file, bytes }).collect();
                let folder = hub.settings().cache.clone();
                HubReport { key: place.key, model: name, commit, cached: false, folder, fetch }
            }
        });
    }
    Ok(reports)
}

/// A key of the configuration that may name a model of the hub.
struct Place {
    key: &'static str,
    want: Want,
    /// Where a run's stored configuration has section, name and commit.
    stored: [&'static str; 3],
}

impl Place {
    const ALL: [Self; 4] = [
        Self { key: "model.path", want: Want::Checkpoint, stored: ["model", "path", "snapshot"] },
        Self { key: "model.adapter", want: Want::Adapter, stored: ["model", "adapter", "adapter_snapshot"] },
        Self { key: "judge.model", want: Want::Checkpoint, stored: ["judge", "model", "snapshot"] },
        Self { key: "reference.model", want: Want::Checkpoint, stored: ["reference", "model", "snapshot"] },
    ];

    /// The name, and where what it means is put.
    fn slot<'c>(&self, config: &'c mut Config) -> (&'c String, &'c mut Option<Snapshot>) {
        let Config { model, judge, reference, .. } = config;
        match self.stored {
            ["judge", ..] => (&judge.model, &mut judge.snapshot),
            ["reference", ..] => (&reference.model, &mut reference.snapshot),
            [_, "adapter", _] => (&model.adapter, &mut model.adapter_snapshot),
            _ => (&model.path, &mut model.snapshot),
        }
    }

    fn name(&self, config: &mut Config) -> String {
        self.slot(config).0.clone()
    }

    /// Whether the name means a model of the hub; an error if it means nothing at all.
    fn is_hub(&self, name: &str) -> Result<bool> {
        let is_own_name = (name == EMBEDDED && self.want != Want::Adapter)
            || (name == JudgeConfig::POLICY && self.key == "judge.model");
        if name.is_empty() || is_own_name || Path::new(name).exists() {
            return Ok(false);
        }
        hub_id(self.key, name).map(|_| true)
    }

    /// The commit that the run in `run.dir` began with, if it began with this name.
    fn pinned(&self, config: &mut Config) -> Result<Option<String>> {
        let stored = super::inspect::begun_with(config)?.unwrap_or_default();
        let [section, name, snapshot] = self.stored;
        let (name, snapshot) = (&stored[section][name], &stored[section][snapshot]);
        let commit = snapshot["commit"].as_str().filter(|_| name.as_str() == Some(&self.name(config)));
        Ok(commit.map(str::to_owned))
    }

    fn put(&self, config: &mut Config, found: Option<Found>) {
        *self.slot(config).1 = found.map(|found| Snapshot { commit: found.commit, folder: found.path });
    }
}

/// The model's place on this disk; `None` if `name` is a path that exists.
fn resolve(
    hub: &Hub,
    key: &str,
    name: &str,
    want: Want,
    pinned: Option<&str>,
    shown: &Shown,
) -> Result<Option<Found>> {
    if Path::new(name).exists() {
        return Ok(None);
    }
    let found = hub.resolve(&hub_id(key, name)?, want, pinned).with_context(|| looked_for(key, name))?;
    let because = if pinned.is_some() { ", as the run began with" } else { "" };
    shown.line(&format!("{name} is at commit {}{because}", found.commit));
    Ok(Some(found))
}

fn looked_for(key: &str, name: &str) -> String {
    format!("{key} = {name:?} is no path on this disk, so it was looked for as a model of the hub")
}

fn hub_id(key: &str, name: &str) -> Result<HubId> {
    let Some(id) = HubId::parse(name) else {
        bail!(
            "{key} = {name:?} is no path on this disk, nor shaped like a model of the hub (org/name, \
             org/name@revision, org/name/file.gguf); give one that is"
        );
    };
    Ok(id)
}

/// The hub's settings, from the variables that Python's `huggingface_hub` reads.
fn settings() -> Settings {
    settings_from(|name| env::var_os(name).and_then(|value| value.into_string().ok()))
}

fn settings_from(get: impl Fn(&str) -> Option<String>) -> Settings {
    let var = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let is_on = |name: &str| {
        var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
    };
    let home = || PathBuf::from(var("HOME").or_else(|| var("USERPROFILE")).unwrap_or_else(|| ".".to_owned()));
    let expanded = |path: String| match path.strip_prefix("~/") {
        Some(rest) => home().join(rest),
        None => PathBuf::from(path),
    };
    let folder = |name: &str| var(name).map(expanded);
    let hf_home = folder("HF_HOME").unwrap_or_else(|| {
        folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("huggingface")
    });
    let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
    let from_file = || {
        let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
        Some(token).filter(|token| !token.is_empty() && !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
    };
    let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN"));
    Settings {
        endpoint: var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned(),
        token: token.or_else(from_file),
        cache: cache.unwrap_or_else(|| hf_home.join("hub")),
        offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
    }
}

fn mebibytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// What fetching shows on standard error: a bar per file on a terminal, plain lines otherwise.
struct Shown {
    quiet: bool,
    file: RefCell<Option<Fetching>>,
}

struct Fetching {
    name: String,
    bytes: u64,
    here: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Shown {
    /// `quiet` shows nothing at all (`--json`).
    fn new(quiet: bool) -> Self {
        Self { quiet, file: RefCell::new(None) }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    fn on_event(&self, event: Event) {
        let mut file = self.file.borrow_mut();
        match event {
            _ if self.quiet => {}
            Event::Fetching { file: name, bytes, here } => {
                let bar = std::io::stderr().is_terminal().then(|| bar(&name, bytes, here));
                if bar.is_none() {
                    eprintln!("fetching {name} ({})", mebibytes(bytes));
                }
                *file = Some(Fetching { name, bytes, here, bar, last_line: Instant::now() });
            }
            Event::Received { bytes } => file.iter_mut().for_each(|file| file.received(bytes)),
            Event::Fetched { .. } => {
                file.take().and_then(|file| file.bar).iter().for_each(ProgressBar::finish);
            }
            Event::Note { message } => match file.as_ref().and_then(|file| file.bar.as_ref()) {
                Some(bar) => bar.println(message),
                None => eprintln!("{message}"),
            },
        }
    }
}

impl Fetching {
    fn received(&mut self, bytes: u64) {
        self.here += bytes;
        match &self.bar {
            Some(bar) => bar.set_position(self.here),
            None if self.last_line.elapsed() > PLAIN_EVERY => {
                self.last_line = Instant::now();
                eprintln!("  {}: {} of {}", self.name, mebibytes(self.here), mebibytes(self.bytes));
            }
            None => {}
        }
    }
}

fn bar(name: &str, bytes: u64, here: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let template = "  {prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar.set_position(here);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Settings {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        settings_from(get)
    }

    #[test]
    fn the_environment_is_read_as_python_reads_it() {
        let cache = |vars: &[(&str, &str)]| with(vars).cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/f")]), Path::new("/h/f/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(with(&[]).endpoint, "https://huggingface.co");
        assert_eq!(with(&[("HF_ENDPOINT", "http://mirror:1/")]).endpoint, "http://mirror:1");
        for (value, offline) in [("1", true), ("TRUE", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(with(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
    }

    #[test]
    fn the_token_comes_from_the_environment_or_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(with(&[home]).token.as_deref(), Some("hf_file"));
        assert_eq!(with(&[home, ("HF_TOKEN", " hf_own ")]).token.as_deref(), Some("hf_own"));
        assert_eq!(with(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert_eq!(with(&[("HF_TOKEN_PATH", "/absent"), home]).token, None);
    }
}
