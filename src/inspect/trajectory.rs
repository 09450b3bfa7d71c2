//! `inspect trajectory`: one attempt in full. What it said, how sure it was, how it was judged, where it trained.

use anyhow::{Context, Result};
use serde::Serialize;

use super::render::{Style, Tone, cell, line, or_dash, short, visible};
use crate::domain::{
    FinishReason, PruneReason, Purpose, ScoreError, ScorerName, SelectionReason, Split, Strategy, TaskKind,
    Thought, Tree,
};
use crate::score;
use crate::store::{Reader, TrajectoryDetail};

/// Gives the text of one token, so that each can be shown with its own heat.
pub type TokenText<'a> = &'a dyn Fn(u32) -> Option<String>;

/// One trajectory and the tree it grew in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrajectoryReport {
    pub trajectory: i64,
    pub run: i64,
    pub iteration: u32,
    pub purpose: Purpose,
    pub task: TaskLine,
    /// The policy that drew it.
    pub policy_hash: String,
    /// Names its random stream.
    pub address: String,
    pub strategy: Strategy,
    pub finish: FinishReason,
    /// The answer it claims, normalised.
    pub answer: Option<String>,
    /// Against the gold answer; reads gold, for audit only.
    pub correct: Option<bool>,
    /// Its length, prompt not counted.
    pub tokens: usize,
    /// Mean log-probability of its tokens, in nats.
    pub logprob_mean: Option<f64>,
    /// The whole tree's thoughts, parents before children.
    pub thoughts: Vec<ThoughtLine>,
    /// In order of scoring: of repeated scores the last counts.
    pub scores: Vec<ScoreLine>,
    pub selections: Vec<SelectionLine>,
    /// The optimizer updates that trained on it.
    pub steps: Vec<StepLine>,
}

/// The task that was attempted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskLine {
    pub id: String,
    pub kind: TaskKind,
    pub split: Split,
    pub level: u32,
    /// As it was asked: the variant's words, if it was a variant.
    pub question: String,
    /// Whether the question was a variant.
    pub variant: bool,
    /// The gold answer.
    pub answer: Option<String>,
}

/// One thought of the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThoughtLine {
    /// Position in the tree.
    pub index: usize,
    pub parent: Option<u32>,
    /// Whether it is part of this trajectory.
    pub on_path: bool,
    pub text: String,
    pub token_ids: Vec<u32>,
    /// One per token, in nats.
    pub logprobs: Vec<f32>,
    /// One per token; null if unknown, or if the tokens' texts don't add up to the thought's.
    pub token_texts: Option<Vec<String>>,
    /// The critic's value during a tree search, in [0, 1].
    pub value: Option<f32>,
    pub pruned: Option<PruneReason>,
    /// The trajectories that end here.
    pub leaves: Vec<i64>,
}

/// One score, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreLine {
    pub scorer: ScorerName,
    pub value: Option<f64>,
    /// Why there is no value.
    pub error: Option<ScoreError>,
    pub run: i64,
    pub iteration: u32,
    /// Identity of the critic that scored.
    pub scorer_hash: String,
}

/// One verdict of selection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SelectionLine {
    pub run: i64,
    pub iteration: u32,
    /// Within its task by reward, from 1.
    pub rank: Option<u32>,
    pub reason: SelectionReason,
    /// The reason in words.
    pub explanation: &'static str,
}

/// An optimizer update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepLine {
    pub run: i64,
    pub iteration: u32,
    pub step: u32,
}

/// Gathers one trajectory. With `token_text` each token's text comes along.
///
/// # Errors
/// If there is no such trajectory.
pub async fn trajectory(
    reader: &Reader,
    id: i64,
    token_text: Option<TokenText<'_>>,
) -> Result<TrajectoryReport> {
    let detail = reader.trajectory(id).await?.with_context(|| {
        format!("there is no trajectory {id}; `autodidact inspect sql` can list them from the view trajectory_text")
    })?;
    let TrajectoryDetail { task, tree: stored, leaf, .. } = detail;
    let tree = stored.tree;
    let leaf = tree.leaves.get(leaf).with_context(|| format!("trajectory {id} has no leaf {leaf}"))?.clone();
    let path = tree.path(&leaf);
    let logprobs = tree.completion_logprobs(&leaf);
    let mean = logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / logprobs.len() as f64;
    Ok(TrajectoryReport {
        trajectory: id,
        run: detail.run,
        iteration: detail.iteration,
        purpose: detail.purpose,
        correct: score::grade(&task, leaf.answer.as_deref()).correct(),
        policy_hash: stored.policy_hash,
        address: tree.address.to_string(),
        strategy: tree.strategy,
        finish: leaf.finish,
        answer: leaf.answer,
        tokens: logprobs.len(),
        logprob_mean: (!logprobs.is_empty()).then_some(mean),
        thoughts: thought_lines(&tree, &path, &stored.trajectory_ids, token_text),
        task: TaskLine {
            id: task.id,
            kind: task.kind,
            split: task.split,
            level: task.level,
            variant: tree.variant.is_some(),
            question: tree.variant.map_or(task.question, |variant| variant.question),
            answer: task.answer,
        },
        scores: score_lines(&detail.scores),
        selections: selection_lines(&detail.selections),
        steps: detail.steps.iter().map(|&(run, iteration, step)| StepLine { run, iteration, step }).collect(),
    })
}

