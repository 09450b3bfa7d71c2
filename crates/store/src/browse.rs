//! What the inspector asks: summaries, lists, one trajectory in full.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite};

use super::decode::*;
use super::read::Reader;
use super::rows::*;
use autodidact_domain::Task;

impl Reader {
    /// One line per iteration of a run, in order.
    pub async fn iteration_summaries(&self, run: i64) -> Result<Vec<IterationSummary>> {
        let rows = sqlx::query("SELECT * FROM iteration_summary WHERE run = ?1 ORDER BY iteration")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("summarise iterations"))?;
        rows.iter().map(summary).collect()
    }

    /// Everything about one trajectory.
    pub async fn trajectory(&self, id: i64) -> Result<Option<TrajectoryDetail>> {
        let fail = self.fail("read a trajectory");
        let head = sqlx::query(
            "SELECT t.id AS tree_id, t.run, t.iteration, t.purpose, t.task_id, j.leaf
             FROM trajectories j JOIN trees t ON t.id = j.tree_id WHERE j.id = ?1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(&fail)?;
        let Some(head) = head else { return Ok(None) };
        let task_id: &str = head.try_get("task_id")?;
        let mut trees = self.trees_by_id(&[head.try_get("tree_id")?]).await?;
        Ok(Some(TrajectoryDetail {
            id,
            run: head.try_get("run")?,
            iteration: head.try_get("iteration")?,
            purpose: named(&head, "purpose")?,
            task: self.task(task_id).await?.with_context(|| format!("task `{task_id}` is gone"))?,
            tree: trees.pop().context("a trajectory without its tree")?,
            leaf: usize::try_from(head.try_get::<i64, _>("leaf")?)?,
            scores: self.trajectory_scores(id).await?,
            selections: self.trajectory_selections(id).await?,
            steps: self.trajectory_steps(id).await?,
        }))
    }

    async fn trajectory_scores(&self, id: i64) -> Result<Vec<StoredScore>> {
        let rows = sqlx::query(
            "SELECT g.run, g.iteration, g.scorer_hash, s.scorer, s.value, s.error
             FROM scores s JOIN scorings g ON g.id = s.scoring WHERE s.trajectory = ?1 ORDER BY g.id",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("read a trajectory's scores"))?;
        rows.iter()
            .map(|r| {
                Ok(StoredScore {
                    run: r.try_get("run")?,
                    iteration: r.try_get("iteration")?,
                    scorer_hash: r.try_get("scorer_hash")?,
                    score: score(r)?,
                })
            })
            .collect()
    }

    async fn trajectory_selections(&self, id: i64) -> Result<Vec<(i64, u32, autodidact_domain::Selection)>> {
        let rows = sqlx::query("SELECT * FROM selections WHERE trajectory = ?1 ORDER BY id")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("read a trajectory's selections"))?;
        rows.iter().map(|r| Ok((r.try_get("run")?, r.try_get("iteration")?, selection(r)?))).collect()
    }

    async fn trajectory_steps(&self, id: i64) -> Result<Vec<(i64, u32, u32)>> {
        sqlx::query_as(
            "SELECT DISTINCT run, iteration, step FROM step_examples WHERE trajectory = ?1 ORDER BY run, iteration, step",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("read a trajectory's steps"))
    }

    /// The window's runs, in order of beginning.
    ///
    /// # Errors
    /// If the window has no room for a row, or for more than [`CHUNK_ROWS_MAX`].
    pub async fn runs_within(&self, window: Window) -> Result<Chunk<Run>> {
        let rows = sqlx::query("SELECT * FROM runs WHERE id > ?1 ORDER BY id LIMIT ?2")
            .bind(begins_after(window))
            .bind(one_more(window)?)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list runs"))?;
        Ok(chunk(rows.iter().map(run).collect::<Result<_>>()?, window, |run: &Run| run.id))
    }

    /// How many runs there are.
    pub async fn run_count(&self) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM runs")
            .fetch_one(&self.pool)
            .await
            .map_err(self.fail("count runs"))?;
        Ok(u64::try_from(count)?)
    }

    /// The control arms of a run, in order of beginning.
    pub async fn controls(&self, of_run: i64) -> Result<Vec<Run>> {
        let rows = sqlx::query("SELECT * FROM runs WHERE of_run = ?1 ORDER BY id")
            .bind(of_run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list control arms"))?;
        rows.iter().map(run).collect()
    }

    /// The tasks with these ids, by id; what isn't there is left out.
    pub async fn tasks_by_id(&self, ids: impl IntoIterator<Item = &str>) -> Result<HashMap<String, Task>> {
        let ids: Vec<&str> = ids.into_iter().collect();
        let rows = sqlx::query("SELECT * FROM tasks WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(serde_json::to_string(&ids)?)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("read tasks"))?;
        rows.iter().map(|row| task(row).map(|task| (task.id.clone(), task))).collect()
    }

    /// The first ids of tasks that contain `part`, in order of insertion.
    pub async fn task_ids(&self, part: &str, limit: u32) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT id FROM tasks WHERE instr(id, ?1) ORDER BY seq LIMIT ?2")
            .bind(part)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list tasks"))
    }

    /// The window's trajectories, in order of insertion.
    ///
    /// # Errors
    /// If the window has no room for a row, or for more than [`CHUNK_ROWS_MAX`].
    pub async fn trajectories(
        &self,
        filter: &TrajectoryFilter,
        window: Window,
    ) -> Result<Chunk<TrajectoryLine>> {
        // Made of constants only. Clauses that don't apply are left out, so that the indexes of the
        // others are used.
        let sql = format!("{LINES_HEAD} {} {LINES_TAIL}", clauses(filter));
        let rows = bound(sqlx::query(AssertSqlSafe(sql)), filter)
            .bind(begins_after(window))
            .bind(one_more(window)?)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list trajectories"))?;
        Ok(chunk(rows.iter().map(line).collect::<Result<_>>()?, window, |line: &TrajectoryLine| line.id))
    }

    /// How many trajectories the filter lets through.
    pub async fn trajectory_count(&self, filter: &TrajectoryFilter) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM trajectories j JOIN trees t ON t.id = j.tree_id WHERE 1 {}",
            clauses(filter)
        );
        let row = bound(sqlx::query(AssertSqlSafe(sql)), filter)
            .fetch_one(&self.pool)
            .await
            .map_err(self.fail("count trajectories"))?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?)?)
    }

    /// The texts of the trajectories with these ids, by id; what isn't there is left out.
    pub async fn trajectory_texts(&self, ids: &[i64]) -> Result<HashMap<i64, String>> {
        let rows: Vec<(i64, Option<String>)> = sqlx::query_as(
            "SELECT id, text FROM trajectory_text WHERE id IN (SELECT value FROM json_each(?1))",
        )
        .bind(serde_json::to_string(ids)?)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("read texts"))?;
        Ok(rows.into_iter().map(|(id, text)| (id, text.unwrap_or_default())).collect())
    }

    /// The run's latest messages, newest first; `None` for messages of every run.
    pub async fn events(&self, run: Option<i64>, limit: u32) -> Result<Vec<EventRow>> {
        let rows = sqlx::query(
            "SELECT id, run, level, message, at FROM events WHERE ?1 IS NULL OR run = ?1 ORDER BY id DESC LIMIT ?2",
        )
        .bind(run)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list events"))?;
        rows.iter()
            .map(|r| {
                Ok(EventRow {
                    id: r.try_get("id")?,
                    run: r.try_get("run")?,
                    level: r.try_get("level")?,
                    message: r.try_get("message")?,
                    at: r.try_get("at")?,
                })
            })
            .collect()
    }
}

