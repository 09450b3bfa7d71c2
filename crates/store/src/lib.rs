//! The trajectory store: one SQLite file that is the run's memory, training set and record. The only room
//! with SQL.
//!
//! Contract: one [`Store`] writes (a single connection); any number of [`Reader`]s read the same file, also
//! while it writes. Writes come in [`Unit`]s: a committed unit survives kill -9 and power cuts, an uncommitted
//! one leaves nothing. Ground state is appended and never changed. Asking what is stored is how a run resumes.
//!
//! It knows nothing about models, scoring or the loop, and reads no clock: times come from the caller.
//!
//! Full-text search covers every tree's thoughts and answers and every task's question; a variant's question is
//! left out (it repeats its task's). The index costs under a tenth of an insertion (`benches/store.rs`).
//! See `migrations/` for the commented schema and the views.

mod alarm;
mod begin;
mod blob;
mod browse;
mod canon;
mod decode;
mod digest;
mod fault;
mod guard;
mod open;
mod outline;
mod read;
mod rows;
mod scoring;
mod tx;
mod unit;
mod verify;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sqlx::sqlite::SqlitePool;

pub use self::digest::hash_path;
pub use self::open::{config_of_run, schema_version};
pub use self::outline::{CheckpointOutline, Outline, RunOutline, outline};
pub use self::read::Reader;
pub use self::rows::*;
pub use self::unit::Unit;
pub use self::verify::{VerifyReport, verify};
use autodidact_domain::{Phase, Purpose, Score, Selection, Tree};
use fault::explain;
use guard::Guard;

/// The one that writes.
pub struct Store {
    writer: SqlitePool,
    reader: Reader,
    path: PathBuf,
    guard: Arc<Guard>,
}

impl std::ops::Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the file for writing; creates it, or brings an older schema up to date.
    ///
    /// # Errors
    /// A newer schema, another program's database, a damaged or unreadable file, a folder that may only be read.
    pub async fn open(path: &Path) -> Result<Self> {
        let writer = open::writer(path).await?;
        let reader = Reader::open(path).await?;
        let last = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM units").fetch_one(&writer).await;
        let guard = Guard::new(path, last.map_err(|e| explain(path, "find the last unit", e))?)?;
        Ok(Self { writer, reader, path: path.to_owned(), guard: Arc::new(guard) })
    }

    /// Asks `held` before each write: its error says why this process may no longer write, and
    /// nothing is written.
    pub fn hold(&self, held: impl Fn() -> Result<()> + Send + Sync + 'static) {
        self.guard.hold(Box::new(held));
    }

    /// Whether this process may still write: the file at the path is the one that was opened, and
    /// [`Store::hold`]'s holder agrees. Every write asks this; ask it too before writing files that
    /// belong to the store's rows.
    pub fn ensure_held(&self) -> Result<()> {
        self.guard.check()
    }

    /// The read-only side; sees what is committed.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Closes the connections and folds the write-ahead log into the file. Dropping the store is safe too:
    /// the log is then folded in by whoever opens the file next.
    pub async fn close(self) -> Result<()> {
        self.reader.close().await?;
        open::close(self.writer).await
    }

    /// Begins a transaction of one iteration; nothing exists until [`Unit::commit`].
    pub async fn unit(&self, run: i64, iteration: u32) -> Result<Unit> {
        Unit::begin(&self.writer, self.path.clone(), self.guard.clone(), run, iteration).await
    }

    /// Marks a checkpoint's file as deleted. Call it before deleting: a crash between the two leaves a file
    /// nobody needs, never a row without its file.
    pub async fn forget_checkpoint(&self, id: i64, reason: &str) -> Result<()> {
        self.guard.check()?;
        let done =
            sqlx::query("UPDATE checkpoints SET removed_reason = coalesce(removed_reason, ?1) WHERE id = ?2")
                .bind(reason)
                .bind(id)
                .execute(&self.writer)
                .await
                .map_err(|e| explain(&self.path, "forget a checkpoint", e))?;
        ensure!(done.rows_affected() == 1, "there is no checkpoint {id} in `{}`", self.path.display());
        Ok(())
    }

    /// Records a message; `now` is RFC 3339.
    pub async fn put_event(&self, run: Option<i64>, level: &str, message: &str, now: &str) -> Result<()> {
        self.guard.check()?;
        sqlx::query("INSERT INTO events (run, level, message, at) VALUES (?1, ?2, ?3, ?4)")
            .bind(run)
            .bind(level)
            .bind(message)
            .bind(now)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|e| explain(&self.path, "record an event", e))
    }
}

