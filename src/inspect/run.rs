//! One run, iteration by iteration, next to its control arms.

use comfy_table::Cell;

use super::render::{
    Style, Tone, cell, duration, line, or_dash, p_value, percent, percent_interval, points, short,
    tone_of_gain,
};
use super::runs::tone_of_state;
use crate::domain::Arm;
use crate::report::{ControlReport, CriticLine, Gain, IterationLine, RunReport};

/// One run as text.
pub fn run(report: &RunReport, style: &Style) -> String {
    let mut out = String::new();
    head(report, style, &mut out);
    if let Some(gain) = report.gain {
        gain_line(gain, style, &mut out);
    }
    iterations(report, style, &mut out);
    if !report.controls.is_empty() {
        controls(&report.controls, style, &mut out);
    }
    out
}

fn head(report: &RunReport, style: &Style, out: &mut String) {
    let state = style.paint(tone_of_state(report.state), report.state.name());
    let done = report.iterations.iter().filter(|i| i.promoted.is_some()).count();
    line!(
        out,
        "run {} · {} · {state} · {done} of {} iterations · seed {} · {}",
        report.run,
        report.arm,
        report.iterations_planned,
        report.seed,
        duration(report.seconds)
    );
    if let Some(reason) = &report.state_reason {
        line!(out, "{reason}");
    }
    if let Some(next) = report.next {
        line!(out, "next: {} of iteration {}", next.phase, next.iteration);
    }
}

fn gain_line(gain: Gain, style: &Style, out: &mut String) {
    let text = format!("{} points", points(gain.points, gain.lo, gain.hi));
    line!(
        out,
        "gain on held-out tasks, from the base to the policy now: {} (paired bootstrap over {} tasks; \
         McNemar p = {})",
        style.paint(tone_of_gain(gain.lo, gain.hi), &text),
        gain.n,
        p_value(gain.p_value)
    );
}

/// The columns of every run; one column of held-out accuracy for each control arm follows.
const HEADER: [&str; 11] = [
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

fn iterations(report: &RunReport, style: &Style, out: &mut String) {
    let mut header: Vec<&str> = HEADER.to_vec();
    header.extend(report.controls.iter().map(|control| control.arm.name()));
    let mut table = style.table(&header, 2);
    for line in &report.iterations {
        let mut row = cells(line);
        row.extend(report.controls.iter().map(|control| control_cell(control, line.iteration)));
        table.add_row(row);
    }
    line!(out);
    line!(out, "{}", table.trim_fmt());
    let note = format!(
        "held-out: greedy pass@1; [{} % interval]; gains in points. * of the kept; reads gold, for audit only",
        percent(report.confidence).trim_end_matches(".0")
    );
    line!(out, "{}", style.paint(Tone::Faint, &note));
}

fn cells(line: &IterationLine) -> Vec<Cell> {
    let promoted = match (line.iteration, line.promoted) {
        (0, _) => cell("base", Tone::Plain),
        (_, Some(true)) => cell("yes", Tone::Good),
        (_, Some(false)) => cell("no", Tone::Warning),
        (_, None) => cell("–", Tone::Plain),
    };
    let gate = match &line.gate {
        Some(g) => cell(points(g.gain_points, g.lo, g.hi), tone_of_gain(g.lo, g.hi)),
        None => cell("–", Tone::Plain),
    };
    let heldout = or_dash(line.heldout, |m| percent_interval(m.pass1, m.lo, m.hi));
    vec![
        cell(line.iteration, Tone::Plain),
        cell(or_dash(line.policy_hash.as_deref(), short), Tone::Plain),
        cell(heldout, Tone::Plain),
        gate,
        promoted,
        cell(line.trajectories, Tone::Plain),
        cell(line.kept, Tone::Plain),
        cell(or_dash(line.kept_precision, |p| percent(p.share)), Tone::Plain),
        line.critic.map_or_else(|| cell("–", Tone::Plain), critic_cell),
        cell(or_dash(line.parity, |p| format!("{p:.1e}")), Tone::Plain),
        cell(duration(line.seconds), Tone::Plain),
    ]
}

fn critic_cell(critic: CriticLine) -> Cell {
    let measures = [critic.auc, critic.ece, critic.brier];
    let [auc, ece, brier] = measures.map(|v| or_dash(v, |v| format!("{v:.2}")));
    let (vote, tone) = if critic.voting { ("", Tone::Plain) } else { (" (no vote)", Tone::Warning) };
    cell(format!("{auc}/{ece}/{brier}{vote}"), tone)
}

/// A control's held-out accuracy in the same iteration.
fn control_cell(control: &ControlReport, iteration: u32) -> Cell {
    let line = control.iterations.iter().find(|line| line.iteration == iteration);
    cell(or_dash(line.and_then(|line| line.heldout), |m| percent(m.pass1)), Tone::Plain)
}

fn controls(controls: &[ControlReport], style: &Style, out: &mut String) {
    line!(out);
    line!(out, "control arms at the same budget, on held-out tasks:");
    let header = ["run", "arm", "state", "gain over the base", "this run is ahead by", "right %*"];
    let mut table = style.table(&header, 3);
    for control in controls {
        let precisions = control.iterations.iter().filter_map(|i| i.kept_precision);
        let (right, n) = precisions.fold((0, 0), |sum, p| (sum.0 + p.right, sum.1 + p.n));
        let precision = (n > 0).then(|| right as f64 / n as f64);
        table.add_row([
            cell(control.run, Tone::Plain),
            cell(format!("{}: {}", control.arm, arm_name(control.arm)), Tone::Plain),
            cell(control.state, tone_of_state(control.state)),
            gain_cell(control.gain),
            gain_cell(control.advantage),
            cell(or_dash(precision, percent), Tone::Plain),
        ]);
    }
    line!(out, "{}", table.trim_fmt());
}

fn gain_cell(gain: Option<Gain>) -> Cell {
    match gain {
        Some(g) => cell(points(g.points, g.lo, g.hi), tone_of_gain(g.lo, g.hi)),
        None => cell("–", Tone::Plain),
    }
}

/// What an arm trains on, in words.
fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::Reward => "the loop",
        Arm::Random => "random selection",
        Arm::Oracle => "selection by gold answers",
        Arm::EasyOnly => "labelled easy tasks only",
    }
}
