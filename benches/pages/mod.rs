//! The pages of the documentation that are generated, so that they can't drift from what they describe.
//!
//! | page | generated from |
//! |---|---|
//! | `docs/performance.md`, and the table of the gain in `README.md` | `docs/performance/*.json` |
//! | `docs/configuration.md` | `src/config/default.toml` |
//! | `docs/schema.md` | `migrations/*.sql` |
//!
//! Pure functions of the files below a root, and of the migrations in the library. The tidy test compares their text with the committed pages.

mod configuration;
mod performance;
mod schema;

#[path = "../measure/results.rs"]
mod results;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use results::Results;

/// Path below the root and text of every generated page.
pub(super) fn pages(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let results: Vec<Results> = files(&root.join("docs/performance"), "json")?
        .iter()
        .map(|path| Results::read(path))
        .collect::<Result<_>>()?;
    let readme = performance::with_gain(&read(&root.join("README.md"))?, &results)?;
    let defaults = read(&root.join("src/config/default.toml"))?;
    Ok(vec![
        ("README.md", readme),
        ("docs/performance.md", performance::page(&results)?),
        ("docs/configuration.md", configuration::page(&defaults)),
        ("docs/schema.md", schema::page()),
    ])
}

/// The files of a folder with an extension, in order of name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let mut found: Vec<PathBuf> =
        paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A text as a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The anchor that GitHub gives a heading.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}
