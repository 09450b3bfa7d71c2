//! What one iteration sampled, how that was scored, why rows were kept, and what the iteration
//! measured.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use serde::Serialize;

use super::compare::HeldOut;
use super::iterations::{IterationLine, RunRows, kept, rollouts};
use super::run::find;
use super::scores::{ScoreDistribution, distributions};
use super::trajectory::explanation;
use super::verdict::{Verdict, each_attempt};
use crate::domain::{Arm, Decoding, Phase, SelectionReason, Split};
use crate::store::{CriticRow, CriticStage, EvaluationRow, IterationSummary, Reader};

/// One iteration of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationReport {
    pub run: i64,
    pub arm: Arm,
    /// The iteration's line in the run's report, field by field.
    #[serde(flatten)]
    pub line: IterationLine,
    pub phases: Vec<PhaseLine>,
    /// How many trajectories got each verdict of selection; reasons that didn't occur are left out.
    pub selection: Vec<ReasonCount>,
    pub tasks: TaskCoverage,
    pub scores: Vec<ScoreDistribution>,
    pub critics: Vec<CriticReport>,
    pub evaluations: Vec<EvaluationLine>,
    /// One of each kind of sampled trajectory, kept and right first.
    pub examples: Vec<Example>,
}

/// How long a finished phase took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseLine {
    pub phase: Phase,
    pub seconds: f64,
}

/// How many trajectories got one verdict of selection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReasonCount {
    pub reason: SelectionReason,
    /// What it means.
    pub explanation: &'static str,
    pub count: usize,
}

/// A trajectory to look at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Example {
    pub trajectory: i64,
    pub kept: bool,
    /// Reads gold answers, for audit only; null where there is nothing to compare with.
    pub right: Option<bool>,
}

/// How many tasks the rollouts served.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TaskCoverage {
    /// Attempted.
    pub attempted: usize,
    /// With at least one kept trajectory.
    pub kept: usize,
    /// With at least one right trajectory. Reads gold answers, for audit only.
    pub solved: usize,
}

/// A critique head of the iteration, on the anchor split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CriticReport {
    pub stage: CriticStage,
    pub hash: String,
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub brier: Option<f64>,
    /// Trajectories it was measured on.
    pub n: u32,
    /// Trajectories it labelled for itself.
    pub annotated: u32,
    /// Whether it has a vote in the reward.
    pub voting: bool,
}

/// The iteration's policy, measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationLine {
    pub split: Split,
    pub decoding: Decoding,
    /// `pass@1`, `pass@4`, `maj@4`, …
    pub metric: String,
    /// Null: every level together.
    pub level: Option<u32>,
    /// Tasks.
    pub n: u32,
    pub value: f64,
    pub lo: f64,
    pub hi: f64,
}

/// Gathers one iteration.
///
/// # Errors
/// If the run doesn't exist, or hasn't begun the iteration.
pub async fn iteration(
    reader: &Reader,
    run: i64,
    iteration: u32,
    verdict: Verdict<'_>,
) -> Result<IterationReport> {
    let run = find(reader, run).await?;
    let summary = summary_of(reader, run.id, iteration).await?;
    let rows = RunRows::read(reader, &run).await?;
    let heldout = HeldOut::read(reader, verdict).await?;
    let line = rows.line(reader, verdict, &heldout, &summary).await?;
    let sampled = Sampled::read(reader, verdict, run.id, iteration).await?;
    let phases = reader.phase_seconds(run.id).await?.into_iter().filter(|(i, ..)| *i == iteration);
    let (critics, evaluations) = rows.of_iteration(iteration);
    let selection = reason_counts(reader, run.id, iteration).await?;
    let selected = !selection.is_empty();
    Ok(IterationReport {
        run: run.id,
        arm: run.arm,
        line,
        phases: phases.map(|(_, phase, seconds)| PhaseLine { phase, seconds }).collect(),
        selection,
        tasks: sampled.coverage(),
        scores: distributions(&reader.scores(run.id, iteration).await?, &sampled.verdicts),
        critics: critics.into_iter().map(|(stage, row)| critic_report(stage, row)).collect(),
        evaluations: evaluations.into_iter().map(evaluation_line).collect(),
        examples: if selected { sampled.examples() } else { Vec::new() },
    })
}

