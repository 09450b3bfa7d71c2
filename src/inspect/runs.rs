//! Every run in the store, one line each.

use super::render::{Style, Tone, cell, duration, line, or_dash, percent};
use crate::domain::RunState;
use crate::report::{RunLine, RunsReport};

const HEADER: [&str; 10] =
    ["run", "arm", "state", "begun", "iterations", "held-out %", "trajectories", "kept", "seed", "time"];

/// Columns from here on are numbers.
const NUMBERS_FROM: usize = 4;

/// The list of runs as text.
pub fn runs(report: &RunsReport, style: &Style) -> String {
    let mut out = String::new();
    if report.runs.is_empty() {
        line!(out, "no runs yet; `autodidact run` begins one");
        return out;
    }
    let mut table = style.table(&HEADER, NUMBERS_FROM);
    for run in &report.runs {
        table.add_row(cells(run));
    }
    line!(out, "{}", table.trim_fmt());
    out
}

fn cells(run: &RunLine) -> Vec<comfy_table::Cell> {
    let arm = match run.of_run {
        Some(of) => format!("{} (control of {of})", run.arm),
        None => run.arm.to_string(),
    };
    let iterations = format!("{} of {}", run.iterations_done, run.iterations_planned);
    let heldout = format!("{} → {}", or_dash(run.heldout_base, percent), or_dash(run.heldout, percent));
    vec![
        cell(run.run, Tone::Plain),
        cell(arm, Tone::Plain),
        cell(run.state, tone_of_state(run.state)),
        cell(&run.started_at, Tone::Plain),
        cell(iterations, Tone::Plain),
        cell(heldout, Tone::Plain),
        cell(run.trajectories, Tone::Plain),
        cell(run.kept, Tone::Plain),
        cell(run.seed, Tone::Plain),
        cell(duration(run.seconds), Tone::Plain),
    ]
}

/// The tone of a run's state.
pub(super) fn tone_of_state(state: RunState) -> Tone {
    match state {
        RunState::Running => Tone::Plain,
        RunState::Done => Tone::Good,
        RunState::Stopped => Tone::Warning,
    }
}
