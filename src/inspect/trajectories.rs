//! A list of trajectories, and how to see the rest of it.

use comfy_table::Cell;

use super::grid::{Grid, left, right};
use super::render::{Style, Tone, beginning, cell, line, or_dash, reason, visible, whole};
use crate::report::{Page, TrajectoryLine};

/// Characters of an answer that the list shows.
const ANSWER_CHARS: usize = 16;

/// Characters of a text that the list shows, at most and at least.
const TEXT_CHARS: usize = 60;
const TEXT_CHARS_MIN: usize = 14;

/// The list as text. `command` lists the same trajectories; to it come the options for the next
/// page.
pub fn trajectories(page: &Page<TrajectoryLine>, command: &str, style: &Style) -> String {
    let mut out = String::new();
    let lines = &page.items;
    if lines.is_empty() {
        match page.total {
            0 => line!(out, "no trajectory is like that"),
            total => line!(out, "no trajectory after that one; there are {} in all", whole(total)),
        }
        return out;
    }
    let answer = |answer: &Option<String>| {
        or_dash(answer.as_deref(), |answer| beginning(&visible(answer), ANSWER_CHARS))
    };
    let mut grid = Grid::new([
        right("id"),
        left("task"),
        right("it").rank(2),
        right("reward"),
        right("answer"),
        right("gold").rank(3),
        left("right*"),
        left("verdict"),
        left("text").cut_to(TEXT_CHARS_MIN).rank(4),
    ]);
    for line in lines {
        grid.row([
            cell(line.trajectory, Tone::Plain),
            cell(visible(&line.task), Tone::Plain),
            cell(line.iteration, Tone::Plain),
            cell(or_dash(line.reward, |reward| format!("{reward:.3}")), Tone::Plain),
            cell(answer(&line.answer), Tone::Plain),
            cell(answer(&line.gold), Tone::Plain),
            verdict(line.correct),
            selection(line),
            cell(beginning(&visible(line.text.trim()), TEXT_CHARS), Tone::Plain),
        ]);
    }
    out += &grid.draw(style);
    line!(out, "it: iteration · * by gold answers, for audit only; –: nothing to compare with");
    let shown = format!("{} of {}", whole(lines.len() as u64), whole(page.total));
    match page.next {
        Some(next) => line!(out, "{shown} · more: {command} --after {next}"),
        None => line!(out, "{shown} · one of them: autodidact inspect trajectory {}", lines[0].trajectory),
    }
    out
}

/// A verdict against gold.
pub(super) fn verdict(correct: Option<bool>) -> Cell {
    match correct {
        Some(true) => cell("yes", Tone::Good),
        Some(false) => cell("no", Tone::Bad),
        None => cell("–", Tone::Plain),
    }
}

fn selection(line: &TrajectoryLine) -> Cell {
    match line.reason {
        Some(verdict) if verdict.is_kept() => cell(reason(verdict), Tone::Good),
        Some(verdict) => cell(reason(verdict), Tone::Plain),
        None => cell("–", Tone::Plain),
    }
}
