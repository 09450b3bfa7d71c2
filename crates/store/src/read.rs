//! The read-only side: the queries by which the loop learns what is stored and what is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, SqliteConnection};

use super::decode::*;
use super::fault::explain;
use super::open;
use super::rows::*;
use autodidact_domain::profile::{self, Operator};
use autodidact_domain::{Arm, Leaf, Phase, Purpose, Selection, Split, Task};

/// Reads a trajectory store; works while a run writes to the same file, and never changes it.
#[derive(Clone)]
pub struct Reader {
    pub(super) pool: SqlitePool,
    pub(super) path: PathBuf,
}

impl Reader {
    /// Opens the file for reading only.
    ///
    /// # Errors
    /// A missing or empty file, another schema version than this program's, another program's
    /// database, a damaged file.
    pub async fn open(path: &Path) -> Result<Self> {
        Ok(Self { pool: open::readers(path).await?, path: path.to_owned() })
    }

    /// Closes the connections.
    pub async fn close(&self) -> Result<()> {
        open::close(self.pool.clone()).await
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fail(&self, doing: &str) -> impl Fn(sqlx::Error) -> anyhow::Error {
        let (path, doing) = (self.path.clone(), doing.to_owned());
        move |e| explain(&path, &doing, e)
    }

    /// Every run, in order of beginning.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        let rows = sqlx::query("SELECT * FROM runs ORDER BY id").fetch_all(&self.pool).await;
        rows.map_err(self.fail("list runs"))?.iter().map(run).collect()
    }

    /// The run with this row id.
    pub async fn run(&self, id: i64) -> Result<Option<Run>> {
        let row = sqlx::query("SELECT * FROM runs WHERE id = ?1").bind(id).fetch_optional(&self.pool).await;
        row.map_err(self.fail("read a run"))?.as_ref().map(run).transpose()
    }

    /// The arm's latest run.
    pub async fn run_of_arm(&self, arm: Arm) -> Result<Option<Run>> {
        let row = sqlx::query("SELECT * FROM runs WHERE arm = ?1 ORDER BY id DESC LIMIT 1")
            .bind(arm.name())
            .fetch_optional(&self.pool)
            .await;
        row.map_err(self.fail("read a run"))?.as_ref().map(run).transpose()
    }

    /// The split's tasks, in order of insertion.
    pub async fn tasks(&self, split: Split) -> Result<Vec<Task>> {
        let rows = sqlx::query("SELECT * FROM tasks WHERE split = ?1 ORDER BY seq")
            .bind(split.name())
            .fetch_all(&self.pool)
            .await;
        rows.map_err(self.fail("list tasks"))?.iter().map(task).collect()
    }

    /// The task with this id.
    pub async fn task(&self, id: &str) -> Result<Option<Task>> {
        let row = sqlx::query("SELECT * FROM tasks WHERE id = ?1").bind(id).fetch_optional(&self.pool).await;
        row.map_err(self.fail("read a task"))?.as_ref().map(task).transpose()
    }

