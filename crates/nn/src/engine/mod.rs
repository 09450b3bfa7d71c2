//! The engine: draws tokens from a policy, in batches, with the log-probability of every draw.
//!
//! It never sees text: prompts come as token ids, thought boundaries and stop strings as tables over token
//! ids ([`Stops`]). A completion is a pure function of (policy, prompt ids, sampling, address): batch size,
//! order and thread count can't change it.
//!
//! [`native`] runs the policies that are trained, [`candle_models`] models of other families and quantised files that are
//! only asked, [`scripted`] a script without weights.

pub mod candle_models;
pub mod device;
mod draft;
pub mod native;
mod prefix;
mod sampler;
pub mod scripted;
mod stopping;
mod worker;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::domain::check::Check;

/// The section `engine` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    pub batch_tokens: usize,
}

impl EngineConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        let batch = self.batch_tokens;
        check((64..=100_000_000).contains(&batch), "engine.batch_tokens", &batch, "64 to 100000000");
    }
}

/// Refuses a sequence that a model of `vocab` tokens and contexts of at most `max` can't read.
fn check_ids(ids: &[u32], vocab: usize, max: usize) -> Result<()> {
    ensure!(!ids.is_empty(), "the context is empty; give at least a beginning-of-sequence token");
    ensure!(ids.len() <= max, "the context has {} tokens; the model reads at most {max}", ids.len());
    let unknown = ids.iter().find(|&&id| id as usize >= vocab);
    ensure!(unknown.is_none(), "token id {} is outside the vocabulary of {vocab}", unknown.unwrap_or(&0));
    Ok(())
}