fn thought_lines(
    tree: &Tree,
    path: &[usize],
    trajectories: &[i64],
    token_text: Option<TokenText>,
) -> Vec<ThoughtLine> {
    let leaves_at = |index: usize| {
        let ends =
            tree.leaves.iter().zip(trajectories).filter(move |(leaf, _)| leaf.thought as usize == index);
        ends.map(|(_, id)| *id).collect()
    };
    let line = |(index, thought): (usize, &Thought)| ThoughtLine {
        index,
        parent: thought.parent,
        on_path: path.contains(&index),
        text: thought.text.clone(),
        token_ids: thought.token_ids.clone(),
        logprobs: thought.logprobs.clone(),
        token_texts: token_text.and_then(|text| token_texts(thought, text)),
        value: thought.value,
        pruned: thought.pruned,
        leaves: leaves_at(index),
    };
    tree.thoughts.iter().enumerate().map(line).collect()
}

/// A character may be spread over tokens, and special tokens have no text: then the parts don't add up.
fn token_texts(thought: &Thought, text: TokenText) -> Option<Vec<String>> {
    let texts: Vec<String> = thought.token_ids.iter().map(|id| text(*id)).collect::<Option<_>>()?;
    (texts.concat() == thought.text).then_some(texts)
}

fn score_lines(scores: &[crate::store::StoredScore]) -> Vec<ScoreLine> {
    let line = |stored: &crate::store::StoredScore| ScoreLine {
        scorer: stored.score.scorer.clone(),
        value: stored.score.value.ok(),
        error: stored.score.value.err(),
        run: stored.run,
        iteration: stored.iteration,
        scorer_hash: stored.scorer_hash.clone(),
    };
    scores.iter().map(line).collect()
}

fn selection_lines(selections: &[(i64, u32, crate::domain::Selection)]) -> Vec<SelectionLine> {
    let line = |&(run, iteration, selection): &(i64, u32, crate::domain::Selection)| SelectionLine {
        run,
        iteration,
        rank: selection.rank,
        reason: selection.reason,
        explanation: explanation(selection.reason),
    };
    selections.iter().map(line).collect()
}

fn explanation(reason: SelectionReason) -> &'static str {
    match reason {
        SelectionReason::Kept => "among the best of its task and above the floor",
        SelectionReason::KeptRandom => "drawn at random (control arm)",
        SelectionReason::KeptOracle => "its answer is the gold one (control arm that reads gold)",
        SelectionReason::Unscorable => "its reward could not be computed",
        SelectionReason::Truncated => "it did not end by itself",
        SelectionReason::NoAnswer => "no answer could be read",
        SelectionReason::BelowFloor => "its reward is below select.floor",
        SelectionReason::Duplicate => "the same text as a kept trajectory of its task and variant",
        SelectionReason::BelowKeep => "ranked below select.keep within its task",
        SelectionReason::OverQuota => "the iteration's quota, select.total_max, was full",
        SelectionReason::NotDrawn => "not drawn (control arm)",
        SelectionReason::Wrong => "its answer is not the gold one (control arm that reads gold)",
    }
}

impl TrajectoryReport {
    /// As text for a terminal or a file.
    pub fn render(&self, style: &Style) -> String {
        let mut out = String::new();
        line!(
            out,
            "trajectory {} · {} of iteration {}, run {} · {} · {} tokens · {}",
            self.trajectory,
            self.purpose,
            self.iteration,
            self.run,
            self.strategy,
            self.tokens,
            self.finish
        );
        let task = &self.task;
        let variant = if task.variant { ", a variant" } else { "" };
        line!(
            out,
            "task {} · {} level {} · {}{variant}",
            visible(&task.id),
            task.kind,
            task.level,
            task.split
        );
        line!(out, "policy {} · address {}", short(&self.policy_hash), visible(&self.address));
        line!(out);
        line!(out, "{}", style.paint(Tone::Strong, &visible(&task.question)));
        self.render_thoughts(style, &mut out);
        let (verdict, tone) = match self.correct {
            Some(true) => ("right", Tone::Good),
            Some(false) => ("wrong", Tone::Bad),
            None => ("not checkable", Tone::Plain),
        };
        line!(
            out,
            "answer {} · gold {} · {} (reads gold) · mean log-prob {}",
            or_dash(self.answer.as_deref(), visible),
            or_dash(task.answer.as_deref(), visible),
            style.paint(tone, verdict),
            or_dash(self.logprob_mean, |l| format!("{l:.4}"))
        );
        self.render_judgements(style, &mut out);
        out
    }

