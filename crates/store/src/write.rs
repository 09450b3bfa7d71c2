//! The writes with many rows: trees, selections, steps. Scores are in `scoring.rs`.
//!
//! Rows are inserted by multi-row statements, because every statement costs a round trip to the
//! connection's thread. Their sizes are fixed, so that the statement cache holds them. Row ids are
//! counted here and not read back: the unit holds the write lock.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::rows::{Provenance, StepRow};
use super::unit::{Unit, finite};
use super::{blob, canon};
use autodidact_domain::{LogprobKind, Purpose, Selection, Tree};

pub(super) type Insert = Query<'static, Sqlite, SqliteArguments>;

/// Inserts `rows` by statements of 64, 8 and 1 rows; `head` is `INSERT INTO t (…)`.
pub(super) async fn insert<T>(
    db: &mut SqliteConnection,
    head: &'static str,
    rows: &[T],
    bind: impl Fn(Insert, &T) -> Insert,
) -> sqlx::Result<()> {
    let columns = head.matches(',').count() + 1;
    let row = format!("({})", vec!["?"; columns].join(", "));
    let mut rest = rows;
    for size in [64, 8, 1] {
        // Made of constants only.
        let sql = format!("{head} VALUES {}", vec![row.as_str(); size].join(", "));
        let (whole, left) = rest.split_at(rest.len() / size * size);
        for chunk in whole.chunks_exact(size) {
            let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(sql.clone())), &bind);
            query.execute(&mut *db).await?;
        }
        rest = left;
    }
    Ok(())
}

struct TreeLine<'t> {
    id: i64,
    tree: &'t Tree,
}

struct ThoughtLine<'t> {
    tree_id: i64,
    ordinal: usize,
    tree: &'t Tree,
}

struct LeafLine<'t> {
    id: i64,
    tree_id: i64,
    leaf: usize,
    tree: &'t Tree,
}

