//! One run: its result first, then iteration by iteration, next to its control arms.

use comfy_table::Cell;

use super::grid::{Column, Grid, left, right};
use super::render::{
    Style, Tone, brief, cell, difference, dotted, duration, line, or_dash, percent, percent_interval, points,
    short, tone_of_gain, visible,
};
use super::runs::tone_of_state;
use crate::domain::Arm;
use crate::domain::stats::p_text;
use crate::report::{ControlReport, CriticLine, Gain, GateLine, IterationLine, Part, RunReport, State};

/// Characters of the constant answer that are shown.
const ANSWER_SHOWN: usize = 16;

/// One run as text.
pub fn run(report: &RunReport, style: &Style) -> String {
    let mut out = String::new();
    head(report, style, &mut out);
    result(report, style, &mut out);
    iterations(report, style, &mut out);
    out
}

fn head(report: &RunReport, style: &Style, out: &mut String) {
    let mark = match report.state {
        State::Done => "✓ ",
        State::Running => "",
        State::Stopped | State::Interrupted => "! ",
    };
    let state =
        style.paint(tone_of_state(report.state), &format!("{mark}run {} {}", report.run, report.state));
    let arm = if report.arm == Arm::Reward { String::new() } else { format!(" · {}", arm_name(report.arm)) };
    let done = report.iterations.iter().filter(|i| i.promoted.is_some()).count();
    line!(
        out,
        "{state}{arm} · {done} of {} iterations · seed {} · {}",
        report.iterations_planned,
        report.seed,
        duration(report.seconds)
    );
    if let Some(worker) = report.worker {
        let process = worker.pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        let since = worker.last_write_s.map(|s| format!(", last write {} ago", duration(s as f64)));
        line!(out, "  {process} works on it{}", since.unwrap_or_default());
    }
    if let Some(reason) = &report.state_reason {
        line!(out, "  {reason}");
    }
    if let Some(next) = report.next {
        let resumes = match report.state {
            State::Running => "",
            _ => "; `autodidact run` goes on there",
        };
        line!(out, "  next: {} of iteration {}{resumes}", next.phase, next.iteration);
    }
}

/// What the run gave, against the base and against its control arms.
fn result(report: &RunReport, style: &Style, out: &mut String) {
    let rows = comparisons(report);
    if rows.is_empty() {
        return;
    }
    line!(out);
    if let Some(caution) = &report.caution {
        line!(out, "  {}", style.paint(Tone::Warning, &visible(caution)));
    }
    for (what, change, gain) in rows {
        match gain {
            Some(gain) => {
                let points = format!("{:+.1} points  [{:+.1}, {:+.1}]", gain.points, gain.lo, gain.hi);
                let points = style.paint(tone_of_gain(gain.lo, gain.hi), &points);
                line!(out, "  {what:<17} {change:<18} {points}   {}", p_text(gain.p_value));
            }
            None => line!(out, "  {what:<17} {change}"),
        }
    }
    if let Some(gain) = report.gain {
        explanations(report, &gain, style, out);
        let note = format!(
            "  greedy, {} held-out tasks; [{} % interval, paired bootstrap]; p by McNemar",
            gain.n,
            percent(report.confidence).trim_end_matches(".0")
        );
        line!(out, "{}", style.paint(Tone::Faint, &note));
    }
}

/// What a constant answer would score, what the gain is made of, and which tasks it is of.
fn explanations(report: &RunReport, gain: &Gain, style: &Style, out: &mut String) {
    let policy =
        report.iterations.iter().filter(|line| line.promoted == Some(true)).map(|line| line.iteration);
    let policy = policy.max().unwrap_or(0);
    let measure =
        |iteration| report.iterations.iter().find(|line| line.iteration == iteration)?.heldout.as_ref();
    let mut parts = Vec::new();
    if let Some(constant) = measure(policy).and_then(|measure| measure.constant.as_ref()) {
        let answer: String = visible(&constant.answer).chars().take(ANSWER_SHOWN).collect();
        parts.push(format!("best constant answer {} % ({answer})", percent(constant.pass1)));
    }
    parts.push(format!("format {:+.1}", gain.format.points));
    let Part { points, lo, hi } = gain.substance;
    parts.push(format!("substance {points:+.1} [{lo:+.1}, {hi:+.1}]"));
    line!(out, "{}", dotted("  ", parts.into_iter(), style));
    let readable = match [0, policy].map(|iteration| measure(iteration).and_then(|m| m.readable)) {
        [Some(before), Some(after)] => Some(format!("readable {} % → {} %", percent(before), percent(after))),
        _ => None,
    };
    let tasks =
        format!("{} learned ({} of them sharpened), {} lost", gain.learned, gain.sharpened, gain.lost);
    line!(out, "{}", dotted("  tasks: ", [tasks].into_iter().chain(readable), style));
}