    fn render_thoughts(&self, style: &Style, out: &mut String) {
        let searched = self.thoughts.iter().any(|t| t.value.is_some());
        let value = if searched { "  value" } else { "" };
        line!(out, "{}", style.paint(Tone::Faint, &format!("    #  log-prob    least{value}")));
        for (index, guides) in outline(&self.thoughts) {
            let thought = &self.thoughts[index];
            let mean = thought.logprobs.iter().sum::<f32>() / thought.logprobs.len().max(1) as f32;
            let least = thought.logprobs.iter().copied().fold(f32::INFINITY, f32::min);
            let least = if least.is_finite() { least } else { 0.0 };
            let value = match (searched, thought.value) {
                (false, _) => String::new(),
                (true, value) => format!("  {:>5}", or_dash(value, |v| format!("{v:.2}"))),
            };
            let mark = if thought.on_path { '▸' } else { ' ' };
            let mut notes = String::new();
            if let Some(reason) = thought.pruned {
                notes += &style.paint(Tone::Bad, &format!("  ✗ pruned: {reason}"));
            }
            for leaf in thought.leaves.iter().filter(|leaf| **leaf != self.trajectory) {
                notes += &format!("  ↳ trajectory {leaf}");
            }
            let text = heated(thought, mean, style);
            line!(out, "{mark} {index:>3}  {mean:>8.3} {least:>8.3}{value}  {guides}{text}{notes}");
        }
    }

    fn render_judgements(&self, style: &Style, out: &mut String) {
        if !self.scores.is_empty() {
            let mut table = style.table(&["score", "value", "run", "iteration", "by"], 1);
            for score in &self.scores {
                let value = match (score.value, score.error) {
                    (Some(value), _) => cell(format!("{value:.4}"), Tone::Plain),
                    (None, error) => cell(or_dash(error, |e| e.to_string()), Tone::Warning),
                };
                table.add_row([
                    cell(&score.scorer, Tone::Plain),
                    value,
                    cell(score.run, Tone::Plain),
                    cell(score.iteration, Tone::Plain),
                    cell(short(&score.scorer_hash), Tone::Plain),
                ]);
            }
            line!(out, "{}", table.trim_fmt());
        }
        for selection in &self.selections {
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
        for trained in self.steps.chunk_by(|a, b| (a.run, a.iteration) == (b.run, b.iteration)) {
            let steps: Vec<String> = trained.iter().map(|s| s.step.to_string()).collect();
            let StepLine { run, iteration, .. } = trained[0];
            line!(out, "trained in steps {} of iteration {iteration}, run {run}", steps.join(", "));
        }
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

/// The thoughts in the order of an outline, each with its guides. Only a fork indents: a chain stays flat.
fn outline(thoughts: &[ThoughtLine]) -> Vec<(usize, String)> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); thoughts.len()];
    let mut roots = Vec::new();
    for thought in thoughts {
        match thought.parent {
            Some(parent) => children[parent as usize].push(thought.index),
            None => roots.push(thought.index),
        }
    }
    // (thought, guides of its own line, guides of what is below it), the next on top.
    let mut stack: Vec<(usize, String, String)> = Vec::new();
    let push = |stack: &mut Vec<_>, siblings: &[usize], guides: &str| {
        for (place, &index) in siblings.iter().enumerate().rev() {
            let (own, below) = match (siblings.len(), place + 1 == siblings.len()) {
                (1, _) => (guides.to_owned(), guides.to_owned()),
                (_, true) => (format!("{guides}└─ "), format!("{guides}   ")),
                (_, false) => (format!("{guides}├─ "), format!("{guides}│  ")),
            };
            stack.push((index, own, below));
        }
    };
    push(&mut stack, &roots, "");
    let mut lines = Vec::with_capacity(thoughts.len());
    while let Some((index, own, below)) = stack.pop() {
        push(&mut stack, &children[index], &below);
        lines.push((index, own));
    }
    lines
}