impl Unit {
    /// Stores trees with their thoughts and leaves; returns the trajectories' row ids per tree, per
    /// leaf.
    ///
    /// # Errors
    /// An address that the run already has, a task that isn't stored, a malformed tree. The error
    /// names it.
    pub async fn put_trees(
        &mut self,
        purpose: Purpose,
        provenance: impl Into<Provenance<'_>>,
        trees: &[Tree],
    ) -> Result<Vec<Vec<i64>>> {
        let provenance = provenance.into();
        for tree in trees {
            check(tree).with_context(|| format!("tree {} can't be stored", tree.address))?;
        }
        self.refuse_stored_addresses(trees).await?;
        let (tree_next, trajectory_next): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT coalesce(max(id), 0) + 1 FROM trees), (SELECT coalesce(max(id), 0) + 1 FROM trajectories)",
        )
        .fetch_one(self.db())
        .await
        .map_err(|e| self.failed("trees", e))?;

        let mut lines = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = Vec::with_capacity(trees.len());
        for (tree, tree_id) in trees.iter().zip(tree_next..) {
            lines.0.push(TreeLine { id: tree_id, tree });
            lines.1.extend((0..tree.thoughts.len()).map(|ordinal| ThoughtLine { tree_id, ordinal, tree }));
            let first = trajectory_next + lines.2.len() as i64;
            let leaves = (0..tree.leaves.len()).zip(first..);
            ids.push(leaves.clone().map(|(_, id)| id).collect());
            lines.2.extend(leaves.map(|(leaf, id)| LeafLine { id, tree_id, leaf, tree }));
        }
        self.insert_trees(purpose, provenance, &lines.0).await.map_err(|e| self.failed("trees", e))?;
        self.insert_thoughts(&lines.1).await.map_err(|e| self.failed("thoughts", e))?;
        self.insert_trajectories(&lines.2).await.map_err(|e| self.failed("trajectories", e))?;
        self.index_trees(tree_next).await.map_err(|e| self.failed("the search index", e))?;
        Ok(ids)
    }

    async fn refuse_stored_addresses(&mut self, trees: &[Tree]) -> Result<()> {
        let addresses: Vec<String> = trees.iter().map(|t| t.address.to_string()).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = addresses.iter().find(|a| !seen.insert(a.as_str())) {
            bail!("tree {twice} occurs twice in one unit; each address is sampled once");
        }
        let stored: Option<String> = sqlx::query_scalar(
            "SELECT address FROM trees WHERE run = ?1 AND address IN (SELECT value FROM json_each(?2)) LIMIT 1",
        )
        .bind(self.run)
        .bind(serde_json::to_string(&addresses)?)
        .fetch_optional(self.db())
        .await
        .map_err(|e| self.failed("trees", e))?;
        if let Some(address) = stored {
            bail!(
                "tree {address} of run {} is already stored; ask `tree_keys` what is missing before sampling",
                self.run
            );
        }
        Ok(())
    }

    async fn insert_trees(
        &mut self,
        purpose: Purpose,
        provenance: Provenance<'_>,
        lines: &[TreeLine<'_>],
    ) -> sqlx::Result<()> {
        let (unit, run, iteration) = (self.id, self.run, self.iteration);
        let head = "INSERT INTO trees (id, unit, run, iteration, purpose, address, strategy, task_id, variant_address, \
                    variant_question, prompt_ids, drawn_tokens, policy_hash, content_hash, replayable, logprob_kind)";
        // NULL is what rows of schema version 2 hold.
        let logprob_kind = Some(provenance.logprobs).filter(|&kind| kind != LogprobKind::Raw);
        insert(self.db(), head, lines, |query, TreeLine { id, tree }| {
            query
                .bind(*id)
                .bind(unit)
                .bind(run)
                .bind(iteration)
                .bind(purpose.name())
                .bind(tree.address.to_string())
                .bind(tree.strategy.name())
                .bind(&tree.task_id)
                .bind(tree.variant.as_ref().map(|v| v.address.to_string()))
                .bind(tree.variant.as_ref().map(|v| v.question.as_str()))
                .bind(blob::from_u32(&tree.prompt_ids))
                .bind(tree.drawn_tokens() as i64)
                .bind(provenance.policy_hash)
                .bind(canon::tree_hash(purpose, provenance, tree).as_slice())
                .bind(provenance.replayable)
                .bind(logprob_kind.map(|kind| kind.name()))
        })
        .await
    }

    async fn insert_thoughts(&mut self, lines: &[ThoughtLine<'_>]) -> sqlx::Result<()> {
        let head = "INSERT INTO thoughts (tree_id, ordinal, parent, token_ids, logprobs, text, hidden_f16, value, pruned, visits)";
        insert(self.db(), head, lines, |query, ThoughtLine { tree_id, ordinal, tree }| {
            let thought = &tree.thoughts[*ordinal];
            query
                .bind(*tree_id)
                .bind(*ordinal as i64)
                .bind(thought.parent)
                .bind(blob::from_u32(&thought.token_ids))
                .bind(blob::from_f32(&thought.logprobs))
                .bind(thought.text.as_str())
                .bind(blob::from_u16(&thought.hidden_f16))
                .bind(thought.value)
                .bind(thought.pruned.map(|p| p.name()))
                .bind(thought.visits)
        })
        .await
    }

    async fn insert_trajectories(&mut self, lines: &[LeafLine<'_>]) -> sqlx::Result<()> {
        let head = "INSERT INTO trajectories (id, tree_id, leaf, thought, finish, answer, tokens, text_hash)";
        insert(self.db(), head, lines, |query, line| {
            let leaf = &line.tree.leaves[line.leaf];
            let tokens: usize =
                line.tree.path(leaf).into_iter().map(|i| line.tree.thoughts[i].token_ids.len()).sum();
            query
                .bind(line.id)
                .bind(line.tree_id)
                .bind(line.leaf as i64)
                .bind(leaf.thought)
                .bind(leaf.finish.name())
                .bind(leaf.answer.as_deref())
                .bind(tokens as i64)
                .bind(canon::text_hash(&line.tree.completion_text(leaf)).as_slice())
        })
        .await
    }

    async fn index_trees(&mut self, first: i64) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO tree_search (rowid, text, answers) SELECT id, text, answers FROM tree_document WHERE id >= ?1",
        )
        .bind(first)
        .execute(self.db())
        .await
        .map(drop)
    }

    /// Stores selections; a trajectory has one per iteration.
    pub async fn put_selections(&mut self, selections: &[Selection]) -> Result<()> {
        for selection in selections {
            for figure in [selection.advantage, selection.weight].into_iter().flatten() {
                finite(&format!("a figure of the selection of trajectory {}", selection.trajectory), figure)?;
            }
        }
        let (unit, run, iteration) = (self.id, self.run, self.iteration);
        let head = "INSERT INTO selections (unit, run, iteration, trajectory, rank, reason, pair_of, advantage, weight)";
        let done = insert(self.db(), head, selections, |query, selection| {
            query
                .bind(unit)
                .bind(run)
                .bind(iteration)
                .bind(selection.trajectory)
                .bind(selection.rank)
                .bind(selection.reason.name())
                .bind(selection.pair_of)
                .bind(selection.advantage)
                .bind(selection.weight)
        })
        .await;
        done.map_err(|e| self.failed("a selection", e))
    }

    /// Stores optimizer updates, the parts of each loss, and what trained in each; an update is
    /// stored once.
    pub async fn put_steps(&mut self, steps: &[StepRow]) -> Result<()> {
        for step in steps {
            let parts = step.losses.iter().map(|(_, value)| *value);
            for value in [step.loss, step.grad_norm, step.learning_rate].into_iter().chain(parts) {
                finite(&format!("a figure of step {}", step.step), value)?;
            }
        }
        let (unit, run, iteration) = (self.id, self.run, self.iteration);
        let head = "INSERT INTO steps (run, iteration, step, unit, loss, tokens, target_tokens, grad_norm, learning_rate)";
        let done = insert(self.db(), head, steps, |query, step| {
            query
                .bind(run)
                .bind(iteration)
                .bind(step.step)
                .bind(unit)
                .bind(step.loss)
                .bind(step.tokens as i64)
                .bind(step.target_tokens as i64)
                .bind(step.grad_norm)
                .bind(step.learning_rate)
        })
        .await;
        done.map_err(|e| self.failed("a step", e))?;
        let losses: Vec<_> = steps.iter().flat_map(|s| s.losses.iter().map(|part| (s.step, part))).collect();
        let head = "INSERT INTO step_losses (run, iteration, step, name, value)";
        let done = insert(self.db(), head, &losses, |query, (step, (name, value))| {
            query.bind(run).bind(iteration).bind(*step).bind(name.as_str()).bind(*value)
        })
        .await;
        done.map_err(|e| self.failed("a part of a step's loss", e))?;
        let examples: Vec<_> = steps.iter().flat_map(examples).collect();
        let head = "INSERT INTO step_examples (run, iteration, step, ordinal, trajectory, task_id)";
        let done = insert(self.db(), head, &examples, |query, (step, ordinal, trajectory, task)| {
            query.bind(run).bind(iteration).bind(*step).bind(*ordinal).bind(*trajectory).bind(task.as_deref())
        })
        .await;
        done.map_err(|e| self.failed("a step's example", e))
    }
}

