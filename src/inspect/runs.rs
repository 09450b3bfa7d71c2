//! `inspect runs`: every run in the store, one line each.

use anyhow::Result;
use serde::Serialize;

use super::outcomes::policy_iteration;
use super::render::{Style, Tone, cell, duration, line, or_dash, percent};
use crate::domain::{Arm, Phase, RunState};
use crate::store::{Reader, Run};

/// Every run, in order of beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunsReport {
    pub runs: Vec<RunLine>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunLine {
    pub run: i64,
    pub arm: Arm,
    /// The run that this one is a control of.
    pub of_run: Option<i64>,
    pub seed: u64,
    pub state: RunState,
    /// Why it stopped.
    pub state_reason: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// Iterations that are complete, iteration 0 not counted.
    pub iterations_done: u32,
    pub iterations_planned: u32,
    /// Held-out pass@1 of the base policy.
    pub heldout_base: Option<f64>,
    /// Held-out pass@1 of the policy now.
    pub heldout: Option<f64>,
    /// Drawn by rollouts.
    pub trajectories: i64,
    pub kept: i64,
    pub seconds: f64,
}

/// Gathers every run.
pub async fn runs(reader: &Reader) -> Result<RunsReport> {
    let mut runs = Vec::new();
    for run in reader.runs().await? {
        runs.push(run_line(reader, run).await?);
    }
    Ok(RunsReport { runs })
}

async fn run_line(reader: &Reader, run: Run) -> Result<RunLine> {
    let summaries = reader.iteration_summaries(run.id).await?;
    let done = reader.done_phases(run.id).await?;
    let policy = policy_iteration(&reader.promotions(run.id).await?);
    let heldout = |iteration| summaries.iter().find(|s| s.iteration == iteration)?.heldout_pass1;
    Ok(RunLine {
        iterations_done: (1..=run.iterations).filter(|i| done.contains(&(*i, Phase::Promote))).count() as u32,
        heldout_base: heldout(0),
        heldout: heldout(policy),
        trajectories: summaries.iter().map(|s| s.trajectories).sum(),
        kept: summaries.iter().map(|s| s.kept).sum(),
        seconds: summaries.iter().map(|s| s.seconds).sum(),
        run: run.id,
        arm: run.arm,
        of_run: run.of_run,
        seed: run.seed,
        state: run.state,
        state_reason: run.state_reason,
        started_at: run.started_at,
        iterations_planned: run.iterations,
    })
}

/// The tone of a run's state.
pub(super) fn tone_of_state(state: RunState) -> Tone {
    match state {
        RunState::Running => Tone::Plain,
        RunState::Done => Tone::Good,
        RunState::Stopped => Tone::Warning,
    }
}

impl RunsReport {
    /// As text for a terminal or a file.
    pub fn render(&self, style: &Style) -> String {
        let mut out = String::new();
        if self.runs.is_empty() {
            line!(out, "no runs yet; `autodidact run` begins one");
            return out;
        }
        let header = [
            "run",
            "arm",
            "state",
            "begun",
            "iterations",
            "held-out %",
            "trajectories",
            "kept",
            "seed",
            "time",
        ];
        let mut table = style.table(&header, 4);
        for run in &self.runs {
            let arm = match run.of_run {
                Some(of) => format!("{} (control of {of})", run.arm),
                None => run.arm.to_string(),
            };
            table.add_row([
                cell(run.run, Tone::Plain),
                cell(arm, Tone::Plain),
                cell(run.state, tone_of_state(run.state)),
                cell(&run.started_at, Tone::Plain),
                cell(format!("{} of {}", run.iterations_done, run.iterations_planned), Tone::Plain),
                cell(
                    format!("{} → {}", or_dash(run.heldout_base, percent), or_dash(run.heldout, percent)),
                    Tone::Plain,
                ),
                cell(run.trajectories, Tone::Plain),
                cell(run.kept, Tone::Plain),
                cell(run.seed, Tone::Plain),
                cell(duration(run.seconds), Tone::Plain),
            ]);
        }
        line!(out, "{}", table.trim_fmt());
        out
    }
}
