//! One iteration: what it sampled, why rows were kept, how scores are spread, and what it measured.

use super::render::{Style, Tone, cell, duration, line, or_dash, percent, percent_interval, points, short};
use crate::report::{CriticReport, EvaluationLine, IterationReport, ScoreDistribution};

/// One iteration as text.
pub fn iteration(report: &IterationReport, style: &Style) -> String {
    let mut out = String::new();
    head(report, style, &mut out);
    selection(report, style, &mut out);
    scores(&report.scores, style, &mut out);
    critics(&report.critics, style, &mut out);
    evaluations(&report.evaluations, style, &mut out);
    out
}

fn head(report: &IterationReport, style: &Style, out: &mut String) {
    let line = &report.line;
    let time = duration(line.seconds);
    line!(out, "iteration {} of run {} · {} · {time}", line.iteration, report.run, report.arm);
    line!(out, "policy {}", or_dash(line.policy_hash.as_deref(), str::to_owned));
    if let (Some(gate), Some(promoted)) = (&line.gate, line.promoted) {
        let verdict = match promoted {
            true => style.paint(Tone::Good, "promoted"),
            false => style.paint(Tone::Warning, "not promoted"),
        };
        let gain = points(gate.gain_points, gate.lo, gate.hi);
        line!(out, "{verdict}: gate gain {gain} points; {}", gate.reason);
    }
    if !report.phases.is_empty() {
        let phases = report.phases.iter().map(|p| format!("{} {}", p.phase, duration(p.seconds)));
        line!(out, "{}", phases.collect::<Vec<_>>().join(" · "));
    }
    if let Some(loss) = line.loss_last {
        let parity = or_dash(line.parity, |p| format!("{p:.1e}"));
        line!(
            out,
            "optimizer steps: {}, last loss {loss:.4}; sampler and trainer differ by at most {parity}",
            line.steps
        );
    }
}

fn selection(report: &IterationReport, style: &Style, out: &mut String) {
    let (line, tasks) = (&report.line, report.tasks);
    if line.trajectories == 0 {
        return;
    }
    line!(out);
    line!(
        out,
        "{} trajectories for {} tasks; kept {} for {} tasks; {} tasks have a right one (reads gold)",
        line.trajectories,
        tasks.attempted,
        line.kept,
        tasks.kept,
        tasks.solved
    );
    if let Some(p) = line.kept_precision {
        let share = percent(p.share);
        line!(out, "of the kept, {} of {} are right: {share} % (reads gold)", p.right, p.n);
    }
    if report.selection.is_empty() {
        return;
    }
    let mut table = style.table(&["verdict", "trajectories"], 1);
    for verdict in &report.selection {
        let tone = if verdict.reason.is_kept() { Tone::Good } else { Tone::Plain };
        table.add_row([cell(verdict.reason, tone), cell(verdict.count, Tone::Plain)]);
    }
    line!(out, "{}", table.trim_fmt());
}

const SCORES_HEADER: [&str; 11] =
    ["score", "n", "failed", "least", "¼", "median", "¾", "most", "mean", "spread", "AUC (reads gold)"];

fn scores(scores: &[ScoreDistribution], style: &Style, out: &mut String) {
    if scores.is_empty() {
        return;
    }
    line!(out);
    let mut table = style.table(&SCORES_HEADER, 1);
    let number = |v: f64| format!("{v:.3}");
    for score in scores {
        let failed: usize = score.failed.values().sum();
        let mut row = vec![score.scorer.to_string(), score.n.to_string(), failed.to_string()];
        row.extend((0..5).map(|i| or_dash(score.quantiles.map(|q| q[i]), number)));
        row.push(or_dash(score.mean, number));
        row.push(bars(&score.histogram));
        row.push(or_dash(score.auc, number));
        table.add_row(row);
    }
    line!(out, "{}", table.trim_fmt());
}

/// Counts as bars of eight heights; only an empty bin is blank.
fn bars(counts: &[usize]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |&count: &usize| match count {
        0 => ' ',
        count => HEIGHTS[(count * 8).div_ceil(most) - 1],
    };
    counts.iter().map(bar).collect()
}

fn critics(critics: &[CriticReport], style: &Style, out: &mut String) {
    if critics.is_empty() {
        return;
    }
    line!(out);
    let header = ["critique head", "hash", "AUC", "ECE", "Brier", "anchor n", "annotated", "votes"];
    let mut table = style.table(&header, 2);
    for critic in critics {
        let measures = [critic.auc, critic.ece, critic.brier];
        let [auc, ece, brier] = measures.map(|v| cell(or_dash(v, |v| format!("{v:.3}")), Tone::Plain));
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

fn evaluations(evaluations: &[EvaluationLine], style: &Style, out: &mut String) {
    if evaluations.is_empty() {
        return;
    }
    line!(out);
    let mut table = style.table(&["split", "decoding", "metric", "tasks", "%", "by level"], 3);
    for whole in evaluations.iter().filter(|e| e.level.is_none()) {
        table.add_row([
            whole.split.to_string(),
            whole.decoding.to_string(),
            whole.metric.clone(),
            whole.n.to_string(),
            percent_interval(whole.value, whole.lo, whole.hi),
            by_level(whole, evaluations),
        ]);
    }
    line!(out, "{}", table.trim_fmt());
}

/// The same measurement, level by level: `9: 90.0  10: 85.0`.
fn by_level(whole: &EvaluationLine, evaluations: &[EvaluationLine]) -> String {
    let what = |e: &EvaluationLine| (e.split, e.decoding, e.metric.clone());
    let mut levels: Vec<(u32, f64)> = evaluations
        .iter()
        .filter(|e| what(e) == what(whole))
        .filter_map(|e| Some((e.level?, e.value)))
        .collect();
    levels.sort_by_key(|(level, _)| *level);
    let levels = levels.iter().map(|(level, value)| format!("{level}: {}", percent(*value)));
    levels.collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there() {
        assert_eq!(bars(&[0, 1, 100, 50]), " ▁█▄");
        assert_eq!(bars(&[0, 0]), "  ");
    }
}
