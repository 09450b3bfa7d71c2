//! The sections `rollout` and `tree`: how trajectories are sampled, and how trees of thoughts grow.
//!
//! `src/config` composes these sections and holds their defaults.

use serde::{Deserialize, Serialize};

use crate::domain::check::{Check, probability, temperature};
use crate::domain::{Sampling, Strategy};

/// The section `rollout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    pub strategy: Strategy,
    /// Tasks of the train split in one iteration.
    pub tasks: usize,
    /// Meaning-preserving variants of a task; 1 asks the task in its own words.
    pub variants: u32,
    /// Trees (chains or searches) of one variant.
    pub samples: u32,
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    /// Most tokens of one trajectory, the prompt not counted.
    pub tokens_max: usize,
    /// Most thoughts of one trajectory.
    pub thoughts_max: usize,
    /// Texts that end a trajectory.
    pub stop: Vec<String>,
}

impl RolloutConfig {
    /// How tokens are sampled.
    pub fn sampling(&self) -> Sampling {
        let Self { temperature, top_k, top_p, min_p, .. } = *self;
        Sampling { temperature, top_k, top_p, min_p }
    }

    /// Reports every setting that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=1_000_000).contains(&self.tasks), "rollout.tasks", &self.tasks, "1 to 1000000");
        check((1..=1024).contains(&self.variants), "rollout.variants", &self.variants, "1 to 1024");
        check((1..=1024).contains(&self.samples), "rollout.samples", &self.samples, "1 to 1024");
        temperature(check, "rollout.temperature", self.temperature);
        let top_p_ok = self.top_p > 0.0 && self.top_p <= 1.0;
        check(top_p_ok, "rollout.top_p", &self.top_p, "above 0, at most 1");
        check((0.0..1.0).contains(&self.min_p), "rollout.min_p", &self.min_p, "from 0, below 1");
        let tokens_ok = (1..=1_000_000).contains(&self.tokens_max);
        check(tokens_ok, "rollout.tokens_max", &self.tokens_max, "1 to 1000000");
        let thoughts_ok = (1..=10_000).contains(&self.thoughts_max);
        check(thoughts_ok, "rollout.thoughts_max", &self.thoughts_max, "1 to 10000");
        check(!self.stop.iter().any(String::is_empty), "rollout.stop", &self.stop, "no empty text");
    }
}

/// The section `tree`: a search by beam.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeConfig {
    /// Thoughts proposed for each beam entry.
    pub proposals: u32,
    /// Beam entries kept at each depth.
    pub beam: u32,
    /// Thoughts valued below this are pruned.
    pub value_floor: f64,
    pub propose: Propose,
    pub value: ValueBy,
}

impl TreeConfig {
    /// Reports every setting that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=256).contains(&self.proposals), "tree.proposals", &self.proposals, "1 to 256");
        check((1..=256).contains(&self.beam), "tree.beam", &self.beam, "1 to 256");
        probability(check, "tree.value_floor", self.value_floor);
    }
}

/// Where the proposals of a search come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propose {
    /// Each proposal is sampled as a continuation of its path.
    Sample,
    /// One prompt asks for all proposals of a path at once, one on each line.
    Prompt,
}

/// What values the paths of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueBy {
    /// The critique head.
    Head,
    /// A prompt to the judge (to the policy if there is no judge): sure, likely or impossible.
    Prompt,
}
