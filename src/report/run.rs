//! One run, iteration by iteration, with the control arms at the same budget.

use anyhow::{Result, bail};
use serde::Serialize;

use super::compare::{Gain, HeldOut, Outcomes, caution, confidence, gain, outcomes, policy_iteration};
use super::iterations::{IterationLine, RunRows, lines};
use super::state::{State, Worker};
use super::verdict::Verdict;
use crate::domain::{Arm, Phase, Progress, next_phase};
use crate::store::{Reader, Run};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    pub run: i64,
    pub arm: Arm,
    /// The run that this one is a control of.
    pub of_run: Option<i64>,
    pub state: State,
    /// Why it stopped.
    pub state_reason: Option<String>,
    /// Who works on it; null if nobody does, or if it was not looked for.
    pub worker: Option<Worker>,
    pub seed: u64,
    pub iterations_planned: u32,
    /// RFC 3339.
    pub started_at: String,
    pub config_hash: String,
    pub base_policy_hash: String,
    pub engine_version: String,
    /// Of every finished phase.
    pub seconds: f64,
    /// Two-sided level of every interval.
    pub confidence: f64,
    /// What comes next; null when the run is complete.
    pub next: Option<NextPhase>,
    /// Iteration 0 is the base policy.
    pub iterations: Vec<IterationLine>,
    /// The policy now against the base, on held-out tasks; null until both are measured.
    pub gain: Option<Gain>,
    /// What else would explain the gain: a constant answer, or answers that can be read; null if
    /// neither does.
    pub caution: Option<String>,
    /// The runs at the same budget that this one is compared with.
    pub controls: Vec<ControlReport>,
    /// For a control arm: the policy now of the run it is a control of, against this one's.
    pub behind: Option<Gain>,
}

impl RunReport {
    /// Settles for each run whether it is worked on: `current` is the run that a process has in hand.
    pub fn seen(&mut self, current: Option<(i64, Worker)>) {
        let has = |run: i64| current.filter(|(id, _)| *id == run).map(|(_, worker)| worker);
        self.worker = has(self.run);
        self.state = self.state.seen(self.worker.is_some());
        for control in &mut self.controls {
            control.state = control.state.seen(has(control.run).is_some());
        }
    }
}

/// The phase that the run does next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NextPhase {
    pub iteration: u32,
    pub phase: Phase,
}

/// A control arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlReport {
    pub run: i64,
    pub arm: Arm,
    pub state: State,
    pub iterations: Vec<IterationLine>,
    /// The control's policy now against the base.
    pub gain: Option<Gain>,
    /// The run's policy now against the control's.
    pub advantage: Option<Gain>,
}

/// Gathers one run and its controls.
///
/// # Errors
/// If there is no such run, naming those there are.
pub async fn run(reader: &Reader, id: i64, verdict: Verdict<'_>) -> Result<RunReport> {
    let run = find(reader, id).await?;
    let heldout = HeldOut::read(reader, verdict).await?;
    let arm = ArmReport::gather(reader, verdict, &heldout, &run).await?;
    let mut controls = Vec::new();
    for control in reader.controls(id).await? {
        let other = ArmReport::gather(reader, verdict, &heldout, &control).await?;
        controls.push(ControlReport {
            run: control.id,
            arm: control.arm,
            state: control.state.into(),
            gain: other.gain,
            advantage: gain(&run, &other.outcomes, &arm.outcomes),
            iterations: other.iterations,
        });
    }
    let behind = match run.of_run {
        Some(main) => {
            let main = ArmReport::gather(reader, verdict, &heldout, &find(reader, main).await?).await?;
            gain(&run, &arm.outcomes, &main.outcomes)
        }
        None => None,
    };
    let progress = Progress { arm: run.arm, iterations: run.iterations, done: reader.done_phases(id).await? };
    let caution = arm.gain.and_then(|gain| caution(&run, verdict, &heldout, (&gain, &arm.outcomes)));
    Ok(RunReport {
        caution,
        confidence: confidence(&run),
        run: run.id,
        arm: run.arm,
        of_run: run.of_run,
        state: run.state.into(),
        state_reason: run.state_reason,
        worker: None,
        seed: run.seed,
        iterations_planned: run.iterations,
        started_at: run.started_at,
        config_hash: run.config_hash,
        base_policy_hash: run.base_policy_hash,
        engine_version: run.engine_version,
        seconds: arm.iterations.iter().map(|i| i.seconds).sum(),
        next: next_phase(&progress).map(|(iteration, phase)| NextPhase { iteration, phase }),
        iterations: arm.iterations,
        gain: arm.gain,
        controls,
        behind,
    })
}

/// The run with this id, or an error that names the runs there are.
pub(super) async fn find(reader: &Reader, id: i64) -> Result<Run> {
    if let Some(run) = reader.run(id).await? {
        return Ok(run);
    }
    let known: Vec<String> = reader.runs().await?.iter().map(|run| run.id.to_string()).collect();
    match known.is_empty() {
        true => bail!("there is no run {id}; the store has no runs yet"),
        false => bail!("there is no run {id}; the store has {}", known.join(", ")),
    }
}

/// What a run and a control have in common.
struct ArmReport {
    iterations: Vec<IterationLine>,
    gain: Option<Gain>,
    /// Of the policy now.
    outcomes: Outcomes,
}

impl ArmReport {
    async fn gather(reader: &Reader, verdict: Verdict<'_>, heldout: &HeldOut, run: &Run) -> Result<Self> {
        let rows = RunRows::read(reader, run).await?;
        let iterations = lines(reader, verdict, heldout, (run.id, &rows)).await?;
        let base = outcomes(reader, verdict, heldout, run.id, 0).await?;
        let outcomes = match policy_iteration(rows.promotions()) {
            0 => base.clone(),
            iteration => outcomes(reader, verdict, heldout, run.id, iteration).await?,
        };
        // Until a candidate was judged there is nothing to compare.
        let judged = iterations.iter().any(|line| line.promoted.is_some());
        let gain = if judged { gain(run, &base, &outcomes) } else { None };
        Ok(Self { iterations, gain, outcomes })
    }
}
