//! A unit: one transaction of a run's iteration. All of it is committed, or none of it.
//!
//! Dropping a unit rolls it back. The commit writes the unit's content hash, computed from the rows
//! as the file holds them, so `verify` notices when one of them has changed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::canon;
use super::fault::explain;
use super::guard::Guard;
use super::rows::{CheckpointRow, CriticRow, CriticStage, EvaluationRow, ParityRow, PlanRow, PromotionRow};
use super::tx::Tx;
use autodidact_domain::Phase;
use autodidact_domain::profile::{self, Operator};

/// An open transaction that writes rows of one iteration of one run.
pub struct Unit {
    pub(super) tx: Tx,
    pub(super) path: PathBuf,
    pub(super) id: i64,
    pub(super) run: i64,
    pub(super) iteration: u32,
    guard: Arc<Guard>,
    _wait: profile::Waiting,
}

impl Unit {
    pub(super) async fn begin(
        pool: &SqlitePool,
        path: PathBuf,
        guard: Arc<Guard>,
        run: i64,
        iteration: u32,
    ) -> Result<Self> {
        let wait = profile::waiting(Operator::Store);
        // Before a connection is made: it would create a file that isn't there.
        guard.check()?;
        let mut tx = Tx::begin(pool).await.map_err(|e| explain(&path, "begin a transaction", e))?;
        let id = sqlx::query_scalar("INSERT INTO units (run, iteration) VALUES (?1, ?2) RETURNING id")
            .bind(run)
            .bind(iteration)
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| explain(&path, &format!("begin a unit of run {run}"), e))?;
        guard.follows(id)?;
        Ok(Self { tx, path, id, run, iteration, guard, _wait: wait })
    }

    /// Makes everything written through this unit exist, at once.
    ///
    /// # Errors
    /// A failed write, or a store that this process may no longer write to (see
    /// [`super::Store::ensure_held`]).
    pub(super) async fn commit(mut self) -> Result<()> {
        let hash = canon::unit_hash(&mut self.tx, self.id).await?;
        let done = sqlx::query("UPDATE units SET content_hash = ?1 WHERE id = ?2")
            .bind(hash.as_slice())
            .bind(self.id)
            .execute(&mut *self.tx)
            .await;
        done.map_err(|e| explain(&self.path, "write a unit's hash", e))?;
        self.guard.check()?;
        self.tx.commit().await.map_err(|e| explain(&self.path, "commit", e))?;
        self.guard.committed(self.id);
        Ok(())
    }

    pub(super) fn db(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// Explains a failed write. For a violated constraint it names the row.
    pub(super) fn failed(&self, what: &str, error: sqlx::Error) -> anyhow::Error {
        let place = format!("run {}, iteration {}", self.run, self.iteration);
        match error.as_database_error() {
            Some(e) if e.is_unique_violation() => anyhow!(
                "{what} of {place} is already stored; ask the store what is missing before writing ({error})"
            ),
            Some(e) if e.is_foreign_key_violation() => anyhow!(
                "{what} of {place} refers to a row that isn't stored (task, trajectory, run or step); store that first ({error})"
            ),
            _ => explain(&self.path, &format!("write {what} of {place}"), error),
        }
    }

    /// Stores a critique head. Each (run, iteration, stage) has one.
    pub async fn put_critic(&mut self, stage: CriticStage, row: &CriticRow) -> Result<()> {
        for (name, value) in [("auc", row.auc), ("ece", row.ece), ("brier", row.brier)] {
            value.map_or(Ok(()), |v| finite(&format!("the {stage} critic's {name}"), v))?;
        }
        let query = sqlx::query(
            "INSERT INTO critics (run, iteration, stage, unit, hash, bytes, auc, ece, brier, anchor_n, annotated, voting)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .bind(self.run)
        .bind(self.iteration)
        .bind(stage.name())
        .bind(self.id)
        .bind(&row.hash)
        .bind(row.bytes.as_slice())
        .bind(row.auc)
        .bind(row.ece)
        .bind(row.brier)
        .bind(row.anchor_n)
        .bind(row.annotated)
        .bind(row.voting)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed(&format!("the {stage} critic"), e))
    }

    /// Stores that a checkpoint is complete on disk, and returns its row id.
    pub async fn put_checkpoint(&mut self, row: &CheckpointRow) -> Result<i64> {
        let path = std::path::Path::new(&row.path);
        ensure!(
            !row.path.is_empty() && path.components().all(|c| matches!(c, std::path::Component::Normal(_))),
            "checkpoint path `{}` must be relative and stay below the checkpoints' root",
            row.path
        );
        let query = sqlx::query_scalar(
            "INSERT INTO checkpoints (unit, run, iteration, kind, step, policy_hash, parent_hash, path, bytes, file_hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id",
        )
        .bind(self.id)
        .bind(self.run)
        .bind(self.iteration)
        .bind(row.kind.name())
        .bind(row.step)
        .bind(&row.policy_hash)
        .bind(&row.parent_hash)
        .bind(&row.path)
        .bind(i64::try_from(row.bytes).context("a checkpoint's size exceeds 2^63 bytes")?)
        .bind(&row.file_hash)
        .fetch_one(self.db())
        .await;
        query.map_err(|e| self.failed(&format!("checkpoint `{}`", row.path), e))
    }

    /// Stores measurements. Each (policy, split, decoding, metric, level) is measured once per
    /// iteration.
    pub async fn put_evaluations(&mut self, rows: &[EvaluationRow]) -> Result<()> {
        for row in rows {
            self.put_evaluation(row).await?;
        }
        Ok(())
    }

    async fn put_evaluation(&mut self, row: &EvaluationRow) -> Result<()> {
        let what = format!("the evaluation {} {} on {}", row.decoding, row.metric, row.split);
        for value in [row.value, row.lo, row.hi] {
            finite(&what, value)?;
        }
        let query = sqlx::query(
            "INSERT INTO evaluations (unit, run, iteration, policy_hash, split, decoding, metric, level, n, value, lo, hi)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .bind(self.id)
        .bind(self.run)
        .bind(self.iteration)
        .bind(&row.policy_hash)
        .bind(row.split.name())
        .bind(row.decoding.name())
        .bind(&row.metric)
        .bind(row.level)
        .bind(row.n)
        .bind(row.value)
        .bind(row.lo)
        .bind(row.hi)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed(&what, e))
    }

    /// Stores the gate's decision; each iteration has one.
    pub async fn put_promotion(&mut self, row: &PromotionRow) -> Result<()> {
        for value in [Some(row.gain_points), Some(row.lo), Some(row.hi), row.p_value].into_iter().flatten() {
            finite("the promotion's test", value)?;
        }
        let query = sqlx::query(
            "INSERT INTO promotions (run, iteration, unit, candidate_hash, incumbent_hash, promoted, gain_points, lo, hi,
                                     p_value, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .bind(self.run)
        .bind(self.iteration)
        .bind(self.id)
        .bind(&row.candidate_hash)
        .bind(&row.incumbent_hash)
        .bind(row.promoted)
        .bind(row.gain_points)
        .bind(row.lo)
        .bind(row.hi)
        .bind(row.p_value)
        .bind(&row.reason)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed("the promotion", e))
    }

    /// Stores the difference between the log-probabilities of sampler and trainer, once per
    /// iteration.
    pub async fn put_parity(&mut self, row: &ParityRow) -> Result<()> {
        finite("the parity's largest difference", row.max_abs_diff)?;
        let query = sqlx::query(
            "INSERT INTO parity (run, iteration, unit, max_abs_diff, tokens) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(self.run)
        .bind(self.iteration)
        .bind(self.id)
        .bind(row.max_abs_diff)
        .bind(row.tokens)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed("the parity", e))
    }

    /// Inserts what was decided about the unit's iteration before it began.
    pub async fn put_plan(&mut self, plan: &PlanRow) -> Result<()> {
        finite("a plan's seconds", plan.seconds)?;
        finite("a plan's remaining seconds", plan.left_seconds)?;
        let query = sqlx::query(
            "INSERT INTO plans (run, iteration, unit, tasks, steps, seconds, left_seconds)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(self.run)
        .bind(self.iteration)
        .bind(self.id)
        .bind(plan.tasks)
        .bind(plan.steps)
        .bind(plan.seconds)
        .bind(plan.left_seconds)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed("the plan", e))
    }

    /// Makes a phase exist. Write it in the phase's last unit.
    pub async fn finish_phase(&mut self, phase: Phase, seconds: f64, detail: &str) -> Result<()> {
        finite("a phase's seconds", seconds)?;
        let query = sqlx::query(
            "INSERT INTO phases (run, iteration, phase, unit, seconds, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(self.run)
        .bind(self.iteration)
        .bind(phase.name())
        .bind(self.id)
        .bind(seconds)
        .bind(detail)
        .execute(self.db())
        .await;
        query.map(drop).map_err(|e| self.failed(&format!("phase {phase}"), e))
    }
}

/// SQLite would silently store NaN as NULL.
pub(super) fn finite(what: &str, value: f64) -> Result<()> {
    ensure!(value.is_finite(), "{what} is {value}, not a finite number; it can't be stored");
    Ok(())
}
