//! The configuration keys that can name a model of the hub.

use std::path::Path;

use anyhow::{Result, bail};

use crate::config::{Config, JudgeConfig, Snapshot};
use crate::hub::{Found, HubId, Want};

/// The name of the built-in model, which is not a path.
const EMBEDDED: &str = "embedded";

/// A key of the configuration that may name a model of the hub.
pub(super) struct ModelKey {
    /// Section and name, as in `model.path`.
    pub key: &'static str,
    pub want: Want,
    /// Section, name and snapshot in the stored configuration of a run.
    stored: [&'static str; 3],
}

impl ModelKey {
    pub(super) const ALL: [Self; 4] = [
        Self { key: "model.path", want: Want::Checkpoint, stored: ["model", "path", "snapshot"] },
        Self { key: "model.adapter", want: Want::Adapter, stored: ["model", "adapter", "adapter_snapshot"] },
        Self { key: "judge.model", want: Want::Checkpoint, stored: ["judge", "model", "snapshot"] },
        Self { key: "reference.model", want: Want::Checkpoint, stored: ["reference", "model", "snapshot"] },
    ];

    /// The configured name, and the place of its snapshot.
    fn slot<'c>(&self, config: &'c mut Config) -> (&'c String, &'c mut Option<Snapshot>) {
        let Config { model, judge, reference, .. } = config;
        match self.stored {
            ["judge", ..] => (&judge.model, &mut judge.snapshot),
            ["reference", ..] => (&reference.model, &mut reference.snapshot),
            [_, "adapter", _] => (&model.adapter, &mut model.adapter_snapshot),
            _ => (&model.path, &mut model.snapshot),
        }
    }

    pub(super) fn name(&self, config: &mut Config) -> String {
        self.slot(config).0.clone()
    }

    /// Whether the name is that of a model of the hub; an error if it is no usable name.
    pub(super) fn is_hub(&self, name: &str) -> Result<bool> {
        let is_own_name = (name == EMBEDDED && self.want != Want::Adapter)
            || (name == JudgeConfig::POLICY && self.key == "judge.model");
        if name.is_empty() || is_own_name || Path::new(name).exists() {
            return Ok(false);
        }
        hub_id(self.key, name).map(|_| true)
    }

    /// The commit with which the run in `run.dir` started, if it started with this name.
    pub(super) fn pinned(&self, config: &mut Config) -> Result<Option<String>> {
        let stored = crate::cli::inspect::begun_with(config)?.unwrap_or_default();
        let [section, name, snapshot] = self.stored;
        let (name, snapshot) = (&stored[section][name], &stored[section][snapshot]);
        let commit = snapshot["commit"].as_str().filter(|_| name.as_str() == Some(&self.name(config)));
        Ok(commit.map(str::to_owned))
    }

    /// Puts the model that was found into the configuration.
    pub(super) fn put(&self, config: &mut Config, found: Option<Found>) {
        *self.slot(config).1 = found.map(|found| Snapshot { commit: found.commit, folder: found.path });
    }
}

/// What in `folder` has a name like this one.
fn near(folder: &str, name: &str) -> String {
    let entries = Path::new(folder).read_dir().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let nearest = names.map(|found| (strsim::osa_distance(&found, name), found)).min();
    match nearest.filter(|(edits, _)| *edits <= EDITS_MAX) {
        Some((_, found)) => format!("; did you mean \"{folder}/{found}\"?"),
        None => format!("; see what is in it with `ls {folder}`"),
    }
}

/// The context of an error of the hub.
pub(super) fn looked_for(key: &str, name: &str) -> String {
    format!("{key} = {name:?} is no path on this disk, so it was looked for as a model of the hub")
}

/// Most edits between a name that isn't there and one that is.
const EDITS_MAX: usize = 3;

/// The name as an id; an error if it isn't one, or if its first part is a folder here: then a path
/// was meant.
pub(super) fn hub_id(key: &str, name: &str) -> Result<HubId> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    if !rest.is_empty() && Path::new(first).is_dir() {
        bail!("{key} = {name:?} does not exist, although the folder {first:?} does{}", near(first, rest));
    }
    let Some(id) = HubId::parse(name) else {
        bail!(
            "{key} = {name:?} is no path on this disk, nor shaped like a model of the hub (org/name, \
             org/name@revision, org/name/file.gguf); give one that is"
        );
    };
    Ok(id)
}
