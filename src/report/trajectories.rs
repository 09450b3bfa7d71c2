//! A list of trajectories: those of a run, of an iteration, of a task, the kept ones, or what a
//! search finds.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use serde::Serialize;

use super::verdict::each_attempt;
use super::{Page, Verdict};
use crate::domain::{FinishReason, Purpose, SelectionReason, Task};
use crate::store::{self, Chunk, Reader, TrajectoryFilter, Window};

/// One trajectory in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrajectoryLine {
    pub trajectory: i64,
    pub run: i64,
    pub iteration: u32,
    pub purpose: Purpose,
    /// The task's id.
    pub task: String,
    /// Names its random stream.
    pub address: String,
    pub finish: FinishReason,
    /// The answer it claims, normalised.
    pub answer: Option<String>,
    /// The gold answer.
    pub gold: Option<String>,
    /// Against the gold answer; reads gold, for audit only.
    pub correct: Option<bool>,
    /// Its length, prompt not counted.
    pub tokens: u32,
    /// The latest one; null if it could not be computed.
    pub reward: Option<f64>,
    /// Within its task by reward, from 1, in the latest selection.
    pub rank: Option<u32>,
    /// The latest verdict of selection.
    pub reason: Option<SelectionReason>,
    /// Of the completion, whole.
    pub text: String,
}

/// Gathers a page of the trajectories that the filter lets through, in order of insertion. With
/// `right`, only those with this verdict.
///
/// # Errors
/// If the window is too large or empty.
pub async fn trajectories(
    reader: &Reader,
    filter: &TrajectoryFilter,
    right: Option<bool>,
    window: Window,
    verdict: Verdict<'_>,
) -> Result<Page<TrajectoryLine>> {
    let (chunk, total) = match right {
        None => (reader.trajectories(filter, window).await?, reader.trajectory_count(filter).await?),
        Some(right) => judged(reader, filter, right, window, verdict).await?,
    };
    let ids: BTreeSet<&str> = chunk.rows.iter().map(|row| row.task_id.as_str()).collect();
    let tasks = reader.tasks_by_id(ids).await?;
    let ids: Vec<i64> = chunk.rows.iter().map(|row| row.id).collect();
    let mut texts = reader.trajectory_texts(&ids).await?;
    Ok(Page::of(chunk, total, |row| {
        let text = texts.remove(&row.id).unwrap_or_default();
        line(row, text, &tasks, verdict)
    }))
}

/// The window's trajectories with this verdict, and how many there are in all. Every one is judged,
/// since the store has no verdicts.
async fn judged(
    reader: &Reader,
    filter: &TrajectoryFilter,
    right: bool,
    window: Window,
    verdict: Verdict<'_>,
) -> Result<(Chunk<store::TrajectoryLine>, u64)> {
    let (mut rows, mut total, mut more) = (Vec::new(), 0, false);
    each_attempt(reader, verdict, filter, |line, verdict| {
        if verdict() != Some(right) {
            return;
        }
        total += 1;
        if window.after.is_none_or(|after| line.id > after) {
            match rows.len() < window.limit as usize {
                true => rows.push(line.clone()),
                false => more = true,
            }
        }
    })
    .await?;
    let next = rows.last().map(|line| line.id).filter(|_| more);
    Ok((Chunk { rows, next }, total))
}

fn line(
    row: store::TrajectoryLine,
    text: String,
    tasks: &HashMap<String, Task>,
    verdict: Verdict<'_>,
) -> TrajectoryLine {
    let correct = tasks.get(&row.task_id).and_then(|task| verdict(task, row.answer.as_deref()));
    TrajectoryLine {
        trajectory: row.id,
        run: row.run,
        iteration: row.iteration,
        purpose: row.purpose,
        task: row.task_id,
        address: row.address.to_string(),
        finish: row.finish,
        answer: row.answer,
        gold: row.gold,
        correct,
        tokens: row.tokens,
        reward: row.reward,
        rank: row.rank,
        reason: row.reason,
        text,
    }
}
