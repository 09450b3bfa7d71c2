//! One task: its question, and what each iteration answered.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;

use super::Verdict;
use super::run::find;
use super::verdict::each_attempt;
use crate::domain::{Purpose, Split, Task, TaskKind};
use crate::store::{Reader, TrajectoryFilter};

/// Task ids that an error names.
const NAMED: u32 = 5;

/// One task and its attempts in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    pub run: i64,
    pub task: String,
    pub kind: TaskKind,
    pub split: Split,
    pub level: u32,
    pub question: String,
    /// The gold answer.
    pub gold: Option<String>,
    /// The gold chain of thought; labelled easy tasks only.
    pub solution: Option<String>,
    /// By iteration and purpose.
    pub attempts: Vec<TaskAttempts>,
}

/// The attempts of one iteration for one purpose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskAttempts {
    pub iteration: u32,
    pub purpose: Purpose,
    pub n: usize,
    /// How many give the gold answer; reads gold, for audit only. Null if nothing can be compared.
    pub right: Option<usize>,
    /// How many train.
    pub kept: usize,
    /// The answers, the most frequent one first.
    pub answers: Vec<AnswerShare>,
    /// Ids of all attempts.
    pub trajectories: Vec<i64>,
}

/// One answer and how often it was given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerShare {
    /// Null: none could be read.
    pub answer: Option<String>,
    pub n: usize,
    /// How many of them train.
    pub kept: usize,
    /// Of the attempts, in [0, 1].
    pub share: f64,
    /// Against the gold answer; reads gold, for audit only.
    pub correct: Option<bool>,
    /// An attempt that gave it: the kept one with the lowest id, else the one with the lowest id.
    pub example: i64,
}

/// Gathers a task and its attempts in a run.
///
/// # Errors
/// If there is no such run or task.
pub async fn task(reader: &Reader, run: i64, id: &str, verdict: Verdict<'_>) -> Result<TaskReport> {
    let run = find(reader, run).await?.id;
    let task = known_task(reader, id).await?;
    let filter =
        TrajectoryFilter { run: Some(run), task_id: Some(task.id.clone()), ..TrajectoryFilter::default() };
    let mut groups: BTreeMap<(u32, &'static str), TaskAttempts> = BTreeMap::new();
    each_attempt(reader, verdict, &filter, |line, verdict| {
        let group = groups.entry((line.iteration, line.purpose.name())).or_insert_with(|| TaskAttempts {
            iteration: line.iteration,
            purpose: line.purpose,
            n: 0,
            right: None,
            kept: 0,
            answers: Vec::new(),
            trajectories: Vec::new(),
        });
        let kept = line.reason.is_some_and(|reason| reason.is_kept());
        group.add(line.id, line.answer.as_deref(), kept, verdict());
    })
    .await?;
    let attempts = groups.into_values().map(TaskAttempts::finished).collect();
    let Task { id, kind, split, level, question, answer, solution } = task;
    Ok(TaskReport { run, task: id, kind, split, level, question, gold: answer, solution, attempts })
}

impl TaskAttempts {
    fn add(&mut self, id: i64, answer: Option<&str>, kept: bool, correct: Option<bool>) {
        self.n += 1;
        self.trajectories.push(id);
        if let Some(correct) = correct {
            self.right = Some(self.right.unwrap_or(0) + usize::from(correct));
        }
        let place = self.answers.iter().position(|other| other.answer.as_deref() == answer);
        let place = place.unwrap_or_else(|| {
            let answer = answer.map(str::to_owned);
            self.answers.push(AnswerShare { answer, n: 0, kept: 0, share: 0.0, correct, example: id });
            self.answers.len() - 1
        });
        let share = &mut self.answers[place];
        share.n += 1;
        if kept {
            self.kept += 1;
            share.kept += 1;
            if share.kept == 1 {
                share.example = id;
            }
        }
    }

    fn finished(mut self) -> Self {
        for answer in &mut self.answers {
            answer.share = answer.n as f64 / self.n as f64;
        }
        self.answers.sort_by_key(|answer| std::cmp::Reverse(answer.n));
        self
    }
}

/// The task with this id.
///
/// # Errors
/// There is none; the error names ids that there are.
pub async fn known_task(reader: &Reader, id: &str) -> Result<Task> {
    if let Some(task) = reader.task(id).await? {
        return Ok(task);
    }
    let near = reader.task_ids(id, NAMED).await?;
    if !near.is_empty() {
        bail!("there is no task `{id}`; did you mean {}?", near.join(", "));
    }
    match reader.task_ids("", 2).await?.join(", ") {
        none if none.is_empty() => bail!("there is no task `{id}`; the store has no tasks yet"),
        some => bail!("there is no task `{id}`; tasks have ids such as {some}"),
    }
}
