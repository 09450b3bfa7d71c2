//! `inspect run`: one run, iteration by iteration, with its control arms beside it.

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde::Serialize;

use super::outcomes::{Gain, Gold, Outcomes, arm_name, confidence, gain, heldout, lines, policy_iteration};
use super::render::{
    Style, Tone, cell, duration, line, or_dash, p_value, percent, percent_interval, points, short,
    tone_of_gain,
};
use super::runs::tone_of_state;
use crate::domain::{Arm, Decoding, Phase, Progress, Purpose, RunState, Split, next_phase};
use crate::store::{CriticStage, IterationSummary, Reader, Run};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    pub run: i64,
    pub arm: Arm,
    pub of_run: Option<i64>,
    pub state: RunState,
    pub state_reason: Option<String>,
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
    /// The runs at the same budget that this one is compared with.
    pub controls: Vec<ControlReport>,
}

/// The work that a run goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NextPhase {
    pub iteration: u32,
    pub phase: Phase,
}

/// One iteration of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationLine {
    pub iteration: u32,
    /// The policy that this iteration measured: its candidate, promoted or not; the base for iteration 0.
    pub policy_hash: Option<String>,
    /// Null until the gate has decided, and for iteration 0.
    pub promoted: Option<bool>,
    /// That policy on held-out tasks, decoding greedily.
    pub heldout: Option<Measure>,
    /// What the gate saw.
    pub gate: Option<GateLine>,
    /// Drawn by rollouts.
    pub trajectories: i64,
    pub kept: i64,
    /// Reads gold answers, for audit only.
    pub kept_precision: Option<Precision>,
    /// The critique head on the anchor split.
    pub critic: Option<CriticLine>,
    /// Largest difference between the sampler's and the trainer's log-probability of a token, in nats.
    pub parity: Option<f64>,
    /// Optimizer updates.
    pub steps: i64,
    /// Of the last update, in nats per token.
    pub loss_last: Option<f64>,
    /// Of the iteration's finished phases.
    pub seconds: f64,
}

/// Greedy accuracy with its interval; shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Tasks.
    pub n: u32,
    pub pass1: f64,
    pub lo: f64,
    pub hi: f64,
}

/// The candidate against the policy before it, on the gate split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateLine {
    /// In percentage points.
    pub gain_points: f64,
    pub lo: f64,
    pub hi: f64,
    pub p_value: Option<f64>,
    /// The decision in words.
    pub reason: String,
}

/// How many of the kept trajectories have the gold answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Precision {
    pub right: usize,
    /// Kept trajectories whose task has a gold answer.
    pub n: usize,
    pub share: f64,
}

/// The critique head's calibration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CriticLine {
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub brier: Option<f64>,
    /// Trajectories it was measured on.
    pub n: u32,
    /// Whether it has a vote in the reward.
    pub voting: bool,
}

/// A control arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlReport {
    pub run: i64,
    pub arm: Arm,
    pub state: RunState,
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
pub async fn run(reader: &Reader, id: i64) -> Result<RunReport> {
    let run = find(reader, id).await?;
    let gold = Gold::load(reader).await?;
    let arm = ArmReport::gather(reader, &gold, &run).await?;
    let mut controls = Vec::new();
    for control in reader.runs().await?.into_iter().filter(|r| r.of_run == Some(id)) {
        let beside = ArmReport::gather(reader, &gold, &control).await?;
        controls.push(ControlReport {
            run: control.id,
            arm: control.arm,
            state: control.state,
            gain: beside.gain,
            advantage: gain(&run, &beside.outcomes, &arm.outcomes),
            iterations: beside.iterations,
        });
    }
    let progress = Progress { arm: run.arm, iterations: run.iterations, done: reader.done_phases(id).await? };
    Ok(RunReport {
        confidence: confidence(&run),
        run: run.id,
        arm: run.arm,
        of_run: run.of_run,
        state: run.state,
        state_reason: run.state_reason,
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
    })
}

/// The run with this id, or an error that names the runs there are.
pub(super) async fn find(reader: &Reader, id: i64) -> Result<Run> {
    let found = reader.run(id).await?;
    let known: Vec<String> = match found {
        Some(_) => Vec::new(),
        None => reader.runs().await?.iter().map(|run| run.id.to_string()).collect(),
    };
    found.with_context(|| match known.is_empty() {
        true => format!("there is no run {id}; the store has no runs yet"),
        false => format!("there is no run {id}; the store has {}", known.join(", ")),
    })
}

/// What a run and a control have in common.
struct ArmReport {
    iterations: Vec<IterationLine>,
    gain: Option<Gain>,
    /// Of the policy now.
    outcomes: Outcomes,
}