/// What is compared, from what to what, and by how much.
fn comparisons(report: &RunReport) -> Vec<(String, String, Option<Gain>)> {
    let measured = |iteration: u32| {
        let line = report.iterations.iter().find(|line| line.iteration == iteration)?;
        Some(percent(line.heldout.as_ref()?.pass1))
    };
    let policy =
        report.iterations.iter().filter(|line| line.promoted == Some(true)).map(|line| line.iteration);
    let mut rows = Vec::new();
    if report.gain.is_some() {
        let [base, now] =
            [measured(0), measured(policy.max().unwrap_or(0))].map(|value| or_dash(value, |v| v));
        rows.push(("held-out pass@1".to_owned(), format!("{base} % → {now} %"), report.gain));
    }
    for control in &report.controls {
        let change = match control.state {
            State::Done => String::new(),
            state => format!("({state})"),
        };
        rows.push((format!("against {}", control.arm), change, control.advantage));
    }
    if let (Some(behind), Some(of)) = (report.behind, report.of_run) {
        rows.push((format!("run {of} (the loop)"), "is ahead of it by".to_owned(), Some(behind)));
    }
    if report.arm == Arm::Reward && report.state == State::Done && report.controls.is_empty() {
        let run = "not run: autodidact run --control random";
        rows.push(("against random".to_owned(), format!("{run} (about {})", duration(report.seconds)), None));
    }
    rows
}

/// The columns of every run; one column of held-out accuracy for each control arm follows.
fn columns(report: &RunReport) -> Vec<Column> {
    let mut columns = vec![
        right("it"),
        left("policy").rank(3),
        right("held-out %"),
        right("gate gain"),
        right("drawn").rank(2),
        right("kept"),
        right("epochs").rank(4),
        right("right*"),
        right("head AUC").rank(4),
        right("ECE").rank(5),
        right("Brier").rank(5),
        right("parity").rank(6),
        right("time"),
    ];
    columns.extend(report.controls.iter().map(|control| right(control.arm.name()).rank(1)));
    columns
}

fn iterations(report: &RunReport, style: &Style, out: &mut String) {
    let mut grid = Grid::new(columns(report));
    for line in &report.iterations {
        let mut row = cells(line);
        row.extend(report.controls.iter().map(|control| control_cell(control, line.iteration)));
        grid.row(row);
    }
    line!(out);
    out.push_str(&grid.draw(style));
    let notes = [
        "▲ promoted, a gain · = promoted, no regression · ✗ refused; gains in points",
        "* % of the kept with the gold answer, which the loop never reads",
    ];
    for note in notes {
        line!(out, "{}", style.paint(Tone::Faint, note));
    }
}

fn cells(line: &IterationLine) -> Vec<Cell> {
    let gate = match (&line.gate, line.promoted) {
        (Some(gate), Some(promoted)) => gate_cell(gate, promoted),
        _ if line.iteration == 0 => cell("base", Tone::Plain),
        _ => cell("–", Tone::Plain),
    };
    let heldout = or_dash(line.heldout.as_ref(), |m| percent_interval(m.pass1, m.lo, m.hi));
    let mut row = vec![
        cell(line.iteration, Tone::Plain),
        cell(or_dash(line.policy_hash.as_deref(), short), Tone::Plain),
        cell(heldout, Tone::Plain),
        gate,
        cell(line.trajectories, Tone::Plain),
        cell(line.kept, Tone::Plain),
        cell(or_dash(line.epochs, |epochs| format!("{epochs:.1}")), Tone::Plain),
        cell(or_dash(line.kept_precision, |p| percent(p.share)), Tone::Plain),
    ];
    row.extend(critic_cells(line.critic));
    row.push(cell(or_dash(line.parity, difference), Tone::Plain));
    row.push(cell(brief(line.seconds), Tone::Plain));
    row
}

fn gate_cell(gate: &GateLine, promoted: bool) -> Cell {
    let (mark, tone) = match promoted {
        true if gate.lo > 0.0 => ("▲", Tone::Good),
        true => ("=", Tone::Plain),
        false => ("✗", Tone::Warning),
    };
    cell(format!("{mark} {}", points(gate.gain_points, gate.lo, gate.hi)), tone)
}

fn critic_cells(critic: Option<CriticLine>) -> [Cell; 3] {
    let Some(critic) = critic else { return [(); 3].map(|()| cell("–", Tone::Plain)) };
    let [auc, ece, brier] = [critic.auc, critic.ece, critic.brier].map(|v| or_dash(v, |v| format!("{v:.2}")));
    let (vote, tone) = if critic.voting { ("", Tone::Plain) } else { (" no vote", Tone::Warning) };
    [cell(format!("{auc}{vote}"), tone), cell(ece, Tone::Plain), cell(brier, Tone::Plain)]
}

/// A control's held-out accuracy in the same iteration.
fn control_cell(control: &ControlReport, iteration: u32) -> Cell {
    let line = control.iterations.iter().find(|line| line.iteration == iteration);
    cell(or_dash(line.and_then(|line| line.heldout.as_ref()), |m| percent(m.pass1)), Tone::Plain)
}

/// What an arm trains on, in words.
pub(super) fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::Reward => "the loop",
        Arm::Random => "control: random selection",
        Arm::Format => "control: any answer that can be one",
        Arm::Oracle => "control: selection by gold answers",
        Arm::EasyOnly => "control: labelled easy tasks only",
    }
}
