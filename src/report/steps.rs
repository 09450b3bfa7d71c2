//! The optimizer updates of a run or of one iteration.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::iteration::summary_of;
use super::run::find;
use crate::store::{Reader, StepRow};

/// Optimizer updates, in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepsReport {
    pub run: i64,
    /// Every update, of every iteration that was asked for.
    pub steps: Vec<UpdateLine>,
}

/// One update.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpdateLine {
    pub iteration: u32,
    /// Within the iteration.
    pub step: u32,
    /// The total, in nats.
    pub loss: f64,
    /// The parts of the loss by name, weighted as they entered the total; empty if there is one
    /// part only.
    pub losses: Map<String, Value>,
    pub learning_rate: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Tokens read, prompts included.
    pub tokens: u64,
    /// Tokens trained on.
    pub target_tokens: u64,
    /// Ids of the trajectories in the batch.
    pub trajectories: Vec<i64>,
    /// Labelled tasks that were replayed in the batch.
    pub replayed: Vec<String>,
}

/// Gathers the updates of a run, or of one iteration.
///
/// # Errors
/// If there is no such run or iteration.
pub async fn steps(reader: &Reader, run: i64, iteration: Option<u32>) -> Result<StepsReport> {
    let run = find(reader, run).await?.id;
    let iterations: Vec<u32> = match iteration {
        Some(iteration) => vec![summary_of(reader, run, iteration).await?.iteration],
        None => reader.iteration_summaries(run).await?.iter().map(|summary| summary.iteration).collect(),
    };
    let mut steps = Vec::new();
    for iteration in iterations {
        steps.extend(reader.steps(run, iteration).await?.into_iter().map(|row| line(iteration, row)));
    }
    Ok(StepsReport { run, steps })
}

fn line(iteration: u32, row: StepRow) -> UpdateLine {
    UpdateLine {
        iteration,
        step: row.step,
        loss: row.loss,
        losses: row.losses.into_iter().map(|(name, value)| (name, value.into())).collect(),
        learning_rate: row.learning_rate,
        grad_norm: row.grad_norm,
        tokens: row.tokens,
        target_tokens: row.target_tokens,
        trajectories: row.examples,
        replayed: row.replayed,
    }
}
