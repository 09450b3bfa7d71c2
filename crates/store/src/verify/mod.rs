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
use serde::Serialize;
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
    /// How much was checked.
    pub checked: Checked,
}

/// Rows that were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Checked {
    pub runs: i64,
    pub tasks: i64,
    pub trees: i64,
    pub trajectories: i64,
    /// Transactions of the loop.
    pub units: i64,
    pub checkpoints: i64,
}

/// Checks the store at `path` and the checkpoints, whose rows name them relative to
/// `checkpoint_root`.
///
/// # Errors
/// A file that isn't a store of this schema, or is missing. Damage is not an error; the report
/// lists it.
pub async fn verify(path: &Path, checkpoint_root: &Path) -> Result<VerifyReport> {
    verify_with(path, checkpoint_root, &|_| ()).await
}

/// As [`verify`]; `on_check` gets the name of each of the [`CHECKS`] checks before it begins.
///
/// # Errors
/// As those of [`verify`].
pub async fn verify_with(
    path: &Path,
    checkpoint_root: &Path,
    on_check: &(dyn Fn(&'static str) + Sync),
) -> Result<VerifyReport> {
    let reader = Reader::open(path).await?;
    let mut tx = reader.pool.begin().await.map_err(reader.fail("begin to read"))?;
    let mut problems = Problems::default();
    let mut hashes = Vec::new();
    macro_rules! check {
        ($name:literal, $found:expr) => {{
            on_check($name);
            problems.gather($name, $found.await);
        }};
    }
    check!("SQLite's integrity check", integrity(&mut tx));
    check!("foreign keys", foreign_keys(&mut tx));
    check!("runs", content::runs(&mut tx));
    check!("tasks", content::tasks(&mut tx));
    check!("specs", content::specs(&mut tx));
    check!("trees", content::trees(&mut tx));
    check!("units", content::units(&mut tx, &mut hashes));
    check!("alarms", content::alarms(&mut tx));
    check!("names", content::names(&mut tx));
    check!("lineage", references::lineage(&mut tx));
    check!("phases", references::phases(&mut tx));
    check!("promotions", references::promotions(&mut tx));
    check!("checkpoints", references::checkpoints(&mut tx, checkpoint_root));
    on_check("the digest");
    let digest = match digest::sealed(&mut tx, hashes).await {
        Ok(digest) => digest,
        Err(error) => {
            problems.gather("the digest", Err(error));
            String::new()
        }
    };
    // A file so damaged that it can't be counted has problems enough.
    let checked = count(&mut tx).await.unwrap_or_default();
    tx.rollback().await.context("couldn't end reading")?;
    reader.close().await?;
    Ok(VerifyReport { ok: problems.0.is_empty(), digest, problems: problems.0, checked })
}

/// How many checks there are.
pub const CHECKS: usize = 14;

async fn count(db: &mut SqliteConnection) -> Result<Checked> {
    let (runs, tasks, trees, trajectories, units, checkpoints) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM tasks), (SELECT count(*) FROM trees),
                (SELECT count(*) FROM trajectories), (SELECT count(*) FROM units), (SELECT count(*) FROM checkpoints)",
    )
    .fetch_one(db)
    .await?;
    Ok(Checked { runs, tasks, trees, trajectories, units, checkpoints })
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
