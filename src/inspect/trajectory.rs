//! One trajectory: its thoughts as an outline with the heat of every token, its scores, and where
//! it trained.

use super::grid::{Grid, left, right};
use super::render::{Style, Tone, cell, line, or_dash, short, visible};
use crate::report::{ScoreLine, StepLine, ThoughtLine, TrajectoryReport};

/// One trajectory as text.
pub fn trajectory(report: &TrajectoryReport, style: &Style) -> String {
    let mut out = String::new();
    head(report, style, &mut out);
    thoughts(report, style, &mut out);
    answer(report, style, &mut out);
    if !report.scores.is_empty() {
        scores(&report.scores, style, &mut out);
    }
    selections(report, style, &mut out);
    steps(&report.steps, &mut out);
    out
}

fn head(report: &TrajectoryReport, style: &Style, out: &mut String) {
    let task = &report.task;
    line!(
        out,
        "trajectory {} · {} of iteration {}, run {} · {} · {} tokens · {}",
        report.trajectory,
        report.purpose,
        report.iteration,
        report.run,
        report.strategy,
        report.tokens,
        report.finish
    );
    let variant = if task.variant { ", a variant" } else { "" };
    line!(out, "task {} · {} level {} · {}{variant}", visible(&task.id), task.kind, task.level, task.split);
    line!(out, "policy {} · address {}", short(&report.policy_hash), visible(&report.address));
    line!(out);
    line!(out, "{}", style.paint(Tone::Strong, &visible(&task.question)));
}

fn thoughts(report: &TrajectoryReport, style: &Style, out: &mut String) {
    let searched = report.thoughts.iter().any(|t| t.value.is_some());
    // In a chain every thought is on the path.
    let forks = report.thoughts.iter().any(|t| !t.on_path);
    let value = if searched { "  value" } else { "" };
    line!(out, "{}", style.paint(Tone::Faint, &format!("    #  log-prob    least{value}")));
    for (index, guides) in outline(&report.thoughts) {
        let thought = &report.thoughts[index];
        let (mean, least) = mean_and_least(&thought.logprobs);
        let value = match (searched, thought.value) {
            (false, _) => String::new(),
            (true, value) => format!("  {:>5}", or_dash(value, |v| format!("{v:.2}"))),
        };
        let mark = if forks && thought.on_path { '▸' } else { ' ' };
        let text = heated(thought, mean, style);
        let notes = notes(thought, report.trajectory, style);
        line!(out, "{mark} {index:>3}  {mean:>8.3} {least:>8.3}{value}  {guides}{text}{notes}");
    }
}

/// Of a thought's log-probabilities; 0 if it has none.
fn mean_and_least(logprobs: &[f32]) -> (f32, f32) {
    let mean = logprobs.iter().sum::<f32>() / logprobs.len().max(1) as f32;
    let least = logprobs.iter().copied().fold(f32::INFINITY, f32::min);
    (mean, if least.is_finite() { least } else { 0.0 })
}

/// Why the search gave the thought up, and which other trajectories end there.
fn notes(thought: &ThoughtLine, trajectory: i64, style: &Style) -> String {
    let mut notes = String::new();
    if let Some(reason) = thought.pruned {
        notes += &style.paint(Tone::Bad, &format!("  ✗ pruned: {reason}"));
    }
    for leaf in thought.leaves.iter().filter(|leaf| **leaf != trajectory) {
        notes += &format!("  ↳ trajectory {leaf}");
    }
    notes
}

fn answer(report: &TrajectoryReport, style: &Style, out: &mut String) {
    let (verdict, tone) = match report.correct {
        Some(true) => ("right", Tone::Good),
        Some(false) => ("wrong", Tone::Bad),
        None => ("not checkable", Tone::Plain),
    };
    line!(
        out,
        "answer {} · gold {} · {} (reads gold) · mean log-prob {}",
        or_dash(report.answer.as_deref(), visible),
        or_dash(report.task.answer.as_deref(), visible),
        style.paint(tone, verdict),
        or_dash(report.logprob_mean, |l| format!("{l:.4}"))
    );
}

