//! What a run would fetch from the hub, as the doctor reports it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::environment::settings;
use super::key::{ModelKey, hub_id, looked_for};
use super::progress::mebibytes;
use crate::config::Config;
use crate::hub::{Hub, Look};

/// Where a configured model of the hub is, for the doctor.
#[derive(Serialize)]
pub(crate) struct HubReport {
    /// The configuration key, and the name under it.
    key: &'static str,
    model: String,
    commit: String,
    /// Whether everything needed is in the cache.
    cached: bool,
    /// The snapshot, or the cache if the model isn't in it.
    folder: PathBuf,
    /// The files that a run would fetch.
    fetch: Vec<ToFetch>,
}

#[derive(Serialize)]
struct ToFetch {
    file: String,
    bytes: u64,
}

impl HubReport {
    pub(crate) fn is_cached(&self) -> bool {
        self.cached
    }

    pub(crate) fn lines(&self) -> Vec<String> {
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

/// Looks for the configured models of the hub. Puts the folders of those that are cached into the
/// configuration; fetches nothing.
pub(crate) fn look(config: &mut Config) -> Result<Vec<HubReport>> {
    let hub = Hub::new(settings(), &|_| ());
    let mut reports = Vec::new();
    for key in ModelKey::ALL {
        let name = key.name(config);
        if !key.is_hub(&name)? {
            continue;
        }
        let id = hub_id(key.key, &name)?;
        let look = hub.look(&id, key.want, key.pinned(config)?.as_deref());
        reports.push(match look.with_context(|| looked_for(key.key, &name))? {
            Look::Cached(found) => {
                let (commit, folder) = (found.commit.clone(), found.path.clone());
                key.put(config, Some(found));
                HubReport { key: key.key, model: name, commit, cached: true, folder, fetch: Vec::new() }
            }
            Look::Remote { commit, files } => {
                let fetch = files.into_iter().map(|(file, bytes)| ToFetch { file, bytes }).collect();
                let folder = hub.settings().cache.clone();
                HubReport { key: key.key, model: name, commit, cached: false, folder, fetch }
            }
        });
    }
    Ok(reports)
}
