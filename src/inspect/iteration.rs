//! `inspect iteration`: what one iteration drew, how it was scored, why rows were kept, and what it measured.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use serde::Serialize;

use super::outcomes::{Gold, lines};
use super::render::{Style, Tone, cell, duration, line, or_dash, percent, percent_interval, points, short};
use super::run::{IterationLine, find, iteration_lines};
use crate::domain::{Arm, Decoding, Phase, Purpose, Score, ScorerName, SelectionReason, Split, stats};
use crate::store::{CriticStage, Reader, TrajectoryLine};

/// Bins of a score's histogram.
const BINS: usize = 10;

/// One iteration of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationReport {
    pub run: i64,
    pub arm: Arm,
    /// The same line as in `inspect run`, field by field.
    #[serde(flatten)]
    pub line: IterationLine,
    pub phases: Vec<PhaseLine>,
    /// How many trajectories got each verdict of selection; reasons that didn't occur are left out.
    pub selection: Vec<ReasonCount>,
    pub tasks: TaskCoverage,
    pub scores: Vec<ScoreDistribution>,
    pub critics: Vec<CriticReport>,
    pub evaluations: Vec<EvaluationLine>,
}

/// How long a finished phase took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseLine {
    pub phase: Phase,
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReasonCount {
    pub reason: SelectionReason,
    pub count: usize,
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

/// How one scorer's numbers are spread over the iteration's rollout trajectories.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreDistribution {
    pub scorer: ScorerName,
    /// Trajectories with a number.
    pub n: usize,
    /// Trajectories without one, by error class.
    pub failed: BTreeMap<&'static str, usize>,
    pub mean: Option<f64>,
    /// Quantiles 0, .25, .5, .75 and 1.
    pub quantiles: Option<[f64; 5]>,
    /// Counts in ten bins of equal width from the least to the greatest.
    pub histogram: Vec<usize>,
    /// How well it tells right answers from wrong ones. Reads gold answers, for audit only.
    pub auc: Option<f64>,
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
pub async fn iteration(reader: &Reader, run: i64, iteration: u32) -> Result<IterationReport> {
    let run = find(reader, run).await?;
    let gold = Gold::load(reader).await?;
    let known = iteration_lines(reader, &gold, &run).await?;
    let last = known.last().map(|line| line.iteration);
    let line = known.into_iter().find(|line| line.iteration == iteration).with_context(|| match last {
        Some(last) => format!("run {} has no iteration {iteration}; its last is {last}", run.id),
        None => format!("run {} has no iteration {iteration}; it has stored nothing yet", run.id),
    })?;
    let selections = reader.selections(run.id, iteration).await?;
    let drawn = lines(reader, run.id, iteration, Purpose::Rollout).await?;
    let right: HashMap<i64, bool> = drawn.iter().filter_map(|l| Some((l.id, gold.is_right(l)?))).collect();
    let kept: HashSet<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
    let count = |reason| selections.iter().filter(|s| s.reason == reason).count();
    let reasons = SelectionReason::ALL.iter().map(|&reason| ReasonCount { reason, count: count(reason) });
    let phases = reader.phase_seconds(run.id).await?.into_iter().filter(|(i, ..)| *i == iteration);
    let critics = reader.critics(run.id).await?.into_iter().filter(|(i, ..)| *i == iteration);
    let evaluations = reader.evaluations(run.id).await?.into_iter().filter(|(i, _)| *i == iteration);
    Ok(IterationReport {
        run: run.id,
        arm: run.arm,
        line,
        phases: phases.map(|(_, phase, seconds)| PhaseLine { phase, seconds }).collect(),
        selection: reasons.filter(|r| r.count > 0).collect(),
        tasks: coverage(&drawn, &kept, &right),
        scores: distributions(&reader.scores(run.id, iteration).await?, &drawn, &right),
        critics: critics
            .map(|(_, stage, c)| CriticReport {
                stage,
                hash: c.hash,
                auc: c.auc,
                ece: c.ece,
                brier: c.brier,
                n: c.anchor_n,
                annotated: c.annotated,
                voting: c.voting,
            })
            .collect(),
        evaluations: evaluations
            .map(|(_, e)| EvaluationLine {
                split: e.split,
                decoding: e.decoding,
                metric: e.metric,
                level: e.level,
                n: e.n,
                value: e.value,
                lo: e.lo,
                hi: e.hi,
            })
            .collect(),
    })
}

fn coverage(drawn: &[TrajectoryLine], kept: &HashSet<i64>, right: &HashMap<i64, bool>) -> TaskCoverage {
    let tasks = |wanted: &dyn Fn(&TrajectoryLine) -> bool| {
        drawn.iter().filter(|l| wanted(l)).map(|l| &l.task_id).collect::<HashSet<_>>().len()
    };
    TaskCoverage {
        attempted: tasks(&|_| true),
        kept: tasks(&|l| kept.contains(&l.id)),
        solved: tasks(&|l| right.get(&l.id) == Some(&true)),
    }
}

/// One distribution per scorer that scored any of the drawn trajectories; of repeated scores the last counts.
fn distributions(
    scores: &[(i64, Score)],
    drawn: &[TrajectoryLine],
    right: &HashMap<i64, bool>,
) -> Vec<ScoreDistribution> {
    let drawn: HashSet<i64> = drawn.iter().map(|line| line.id).collect();
    let mut latest: BTreeMap<ScorerName, BTreeMap<i64, Score>> = BTreeMap::new();
    for (trajectory, score) in scores.iter().filter(|(trajectory, _)| drawn.contains(trajectory)) {
        latest.entry(score.scorer.clone()).or_default().insert(*trajectory, score.clone());
    }
    latest.into_iter().map(|(scorer, scores)| distribution(scorer, &scores, right)).collect()
}

fn distribution(
    scorer: ScorerName,
    scores: &BTreeMap<i64, Score>,
    right: &HashMap<i64, bool>,
) -> ScoreDistribution {
    let mut failed = BTreeMap::new();
    for error in scores.values().filter_map(|score| score.value.err()) {
        *failed.entry(error.name()).or_insert(0) += 1;
    }
    let graded = scores.iter().filter_map(|(id, score)| Some((score.value.ok()?, *right.get(id)?)));
    let (numbers, labels): (Vec<f64>, Vec<bool>) = graded.unzip();
    let mut values: Vec<f64> = scores.values().filter_map(|score| score.value.ok()).collect();
    values.sort_by(f64::total_cmp);
    let known = !values.is_empty();
    ScoreDistribution {
        scorer,
        n: values.len(),
        failed,
        mean: known.then(|| values.iter().sum::<f64>() / values.len() as f64),
        quantiles: known.then(|| [0.0, 0.25, 0.5, 0.75, 1.0].map(|q| stats::quantile(&values, q))),
        histogram: histogram(&values),
        auc: stats::auc(&numbers, &labels),
    }
}

/// Counts in [`BINS`] bins of equal width between the first and the last of sorted values.
fn histogram(sorted: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; BINS];
    let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else { return counts };
    let width = (greatest - least) / BINS as f64;
    for value in sorted {
        let bin = if width > 0.0 { ((value - least) / width) as usize } else { 0 };
        counts[bin.min(BINS - 1)] += 1;
    }
    counts
}