impl ArmReport {
    async fn gather(reader: &Reader, gold: &Gold, run: &Run) -> Result<Self> {
        let iterations = iteration_lines(reader, gold, run).await?;
        let base = heldout(reader, gold, run.id, 0).await?;
        let outcomes = match policy_iteration(&reader.promotions(run.id).await?) {
            0 => base.clone(),
            iteration => heldout(reader, gold, run.id, iteration).await?,
        };
        // Until a candidate was judged there is nothing to compare.
        let judged = iterations.iter().any(|line| line.promoted.is_some());
        let gain = if judged { gain(run, &base, &outcomes) } else { None };
        Ok(Self { iterations, gain, outcomes })
    }
}

/// One line per iteration that has begun.
pub(super) async fn iteration_lines(reader: &Reader, gold: &Gold, run: &Run) -> Result<Vec<IterationLine>> {
    let evaluations = reader.evaluations(run.id).await?;
    let promotions = reader.promotions(run.id).await?;
    let critics = reader.critics(run.id).await?;
    let parity = reader.parity(run.id).await?;
    let mut lines = Vec::new();
    for summary in reader.iteration_summaries(run.id).await? {
        let IterationSummary { iteration, .. } = summary;
        let promotion = promotions.iter().find(|(i, _)| *i == iteration).map(|(_, p)| p);
        let measured = evaluations.iter().map(|(i, e)| (i, e)).find(|(i, e)| {
            let kind = (e.split, e.decoding, e.metric.as_str(), e.level);
            **i == iteration && kind == (Split::HeldOut, Decoding::Greedy, "pass@1", None)
        });
        let critic =
            |stage| critics.iter().find(|(i, s, _)| (*i, *s) == (iteration, stage)).map(|(_, _, c)| c);
        let critic = critic(CriticStage::Annotated).or_else(|| critic(CriticStage::Bootstrap));
        let base = (iteration == 0).then_some(&run.base_policy_hash);
        let hash = promotion.map(|p| &p.candidate_hash).or(measured.map(|(_, e)| &e.policy_hash)).or(base);
        lines.push(IterationLine {
            iteration,
            policy_hash: hash.cloned(),
            promoted: promotion.map(|p| p.promoted),
            heldout: measured.map(|(_, e)| Measure { n: e.n, pass1: e.value, lo: e.lo, hi: e.hi }),
            gate: promotion.map(|p| GateLine {
                gain_points: p.gain_points,
                lo: p.lo,
                hi: p.hi,
                p_value: p.p_value,
                reason: p.reason.clone(),
            }),
            trajectories: summary.trajectories,
            kept: summary.kept,
            kept_precision: precision(reader, gold, run.id, iteration).await?,
            critic: critic.map(|c| CriticLine {
                auc: c.auc,
                ece: c.ece,
                brier: c.brier,
                n: c.anchor_n,
                voting: c.voting,
            }),
            parity: parity.iter().find(|(i, _)| *i == iteration).map(|(_, p)| p.max_abs_diff),
            steps: summary.steps,
            loss_last: summary.loss_last,
            seconds: summary.seconds,
        });
    }
    Ok(lines)
}

/// How right selection was; `None` if it kept nothing that can be checked.
async fn precision(reader: &Reader, gold: &Gold, run: i64, iteration: u32) -> Result<Option<Precision>> {
    let selections = reader.selections(run, iteration).await?;
    let kept: HashSet<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let lines = lines(reader, run, iteration, Purpose::Rollout).await?;
    let verdicts: Vec<bool> =
        lines.iter().filter(|l| kept.contains(&l.id)).filter_map(|l| gold.is_right(l)).collect();
    let (right, n) = (verdicts.iter().filter(|v| **v).count(), verdicts.len());
    Ok((n > 0).then(|| Precision { right, n, share: right as f64 / n as f64 }))
}

impl RunReport {
    /// As text for a terminal or a file.
    pub fn render(&self, style: &Style) -> String {
        let mut out = String::new();
        let state = style.paint(tone_of_state(self.state), self.state.name());
        let done = self.iterations.iter().filter(|i| i.promoted.is_some()).count();
        line!(
            out,
            "run {} · {} · {state} · {done} of {} iterations · seed {} · {}",
            self.run,
            self.arm,
            self.iterations_planned,
            self.seed,
            duration(self.seconds)
        );
        if let Some(reason) = &self.state_reason {
            line!(out, "{reason}");
        }
        if let Some(next) = self.next {
            line!(out, "next: {} of iteration {}", next.phase, next.iteration);
        }
        self.render_gain(style, &mut out);
        self.render_iterations(style, &mut out);
        if !self.controls.is_empty() {
            self.render_controls(style, &mut out);
        }
        out
    }