/// The page's ids are found first, so that only its rows are filled in.
const LINES_HEAD: &str = "
    SELECT j.id, j.tree_id, t.run, t.iteration, t.purpose, t.address, t.task_id, j.finish, j.answer, k.answer AS gold, j.tokens,
           (SELECT s.value FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reward'
            ORDER BY s.scoring DESC LIMIT 1) AS reward, v.rank, v.reason
    FROM (SELECT j.id FROM trajectories j JOIN trees t ON t.id = j.tree_id WHERE 1";
const LINES_TAIL: &str = "
          AND j.id > ?8 ORDER BY j.id LIMIT ?9) page
    JOIN trajectories j ON j.id = page.id JOIN trees t ON t.id = j.tree_id JOIN tasks k ON k.id = t.task_id
    LEFT JOIN selections v ON v.id = (SELECT max(id) FROM selections WHERE trajectory = j.id)
    ORDER BY j.id";

/// The row id that a window begins after.
fn begins_after(window: Window) -> i64 {
    window.after.unwrap_or(i64::MIN)
}

/// The window's limit and one: the row too many tells that there are more.
fn one_more(window: Window) -> Result<u32> {
    ensure!(window.limit > 0, "a page needs room for at least one row");
    ensure!(
        window.limit <= CHUNK_ROWS_MAX,
        "a page of {} rows is too long: ask for at most {CHUNK_ROWS_MAX}",
        window.limit
    );
    Ok(window.limit + 1)
}