/// Counts as bars of eight heights; only an empty bin is blank.
fn bars(counts: &[usize]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    counts
        .iter()
        .map(|&count| if count == 0 { ' ' } else { HEIGHTS[(count * 8).div_ceil(most) - 1] })
        .collect()
}

impl IterationReport {
    /// As text for a terminal or a file.
    pub fn render(&self, style: &Style) -> String {
        let mut out = String::new();
        let line = &self.line;
        line!(
            out,
            "iteration {} of run {} · {} · {}",
            line.iteration,
            self.run,
            self.arm,
            duration(line.seconds)
        );
        line!(out, "policy {}", or_dash(line.policy_hash.as_deref(), str::to_owned));
        if let (Some(gate), Some(promoted)) = (&line.gate, line.promoted) {
            let (verdict, tone) =
                if promoted { ("promoted", Tone::Good) } else { ("not promoted", Tone::Warning) };
            let verdict = style.paint(tone, verdict);
            line!(
                out,
                "{verdict}: gate gain {} points; {}",
                points(gate.gain_points, gate.lo, gate.hi),
                gate.reason
            );
        }
        if !self.phases.is_empty() {
            let phases: Vec<String> =
                self.phases.iter().map(|p| format!("{} {}", p.phase, duration(p.seconds))).collect();
            line!(out, "{}", phases.join(" · "));
        }
        if let Some(loss) = line.loss_last {
            let parity = or_dash(line.parity, |p| format!("{p:.1e}"));
            line!(
                out,
                "optimizer steps: {}, last loss {loss:.4}; sampler and trainer differ by at most {parity}",
                line.steps
            );
        }
        self.render_selection(style, &mut out);
        self.render_scores(style, &mut out);
        self.render_critics(style, &mut out);
        self.render_evaluations(style, &mut out);
        out
    }