    fn render_gain(&self, style: &Style, out: &mut String) {
        let Some(gain) = self.gain else { return };
        let text = format!("{} points", points(gain.points, gain.lo, gain.hi));
        line!(
            out,
            "gain on held-out tasks, from the base to the policy now: {} (paired bootstrap over {} tasks; McNemar p = {})",
            style.paint(tone_of_gain(gain.lo, gain.hi), &text),
            gain.n,
            p_value(gain.p_value)
        );
    }

    fn render_iterations(&self, style: &Style, out: &mut String) {
        let header = [
            "iteration",
            "policy",
            "held-out %",
            "gate gain",
            "promoted",
            "drawn",
            "kept",
            "right %*",
            "AUC/ECE/Brier",
            "parity",
            "time",
        ];
        let mut names: Vec<&str> = header.to_vec();
        names.extend(self.controls.iter().map(|control| control.arm.name()));
        let mut table = style.table(&names, 2);
        for line in &self.iterations {
            let mut row = line.cells();
            row.extend(self.controls.iter().map(|control| {
                let beside = control.iterations.iter().find(|l| l.iteration == line.iteration);
                cell(or_dash(beside.and_then(|l| l.heldout), |m| percent(m.pass1)), Tone::Plain)
            }));
            table.add_row(row);
        }
        line!(out);
        line!(out, "{}", table.trim_fmt());
        let note = format!(
            "held-out: greedy pass@1; [{} % interval]; gains in points. * of the kept; reads gold, for audit only",
            percent(self.confidence).trim_end_matches(".0")
        );
        line!(out, "{}", style.paint(Tone::Faint, &note));
    }

    fn render_controls(&self, style: &Style, out: &mut String) {
        line!(out);
        line!(out, "control arms at the same budget, on held-out tasks:");
        let header = ["run", "arm", "state", "gain over the base", "this run is ahead by", "right %*"];
        let mut table = style.table(&header, 3);
        for control in &self.controls {
            let (right, n) = control
                .iterations
                .iter()
                .filter_map(|i| i.kept_precision)
                .fold((0, 0), |sum, p| (sum.0 + p.right, sum.1 + p.n));
            let compared = |gain: Option<Gain>| match gain {
                Some(g) => cell(points(g.points, g.lo, g.hi), tone_of_gain(g.lo, g.hi)),
                None => cell("–", Tone::Plain),
            };
            table.add_row([
                cell(control.run, Tone::Plain),
                cell(format!("{}: {}", control.arm, arm_name(control.arm)), Tone::Plain),
                cell(control.state, tone_of_state(control.state)),
                compared(control.gain),
                compared(control.advantage),
                cell(or_dash((n > 0).then(|| right as f64 / n as f64), percent), Tone::Plain),
            ]);
        }
        line!(out, "{}", table.trim_fmt());
    }
}

impl IterationLine {
    fn cells(&self) -> Vec<comfy_table::Cell> {
        let promoted = match (self.iteration, self.promoted) {
            (0, _) => cell("base", Tone::Plain),
            (_, Some(true)) => cell("yes", Tone::Good),
            (_, Some(false)) => cell("no", Tone::Warning),
            (_, None) => cell("–", Tone::Plain),
        };
        let critic = self.critic.map(|c| {
            let [auc, ece, brier] = [c.auc, c.ece, c.brier].map(|v| or_dash(v, |v| format!("{v:.2}")));
            let vote = if c.voting { "" } else { " (no vote)" };
            cell(format!("{auc}/{ece}/{brier}{vote}"), if c.voting { Tone::Plain } else { Tone::Warning })
        });
        vec![
            cell(self.iteration, Tone::Plain),
            cell(or_dash(self.policy_hash.as_deref(), short), Tone::Plain),
            cell(or_dash(self.heldout, |m| percent_interval(m.pass1, m.lo, m.hi)), Tone::Plain),
            match &self.gate {
                Some(g) => cell(points(g.gain_points, g.lo, g.hi), tone_of_gain(g.lo, g.hi)),
                None => cell("–", Tone::Plain),
            },
            promoted,
            cell(self.trajectories, Tone::Plain),
            cell(self.kept, Tone::Plain),
            cell(or_dash(self.kept_precision, |p| percent(p.share)), Tone::Plain),
            critic.unwrap_or_else(|| cell("–", Tone::Plain)),
            cell(or_dash(self.parity, |p| format!("{p:.1e}")), Tone::Plain),
            cell(duration(self.seconds), Tone::Plain),
        ]
    }
}
