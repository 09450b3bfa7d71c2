//! One iteration: what it sampled, why rows were kept, how scores are spread, and what it measured.

use super::grid::{Grid, left, right};
use super::render::{
    Style, Tone, cell, difference, dotted, duration, hung, line, or_dash, percent, percent_interval, points,
    short,
};
use crate::domain::stats::p_text;
use crate::report::{CriticReport, EvaluationLine, Example, IterationReport, ScoreDistribution};

/// One iteration as text.
pub fn iteration(report: &IterationReport, style: &Style) -> String {
    let mut out = String::new();
    head(report, style, &mut out);
    selection(report, style, &mut out);
    scores(&report.scores, style, &mut out);
    critics(&report.critics, style, &mut out);
    evaluations(&report.evaluations, style, &mut out);
    examples(&report.examples, style, &mut out);
    out
}

/// Ids that `inspect trajectory` shows something new about.
fn examples(examples: &[Example], style: &Style, out: &mut String) {
    if examples.is_empty() {
        return;
    }
    let named = examples.iter().map(|example| {
        let kept = if example.kept { "kept" } else { "dropped" };
        let right = match example.right {
            Some(true) => ", right",
            Some(false) => ", wrong",
            None => "",
        };
        format!("{} ({kept}{right})", example.trajectory)
    });
    line!(out);
    line!(out, "{}", dotted("look at: autodidact inspect trajectory ", named, style));
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
        let p = gate.p_value.map_or_else(String::new, |p| format!(", {}", p_text(p)));
        line!(out, "{verdict}: gate gain {gain} points{p}");
    }
    if !report.phases.is_empty() {
        let phases = report.phases.iter().map(|p| format!("{} {}", p.phase, duration(p.seconds)));
        line!(out, "{}", dotted("", phases, style));
    }
    if let Some(loss) = line.loss_last {
        let parity = match line.parity {
            Some(0.0) => "; sampler and trainer agree exactly".to_owned(),
            Some(parity) => format!("; sampler and trainer differ by at most {}", difference(parity)),
            None => String::new(),
        };
        line!(out, "{} optimizer steps, last loss {loss:.4}{parity}", line.steps);
    }
}

fn selection(report: &IterationReport, style: &Style, out: &mut String) {
    let (line, tasks) = (&report.line, report.tasks);
    if line.trajectories == 0 {
        return;
    }
    line!(out);
    let drawn = format!(
        "{} trajectories for {} tasks; kept {} for {} tasks; {} tasks have a right one (reads gold)",
        line.trajectories, tasks.attempted, line.kept, tasks.kept, tasks.solved
    );
    line!(out, "{}", hung("", 0, &drawn, style));
    if let Some(p) = line.kept_precision {
        let share = percent(p.share);
        line!(out, "of the kept, {} of {} are right: {share} % (reads gold)", p.right, p.n);
    }
    if report.selection.is_empty() {
        return;
    }
    let mut grid = Grid::new([left("verdict"), right("trajectories"), left("")]);
    for verdict in &report.selection {
        let tone = if verdict.reason.is_kept() { Tone::Good } else { Tone::Plain };
        let meaning = cell(verdict.explanation, Tone::Plain);
        grid.row([cell(verdict.reason, tone), cell(verdict.count, Tone::Plain), meaning]);
    }
    out.push_str(&grid.draw(style));
}

fn scores(scores: &[ScoreDistribution], style: &Style, out: &mut String) {
    if scores.is_empty() {
        return;
    }
    line!(out);
    let mut grid = Grid::new([
        left("score"),
        right("AUC*"),
        left("spread"),
        right("mean"),
        right("n").rank(5),
        right("failed").rank(1),
        right("least").rank(3),
        right("¼").rank(4),
        right("median").rank(2),
        right("¾").rank(4),
        right("most").rank(3),
    ]);
    let number = |v: f64| format!("{v:.3}");
    for score in scores {
        let failed: usize = score.failed.values().sum();
        let quantile = |i: usize| or_dash(score.quantiles.map(|q| q[i]), number);
        grid.row([
            score.scorer.to_string(),
            or_dash(score.auc, number),
            bars(&score.histogram),
            or_dash(score.mean, number),
            score.n.to_string(),
            failed.to_string(),
            quantile(0),
            quantile(1),
            quantile(2),
            quantile(3),
            quantile(4),
        ]);
    }
    out.push_str(&grid.draw(style));
    line!(
        out,
        "{}",
        style.paint(Tone::Faint, "* how well it ranks right above wrong, by gold; for audit only")
    );
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
    let mut grid = Grid::new([
        left("critique head"),
        left("hash").rank(1),
        right("AUC"),
        right("ECE"),
        right("Brier"),
        right("anchors"),
        right("annotated"),
        right("votes"),
    ]);
    for critic in critics {
        let measures = [critic.auc, critic.ece, critic.brier];
        let [auc, ece, brier] = measures.map(|v| cell(or_dash(v, |v| format!("{v:.3}")), Tone::Plain));
        let votes = if critic.voting { cell("yes", Tone::Good) } else { cell("no", Tone::Warning) };
        grid.row([
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
    out.push_str(&grid.draw(style));
}

fn evaluations(evaluations: &[EvaluationLine], style: &Style, out: &mut String) {
    if evaluations.is_empty() {
        return;
    }
    line!(out);
    let levels = left("by level").rank(1);
    let mut grid =
        Grid::new([left("split"), left("decoding"), left("metric"), right("tasks"), right("%"), levels]);
    for whole in evaluations.iter().filter(|e| e.level.is_none()) {
        grid.row([
            whole.split.to_string(),
            whole.decoding.to_string(),
            whole.metric.clone(),
            whole.n.to_string(),
            percent_interval(whole.value, whole.lo, whole.hi),
            by_level(whole, evaluations),
        ]);
    }
    out.push_str(&grid.draw(style));
}

/// What a policy measured on one split, a line for each metric.
pub fn figures(evaluations: &[EvaluationLine], style: &Style) -> String {
    let mut grid = Grid::new([
        left("metric"),
        left("decoding").rank(2),
        right("tasks").rank(3),
        right("% [95 % interval]"),
        left("by level").rank(1),
    ]);
    for whole in evaluations.iter().filter(|e| e.level.is_none()) {
        grid.row([
            whole.metric.clone(),
            whole.decoding.to_string(),
            whole.n.to_string(),
            percent_interval(whole.value, whole.lo, whole.hi),
            by_level(whole, evaluations),
        ]);
    }
    grid.draw(style)
}

/// The same measurement, level by level: `9: 90  10: 85`.
fn by_level(whole: &EvaluationLine, evaluations: &[EvaluationLine]) -> String {
    let what = |e: &EvaluationLine| (e.split, e.decoding, e.metric.clone());
    let mut levels: Vec<(u32, f64)> = evaluations
        .iter()
        .filter(|e| what(e) == what(whole))
        .filter_map(|e| Some((e.level?, e.value)))
        .collect();
    levels.sort_by_key(|(level, _)| *level);
    let levels = levels.iter().map(|(level, value)| format!("{level}: {:.0}", 100.0 * value));
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
