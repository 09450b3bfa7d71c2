//! One attempt in full: its thoughts, how sure the policy was, how it was scored, and where it
//! trained.

use anyhow::{Context, Result};
use serde::Serialize;

use super::Verdict;
use super::tree::{ThoughtLine, TokenText, thought_lines};
use crate::domain::{
    FinishReason, Purpose, ScoreError, ScorerName, Selection, SelectionReason, Split, Strategy, TaskKind,
};
use crate::store::{Reader, StoredScore, TrajectoryDetail};

/// One trajectory and the tree it grew in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrajectoryReport {
    pub trajectory: i64,
    pub run: i64,
    pub iteration: u32,
    pub purpose: Purpose,
    pub task: TaskLine,
    /// The policy that sampled it.
    pub policy_hash: String,
    /// Names its random stream.
    pub address: String,
    pub strategy: Strategy,
    pub finish: FinishReason,
    /// The answer it claims, normalised.
    pub answer: Option<String>,
    /// Against the gold answer; reads gold, for audit only.
    pub correct: Option<bool>,
    /// Its length, prompt not counted.
    pub tokens: usize,
    /// Mean log-probability of its tokens, in nats.
    pub logprob_mean: Option<f64>,
    /// The whole tree's thoughts, parents before children.
    pub thoughts: Vec<ThoughtLine>,
    /// In order of scoring: of repeated scores the last counts.
    pub scores: Vec<ScoreLine>,
    pub selections: Vec<SelectionLine>,
    /// The optimizer updates that trained on it.
    pub steps: Vec<StepLine>,
}

/// The task that was attempted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskLine {
    pub id: String,
    pub kind: TaskKind,
    pub split: Split,
    pub level: u32,
    /// As it was asked: the variant's words, if it was a variant.
    pub question: String,
    /// Whether the question was a variant.
    pub variant: bool,
    /// The gold answer.
    pub answer: Option<String>,
}

/// One score, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreLine {
    pub scorer: ScorerName,
    pub value: Option<f64>,
    /// Why there is no value.
    pub error: Option<ScoreError>,
    pub run: i64,
    pub iteration: u32,
    /// Identity of the critic that scored.
    pub scorer_hash: String,
}

/// One verdict of selection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SelectionLine {
    pub run: i64,
    pub iteration: u32,
    /// Within its task by reward, from 1.
    pub rank: Option<u32>,
    pub reason: SelectionReason,
    /// The reason in words.
    pub explanation: &'static str,
}

/// An optimizer update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepLine {
    pub run: i64,
    pub iteration: u32,
    pub step: u32,
}

/// Gathers one trajectory. With `token_text` the report has the text of each token.
///
/// # Errors
/// If there is no such trajectory.
pub async fn trajectory(
    reader: &Reader,
    id: i64,
    token_text: Option<TokenText<'_>>,
    verdict: Verdict<'_>,
) -> Result<TrajectoryReport> {
    let detail = reader.trajectory(id).await?.with_context(|| {
        format!(
            "there is no trajectory {id}; `autodidact inspect sql` can list them from the view \
             trajectory_text"
        )
    })?;
    let TrajectoryDetail { task, tree: stored, leaf, .. } = detail;
    let tree = stored.tree;
    let leaf = tree.leaves.get(leaf).with_context(|| format!("trajectory {id} has no leaf {leaf}"))?.clone();
    let path = tree.path(&leaf);
    let logprobs = tree.completion_logprobs(&leaf);
    let mean = logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / logprobs.len() as f64;
    Ok(TrajectoryReport {
        trajectory: id,
        run: detail.run,
        iteration: detail.iteration,
        purpose: detail.purpose,
        correct: verdict(&task, leaf.answer.as_deref()),
        policy_hash: stored.policy_hash,
        address: tree.address.to_string(),
        strategy: tree.strategy,
        finish: leaf.finish,
        answer: leaf.answer,
        tokens: logprobs.len(),
        logprob_mean: (!logprobs.is_empty()).then_some(mean),
        thoughts: thought_lines(&tree, &path, &stored.trajectory_ids, token_text),
        task: TaskLine {
            id: task.id,
            kind: task.kind,
            split: task.split,
            level: task.level,
            variant: tree.variant.is_some(),
            question: tree.variant.map_or(task.question, |variant| variant.question),
            answer: task.answer,
        },
        scores: detail.scores.into_iter().map(score_line).collect(),
        selections: detail.selections.into_iter().map(selection_line).collect(),
        steps: detail.steps.into_iter().map(step_line).collect(),
    })
}

fn score_line(stored: StoredScore) -> ScoreLine {
    ScoreLine {
        scorer: stored.score.scorer,
        value: stored.score.value.ok(),
        error: stored.score.value.err(),
        run: stored.run,
        iteration: stored.iteration,
        scorer_hash: stored.scorer_hash,
    }
}

fn selection_line((run, iteration, selection): (i64, u32, Selection)) -> SelectionLine {
    SelectionLine {
        run,
        iteration,
        rank: selection.rank,
        reason: selection.reason,
        explanation: explanation(selection.reason),
    }
}

fn step_line((run, iteration, step): (i64, u32, u32)) -> StepLine {
    StepLine { run, iteration, step }
}

/// What a verdict of selection means.
pub(super) fn explanation(reason: SelectionReason) -> &'static str {
    match reason {
        SelectionReason::Kept => "among the best of its task and above the floor",
        SelectionReason::KeptRandom => "drawn at random (control arm)",
        SelectionReason::KeptOracle => "its answer is the gold one (control arm that reads gold)",
        SelectionReason::Unscorable => "its reward could not be computed",
        SelectionReason::Truncated => "it did not end by itself",
        SelectionReason::NoAnswer => "no answer could be read",
        SelectionReason::BelowFloor => "its reward is below select.floor",
        SelectionReason::Duplicate => "the same text as a kept trajectory of its task and variant",
        SelectionReason::BelowKeep => "ranked below select.keep within its task",
        SelectionReason::OddAnswer => "no labelled task has its answer (select.closed_answers)",
        SelectionReason::ByChance => "its vote may be chance (select.chance_max)",
        SelectionReason::AnswerQuota => "its answer has its share (select.answer_max)",
        SelectionReason::TooFewTasks => "too few tasks have any (select.tasks_min)",
        SelectionReason::TooFewRows => "too few were left (select.rows_min)",
        SelectionReason::OverQuota => "the iteration's quota, select.total_max, was full",
        SelectionReason::NotDrawn => "not drawn (control arm)",
        SelectionReason::Wrong => "its answer is not the gold one (control arm that reads gold)",
    }
}
