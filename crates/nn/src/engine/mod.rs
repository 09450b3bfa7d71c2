//! The engine: draws tokens from a policy, in batches, with the log-probability of every draw.
//!
//! It never sees text: prompts come as token ids, thought boundaries and stop strings as tables over token
//! ids ([`Stops`]). A completion is a pure function of (policy, prompt ids, sampling, address): batch size,
//! order and thread count can't change it.
//!
//! [`native`] runs the policies that are trained, [`foreign`] models of other families and quantised files that are
//! only asked, [`scripted`] a script without weights.

pub mod device;
mod draft;
pub mod foreign;
pub mod native;
mod prefix;
mod sampler;
pub mod scripted;
mod stopping;
mod worker;

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::domain::check::Check;
use crate::domain::{Address, FinishReason};

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

/// How a token is drawn from the policy's distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 means greedy.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens whose mass reaches p; 1 keeps all (Holtzman et al. 2020).
    pub top_p: f32,
    /// Keep tokens at least this fraction as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// Always the most probable token; ties go to the lowest id.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

/// One trajectory to draw, or to go on drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Everything the policy has read so far: prompt, and thoughts already drawn.
    pub context_ids: Vec<u32>,
    /// Names the random stream; token `t` drawn by this request uses its word `t`.
    pub address: Address,
    pub sampling: Sampling,
    /// Most tokens to draw.
    pub tokens_max: usize,
    /// End after the first token that closes a thought.
    pub stop_at_boundary: bool,
}

/// Where trajectories and thoughts end, in tokens and bytes.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// End-of-sequence tokens.
    pub eos_ids: Vec<u32>,
    /// Tokens that close a thought.
    pub boundary_ids: Vec<u32>,
    /// Stop strings, as bytes; found anywhere in the drawn bytes, also across tokens.
    pub strings: Vec<Vec<u8>>,
    /// The bytes each token id stands for; needed only when `strings` is not empty.
    pub token_bytes: Arc<Vec<Vec<u8>>>,
}

/// The end of a thought within a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Boundary {
    /// One past the thought's last token, counted from the first drawn token.
    pub end: usize,
    /// Final-norm hidden state from which the thought's last token was drawn, as f16 bits; empty for a policy
    /// without weights.
    pub hidden_f16: Vec<u16>,
}

/// What was drawn for a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub token_ids: Vec<u32>,
    /// Natural log-probability of each token at temperature 1 before truncation, of the same length.
    pub logprobs: Vec<f32>,
    pub finish: FinishReason,
    /// Every thought's end, the last one's included; `boundaries.last().end == token_ids.len()`.
    pub boundaries: Vec<Boundary>,
}

/// A given sequence to read under the policy, without drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRequest {
    pub ids: Vec<u32>,
    /// Log-probabilities are wanted for `ids[from..]`; at least 1, since nothing predicts the first token.
    pub from: usize,
    /// Positions `p` for which the hidden state that predicts `ids[p]` is wanted.
    pub hidden_at: Vec<usize>,
}

impl ReadRequest {
    /// Refuses positions that the sequence hasn't got.
    fn check(&self) -> Result<()> {
        let Self { ids, from, hidden_at } = self;
        let n = ids.len();
        ensure!((1..=n).contains(from), "`from` is {from}; it must be in 1..={n}, the number of ids");
        let bad = hidden_at.iter().find(|p| !(1..n).contains(*p));
        ensure!(bad.is_none(), "`hidden_at` has {}; positions are in 1..{n}", bad.unwrap_or(&0));
        Ok(())
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

/// What was read for a [`ReadRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// `ids.len() - from` values.
    pub logprobs: Vec<f32>,
    /// One hidden state per wanted position, as f16 bits.
    pub hidden_f16: Vec<Vec<u16>>,
}

/// A context, and the texts that it might go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub context_ids: Vec<u32>,
    /// At least one token each.
    pub options: Vec<Vec<u32>>,
}

impl Choice {
    /// Tokens of the context and the longest option.
    pub fn tokens(&self) -> usize {
        self.context_ids.len() + self.options.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn check(&self, context_max: usize) -> Result<()> {
        ensure!(!self.context_ids.is_empty(), "the context of a choice is empty");
        ensure!(!self.options.iter().any(Vec::is_empty), "an option of a choice has no token");
        let tokens = self.tokens();
        ensure!(
            tokens <= context_max,
            "a choice needs {tokens} tokens; the model reads at most {context_max}"
        );
        Ok(())
    }

    /// The sequence that an option makes of the context, read from the option's first token on.
    fn reading(&self, option: &[u32]) -> ReadRequest {
        ReadRequest {
            ids: [self.context_ids.as_slice(), option].concat(),
            from: self.context_ids.len(),
            hidden_at: Vec::new(),
        }
    }
}

/// A policy that can be sampled and read. The one seam between the loop and whatever produces tokens.
pub trait Generate: Sync {
    /// Hash of the weights (or of the script, or of the remote model's identity).
    fn policy_hash(&self) -> &str;

    /// Longest context plus completion, in tokens.
    fn context_max(&self) -> usize;

    /// Draws a completion for every request, in order. `on_tokens(n)` is told of drawn tokens as they come,
    /// from any thread.
    fn generate(
        &self,
        requests: &[Request],
        stops: &Stops,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Completion>>;

    /// Reads every sequence, in order.
    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>>;

    /// The log-probability of every option of every choice, in order: of all its tokens, given the context.
    ///
    /// Nothing is drawn. An implementation may share the context's forward pass between its options.
    fn weigh(&self, choices: &[Choice]) -> Result<Vec<Vec<f32>>> {
        let mut weights = Vec::with_capacity(choices.len());
        for choice in choices {
            choice.check(self.context_max())?;
            let requests: Vec<ReadRequest> = choice.options.iter().map(|o| choice.reading(o)).collect();
            let readings = self.read(&requests)?;
            weights.push(readings.iter().map(|reading| reading.logprobs.iter().sum()).collect());
        }
        Ok(weights)
    }
}