    /// Addresses of the trees that are stored; every other one is missing.
    pub async fn tree_keys(&self, run: i64, iteration: u32, purpose: Purpose) -> Result<HashSet<String>> {
        let _wait = profile::waiting(Operator::Store);
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT address FROM trees WHERE run = ?1 AND iteration = ?2 AND purpose = ?3",
        )
        .bind(run)
        .bind(iteration)
        .bind(purpose.name())
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list tree addresses"))?;
        Ok(rows.into_iter().collect())
    }

    /// The iteration's trees for this purpose, in order of insertion.
    pub async fn trees(&self, run: i64, iteration: u32, purpose: Purpose) -> Result<Vec<StoredTree>> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM trees WHERE run = ?1 AND iteration = ?2 AND purpose = ?3 ORDER BY id",
        )
        .bind(run)
        .bind(iteration)
        .bind(purpose.name())
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list trees"))?;
        self.trees_by_id(&ids).await
    }

    /// The answers of the iteration's trajectories for this purpose, in order of insertion.
    pub async fn answers(&self, run: i64, iteration: u32, purpose: Purpose) -> Result<Vec<AnswerRow>> {
        let _wait = profile::waiting(Operator::Store);
        let rows = sqlx::query(
            "SELECT j.id, t.address, j.leaf, j.finish, j.answer FROM trees t JOIN trajectories j ON j.tree_id = t.id
             WHERE t.run = ?1 AND t.iteration = ?2 AND t.purpose = ?3 ORDER BY j.id",
        )
        .bind(run)
        .bind(iteration)
        .bind(purpose.name())
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list answers"))?;
        rows.iter().map(answer).collect()
    }

    /// The trees with these row ids, in their order.
    pub(super) async fn trees_by_id(&self, ids: &[i64]) -> Result<Vec<StoredTree>> {
        let _wait = profile::waiting(Operator::Store);
        let mut db = self.pool.acquire().await.map_err(self.fail("read trees"))?;
        trees_by_id(&mut db, ids)
            .await
            .with_context(|| format!("couldn't read trees in `{}`", self.path.display()))
    }

    /// The iteration's critique head of this stage.
    pub async fn critic(&self, run: i64, iteration: u32, stage: CriticStage) -> Result<Option<CriticRow>> {
        let row = sqlx::query("SELECT * FROM critics WHERE run = ?1 AND iteration = ?2 AND stage = ?3")
            .bind(run)
            .bind(iteration)
            .bind(stage.name())
            .fetch_optional(&self.pool)
            .await;
        row.map_err(self.fail("read a critic"))?.as_ref().map(critic).transpose()
    }

    /// Every critique head of a run: (iteration, stage, head).
    pub async fn critics(&self, run: i64) -> Result<Vec<(u32, CriticStage, CriticRow)>> {
        let rows = sqlx::query("SELECT * FROM critics WHERE run = ?1 ORDER BY iteration, stage DESC")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list critics"))?;
        rows.iter().map(|r| Ok((r.try_get("iteration")?, named(r, "stage")?, critic(r)?))).collect()
    }

    /// The iteration's selections, in order of insertion.
    pub async fn selections(&self, run: i64, iteration: u32) -> Result<Vec<Selection>> {
        let _wait = profile::waiting(Operator::Store);
        let rows = sqlx::query("SELECT * FROM selections WHERE run = ?1 AND iteration = ?2 ORDER BY id")
            .bind(run)
            .bind(iteration)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list selections"))?;
        rows.iter().map(selection).collect()
    }

    /// The iteration's optimizer updates, in order, with the parts of each loss and what trained in
    /// each.
    pub async fn steps(&self, run: i64, iteration: u32) -> Result<Vec<StepRow>> {
        let _wait = profile::waiting(Operator::Store);
        let rows = sqlx::query("SELECT * FROM steps WHERE run = ?1 AND iteration = ?2 ORDER BY step")
            .bind(run)
            .bind(iteration)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list steps"))?;
        let mut steps: Vec<StepRow> = rows.iter().map(step).collect::<Result<_>>()?;
        let examples: Vec<(u32, Option<i64>, Option<String>)> = sqlx::query_as(
            "SELECT step, trajectory, task_id FROM step_examples WHERE run = ?1 AND iteration = ?2 ORDER BY step, ordinal",
        )
        .bind(run)
        .bind(iteration)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list step examples"))?;
        let losses: Vec<(u32, String, f64)> = sqlx::query_as(
            "SELECT step, name, value FROM step_losses WHERE run = ?1 AND iteration = ?2 ORDER BY step, name",
        )
        .bind(run)
        .bind(iteration)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list the parts of losses"))?;
        let places: HashMap<u32, usize> = steps.iter().enumerate().map(|(i, s)| (s.step, i)).collect();
        for (step, trajectory, task) in examples {
            let place = *places.get(&step).with_context(|| format!("step {step} has examples but no row"))?;
            steps[place].examples.extend(trajectory);
            steps[place].replayed.extend(task);
        }
        for (step, name, value) in losses {
            let place = *places.get(&step).with_context(|| format!("step {step} has a loss but no row"))?;
            steps[place].losses.push((name, value));
        }
        Ok(steps)
    }

    /// Every checkpoint of a run, removed ones included, in order.
    pub async fn checkpoints(&self, run: i64) -> Result<Vec<Checkpoint>> {
        let rows = sqlx::query("SELECT * FROM checkpoints WHERE run = ?1 ORDER BY id")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list checkpoints"))?;
        rows.iter().map(checkpoint).collect()
    }

    /// Every measurement of a run with its iteration, in order.
    pub async fn evaluations(&self, run: i64) -> Result<Vec<(u32, EvaluationRow)>> {
        let rows = sqlx::query("SELECT * FROM evaluations WHERE run = ?1 ORDER BY id")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list evaluations"))?;
        rows.iter().map(evaluation).collect()
    }

    /// The gate's decisions by iteration.
    pub async fn promotions(&self, run: i64) -> Result<Vec<(u32, PromotionRow)>> {
        let rows = sqlx::query("SELECT * FROM promotions WHERE run = ?1 ORDER BY iteration")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list promotions"))?;
        rows.iter().map(promotion).collect()
    }

    /// The comparisons of sampler and trainer by iteration.
    pub async fn parity(&self, run: i64) -> Result<Vec<(u32, ParityRow)>> {
        let rows: Vec<(u32, f64, i64)> = sqlx::query_as(
            "SELECT iteration, max_abs_diff, tokens FROM parity WHERE run = ?1 ORDER BY iteration",
        )
        .bind(run)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list parity"))?;
        Ok(rows
            .into_iter()
            .map(|(iteration, max_abs_diff, tokens)| (iteration, ParityRow { max_abs_diff, tokens }))
            .collect())
    }

    /// The plans of a run's iterations, in order.
    pub async fn plans(&self, run: i64) -> Result<BTreeMap<u32, PlanRow>> {
        let query = "SELECT iteration, tasks, steps, seconds, left_seconds FROM plans WHERE run = ?1";
        let rows: Vec<(u32, u32, u32, f64, f64)> =
            sqlx::query_as(query).bind(run).fetch_all(&self.pool).await.map_err(self.fail("list plans"))?;
        let plan = |(iteration, tasks, steps, seconds, left_seconds)| {
            (iteration, PlanRow { tasks, steps, seconds, left_seconds })
        };
        Ok(rows.into_iter().map(plan).collect())
    }

    /// By iteration, how many trajectories updates were made of, and how often all of them together
    /// were passed over.
    pub async fn learned(&self, run: i64) -> Result<BTreeMap<u32, (i64, i64)>> {
        let query = "SELECT iteration, count(DISTINCT trajectory), count(trajectory) FROM step_examples
                     WHERE run = ?1 GROUP BY iteration";
        let rows: Vec<(u32, i64, i64)> = sqlx::query_as(query)
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("count what updates were made of"))?;
        Ok(rows.into_iter().map(|(iteration, rows, uses)| (iteration, (rows, uses))).collect())
    }

    /// How long processes have worked on a run, in seconds.
    pub async fn worked_seconds(&self, run: i64) -> Result<f64> {
        sqlx::query_scalar("SELECT total(seconds) FROM sessions WHERE run = ?1")
            .bind(run)
            .fetch_one(&self.pool)
            .await
            .map_err(self.fail("add up a run's sessions"))
    }

    /// The phases that are complete.
    pub async fn done_phases(&self, run: i64) -> Result<BTreeSet<(u32, Phase)>> {
        Ok(self.phases(run).await?.into_iter().map(|p| (p.iteration, p.phase)).collect())
    }

    /// How long each finished phase took, in order.
    pub async fn phase_seconds(&self, run: i64) -> Result<Vec<(u32, Phase, f64)>> {
        Ok(self.phases(run).await?.into_iter().map(|p| (p.iteration, p.phase, p.seconds)).collect())
    }

    /// The finished phases, in order.
    pub async fn phases(&self, run: i64) -> Result<Vec<PhaseRow>> {
        let rows = sqlx::query("SELECT iteration, phase, seconds, detail FROM phases WHERE run = ?1")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list phases"))?;
        let mut phases: Vec<PhaseRow> = rows
            .iter()
            .map(|r| {
                Ok(PhaseRow {
                    iteration: r.try_get("iteration")?,
                    phase: named(r, "phase")?,
                    seconds: r.try_get("seconds")?,
                    detail: r.try_get("detail")?,
                })
            })
            .collect::<Result<_>>()?;
        phases.sort_by_key(|p| (p.iteration, p.phase));
        Ok(phases)
    }
}

