//! One task: its question, and what each iteration answered.

use super::grid::{Grid, left, right};
use super::render::{Style, Tone, beginning, cell, line, or_dash, percent, visible};
use super::trajectories::verdict;
use crate::report::{AnswerShare, TaskAttempts, TaskReport};

/// Different answers of a group that are shown.
const ANSWERS: usize = 5;

/// Characters of an answer that are shown.
const ANSWER_CHARS: usize = 24;

/// One task as text.
pub fn task(report: &TaskReport, style: &Style) -> String {
    let mut out = String::new();
    line!(
        out,
        "task {} · {} · level {} · {}",
        visible(&report.task),
        report.kind,
        report.level,
        report.split
    );
    line!(out);
    line!(out, "{}", style.paint(Tone::Strong, &visible(&report.question)));
    line!(out, "gold {}", or_dash(report.gold.as_deref(), visible));
    if let Some(solution) = &report.solution {
        line!(out, "gold chain of thought: {}", visible(solution));
    }
    line!(out);
    if report.attempts.is_empty() {
        line!(out, "run {} has not attempted it", report.run);
        return out;
    }
    let mut grid = Grid::new([
        right("it"),
        left("attempts"),
        right("right*"),
        right("answer"),
        right("share %"),
        left("right*"),
        right("kept"),
        right("trajectory"),
    ]);
    for group in &report.attempts {
        for (share, place) in group.answers.iter().take(ANSWERS).zip(0..) {
            grid.row(row(group, share, place == 0));
        }
    }
    out += &grid.draw(style);
    line!(out, "it: iteration · * by gold, for audit only · trajectory: one with this answer");
    let more: usize = report.attempts.iter().map(|g| g.answers.len().saturating_sub(ANSWERS)).sum();
    if more > 0 {
        line!(out, "{more} rarer answers are left out; --json has all");
    }
    line!(out, "all attempts:\n  autodidact inspect trajectories --all --task {}", visible(&report.task));
    out
}

/// One answer; what holds for its whole group is written once.
fn row(group: &TaskAttempts, share: &AnswerShare, is_first: bool) -> [comfy_table::Cell; 8] {
    let once = |text: String| cell(if is_first { text } else { String::new() }, Tone::Plain);
    [
        once(group.iteration.to_string()),
        once(group.purpose.to_string()),
        once(or_dash(group.right, |right| format!("{right} of {}", group.n))),
        cell(shown(share), Tone::Plain),
        cell(percent(share.share), Tone::Plain),
        verdict(share.correct),
        cell(share.kept, Tone::Plain),
        cell(share.example, Tone::Plain),
    ]
}

fn shown(share: &AnswerShare) -> String {
    or_dash(share.answer.as_deref(), |answer| beginning(&visible(answer), ANSWER_CHARS))
}
