//! Checks that the file still holds what was written, and that its rows agree with each other and
//! the disk.
//!
//! There are three kinds of checks: SQLite's own of the file; every hash, computed again from the
//! rows; and references between rows (trees, lineage, order of phases) and to the checkpoints on
//! disk. Everything is read in one snapshot, so a store can be verified while a run writes to it.

mod content;
mod references;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sqlx::SqliteConnection;

use super::digest;
use super::read::Reader;

/// Problems of one kind that are listed; the others are counted.
const LISTED_MAX: usize = 20;

/// What a check of a store found.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyReport {
    /// No problem was found.
    pub ok: bool,
    /// The store's digest; empty when the rows couldn't be read.
    pub digest: String,
    /// Every problem, in words. Of each kind, those after the twentieth are only counted.
    pub problems: Vec<String>,
}

/// Checks the store at `path` and the checkpoints, whose rows name them relative to
/// `checkpoint_root`.
///
/// # Errors
/// A file that isn't a store of this schema, or is missing. Damage is not an error; the report
/// lists it.
pub async fn verify(path: &Path, checkpoint_root: &Path) -> Result<VerifyReport> {
    let reader = Reader::open(path).await?;
    let mut tx = reader.pool.begin().await.map_err(reader.fail("begin to read"))?;
    let mut problems = Problems::default();
    problems.gather("SQLite's integrity check", integrity(&mut tx).await);
    problems.gather("foreign keys", foreign_keys(&mut tx).await);
    problems.gather("runs", content::runs(&mut tx).await);
    problems.gather("tasks", content::tasks(&mut tx).await);
    problems.gather("specs", content::specs(&mut tx).await);
    problems.gather("trees", content::trees(&mut tx).await);
    let mut hashes = Vec::new();
    problems.gather("units", content::units(&mut tx, &mut hashes).await);
    problems.gather("alarms", content::alarms(&mut tx).await);
    problems.gather("names", content::names(&mut tx).await);
    problems.gather("lineage", references::lineage(&mut tx).await);
    problems.gather("phases", references::phases(&mut tx).await);
    problems.gather("promotions", references::promotions(&mut tx).await);
    problems.gather("checkpoints", references::checkpoints(&mut tx, checkpoint_root).await);
    let digest = match digest::sealed(&mut tx, hashes).await {
        Ok(digest) => digest,
        Err(error) => {
            problems.gather("the digest", Err(error));
            String::new()
        }
    };
    tx.rollback().await.context("couldn't end reading")?;
    reader.close().await?;
    Ok(VerifyReport { ok: problems.0.is_empty(), digest, problems: problems.0 })
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    /// A check that can't be carried out is a problem too.
    fn gather(&mut self, kind: &str, found: Result<Vec<String>>) {
        match found {
            Ok(found) => {
                let more = found.len().saturating_sub(LISTED_MAX);
                self.0.extend(found.into_iter().take(LISTED_MAX));
                if more > 0 {
                    self.0.push(format!("{kind}: {more} more problems like these"));
                }
            }
            Err(error) => self.0.push(format!("{kind} can't be checked: {error:#}")),
        }
    }
}

/// A connection that only reads doesn't check CHECK constraints. The hashes notice what breaks
/// them.
async fn integrity(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let lines: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(db).await?;
    ensure!(!lines.is_empty(), "it gave no answer");
    Ok(lines.into_iter().filter(|line| line != "ok").map(|line| format!("damaged file: {line}")).collect())
}

async fn foreign_keys(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows: Vec<(String, Option<i64>, String, i64)> =
        sqlx::query_as("PRAGMA foreign_key_check").fetch_all(db).await?;
    let line = |(table, row, parent, _): (String, Option<i64>, String, i64)| {
        let row = row.map_or_else(|| "a row".to_owned(), |row| format!("row {row}"));
        format!("{row} of {table} refers to a row of {parent} that isn't there")
    };
    Ok(rows.into_iter().map(line).collect())
}
