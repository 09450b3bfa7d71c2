//! `autodidact inspect datasette`: metadata for datasette, and the command that starts it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::super::terminal::pretty;
use crate::report::{DATASETTE_SOURCE, datasette_metadata};

/// File of the metadata, if the user names none: in the run's folder.
const METADATA_FILE: &str = "datasette.json";

#[derive(Args)]
pub(super) struct DatasetteArgs {
    /// Where to write the metadata (default: datasette.json in the run's folder)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the metadata for the store, and returns what to type next.
pub(super) fn perform(store: &Path, args: &DatasetteArgs, json: bool) -> Result<String> {
    let path = args.out.clone().unwrap_or_else(|| store.with_file_name(METADATA_FILE));
    if let Ok(old) = std::fs::read(&path) {
        let source = serde_json::from_slice::<Value>(&old).ok().and_then(|old| old.get("source").cloned());
        ensure!(
            source.is_some_and(|source| source == DATASETTE_SOURCE),
            "`{}` exists and was not written by this command; name another file with --out",
            path.display()
        );
    }
    let name = store.file_stem().unwrap_or_default().to_string_lossy();
    let metadata = serde_json::to_string_pretty(&datasette_metadata(&name))? + "\n";
    std::fs::write(&path, metadata).with_context(|| {
        format!("couldn't write `{}`; name a file that can be written with --out", path.display())
    })?;
    let command = format!("datasette {} --metadata {}", quoted(store), quoted(&path));
    if json {
        return pretty(&json!({ "metadata": path, "command": command }));
    }
    Ok(format!(
        "wrote {}\n\n  {command}\n\nstarts datasette (`pip install datasette`) on http://127.0.0.1:8001, also while a run is live.\n",
        path.display()
    ))
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '\\' | ':');
    if text.chars().all(is_word) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
