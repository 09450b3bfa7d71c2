//! Every run in the store, one line each.

use anyhow::Result;
use serde::Serialize;

use super::Page;
use super::compare::policy_iteration;
use super::state::State;
use crate::domain::{Arm, Phase};
use crate::store::{Reader, Run, Window};

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
    pub state: State,
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
    /// Sampled by rollouts.
    pub trajectories: i64,
    pub kept: i64,
    pub seconds: f64,
}

/// Runs that are read at a time. Tests read one at a time, so that they need several chunks.
const CHUNK: u32 = if cfg!(test) { 1 } else { 100 };

impl RunsReport {
    /// Gathers every run, page by page.
    pub async fn gather(reader: &Reader) -> Result<Self> {
        let (mut all, mut window) = (Vec::new(), Window::first(CHUNK));
        loop {
            let page = runs(reader, window).await?;
            all.extend(page.items);
            match page.next {
                Some(last) => window.after = Some(last),
                None => return Ok(Self { runs: all }),
            }
        }
    }
}

impl RunsReport {
    /// Settles for each run whether it is worked on: `current` is the run that a process has in hand.
    pub fn seen(&mut self, current: Option<i64>) {
        for line in &mut self.runs {
            line.state = line.state.seen(current == Some(line.run));
        }
    }
}

/// Gathers a page of runs, in order of beginning.
///
/// # Errors
/// If the window is too large or empty.
pub async fn runs(reader: &Reader, window: Window) -> Result<Page<RunLine>> {
    let total = reader.run_count().await?;
    let chunk = reader.runs_within(window).await?;
    let mut items = Vec::with_capacity(chunk.rows.len());
    for run in chunk.rows {
        items.push(run_line(reader, run).await?);
    }
    Ok(Page { items, total, next: chunk.next })
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
        state: run.state.into(),
        state_reason: run.state_reason,
        started_at: run.started_at,
        iterations_planned: run.iterations,
    })
}
