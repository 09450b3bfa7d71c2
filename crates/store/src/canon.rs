//! Canonical bytes of ground state, and their blake3 hashes.
//!
//! A row's hash covers its table's name and every column that isn't a clock, a duration or a row
//! id; references are written as natural keys (run key, address, leaf). A unit's hash covers the
//! sorted hashes of its rows.
//!
//! Columns that were added after schema version 2 count only where they are set: their names and
//! values follow the row's other bytes. A row that doesn't set them hashes as it did before, so
//! stored hashes stay valid and the digest of a store that doesn't use them stays the same. In
//! [`GROUND`] an added column is called `+name`.

use anyhow::{Context, Result};
use blake3::Hasher;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row, SqliteConnection, TypeInfo, ValueRef};

use super::rows::{AlarmRow, NewRun, Provenance};
use autodidact_domain::{LogprobKind, Purpose, ScorerSpec, Task, Tree};

pub(super) type Hash = [u8; 32];

/// A table of ground state whose rows belong to units.
pub(super) struct Ground {
    pub table: &'static str,
    /// Its canonical columns for the unit `?1`.
    rows: &'static str,
}

macro_rules! trajectory_key {
    () => {
        " JOIN trajectories j ON j.id = x.trajectory JOIN trees t ON t.id = j.tree_id JOIN runs tr ON tr.id = t.run "
    };
}