/// Fails unless the run has begun the iteration.
///
/// # Errors
/// There is no such run or iteration; the error names the last one there is.
pub async fn known_iteration(reader: &Reader, run: i64, iteration: u32) -> Result<()> {
    let run = find(reader, run).await?;
    summary_of(reader, run.id, iteration).await.map(drop)
}

/// The summary of an iteration, or an error that names the last one there is.
pub(super) async fn summary_of(reader: &Reader, run: i64, iteration: u32) -> Result<IterationSummary> {
    let mut summaries = reader.iteration_summaries(run).await?;
    let last = summaries.last().map(|summary| summary.iteration);
    let place = summaries.iter().position(|summary| summary.iteration == iteration);
    place.map(|place| summaries.swap_remove(place)).with_context(|| match last {
        Some(last) => format!("run {run} has no iteration {iteration}; its last is {last}"),
        None => format!("run {run} has no iteration {iteration}; it has stored nothing yet"),
    })
}

async fn reason_counts(reader: &Reader, run: i64, iteration: u32) -> Result<Vec<ReasonCount>> {
    let selections = reader.selections(run, iteration).await?;
    let count = |reason| selections.iter().filter(|s| s.reason == reason).count();
    let reasons = SelectionReason::ALL.iter().map(|&reason| ReasonCount {
        reason,
        explanation: explanation(reason),
        count: count(reason),
    });
    Ok(reasons.filter(|r| r.count > 0).collect())
}

fn critic_report(stage: CriticStage, row: CriticRow) -> CriticReport {
    CriticReport {
        stage,
        hash: row.hash,
        auc: row.auc,
        ece: row.ece,
        brier: row.brier,
        n: row.anchor_n,
        annotated: row.annotated,
        voting: row.voting,
    }
}

fn evaluation_line(row: EvaluationRow) -> EvaluationLine {
    EvaluationLine {
        split: row.split,
        decoding: row.decoding,
        metric: row.metric,
        level: row.level,
        n: row.n,
        value: row.value,
        lo: row.lo,
        hi: row.hi,
    }
}

/// What an iteration's rollouts came to.
#[derive(Default)]
struct Sampled {
    /// Every trajectory, with its verdict if there is one.
    verdicts: HashMap<i64, Option<bool>>,
    attempted: HashSet<String>,
    kept: HashSet<String>,
    solved: HashSet<String>,
    /// The first trajectory that was (dropped, not right), with its verdict.
    first: BTreeMap<(bool, bool, Option<bool>), i64>,
}

impl Sampled {
    async fn read(reader: &Reader, verdict: Verdict<'_>, run: i64, iteration: u32) -> Result<Self> {
        let mut sampled = Self::default();
        let kept = kept(reader, run, iteration).await?;
        each_attempt(reader, verdict, &rollouts(run, iteration), |line, verdict| {
            let right = verdict();
            sampled.verdicts.insert(line.id, right);
            sampled.attempted.insert(line.task_id.clone());
            if kept.contains(&line.id) {
                sampled.kept.insert(line.task_id.clone());
            }
            let kind = (!kept.contains(&line.id), right != Some(true), right);
            sampled.first.entry(kind).or_insert(line.id);
            if right == Some(true) {
                sampled.solved.insert(line.task_id.clone());
            }
        })
        .await?;
        Ok(sampled)
    }

    fn examples(&self) -> Vec<Example> {
        let example = |(kind, id): (&(bool, bool, Option<bool>), &i64)| {
            let (dropped, _, right) = *kind;
            Example { trajectory: *id, kept: !dropped, right }
        };
        self.first.iter().map(example).collect()
    }

    fn coverage(&self) -> TaskCoverage {
        TaskCoverage { attempted: self.attempted.len(), kept: self.kept.len(), solved: self.solved.len() }
    }
}