/// (step, ordinal, trajectory, task): trajectories first, then replayed tasks.
fn examples(step: &StepRow) -> impl Iterator<Item = (u32, u32, Option<i64>, Option<String>)> {
    let trajectories = step.examples.iter().map(|&id| (Some(id), None));
    let tasks = step.replayed.iter().map(|id| (None, Some(id.clone())));
    trajectories.chain(tasks).zip(0..).map(|((trajectory, task), i)| (step.step, i, trajectory, task))
}

/// Checks what the schema can't express.
fn check(tree: &Tree) -> Result<()> {
    ensure!(!tree.leaves.is_empty(), "it has no leaf");
    for (i, thought) in tree.thoughts.iter().enumerate() {
        let (ids, logprobs) = (thought.token_ids.len(), thought.logprobs.len());
        ensure!(ids == logprobs, "thought {i} has {ids} token ids but {logprobs} log-probabilities");
        if let Some(parent) = thought.parent {
            ensure!((parent as usize) < i, "thought {i} has parent {parent}, which doesn't come before it");
        }
        thought.value.map_or(Ok(()), |v| finite(&format!("the value of thought {i}"), v.into()))?;
    }
    for (i, leaf) in tree.leaves.iter().enumerate() {
        let count = tree.thoughts.len();
        ensure!((leaf.thought as usize) < count, "leaf {i} ends at thought {} of {count}", leaf.thought);
    }
    Ok(())
}