/// Every table that a unit writes to.
pub(super) const GROUND: &[Ground] = &[
    Ground {
        table: "trees",
        rows: "SELECT r.key, x.iteration, x.address, x.drawn_tokens, x.content_hash
               FROM trees x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    // In tables with many rows the exact columns form one text, because every column costs time.
    // Numbers that are not exact stay separate columns, because their text may change with SQLite's
    // version.
    Ground {
        table: "scores",
        rows: concat!(
            "SELECT r.key || char(31) || g.iteration || char(31) || quote(g.scorer_hash) || char(31) || tr.key || char(31)
                    || quote(t.address) || char(31) || j.leaf || char(31) || x.scorer || char(31) || quote(x.error)
                    || coalesce(char(31) || 'spec' || char(31) || g.spec, '')
                    || coalesce(char(31) || 'regrade' || char(31) || g.regrade, ''), x.value
             FROM scorings g JOIN runs r ON r.id = g.run JOIN scores x ON x.scoring = g.id",
            trajectory_key!(),
            "WHERE g.unit = ?1"
        ),
    },
    Ground {
        table: "selections",
        rows: concat!(
            "SELECT r.key || char(31) || x.iteration || char(31) || tr.key || char(31) || quote(t.address) || char(31)
                    || j.leaf || char(31) || quote(x.rank) || char(31) || x.reason,
                    (SELECT pr.key || char(31) || quote(p.address) || char(31) || q.leaf FROM trajectories q
                     JOIN trees p ON p.id = q.tree_id JOIN runs pr ON pr.id = p.run WHERE q.id = x.pair_of) AS \"+pair_of\",
                    x.advantage AS \"+advantage\", x.weight AS \"+weight\"
             FROM selections x JOIN runs r ON r.id = x.run",
            trajectory_key!(),
            "WHERE x.unit = ?1"
        ),
    },
    Ground {
        table: "steps",
        rows: "SELECT r.key, x.iteration, x.step, x.loss, x.tokens, x.target_tokens, x.grad_norm, x.learning_rate
               FROM steps x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "step_losses",
        rows: "SELECT r.key, s.iteration, s.step, x.name, x.value
               FROM steps s JOIN runs r ON r.id = s.run
               JOIN step_losses x ON x.run = s.run AND x.iteration = s.iteration AND x.step = s.step WHERE s.unit = ?1",
    },
    Ground {
        table: "step_examples",
        rows: "SELECT r.key, s.iteration, s.step, x.ordinal, x.task_id, tr.key, t.address, j.leaf
               FROM steps s JOIN runs r ON r.id = s.run
               JOIN step_examples x ON x.run = s.run AND x.iteration = s.iteration AND x.step = s.step
               LEFT JOIN trajectories j ON j.id = x.trajectory LEFT JOIN trees t ON t.id = j.tree_id
               LEFT JOIN runs tr ON tr.id = t.run WHERE s.unit = ?1",
    },
    Ground {
        table: "evaluations",
        rows: "SELECT r.key, x.iteration, x.policy_hash, x.split, x.decoding, x.metric, x.level, x.n, x.value, x.lo, x.hi
               FROM evaluations x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "critics",
        rows: "SELECT r.key, x.iteration, x.stage, x.hash, x.bytes, x.auc, x.ece, x.brier, x.anchor_n, x.annotated, x.voting
               FROM critics x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "checkpoints",
        rows: "SELECT r.key, x.iteration, x.kind, x.step, x.policy_hash, x.parent_hash, x.path, x.bytes, x.file_hash
               FROM checkpoints x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "parity",
        rows: "SELECT r.key, x.iteration, x.max_abs_diff, x.tokens
               FROM parity x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "promotions",
        rows: "SELECT r.key, x.iteration, x.candidate_hash, x.incumbent_hash, x.promoted, x.gain_points, x.lo, x.hi,
                      x.p_value, x.reason
               FROM promotions x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "phases",
        rows: "SELECT r.key, x.iteration, x.phase FROM phases x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
    Ground {
        table: "plans",
        rows: "SELECT r.key, x.iteration, x.tasks, x.steps FROM plans x JOIN runs r ON r.id = x.run WHERE x.unit = ?1",
    },
];

/// Hashes of the rows that `unit` wrote, sorted.
pub(super) async fn unit_rows(db: &mut SqliteConnection, unit: i64) -> Result<Vec<Hash>> {
    Ok(unit_tables(db, unit).await?.0)
}

/// Hashes of the rows that `unit` wrote, sorted, and the tables that they are in.
pub(super) async fn unit_tables(
    db: &mut SqliteConnection,
    unit: i64,
) -> Result<(Vec<Hash>, Vec<&'static str>)> {
    let (mut hashes, mut tables) = (Vec::new(), Vec::new());
    for ground in GROUND {
        let rows = sqlx::query(ground.rows).bind(unit).fetch_all(&mut *db).await?;
        if !rows.is_empty() && !tables.contains(&ground.table) {
            tables.push(ground.table);
        }
        for row in &rows {
            hashes.push(row_hash(ground.table, row).with_context(|| format!("a row of {}", ground.table))?);
        }
    }
    hashes.sort_unstable();
    Ok((hashes, tables))
}

/// The hash of everything that `unit` wrote.
pub(super) async fn unit_hash(db: &mut SqliteConnection, unit: i64) -> Result<Hash> {
    Ok(combined(&unit_rows(db, unit).await?))
}

/// The hash of hashes in their order.
pub(super) fn combined(hashes: &[Hash]) -> Hash {
    let mut hasher = Hasher::new_derive_key("autodidact 2026 store rows v1");
    for hash in hashes {
        hasher.update(hash);
    }
    hasher.finalize().into()
}

/// Writes length-prefixed fields into a hash, so that no two rows share their bytes.
struct Canon(Hasher);

impl Canon {
    fn new(table: &str) -> Self {
        Self(Hasher::new_derive_key("autodidact 2026 store row v1")).bytes(table.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn option(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.bytes(&[1]).text(text),
            None => self.bytes(&[0]),
        }
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

fn row_hash(table: &str, row: &SqliteRow) -> Result<Hash> {
    let mut canon = Canon::new(table);
    for i in 0..row.columns().len() {
        let value = row.try_get_raw(i)?;
        if let Some(added) = row.columns()[i].name().strip_prefix('+') {
            if value.is_null() {
                continue;
            }
            canon = canon.text(added);
        }
        let kind = value.type_info();
        canon = match kind.name() {
            _ if value.is_null() => canon.bytes(b"null"),
            "INTEGER" => canon.bytes(b"integer").bytes(&row.try_get::<i64, _>(i)?.to_le_bytes()),
            "REAL" => canon.bytes(b"real").bytes(&row.try_get::<f64, _>(i)?.to_bits().to_le_bytes()),
            "TEXT" => canon.bytes(b"text").text(row.try_get::<&str, _>(i)?),
            "BLOB" => canon.bytes(b"blob").bytes(row.try_get::<&[u8], _>(i)?),
            other => anyhow::bail!("column {} has the unknown type {other}", row.columns()[i].name()),
        };
    }
    Ok(canon.finish())
}

/// The constant columns of a run.
pub(super) fn run_hash(key: &str, of_run: Option<&str>, run: &NewRun) -> Hash {
    Canon::new("runs")
        .text(key)
        .option(of_run)
        .text(run.arm.name())
        .bytes(&run.seed.to_le_bytes())
        .text(&run.config_json)
        .text(&run.config_hash)
        .text(&run.tokenizer_hash)
        .text(&run.base_policy_hash)
        .text(&run.engine_version)
        .text(&run.started_at)
        .finish()
}

pub(super) fn task_hash(task: &Task) -> Hash {
    Canon::new("tasks")
        .text(&task.id)
        .text(task.kind.name())
        .text(task.split.name())
        .bytes(&task.level.to_le_bytes())
        .text(&task.question)
        .option(task.answer.as_deref())
        .option(task.solution.as_deref())
        .finish()
}

pub(super) fn spec_hash(spec: &ScorerSpec) -> Hash {
    Canon::new("specs").text(&spec.hash).text(spec.name.as_str()).text(&spec.json).finish()
}

/// An alarm of the run with this key.
pub(super) fn alarm_hash(run_key: &str, row: &AlarmRow) -> Hash {
    let figure = |value: Option<f64>| value.map(|v| (v + 0.0).to_bits().to_string());
    Canon::new("alarms")
        .text(run_key)
        .option(row.iteration.map(|i| i.to_string()).as_deref())
        .option(row.phase.map(|p| p.name()))
        .text(row.alarm.rule.name())
        .option(figure(row.alarm.value).as_deref())
        .option(figure(row.alarm.threshold).as_deref())
        .text(row.alarm.action.name())
        .text(&row.alarm.message)
        .text(&row.at)
        .finish()
}

/// A tree with its thoughts and leaves.
pub(super) fn tree_hash(purpose: Purpose, provenance: Provenance<'_>, tree: &Tree) -> Hash {
    let mut canon = Canon::new("tree")
        .text(purpose.name())
        .text(provenance.policy_hash)
        .text(&tree.address.to_string())
        .text(tree.strategy.name())
        .text(&tree.task_id)
        .option(tree.variant.as_ref().map(|v| v.address.to_string()).as_deref())
        .option(tree.variant.as_ref().map(|v| v.question.as_str()))
        .bytes(&super::blob::from_u32(&tree.prompt_ids))
        .bytes(&(tree.thoughts.len() as u64).to_le_bytes());
    for thought in &tree.thoughts {
        // SQLite keeps no sign of zero; adding zero drops it here too.
        canon = canon
            .option(thought.parent.map(|p| p.to_string()).as_deref())
            .bytes(&super::blob::from_u32(&thought.token_ids))
            .bytes(&super::blob::from_f32(&thought.logprobs))
            .text(&thought.text)
            .bytes(&super::blob::from_u16(&thought.hidden_f16))
            .option(thought.value.map(|v| (v + 0.0).to_bits().to_string()).as_deref())
            .option(thought.pruned.map(|p| p.name()));
    }
    for leaf in &tree.leaves {
        canon =
            canon.bytes(&leaf.thought.to_le_bytes()).text(leaf.finish.name()).option(leaf.answer.as_deref());
    }
    // Added columns: no leaf begins with the bytes of one of these names.
    for (ordinal, thought) in tree.thoughts.iter().enumerate() {
        if let Some(visits) = thought.visits {
            canon = canon.text("visits").bytes(&(ordinal as u64).to_le_bytes()).bytes(&visits.to_le_bytes());
        }
    }
    if !provenance.replayable {
        canon = canon.text("replayable").bytes(&[0]);
    }
    if provenance.logprobs != LogprobKind::Raw {
        canon = canon.text("logprob_kind").text(provenance.logprobs.name());
    }
    canon.finish()
}

/// What `trajectories.text_hash` holds: equal texts, equal hashes.
pub(super) fn text_hash(text: &str) -> Hash {
    blake3::hash(text.as_bytes()).into()
}

/// Hashes of the runs' rows, without what may differ between two runs with the same results.
pub(super) async fn run_rows(db: &mut SqliteConnection) -> Result<Vec<Hash>> {
    let rows = sqlx::query(
        "SELECT r.key, o.key, r.arm, r.seed, r.config_hash, r.tokenizer_hash, r.base_policy_hash
         FROM runs r LEFT JOIN runs o ON o.id = r.of_run",
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| row_hash("runs", row)).collect()
}