    fn render_selection(&self, style: &Style, out: &mut String) {
        if self.line.trajectories == 0 {
            return;
        }
        let tasks = self.tasks;
        line!(out);
        line!(
            out,
            "{} trajectories for {} tasks; kept {} for {} tasks; {} tasks have a right one (reads gold)",
            self.line.trajectories,
            tasks.attempted,
            self.line.kept,
            tasks.kept,
            tasks.solved
        );
        if let Some(p) = self.line.kept_precision {
            line!(out, "of the kept, {} of {} are right: {} % (reads gold)", p.right, p.n, percent(p.share));
        }
        if self.selection.is_empty() {
            return;
        }
        let mut table = style.table(&["verdict", "trajectories"], 1);
        for verdict in &self.selection {
            let tone = if verdict.reason.is_kept() { Tone::Good } else { Tone::Plain };
            table.add_row([cell(verdict.reason, tone), cell(verdict.count, Tone::Plain)]);
        }
        line!(out, "{}", table.trim_fmt());
    }

    fn render_scores(&self, style: &Style, out: &mut String) {
        if self.scores.is_empty() {
            return;
        }
        line!(out);
        let header = [
            "score",
            "n",
            "failed",
            "least",
            "¼",
            "median",
            "¾",
            "most",
            "mean",
            "spread",
            "AUC (reads gold)",
        ];
        let mut table = style.table(&header, 1);
        for score in &self.scores {
            let number = |v: f64| format!("{v:.3}");
            let mut row = vec![
                score.scorer.to_string(),
                score.n.to_string(),
                score.failed.values().sum::<usize>().to_string(),
            ];
            row.extend((0..5).map(|i| or_dash(score.quantiles.map(|q| q[i]), number)));
            row.extend([or_dash(score.mean, number), bars(&score.histogram), or_dash(score.auc, number)]);
            table.add_row(row);
        }
        line!(out, "{}", table.trim_fmt());
    }

    fn render_critics(&self, style: &Style, out: &mut String) {
        if self.critics.is_empty() {
            return;
        }
        line!(out);
        let header = ["critique head", "hash", "AUC", "ECE", "Brier", "anchor n", "annotated", "votes"];
        let mut table = style.table(&header, 2);
        for critic in &self.critics {
            let [auc, ece, brier] = [critic.auc, critic.ece, critic.brier]
                .map(|v| cell(or_dash(v, |v| format!("{v:.3}")), Tone::Plain));
            let votes = if critic.voting { cell("yes", Tone::Good) } else { cell("no", Tone::Warning) };
            table.add_row([
                cell(critic.stage, Tone::Plain),
                cell(short(&critic.hash), Tone::Plain),
                auc,
                ece,
                brier,
                cell(critic.n, Tone::Plain),
                cell(critic.annotated, Tone::Plain),
                votes,
            ]);
        }
        line!(out, "{}", table.trim_fmt());
    }

    fn render_evaluations(&self, style: &Style, out: &mut String) {
        if self.evaluations.is_empty() {
            return;
        }
        line!(out);
        let mut table = style.table(&["split", "decoding", "metric", "tasks", "%", "by level"], 3);
        for whole in self.evaluations.iter().filter(|e| e.level.is_none()) {
            let mut levels: Vec<(u32, f64)> = self
                .evaluations
                .iter()
                .filter(|e| (e.split, e.decoding, &e.metric) == (whole.split, whole.decoding, &whole.metric))
                .filter_map(|e| Some((e.level?, e.value)))
                .collect();
            levels.sort_by_key(|(level, _)| *level);
            let levels: Vec<String> = levels.iter().map(|(l, v)| format!("{l}: {}", percent(*v))).collect();
            table.add_row([
                whole.split.to_string(),
                whole.decoding.to_string(),
                whole.metric.clone(),
                whole.n.to_string(),
                percent_interval(whole.value, whole.lo, whole.hi),
                levels.join("  "),
            ]);
        }
        line!(out, "{}", table.trim_fmt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_count_everything_and_show_what_is_there() {
        assert_eq!(histogram(&[]), [0; 10]);
        assert_eq!(histogram(&[0.5; 4]), [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(histogram(&[0.0, 0.1, 0.95, 1.0]), [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(bars(&[0, 1, 100, 50]), " ▁█▄");
        assert_eq!(bars(&[0, 0]), "  ");
    }
}
