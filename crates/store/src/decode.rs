//! Rows back into nouns.

use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::blob;
use super::rows::*;
use autodidact_domain::{
    Alarm, LogprobKind, Score, ScorerName, ScorerSpec, Selection, Task, Thought, Tree, Variant,
};

/// A stored name as its enum.
pub(super) fn named<T: FromStr<Err = String>>(row: &SqliteRow, column: &str) -> Result<T> {
    parsed(column, row.try_get(column)?)
}

/// A stored name or NULL.
pub(super) fn named_option<T: FromStr<Err = String>>(row: &SqliteRow, column: &str) -> Result<Option<T>> {
    row.try_get::<Option<&str>, _>(column)?.map(|name| parsed(column, name)).transpose()
}

fn parsed<T: FromStr<Err = String>>(column: &str, name: &str) -> Result<T> {
    name.parse().map_err(|e: String| anyhow!("column {column}: {e}; run `autodidact verify`"))
}

/// A non-negative number that is stored as i64.
fn unsigned(row: &SqliteRow, column: &str) -> Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?)?)
}

pub(super) fn run(row: &SqliteRow) -> Result<Run> {
    Ok(Run {
        id: row.try_get("id")?,
        arm: named(row, "arm")?,
        of_run: row.try_get("of_run")?,
        seed: row.try_get::<&str, _>("seed")?.parse()?,
        iterations: row.try_get("iterations")?,
        config_json: row.try_get("config_json")?,
        config_hash: row.try_get("config_hash")?,
        tokenizer_hash: row.try_get("tokenizer_hash")?,
        base_policy_hash: row.try_get("base_policy_hash")?,
        engine_version: row.try_get("engine_version")?,
        state: named(row, "state")?,
        state_reason: row.try_get("state_reason")?,
        started_at: row.try_get("started_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}

pub(super) fn task(row: &SqliteRow) -> Result<Task> {
    Ok(Task {
        id: row.try_get("id")?,
        kind: named(row, "kind")?,
        split: named(row, "split")?,
        level: row.try_get("level")?,
        question: row.try_get("question")?,
        answer: row.try_get("answer")?,
        solution: row.try_get("solution")?,
    })
}

pub(super) fn answer(row: &SqliteRow) -> Result<AnswerRow> {
    Ok(AnswerRow {
        trajectory: row.try_get("id")?,
        address: named(row, "address")?,
        leaf: row.try_get("leaf")?,
        finish: named(row, "finish")?,
        answer: row.try_get("answer")?,
    })
}

/// A tree without its thoughts and leaves.
pub(super) fn tree_head(row: &SqliteRow) -> Result<StoredTree> {
    let address: Option<&str> = row.try_get("variant_address")?;
    let question: Option<String> = row.try_get("variant_question")?;
    let variant = match (address, question) {
        (None, None) => None,
        (Some(address), Some(question)) => {
            Some(Variant { address: parsed("variant_address", address)?, question })
        }
        _ => bail!("a variant needs both an address and a question; run `autodidact verify`"),
    };
    Ok(StoredTree {
        tree_row: row.try_get("id")?,
        policy_hash: row.try_get("policy_hash")?,
        replayable: row.try_get("replayable")?,
        logprobs: named_option(row, "logprob_kind")?.unwrap_or(LogprobKind::Raw),
        trajectory_ids: Vec::new(),
        tree: Tree {
            address: named(row, "address")?,
            strategy: named(row, "strategy")?,
            task_id: row.try_get("task_id")?,
            variant,
            prompt_ids: blob::to_u32(row.try_get("prompt_ids")?)?,
            thoughts: Vec::new(),
            leaves: Vec::new(),
        },
    })
}

pub(super) fn thought(row: &SqliteRow) -> Result<Thought> {
    Ok(Thought {
        parent: row.try_get("parent")?,
        token_ids: blob::to_u32(row.try_get("token_ids")?)?,
        logprobs: blob::to_f32(row.try_get("logprobs")?)?,
        text: row.try_get("text")?,
        hidden_f16: blob::to_u16(row.try_get("hidden_f16")?)?,
        // Stored as f64, which holds every f32 exactly.
        value: row.try_get::<Option<f64>, _>("value")?.map(|v| v as f32),
        pruned: named_option(row, "pruned")?,
        visits: row.try_get("visits")?,
    })
}

pub(super) fn score(row: &SqliteRow) -> Result<Score> {
    let scorer: ScorerName = named(row, "scorer")?;
    Ok(match row.try_get::<Option<f64>, _>("value")? {
        Some(value) => Score { scorer, value: Ok(value) },
        None => Score { scorer, value: Err(named(row, "error")?) },
    })
}

pub(super) fn selection(row: &SqliteRow) -> Result<Selection> {
    Ok(Selection {
        trajectory: row.try_get("trajectory")?,
        rank: row.try_get("rank")?,
        reason: named(row, "reason")?,
        pair_of: row.try_get("pair_of")?,
        advantage: row.try_get("advantage")?,
        weight: row.try_get("weight")?,
    })
}

pub(super) fn spec(row: &SqliteRow) -> Result<ScorerSpec> {
    Ok(ScorerSpec { name: named(row, "name")?, json: row.try_get("json")?, hash: row.try_get("hash")? })
}

pub(super) fn alarm(row: &SqliteRow) -> Result<AlarmRow> {
    Ok(AlarmRow {
        iteration: row.try_get("iteration")?,
        phase: named_option(row, "phase")?,
        alarm: Alarm {
            rule: named(row, "rule")?,
            value: row.try_get("value")?,
            threshold: row.try_get("threshold")?,
            action: named(row, "action")?,
            message: row.try_get("message")?,
        },
        at: row.try_get("at")?,
    })
}

/// A step without its losses' parts and its examples.
pub(super) fn step(row: &SqliteRow) -> Result<StepRow> {
    Ok(StepRow {
        step: row.try_get("step")?,
        loss: row.try_get("loss")?,
        tokens: unsigned(row, "tokens")?,
        target_tokens: unsigned(row, "target_tokens")?,
        grad_norm: row.try_get("grad_norm")?,
        learning_rate: row.try_get("learning_rate")?,
        ..StepRow::default()
    })
}

pub(super) fn critic(row: &SqliteRow) -> Result<CriticRow> {
    Ok(CriticRow {
        hash: row.try_get("hash")?,
        bytes: row.try_get("bytes")?,
        auc: row.try_get("auc")?,
        ece: row.try_get("ece")?,
        brier: row.try_get("brier")?,
        anchor_n: row.try_get("anchor_n")?,
        annotated: row.try_get("annotated")?,
        voting: row.try_get("voting")?,
    })
}

pub(super) fn checkpoint(row: &SqliteRow) -> Result<Checkpoint> {
    Ok(Checkpoint {
        id: row.try_get("id")?,
        iteration: row.try_get("iteration")?,
        row: CheckpointRow {
            kind: named(row, "kind")?,
            step: row.try_get("step")?,
            policy_hash: row.try_get("policy_hash")?,
            parent_hash: row.try_get("parent_hash")?,
            path: row.try_get("path")?,
            bytes: unsigned(row, "bytes")?,
            file_hash: row.try_get("file_hash")?,
        },
        removed_reason: row.try_get("removed_reason")?,
    })
}

/// (iteration, measurement)
pub(super) fn evaluation(row: &SqliteRow) -> Result<(u32, EvaluationRow)> {
    let evaluation = EvaluationRow {
        policy_hash: row.try_get("policy_hash")?,
        split: named(row, "split")?,
        decoding: named(row, "decoding")?,
        metric: row.try_get("metric")?,
        level: row.try_get("level")?,
        n: row.try_get("n")?,
        value: row.try_get("value")?,
        lo: row.try_get("lo")?,
        hi: row.try_get("hi")?,
    };
    Ok((row.try_get("iteration")?, evaluation))
}

/// (iteration, decision)
pub(super) fn promotion(row: &SqliteRow) -> Result<(u32, PromotionRow)> {
    let promotion = PromotionRow {
        candidate_hash: row.try_get("candidate_hash")?,
        incumbent_hash: row.try_get("incumbent_hash")?,
        promoted: row.try_get("promoted")?,
        gain_points: row.try_get("gain_points")?,
        lo: row.try_get("lo")?,
        hi: row.try_get("hi")?,
        p_value: row.try_get("p_value")?,
        reason: row.try_get("reason")?,
    };
    Ok((row.try_get("iteration")?, promotion))
}
