//! The engines: they generate tokens from a policy, in batches, with the log-probability of every
//! token.
//!
//! An engine implements [`Generate`](crate::domain::Generate) and never sees text: prompts are
//! token ids, thought boundaries and stop strings are tables over token ids. On the CPU a
//! completion is a pure function of (policy, prompt ids, sampling, address): batch size, order and
//! thread count can't change it.
//!
//! [`native`] runs the policies that are trained, [`device`] runs them on other devices than the
//! CPU, [`candle_models`] runs models of other families and quantised files, [`scripted`] runs a
//! script without weights.

pub mod candle_models;
pub mod device;
mod draft;
pub mod native;
mod prefix;
mod requests;
mod sampler;
pub mod scripted;
mod sequence;
mod stopping;
mod worker;

use serde::{Deserialize, Serialize};

use crate::domain::check::Check;

/// The section `engine` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Most tokens of keys and values that are decoded together.
    pub batch_tokens: usize,
}

impl EngineConfig {
    /// Reports every value that can't be used to `check`.
    pub fn check(&self, check: &mut Check) {
        let batch = self.batch_tokens;
        check((64..=100_000_000).contains(&batch), "engine.batch_tokens", &batch, "64 to 100000000");
    }
}
