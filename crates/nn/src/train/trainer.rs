//! The trainer: weights, optimizer and schedule, advanced one update at a time.
//!
//! Contract: an update depends on the weights, the optimizer's state, the hyper-parameters and the examples,
//! and on nothing else. A trainer that was saved, dropped, made again and loaded continues with the bits of one
//! that never stopped. Nothing is updated from a loss or gradient that isn't finite.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use super::gradient::{self, StepGradient, sources};
use super::memory::Passes;
use super::settings::{MomentPrecision, OptimizerKind, PretrainConfig, TrainConfig};
use super::update::Update;
use super::{Example, Group, LearningRate, LossParts, Objective, Trainable, state};
use crate::domain::Address;
use crate::ops::optimizer::{MomentStorage, clip_global_norm};
use crate::profile::{self, Tokens};

/// candle, which goes back on other devices than the CPU, walks a graph recursively: its depth, some fifteen operators a
/// layer, needs stack.
const STACK_BYTES: usize = 32 << 20;
/// What the cosine falls to, as a share of the base rate: the last updates of a phase still count.
const COSINE_FLOOR: f64 = 0.1;

/// Everything that decides how a gradient becomes an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    pub optimizer: OptimizerKind,
    /// What moments are kept in.
    #[serde(default, skip_serializing_if = "MomentPrecision::is_f32")]
    pub moments: MomentPrecision,
    /// Base rate of the matrices inside blocks, if Muon updates them.
    pub learning_rate_matrix: f32,
    /// Base rate of everything that AdamW updates.
    pub learning_rate: f32,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to AdamW's denominator.
    pub eps: f64,
    /// Muon's momentum (Nesterov).
    pub momentum: f64,
    /// Decoupled weight decay of matrices and embeddings; norms and biases have none.
    pub weight_decay: f32,
    /// Largest global gradient norm; a larger gradient is scaled down to it.
    pub clip_norm: f32,
    pub schedule: LearningRate,
}

impl From<&TrainConfig> for Hyper {
    /// Fine-tuning within the loop: warm-up, then a cosine.
    fn from(config: &TrainConfig) -> Self {
        Self {
            optimizer: config.optimizer,
            moments: config.moments,
            learning_rate_matrix: config.learning_rate_matrix,
            learning_rate: config.learning_rate,
            betas: [0.9, 0.98],
            eps: 1e-8,
            momentum: 0.95,
            weight_decay: config.weight_decay,
            clip_norm: config.clip_norm,
            schedule: LearningRate::Cosine { warmup_steps: config.warmup_steps, floor: COSINE_FLOOR },
        }
    }
}

impl From<&PretrainConfig> for Hyper {
    /// Training from initial weights: warm-up, constant, linear fall; no clipping to speak of.
    fn from(config: &PretrainConfig) -> Self {
        Self {
            optimizer: OptimizerKind::Muon,
            moments: MomentPrecision::F32,
            learning_rate_matrix: config.learning_rate_matrix,
            learning_rate: config.learning_rate,
            betas: [0.9, 0.98],
            eps: 1e-8,
            momentum: 0.95,
            weight_decay: config.weight_decay,
            clip_norm: 1.0,
            schedule: LearningRate::Trapezoid {
                warmup_steps: config.warmup_steps,
                decay_steps: config.decay_steps,
            },
        }
    }
}

/// What one update did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Updates made so far, this one included.
    pub step: u32,
    /// What the objective gave of the update's examples before it, in nats.
    pub loss: f64,
    /// What the loss is the sum of, by name.
    pub parts: LossParts,
    /// Tokens of the update's examples, prompts included.
    pub tokens: usize,
    /// Tokens the loss counted.
    pub target_tokens: usize,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// AdamW's learning rate in this update; the matrices' follows the same course.
    pub learning_rate: f64,
}

/// Trains a copy of some weights, or of an adapter on them.
pub struct Trainer {
    trainable: Trainable,
    hyper: Hyper,
    steps_total: u32,
    step: u32,
    update: Update,
    objective: Objective,
    passes: Passes,
    pool: ThreadPool,
    /// Whether the next update is a phase's first, or some tensor has been waiting for another to move.
    audit: bool,
}

/// What of a trainer's state is not a tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    step: u32,
    /// Hyper-parameters and planned steps as JSON: compared as text, since reading a float back may round.
    settings: String,
    /// The model's `config.json`.
    model: String,
}

impl Trainer {
    /// A trainer at step 0 of `steps_total`. It trains its own copy: what it is given stays as it is. Uses as many
    /// threads as the rayon pool it is called in.
    pub fn new(trainable: impl Into<Trainable>, hyper: Hyper, steps_total: u32) -> Result<Self> {
        ensure!(steps_total > 0, "training for 0 steps changes nothing; give at least 1");
        let pool = ThreadPoolBuilder::new()
            .num_threads(rayon::current_num_threads())
            .stack_size(STACK_BYTES)
            .thread_name(|i| format!("train-{i}"))
            .build()
            .context("can't start the training threads")?;
        let trainable = trainable.into().deep_copy()?;
        let update = Update::new(&hyper, trainable.arithmetic(), MomentStorage::default().address);
        Ok(Self {
            trainable,
            hyper,
            steps_total,
            step: 0,
            update,
            objective: Objective::default(),
            passes: Passes::default(),
            pool,
            audit: true,
        })
    }