fn scores(scores: &[ScoreLine], style: &Style, out: &mut String) {
    let mut grid = Grid::new([
        left("score"),
        right("value"),
        right("run").rank(1),
        right("iteration"),
        right("by").rank(2),
    ]);
    for score in scores {
        let value = match (score.value, score.error) {
            (Some(value), _) => cell(format!("{value:.4}"), Tone::Plain),
            (None, error) => cell(or_dash(error, |e| e.to_string()), Tone::Warning),
        };
        grid.row([
            cell(&score.scorer, Tone::Plain),
            value,
            cell(score.run, Tone::Plain),
            cell(score.iteration, Tone::Plain),
            cell(short(&score.scorer_hash), Tone::Plain),
        ]);
    }
    out.push_str(&grid.draw(style));
}

fn selections(report: &TrajectoryReport, style: &Style, out: &mut String) {
    for selection in &report.selections {
        let tone = if selection.reason.is_kept() { Tone::Good } else { Tone::Warning };
        line!(
            out,
            "{} in iteration {} of run {}, rank {}: {}",
            style.paint(tone, selection.reason.name()),
            selection.iteration,
            selection.run,
            or_dash(selection.rank, |r| r.to_string()),
            selection.explanation
        );
    }
}

/// One line per training phase that had the trajectory in its batches.
fn steps(steps: &[StepLine], out: &mut String) {
    for trained in steps.chunk_by(|a, b| (a.run, a.iteration) == (b.run, b.iteration)) {
        let numbers: Vec<String> = trained.iter().map(|s| s.step.to_string()).collect();
        let StepLine { run, iteration, .. } = trained[0];
        line!(out, "trained in steps {} of iteration {iteration}, run {run}", numbers.join(", "));
    }
}

/// The thought's text, coloured by how probable it was: token by token if their texts are known.
fn heated(thought: &ThoughtLine, mean: f32, style: &Style) -> String {
    let end = thought.text.trim_end_matches('\n').len();
    let Some(texts) = &thought.token_texts else {
        return style.paint(Tone::of_logprob(mean), &visible(&thought.text[..end]));
    };
    let mut left = end;
    let mut out = String::new();
    for (text, logprob) in texts.iter().zip(&thought.logprobs) {
        // The newline that closes a thought isn't shown; it may be part of a longer token.
        let shown = &text[..text.len().min(left)];
        left -= shown.len();
        if !shown.is_empty() {
            out += &style.paint(Tone::of_logprob(*logprob), &visible(shown));
        }
    }
    out
}

/// A thought that is yet to be written into the outline.
struct Pending {
    index: usize,
    /// Guides of its line.
    guides: String,
    /// Guides of the lines below it.
    below: String,
}

/// The thoughts in the order of an outline, each with its guides. Only a fork indents: a chain
/// stays flat.
fn outline(thoughts: &[ThoughtLine]) -> Vec<(usize, String)> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); thoughts.len()];
    let mut roots = Vec::new();
    for thought in thoughts {
        match thought.parent {
            Some(parent) => children[parent as usize].push(thought.index),
            None => roots.push(thought.index),
        }
    }
    // The next one is on top.
    let mut stack: Vec<Pending> = Vec::new();
    push(&mut stack, &roots, "");
    let mut lines = Vec::with_capacity(thoughts.len());
    while let Some(Pending { index, guides, below }) = stack.pop() {
        push(&mut stack, &children[index], &below);
        lines.push((index, guides));
    }
    lines
}

fn push(stack: &mut Vec<Pending>, siblings: &[usize], guides: &str) {
    for (place, &index) in siblings.iter().enumerate().rev() {
        let (own, below) = match (siblings.len(), place + 1 == siblings.len()) {
            (1, _) => (guides.to_owned(), guides.to_owned()),
            (_, true) => (format!("{guides}└─ "), format!("{guides}   ")),
            (_, false) => (format!("{guides}├─ "), format!("{guides}│  ")),
        };
        stack.push(Pending { index, guides: own, below });
    }
}
