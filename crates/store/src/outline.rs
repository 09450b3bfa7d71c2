//! The outline of a store: its runs, how far each came, and which checkpoints its rows name.
//!
//! It reads any schema version up to this program's, so that a file can be judged before it is
//! migrated. It changes nothing, and it creates no store where there is none.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::fault::explain;
use super::open;
use autodidact_domain::{Arm, Phase};

/// What a store knows of its runs and of the checkpoints on disk. Empty: there is no file, or no
/// run has begun in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// The latest run of each arm.
    pub runs: Vec<RunOutline>,
    /// Every checkpoint that was ever committed, of all runs, in order of commit.
    pub checkpoints: Vec<CheckpointOutline>,
}

/// How far a run came.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutline {
    /// Which arm it is.
    pub arm: Arm,
    /// The phases that are complete.
    pub done: BTreeSet<(u32, Phase)>,
    /// The last iteration with a candidate checkpoint; 0 if there is none.
    pub trained: u32,
}

/// A checkpoint as its row describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointOutline {
    /// Relative to the run's folder, `/` between parts.
    pub path: String,
    /// Whether the run gave it up.
    pub removed: bool,
    /// See [`super::hash_path`].
    pub file_hash: String,
}

/// Reads the outline of the store at `path`.
///
/// # Errors
/// A file that is no store of this program, is newer than the program, or can't be read.
pub async fn outline(path: &Path) -> Result<Outline> {
    if !path.exists() {
        return Ok(Outline::default());
    }
    let Some(pool) = open::any_version(path).await? else { return Ok(Outline::default()) };
    let fail = |e| explain(path, "read which checkpoints are stored", e);
    // One snapshot, also while a run is writing.
    let mut tx = pool.begin().await.map_err(fail)?;
    let latest: Vec<(i64, String)> = sqlx::query_as("SELECT max(id), arm FROM runs GROUP BY arm ORDER BY 1")
        .fetch_all(&mut *tx)
        .await
        .map_err(fail)?;
    let mut runs = Vec::with_capacity(latest.len());
    for (run, arm) in latest {
        let phases: Vec<(u32, String)> = sqlx::query_as("SELECT iteration, phase FROM phases WHERE run = ?1")
            .bind(run)
            .fetch_all(&mut *tx)
            .await
            .map_err(fail)?;
        let phase = |(iteration, phase): (u32, String)| Some((iteration, phase.parse().ok()?));
        let trained = sqlx::query_scalar(
            "SELECT coalesce(max(iteration), 0) FROM checkpoints WHERE run = ?1 AND kind = 'candidate'",
        );
        let trained = trained.bind(run).fetch_one(&mut *tx).await.map_err(fail)?;
        let arm = arm.parse().map_err(anyhow::Error::msg).context("a run's arm is unknown")?;
        runs.push(RunOutline { arm, done: phases.into_iter().filter_map(phase).collect(), trained });
    }
    let rows: Vec<(String, bool, String)> =
        sqlx::query_as("SELECT path, removed_reason IS NOT NULL, file_hash FROM checkpoints ORDER BY id")
            .fetch_all(&mut *tx)
            .await
            .map_err(fail)?;
    tx.rollback().await.map_err(fail)?;
    open::close(pool).await?;
    let checkpoint = |(path, removed, file_hash)| CheckpointOutline { path, removed, file_hash };
    Ok(Outline { runs, checkpoints: rows.into_iter().map(checkpoint).collect() })
}
