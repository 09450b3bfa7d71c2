//! The sections `train`, `lora` and `pretrain` of the configuration, and their checks.
//!
//! Defaults live in the configuration's own file; nothing here has one.

use autodidact_domain::check::{Check, not_negative, positive};
use serde::{Deserialize, Serialize};

pub use crate::ops::optimizer::MomentPrecision;

/// The optimizer: `train.optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Matrices inside the blocks by Muon, everything else by AdamW.
    Muon,
    AdamW,
}

/// What training changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainMethod {
    /// Every weight.
    Full,
    /// A low-rank adapter on frozen weights.
    Lora,
}

/// What of forward passes is kept for the backward ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpointing {
    /// Everything of as many layers as a GiB over all passes holds, or 256 MiB in each; of the others their inputs.
    Auto,
    /// The layers' inputs; the rest is computed again.
    On,
    /// Everything.
    Off,
}

/// The section `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    pub method: TrainMethod,
    pub steps: u32,
    /// Most passes over what was kept; 0 makes all updates.
    pub epochs_max: f64,
    pub step_tokens: usize,
    pub micro_batch_tokens: usize,
    pub checkpointing: Checkpointing,
    pub optimizer: OptimizerKind,
    pub moments: MomentPrecision,
    pub learning_rate_matrix: f32,
    pub learning_rate: f32,
    pub weight_decay: f32,
    pub clip_norm: f32,
    pub warmup_steps: u32,
    pub replay: f64,
    pub checkpoint_steps: u32,
}

/// The section `[train.lora]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    pub r: usize,
    pub alpha: u32,
    pub dropout: f64,
    pub target_modules: TargetModules,
    pub rslora: bool,
}

/// One name or several, as PEFT writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    One(String),
    Several(Vec<String>),
}

impl TargetModules {
    /// The names as they are written.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// The section `[pretrain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    pub seed: u64,
    pub steps: u32,
    pub step_tokens: usize,
    pub learning_rate_matrix: f32,
    pub learning_rate: f32,
    pub weight_decay: f32,
    pub warmup_steps: u32,
    pub converged_loss: f32,
    pub decay_steps: u32,
}

impl TrainConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=10_000_000).contains(&self.steps), "train.steps", &self.steps, "1 to 10000000");
        let epochs_ok = (0.0..=1e6).contains(&self.epochs_max);
        check(epochs_ok, "train.epochs_max", &self.epochs_max, "0 to 1000000; 0 sets no limit");
        tokens(check, "train.step_tokens", self.step_tokens);
        tokens(check, "train.micro_batch_tokens", self.micro_batch_tokens);
        positive(check, "train.learning_rate", self.learning_rate);
        positive(check, "train.learning_rate_matrix", self.learning_rate_matrix);
        positive(check, "train.clip_norm", self.clip_norm);
        not_negative(check, "train.weight_decay", self.weight_decay);
        check((0.0..1.0).contains(&self.replay), "train.replay", &self.replay, "from 0, below 1");
    }
}

impl LoraConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=65_536).contains(&self.r), "lora.r", &self.r, "1 to 65536");
        check(self.alpha > 0, "lora.alpha", &self.alpha, "at least 1");
        check((0.0..1.0).contains(&self.dropout), "lora.dropout", &self.dropout, "from 0, below 1");
        let names = self.target_modules.names();
        let named = !names.is_empty() && names.iter().all(|name| !name.is_empty());
        check(
            named,
            "lora.target_modules",
            &names,
            "\"all-linear\", or names such as [\"q_proj\", \"v_proj\"]",
        );
    }
}

impl PretrainConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=10_000_000).contains(&self.steps), "pretrain.steps", &self.steps, "1 to 10000000");
        tokens(check, "pretrain.step_tokens", self.step_tokens);
        positive(check, "pretrain.learning_rate", self.learning_rate);
        positive(check, "pretrain.learning_rate_matrix", self.learning_rate_matrix);
        not_negative(check, "pretrain.weight_decay", self.weight_decay);
        positive(check, "pretrain.converged_loss", self.converged_loss);
        let decay_ok = (1..=self.steps).contains(&self.decay_steps);
        check(decay_ok, "pretrain.decay_steps", &self.decay_steps, "1 to pretrain.steps");
    }
}

fn tokens(check: &mut Check, key: &str, tokens: usize) {
    check((16..=100_000_000).contains(&tokens), key, &tokens, "16 to 100000000");
}

/// The configuration's own defaults, for tests.
#[cfg(test)]
pub(crate) fn defaults() -> (TrainConfig, PretrainConfig) {
    const TOML: &str = include_str!("../../../../src/config/default.toml");
    let mut table: toml::Table = TOML.parse().unwrap();
    let mut section = |name| table.remove(name).unwrap();
    (section("train").try_into().unwrap(), section("pretrain").try_into().unwrap())
}