/// The trees with these row ids, in their order.
pub(super) async fn trees_by_id(db: &mut SqliteConnection, ids: &[i64]) -> Result<Vec<StoredTree>> {
    let mut trees = Vec::with_capacity(ids.len());
    // Pages bound the driver's own copy of the rows.
    for page in ids.chunks(256) {
        let list = serde_json::to_string(page)?;
        let heads = "SELECT * FROM trees WHERE id IN (SELECT value FROM json_each(?1))";
        let heads = sqlx::query(heads).bind(&list).fetch_all(&mut *db).await?;
        let mut heads: HashMap<i64, StoredTree> =
            heads.iter().map(|row| Ok((row.try_get("id")?, tree_head(row)?))).collect::<Result<_>>()?;
        let thoughts = "SELECT * FROM thoughts WHERE tree_id IN (SELECT value FROM json_each(?1)) ORDER BY tree_id, ordinal";
        for row in sqlx::query(thoughts).bind(&list).fetch_all(&mut *db).await? {
            let (id, ordinal): (i64, i64) = (row.try_get("tree_id")?, row.try_get("ordinal")?);
            let thoughts = &mut heads.get_mut(&id).context("a thought without its tree")?.tree.thoughts;
            ensure!(thoughts.len() as i64 == ordinal, "tree {id} lacks thought {}", thoughts.len());
            thoughts.push(thought(&row).with_context(|| format!("thought {ordinal} of tree {id}"))?);
        }
        let leaves = "SELECT * FROM trajectories WHERE tree_id IN (SELECT value FROM json_each(?1)) ORDER BY tree_id, leaf";
        for row in sqlx::query(leaves).bind(&list).fetch_all(&mut *db).await? {
            let id: i64 = row.try_get("tree_id")?;
            let tree = heads.get_mut(&id).context("a trajectory without its tree")?;
            tree.trajectory_ids.push(row.try_get("id")?);
            tree.tree.leaves.push(Leaf {
                thought: row.try_get("thought")?,
                finish: named(&row, "finish")?,
                answer: row.try_get("answer")?,
            });
        }
        for id in page {
            trees.push(heads.remove(id).with_context(|| format!("there is no tree {id}"))?);
        }
    }
    Ok(trees)
}
