//! Pretraining: a seed model from an endless stream of easy examples.
//!
//! One pass, no replay, no held-out decision: every update sees fresh examples. The same
//! configuration and stream give the same weights, bit for bit.

use std::collections::VecDeque;

use anyhow::{Result, ensure};

use super::settings::PretrainConfig;
use super::{Example, Group, Hyper, StepReport, Trainer};
use crate::domain::{Address, Purpose};
use crate::model::{ModelConfig, Weights};

/// The number of updates whose mean loss decides whether the easy levels have converged.
const CONVERGENCE_STEPS: usize = 10;

/// Trains a model of shape `model` from its initial weights (seeded by `config.seed`) with updates
/// of about `config.step_tokens` tokens, prompts included, until the loss has converged and the
/// learning rate has fallen, at most `config.steps` updates.
///
/// `next_example` yields the stream; `on_step` is called after every update and may stop the work
/// with an error.
pub fn pretrain(
    config: &PretrainConfig,
    model: &ModelConfig,
    mut next_example: impl FnMut() -> Result<Example>,
    mut on_step: impl FnMut(&StepReport) -> Result<()>,
) -> Result<Weights> {
    let weights = Weights::init(model.clone(), &Address::new(config.seed, Purpose::Init, 0, "", &[]))?;
    let mut trainer = Trainer::new(weights, Hyper::from(config), config.steps)?;
    let mut pending = next_example()?;
    let (mut left, mut recent) = (config.steps, VecDeque::new());
    while left > 0 {
        let (mut step, mut tokens) = (Vec::new(), 0);
        while step.is_empty() || tokens + pending.tokens() <= config.step_tokens {
            ensure!(pending.tokens() > 0, "the stream yielded an empty example ({})", pending.source);
            tokens += pending.tokens();
            step.push(Group::from(std::mem::replace(&mut pending, next_example()?)));
        }
        let report = trainer.step(&step.iter().collect::<Vec<_>>())?;
        left -= 1;
        on_step(&report)?;
        recent.push_back(report.loss);
        if recent.len() > CONVERGENCE_STEPS {
            recent.pop_front();
        }
        let converged = recent.len() == CONVERGENCE_STEPS
            && recent.iter().sum::<f64>() < f64::from(config.converged_loss) * CONVERGENCE_STEPS as f64;
        if left > config.decay_steps && converged {
            left = config.decay_steps;
            trainer.end_after(left);
        }
    }
    trainer.into_trainable().into_body().into_weights()
}
