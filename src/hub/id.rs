//! Names of models: `org/name`, `org/name@revision`, `org/name/file.gguf`.

use std::fmt;

/// Longest part of a name and longest revision, in bytes.
const PART_MAX: usize = 96;
const REVISION_MAX: usize = 200;

/// A model of the hub, or one file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repo: String,
    /// The file, if the id names one.
    pub file: Option<String>,
    /// Branch, tag or commit, if the id names one.
    revision: Option<String>,
}

impl HubId {
    /// Reads an id; `None` for other texts, such as paths that begin with `/`, `.` or `~`, and
    /// single words.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        let is_revision = |r: &str| r.len() <= REVISION_MAX && r.split('/').all(is_part);
        if !revision.is_none_or(is_revision) {
            return None;
        }
        let parts: Vec<&str> = name.split('/').collect();
        let [org, model, file @ ..] = parts.as_slice() else { return None };
        let is_name = |part: &str| is_part(part) && part.len() <= PART_MAX && !part.contains("--");
        if !is_name(org) || !is_name(model) || !file.iter().all(|part| is_part(part)) {
            return None;
        }
        let file = file.join("/");
        (file.is_empty() || file.to_lowercase().ends_with(".gguf")).then(|| Self {
            repo: format!("{org}/{model}"),
            file: Some(file).filter(|file| !file.is_empty()),
            revision: revision.map(str::to_owned),
        })
    }

    /// Branch, tag or commit; `main` if the id names none.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// Whether the text has only letters, digits, `.`, `_` and `-` and doesn't begin with `.` or `-`.
/// Such a name can't lead out of a folder.
pub(super) fn is_part(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && !text.starts_with(['.', '-']) && text.bytes().all(known)
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repo, file, revision } = self;
        write!(f, "{repo}")?;
        file.iter().try_for_each(|file| write!(f, "/{file}"))?;
        revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}
