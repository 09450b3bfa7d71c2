//! The base model of an exported policy, as a model card names it.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::policy::is_adapter;
use crate::report::Origin;

/// The name of the built-in model.
const EMBEDDED: &str = "embedded";

/// The licence of the built-in model, which is the program's.
const EMBEDDED_LICENCE: &str = "license:\n  - mit\n  - apache-2.0";

/// What a policy was trained from, or is a copy of.
pub(super) struct Base {
    /// The hub's name or the folder's, without the folders above it: a card is public.
    pub name: String,
    /// Commit, if it is a model of the hub.
    pub commit: Option<String>,
    /// The adapter that it begins with, if there is one.
    pub adapter: Option<String>,
    /// Its licence, as lines for the front matter of a card.
    pub licence: Option<String>,
    pub is_hub: bool,
}

impl Base {
    /// The model that the policy's run began with; without a run, the one that is exported: what
    /// `--model` names, or else the configured one.
    pub(super) fn find(config: &Config, origin: Option<&Origin>, model: Option<(&Path, &str)>) -> Self {
        // An adapter belongs to the configured model.
        let given_adapter = model.filter(|(path, _)| is_adapter(path)).map(|(_, name)| name.to_owned());
        let model = model.filter(|_| given_adapter.is_none());
        let stored = origin.map(|origin| &origin.config["model"]);
        let text = |key: &str| stored.and_then(|model| model[key].as_str()).map(str::to_owned);
        let given = model.map(|(_, name)| name.to_owned());
        let path = text("path").or(given.clone()).unwrap_or_else(|| config.model.path.clone());
        let commit = match (stored, &given) {
            (Some(stored), _) => stored["snapshot"]["commit"].as_str().map(str::to_owned),
            (None, Some(_)) => None,
            (None, None) => config.model.snapshot.as_ref().map(|found| found.commit.clone()),
        };
        let adapter = match (stored, &given) {
            (Some(_), _) => text("adapter"),
            (None, Some(_)) => None,
            (None, None) => given_adapter.or(Some(config.model.adapter.clone())),
        };
        // A model of `--model` that is no path was found at the hub by that name.
        let is_hub = commit.is_some() || (stored.is_none() && given.is_some() && !Path::new(&path).exists());
        let folder: PathBuf = match model {
            Some((folder, _)) => folder.to_owned(),
            None => config.model.folder().to_owned(),
        };
        let licence = match path.as_str() {
            EMBEDDED => Some(EMBEDDED_LICENCE.to_owned()),
            _ => licence_of(&folder),
        };
        Self {
            name: if is_hub { path.split('@').next().unwrap_or(&path).to_owned() } else { last_part(&path) },
            commit,
            adapter: adapter.filter(|adapter| !adapter.is_empty()).map(|adapter| last_part(&adapter)),
            licence,
            is_hub,
        }
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.name == EMBEDDED
    }
}

/// The name of a file or folder without the folders above it.
pub(super) fn last_part(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The lines about the licence in the card of a checkpoint, or in its configuration.
fn licence_of(folder: &Path) -> Option<String> {
    let card = std::fs::read_to_string(folder.join("README.md")).ok();
    card.as_deref().and_then(licence_of_card).or_else(|| {
        let config = std::fs::read(folder.join("config.json")).ok()?;
        let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
        Some(format!("license: {}", serde_json::Value::from(config["license"].as_str()?)))
    })
}

/// `license`, `license_name` and `license_link` of a card's front matter, with lists.
fn licence_of_card(card: &str) -> Option<String> {
    let front = card.trim_start().strip_prefix("---")?.split("\n---").next()?;
    let mut lines: Vec<&str> = Vec::new();
    let mut is_licence = false;
    for line in front.lines().map(str::trim_end) {
        let goes_on = line.starts_with(['-', ' ', '\t']);
        is_licence = if goes_on { is_licence } else { line.starts_with("license") };
        lines.extend(is_licence.then_some(line));
    }
    lines.iter().any(|line| line.starts_with("license:")).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_copied_from_the_front_matter() {
        let card = "---\nlanguage: en\nlicense: other\nlicense_name: x\ntags:\n- y\n---\nlicense: no\n";
        assert_eq!(licence_of_card(card).unwrap(), "license: other\nlicense_name: x");
        let list = "---\nlicense:\n- mit\n- apache-2.0\nbase_model: a/b\n---\n";
        assert_eq!(licence_of_card(list).unwrap(), "license:\n- mit\n- apache-2.0");
        assert_eq!(licence_of_card("---\ntags: []\n---\nlicense: mit"), None);
        assert_eq!(licence_of_card("license: mit"), None);
    }

    #[test]
    fn a_name_shows_no_folder_above_it() {
        assert_eq!(last_part("/home/somebody/models/tiny"), "tiny");
        assert_eq!(last_part("tasks.jsonl"), "tasks.jsonl");
    }
}