/// Each of these is a [`Unit`] of one write.
impl Store {
    /// See [`Unit::put_trees`].
    pub async fn put_trees(
        &self,
        run: i64,
        iteration: u32,
        purpose: Purpose,
        provenance: impl Into<Provenance<'_>>,
        trees: &[Tree],
    ) -> Result<Vec<Vec<i64>>> {
        let mut unit = self.unit(run, iteration).await?;
        let ids = unit.put_trees(purpose, provenance, trees).await?;
        unit.commit().await?;
        Ok(ids)
    }

    /// See [`Unit::put_critic`].
    pub async fn put_critic(
        &self,
        run: i64,
        iteration: u32,
        stage: CriticStage,
        row: &CriticRow,
    ) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_critic(stage, row).await?;
        unit.commit().await
    }

    /// See [`Unit::put_scores`].
    pub async fn put_scores(
        &self,
        run: i64,
        iteration: u32,
        scoring: impl Into<Scoring<'_>>,
        scores: &[(i64, Score)],
    ) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_scores(scoring, scores).await?;
        unit.commit().await
    }

    /// See [`Unit::put_selections`].
    pub async fn put_selections(&self, run: i64, iteration: u32, selections: &[Selection]) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_selections(selections).await?;
        unit.commit().await
    }

    /// See [`Unit::put_steps`].
    pub async fn put_steps(&self, run: i64, iteration: u32, steps: &[StepRow]) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_steps(steps).await?;
        unit.commit().await
    }

    /// Updates together with the checkpoint that holds what they gave: all or none.
    pub async fn put_training(
        &self,
        run: i64,
        iteration: u32,
        steps: &[StepRow],
        checkpoint: &CheckpointRow,
    ) -> Result<i64> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_steps(steps).await?;
        let id = unit.put_checkpoint(checkpoint).await?;
        unit.commit().await?;
        Ok(id)
    }

    /// See [`Unit::put_checkpoint`].
    pub async fn put_checkpoint(&self, run: i64, iteration: u32, row: &CheckpointRow) -> Result<i64> {
        let mut unit = self.unit(run, iteration).await?;
        let id = unit.put_checkpoint(row).await?;
        unit.commit().await?;
        Ok(id)
    }

    /// See [`Unit::put_evaluation`].
    pub async fn put_evaluation(&self, run: i64, iteration: u32, row: &EvaluationRow) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_evaluation(row).await?;
        unit.commit().await
    }

    /// Many of [`Unit::put_evaluation`], all or none.
    pub async fn put_evaluations(&self, run: i64, iteration: u32, rows: &[EvaluationRow]) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        for row in rows {
            unit.put_evaluation(row).await?;
        }
        unit.commit().await
    }

    /// See [`Unit::put_promotion`].
    pub async fn put_promotion(&self, run: i64, iteration: u32, row: &PromotionRow) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_promotion(row).await?;
        unit.commit().await
    }

    /// See [`Unit::put_parity`].
    pub async fn put_parity(&self, run: i64, iteration: u32, row: &ParityRow) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.put_parity(row).await?;
        unit.commit().await
    }

    /// See [`Unit::finish_phase`].
    pub async fn finish_phase(
        &self,
        run: i64,
        iteration: u32,
        phase: Phase,
        seconds: f64,
        detail: &str,
    ) -> Result<()> {
        let mut unit = self.unit(run, iteration).await?;
        unit.finish_phase(phase, seconds, detail).await?;
        unit.commit().await.with_context(|| format!("phase {phase} isn't finished"))
    }
}

#[cfg(test)]
mod tests;