    /// The same trainer, before its first update, with the draws that round its moments below `address`.
    pub fn drawing_at(self, address: Address) -> Self {
        Self { update: Update::new(&self.hyper, self.trainable.arithmetic(), address), ..self }
    }

    /// The same trainer, going over an update's examples in other passes.
    pub fn in_passes(self, passes: Passes) -> Self {
        Self { passes, ..self }
    }

    /// What is trained, as of the last update.
    pub fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    /// What was trained.
    pub fn into_trainable(self) -> Trainable {
        self.trainable
    }

    /// Updates made so far.
    #[cfg(test)]
    pub(super) fn steps_done(&self) -> u32 {
        self.step
    }

    /// Makes one update from `groups`. On an error the weights are what they were.
    pub fn step(&mut self, groups: &[&Group]) -> Result<StepReport> {
        ensure!(
            self.step < self.steps_total,
            "all {} planned updates are made; the learning rate has no further course",
            self.steps_total
        );
        let number = self.step + 1;
        let gradient =
            gradient::of_step(&self.pool, &self.trainable, self.objective, self.passes, number, groups)
                .and_then(|gradient| self.audited(gradient))
                .with_context(|| format!("update {number} was not made"))?;
        let StepGradient { loss, parts, targets, gradients } = gradient;
        let mut gradients: Vec<Vec<f32>> = gradients.into_iter().flatten().collect();

        let mut slices: Vec<&mut [f32]> = gradients.iter_mut().map(Vec::as_mut_slice).collect();
        let clip_norm = f64::from(self.hyper.clip_norm);
        let grad_norm = self.pool.install(|| clip_global_norm(&mut slices, clip_norm));
        if !grad_norm.is_finite() {
            let broken = |(_, g): &(&String, &Vec<f32>)| g.iter().any(|v| !v.is_finite());
            let names =
                self.trainable.tensors().keys().zip(&gradients).filter(broken).map(|(n, _)| n.as_str());
            bail!(
                "update {number} was not made: the gradient is not finite (norm {grad_norm}) in {} on {}",
                names.collect::<Vec<_>>().join(", "),
                sources(&groups.iter().flat_map(|group| &group.examples).collect::<Vec<&Example>>())
            );
        }
        // As of the gradient: what waited in this update is audited in the next.
        let waiting = self.audit && self.trainable.is_waiting()?;
        let factor = self.hyper.schedule.factor(self.step, self.steps_total);
        self.pool.install(|| {
            self.update.apply(self.trainable.tensors(), &gradients, &self.hyper, (number, factor))
        })?;
        self.step = number;
        self.audit = self.audit && waiting;
        let tokens = groups.iter().map(|group| group.tokens()).sum();
        profile::tokens(Tokens::Trained, tokens);
        Ok(StepReport {
            step: number,
            loss,
            parts,
            tokens,
            target_tokens: targets,
            grad_norm,
            learning_rate: f64::from(self.hyper.learning_rate) * factor,
        })
    }

    /// Refuses a gradient that misses a tensor or, at a phase's first update, is zero all over one: a cut graph
    /// trains part of the model without a word.
    fn audited(&self, mut gradient: StepGradient) -> Result<StepGradient> {
        for ((name, var), gradient) in self.trainable.tensors().iter().zip(&mut gradient.gradients) {
            let may_rest = (gradient.is_none() || self.audit) && self.trainable.may_rest(name)?;
            if gradient.is_none() && may_rest {
                *gradient = Some(vec![0.0; var.elem_count()]);
            }
            let gradient = gradient
                .as_ref()
                .with_context(|| format!("no gradient reaches `{name}`: it would not be trained"))?;
            ensure!(
                may_rest || !self.audit || gradient.iter().any(|&v| v != 0.0),
                "the gradient of `{name}` is zero throughout: it would not be trained"
            );
        }
        Ok(gradient)
    }

    /// Saves weights, optimizer state and step to the directory `dir`, all or nothing.
    pub fn save_state(&self, dir: &Path) -> Result<()> {
        let header =
            Header { step: self.step, settings: self.settings()?, model: self.trainable.config().to_json() };
        state::save(dir, &header, self.update.save(self.trainable.tensors()))
    }

    /// Goes on from the state at `dir`, which must have been saved with the same model, hyper-parameters and
    /// number of steps.
    pub fn load_state(&mut self, dir: &Path) -> Result<()> {
        let (header, tensors): (Header, _) = state::load(dir)?;
        let at = dir.display();
        ensure!(header.model == self.trainable.config().to_json(), "the state at {at} is of another model");
        let settings = self.settings()?;
        ensure!(
            header.settings == settings,
            "the state at {at} was saved with other settings: {}, now {settings}",
            header.settings
        );
        ensure!(header.step <= self.steps_total, "the state at {at} claims step {}", header.step);
        let restored = self.update.restore(self.trainable.tensors(), tensors);
        restored.with_context(|| format!("in the state at {at}"))?;
        self.step = header.step;
        self.audit = true;
        Ok(())
    }

    /// Ends the schedule `steps` updates from now, however many were planned.
    pub fn end_after(&mut self, steps: u32) {
        self.steps_total = self.step + steps;
    }

    fn settings(&self) -> Result<String> {
        Ok(match &self.trainable {
            Trainable::Full(..) => serde_json::to_string(&(&self.hyper, self.steps_total))?,
            Trainable::Lora { lora, .. } => {
                serde_json::to_string(&(&self.hyper, self.steps_total, &lora.adapter.settings))?
            }
        })
    }
}