/// The rows of a window, without the one too many.
fn chunk<T>(mut rows: Vec<T>, window: Window, id: impl Fn(&T) -> i64) -> Chunk<T> {
    let more = rows.len() > window.limit as usize;
    rows.truncate(window.limit as usize);
    let next = rows.last().map(id).filter(|_| more);
    Chunk { rows, next }
}

/// The query with the filter's values bound, in the order of their numbers.
fn bound<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    filter: &TrajectoryFilter,
) -> Query<'q, Sqlite, SqliteArguments> {
    query
        .bind(filter.run)
        .bind(filter.iteration)
        .bind(filter.purpose.map(|p| p.name()))
        .bind(filter.task_id.clone())
        .bind(filter.kept)
        .bind(filter.search.as_deref().map(quoted))
        .bind(filter.split.map(|s| s.name()))
}

/// The filter's clauses, by the numbers under which their values are bound.
fn clauses(filter: &TrajectoryFilter) -> String {
    let clauses = [
        (filter.run.is_some(), "AND t.run = ?1"),
        (filter.iteration.is_some(), "AND t.iteration = ?2"),
        (filter.purpose.is_some(), "AND t.purpose = ?3"),
        (filter.task_id.is_some(), "AND t.task_id = ?4"),
        (filter.split.is_some(), "AND t.task_id IN (SELECT id FROM tasks WHERE split = ?7)"),
        (
            filter.kept.is_some(),
            "AND (SELECT s.reason LIKE 'kept%' FROM selections s WHERE s.trajectory = j.id
                  ORDER BY s.id DESC LIMIT 1) = ?5",
        ),
        (
            filter.search.is_some(),
            "AND t.id IN (SELECT rowid FROM tree_search WHERE tree_search MATCH ?6
                          UNION SELECT x.id FROM task_search q JOIN tasks y ON y.seq = q.rowid
                          JOIN trees x ON x.task_id = y.id WHERE q.question MATCH ?6)",
        ),
    ];
    clauses.iter().filter(|(wanted, _)| *wanted).map(|(_, sql)| *sql).collect::<Vec<_>>().join(" ")
}

/// Words as FTS5 strings: every character is taken literally, and every word must occur. No words
/// are an empty string, which nothing matches.
fn quoted(words: &str) -> String {
    let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
    match words.split_whitespace().map(quoted).collect::<Vec<_>>() {
        none if none.is_empty() => quoted(""),
        words => words.join(" "),
    }
}

fn summary(row: &SqliteRow) -> Result<IterationSummary> {
    Ok(IterationSummary {
        iteration: row.try_get("iteration")?,
        trees: row.try_get("trees")?,
        trajectories: row.try_get("trajectories")?,
        drawn_tokens: row.try_get("drawn_tokens")?,
        kept: row.try_get("kept")?,
        reward_mean: row.try_get("reward_mean")?,
        steps: row.try_get("steps")?,
        loss_last: row.try_get("loss_last")?,
        critic_auc: row.try_get("critic_auc")?,
        gate_pass1: row.try_get("gate_pass1")?,
        heldout_pass1: row.try_get("heldout_pass1")?,
        promoted: row.try_get("promoted")?,
        gain_points: row.try_get("gain_points")?,
        seconds: row.try_get("seconds")?,
    })
}

fn line(row: &SqliteRow) -> Result<TrajectoryLine> {
    Ok(TrajectoryLine {
        id: row.try_get("id")?,
        tree_row: row.try_get("tree_id")?,
        run: row.try_get("run")?,
        iteration: row.try_get("iteration")?,
        purpose: named(row, "purpose")?,
        address: named(row, "address")?,
        task_id: row.try_get("task_id")?,
        finish: named(row, "finish")?,
        answer: row.try_get("answer")?,
        gold: row.try_get("gold")?,
        tokens: row.try_get("tokens")?,
        reward: row.try_get("reward")?,
        rank: row.try_get("rank")?,
        reason: named_option(row, "reason")?,
    })
}
