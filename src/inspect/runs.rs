//! Every run in the store, one line each.

use super::grid::{Grid, left, right};
use super::render::{Style, Tone, brief, cell, line, or_dash, percent};
use crate::report::{RunLine, RunsReport, State};

/// The list of runs as text.
pub fn runs(report: &RunsReport, style: &Style) -> String {
    let mut out = String::new();
    if report.runs.is_empty() {
        line!(out, "no runs yet; `autodidact run` begins one");
        return out;
    }
    let mut grid = Grid::new([
        right("run"),
        left("arm"),
        left("state"),
        left("begun").rank(3),
        right("iterations"),
        right("held-out %"),
        right("drawn").rank(1),
        right("kept").rank(1),
        right("seed").rank(2),
        right("time"),
    ]);
    for run in &report.runs {
        grid.row(cells(run));
    }
    out.push_str(&grid.draw(style));
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
        cell(brief(run.seconds), Tone::Plain),
    ]
}

/// The tone of a run's state.
pub(super) fn tone_of_state(state: State) -> Tone {
    match state {
        State::Running => Tone::Plain,
        State::Done => Tone::Good,
        State::Stopped | State::Interrupted => Tone::Warning,
    }
}
