//! What a run needs before its first unit: its own row, and the tasks.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use sqlx::Row;

use super::fault::explain;
use super::rows::NewRun;
use super::tx::Tx;
use super::unit::finite;
use super::write::insert;
use super::{Store, canon};
use autodidact_domain::{RunState, Task};

impl Store {
    /// Begins a run and returns its row id.
    pub async fn begin_run(&self, run: &NewRun) -> Result<i64> {
        self.guard.check()?;
        let fail = |e| explain(&self.path, "begin a run", e);
        let mut tx = Tx::begin(&self.writer).await.map_err(fail)?;
        let nth: i64 = sqlx::query_scalar("SELECT count(*) + 1 FROM runs WHERE arm = ?1")
            .bind(run.arm.name())
            .fetch_one(&mut *tx)
            .await
            .map_err(fail)?;
        let key = format!("{}/{nth}", run.arm);
        let of_key: Option<String> = sqlx::query_scalar("SELECT key FROM runs WHERE id = ?1")
            .bind(run.of_run)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fail)?;
        if let (Some(of_run), None) = (run.of_run, &of_key) {
            bail!("a {} run can't accompany run {of_run}: there is no such run", run.arm);
        }
        let id = sqlx::query_scalar(
            "INSERT INTO runs (key, arm, of_run, seed, iterations, config_json, config_hash, tokenizer_hash,
                               base_policy_hash, engine_version, content_hash, state, started_at, changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13) RETURNING id",
        )
        .bind(&key)
        .bind(run.arm.name())
        .bind(run.of_run)
        .bind(run.seed.to_string())
        .bind(run.iterations)
        .bind(&run.config_json)
        .bind(&run.config_hash)
        .bind(&run.tokenizer_hash)
        .bind(&run.base_policy_hash)
        .bind(&run.engine_version)
        .bind(canon::run_hash(&key, of_key.as_deref(), run).as_slice())
        .bind(RunState::Running.name())
        .bind(&run.started_at)
        .fetch_one(&mut *tx)
        .await
        .map_err(fail)?;
        tx.commit().await.map_err(fail)?;
        Ok(id)
    }

    /// Sets a run's state, with the reason for it; `now` is RFC 3339.
    pub async fn set_run_state(
        &self,
        run: i64,
        state: RunState,
        reason: Option<&str>,
        now: &str,
    ) -> Result<()> {
        self.guard.check()?;
        let done =
            sqlx::query("UPDATE runs SET state = ?1, state_reason = ?2, changed_at = ?3 WHERE id = ?4")
                .bind(state.name())
                .bind(reason)
                .bind(now)
                .bind(run)
                .execute(&self.writer)
                .await
                .map_err(|e| explain(&self.path, "set a run's state", e))?;
        ensure!(done.rows_affected() == 1, "there is no run {run} in `{}`", self.path.display());
        Ok(())
    }

    /// Stores that a process works on a run, from `now` (RFC 3339); returns the session's id.
    pub async fn begin_session(&self, run: i64, now: &str) -> Result<i64> {
        self.guard.check()?;
        sqlx::query_scalar("INSERT INTO sessions (run, started_at, seconds) VALUES (?1, ?2, 0) RETURNING id")
            .bind(run)
            .bind(now)
            .fetch_one(&self.writer)
            .await
            .map_err(|e| explain(&self.path, "begin a session", e))
    }

    /// Sets how long a session has worked.
    pub async fn set_session_seconds(&self, session: i64, seconds: f64) -> Result<()> {
        self.guard.check()?;
        finite("a session's seconds", seconds)?;
        sqlx::query("UPDATE sessions SET seconds = ?1 WHERE id = ?2")
            .bind(seconds)
            .bind(session)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|e| explain(&self.path, "set a session's seconds", e))
    }

    /// Sets how long a session of the run has worked, if that is longer than what is stored.
    pub async fn extend_session(&self, run: i64, session: i64, seconds: f64) -> Result<()> {
        self.guard.check()?;
        finite("a session's seconds", seconds)?;
        sqlx::query("UPDATE sessions SET seconds = max(seconds, ?1) WHERE id = ?2 AND run = ?3")
            .bind(seconds)
            .bind(session)
            .bind(run)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|e| explain(&self.path, "set a session's seconds", e))
    }

    /// Changes how many iterations a run plans: the one thing that may change on resuming.
    pub async fn set_run_iterations(&self, run: i64, iterations: u32) -> Result<()> {
        self.guard.check()?;
        let done = sqlx::query("UPDATE runs SET iterations = ?1 WHERE id = ?2")
            .bind(iterations)
            .bind(run)
            .execute(&self.writer)
            .await
            .map_err(|e| explain(&self.path, "set a run's iterations", e))?;
        ensure!(done.rows_affected() == 1, "there is no run {run} in `{}`", self.path.display());
        Ok(())
    }

    /// Stores tasks that aren't stored yet.
    ///
    /// # Errors
    /// A task whose id occurs twice with different content, stored or in `tasks`: the error names
    /// it, and nothing is written.
    pub async fn put_tasks(&self, tasks: &[Task]) -> Result<()> {
        self.guard.check()?;
        let fail = |e| explain(&self.path, "store tasks", e);
        let mut tx = Tx::begin(&self.writer).await.map_err(fail)?;
        let ids = serde_json::to_string(&tasks.iter().map(|t| t.id.as_str()).collect::<Vec<_>>())?;
        let rows =
            sqlx::query("SELECT id, content_hash FROM tasks WHERE id IN (SELECT value FROM json_each(?1))")
                .bind(ids)
                .fetch_all(&mut *tx)
                .await
                .map_err(fail)?;
        let mut known: HashMap<String, Vec<u8>> = HashMap::with_capacity(tasks.len());
        for row in rows {
            known.insert(row.try_get("id")?, row.try_get("content_hash")?);
        }
        let mut missing = Vec::new();
        for task in tasks {
            let hash = canon::task_hash(task);
            match known.get(&task.id) {
                None => {
                    known.insert(task.id.clone(), hash.to_vec());
                    missing.push((task, hash));
                }
                Some(stored) if *stored == hash => {}
                Some(_) => bail!(
                    "task `{}` is already stored with other content; the dataset has changed: use another store, or give the new tasks new ids",
                    task.id
                ),
            }
        }
        let first: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) + 1 FROM tasks")
            .fetch_one(&mut *tx)
            .await
            .map_err(fail)?;
        let head = "INSERT INTO tasks (id, kind, split, level, question, answer, solution, content_hash)";
        let bind = |query: super::write::Insert, (task, hash): &(&Task, canon::Hash)| {
            query
                .bind(&task.id)
                .bind(task.kind.name())
                .bind(task.split.name())
                .bind(task.level)
                .bind(&task.question)
                .bind(&task.answer)
                .bind(&task.solution)
                .bind(hash.as_slice())
        };
        insert(&mut tx, head, &missing, bind).await.map_err(fail)?;
        sqlx::query(
            "INSERT INTO task_search (rowid, question) SELECT seq, question FROM tasks WHERE seq >= ?1",
        )
        .bind(first)
        .execute(&mut *tx)
        .await
        .map_err(fail)?;
        tx.commit().await.map_err(fail)
    }
}
