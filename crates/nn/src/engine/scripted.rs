//! A policy from a script: it drives the whole loop without weights, for tests and `--policy
//! scripted`.
//!
//! For each prompt it knows right and wrong completions ([`Play`]) and is a mixture over them: the
//! solution has probability `skill`, the wrong completions share the rest. It is a true
//! autoregressive policy. Log-probabilities are those of the mixture given everything read so far.
//! So continuing thought by thought follows the same distribution as generating at once, and
//! reading a text returns the log-probabilities of generating it. A completion is a pure function
//! of (policy, context, address). At temperature 0 a prompt is solved if its own fixed difficulty
//! is below the skill, so that greedy accuracy equals the skill. Other sampling options change
//! nothing.
//!
//! Hidden states are synthetic: whether the completion has left the solution, plus noise that is a
//! function of the tokens read. If the script has no play for a context, the context's hash decides
//! the probabilities of a choice, so that tests of judges get a verdict. It knows nothing about
//! text: the caller passes token ids.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use half::f16;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

use super::requests::complete_all;
use crate::domain::{
    Boundary, Capabilities, Choice, Completion, FinishReason, Generate, ReadRequest, Reading, Request, Stops,
};
use crate::profile::{self, Tokens};

/// Log-probability of a token that the script doesn't contain, about one in a million.
const LOGPROB_FLOOR: f32 = -13.8;
/// Log-probability of each prompt token when it is read.
const LOGPROB_PROMPT: f32 = -1.0;
/// Sum of the probabilities of a choice's options, where no play is known.
const VERDICT_MASS: f64 = 0.9;
/// After training on this many trajectories, 1/e of the distance to a skill of 1 remains.
const KEPT_PER_E_FOLD: f64 = 400.0;

/// The completions that the script knows for one prompt, as token ids with the end-of-sequence
/// token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    pub solution: Vec<u32>,
    /// Wrong completions, equally probable. If there is none, it is the first half of the solution.
    pub wrong: Vec<Vec<u32>>,
}

/// Finds the prompt at the start of a context: its length in tokens, and its play.
pub type Lookup = dyn Fn(&[u32]) -> Option<(usize, Play)> + Send + Sync;

/// The source of plays.
#[derive(Clone)]
pub struct Script {
    identity: String,
    lookup: Arc<Lookup>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Script {
    /// A table from prompt ids to plays. If several prompts are prefixes of a context, the longest
    /// counts.
    pub fn table(plays: BTreeMap<Vec<u32>, Play>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 script table v1");
        let mut update = |ids: &[u32]| {
            hasher.update(&(ids.len() as u64).to_le_bytes());
            for id in ids {
                hasher.update(&id.to_le_bytes());
            }
        };
        for (prompt, play) in &plays {
            update(prompt);
            update(&play.solution);
            play.wrong.iter().for_each(|ids| update(ids));
        }
        let identity = hasher.finalize().to_hex().to_string();
        let lookup = move |context: &[u32]| {
            let found = (0..=context.len()).rev().find_map(|n| plays.get_key_value(&context[..n]));
            found.map(|(prompt, play)| (prompt.len(), play.clone()))
        };
        Self { identity, lookup: Arc::new(lookup) }
    }

    /// Plays made on demand. `identity` must change whenever the results of `lookup` change.
    pub fn solver(identity: &str, lookup: Arc<Lookup>) -> Self {
        Self { identity: identity.to_owned(), lookup }
    }
}

/// A policy without weights; the module's documentation describes it.
#[derive(Clone, Debug)]
pub struct Scripted {
    script: Script,
    skill: f64,
    version: u32,
    hidden_size: usize,
    context_max: usize,
    hash: String,
}

impl Scripted {
    /// A policy whose every completion is right with probability `skill`, in [0, 1].
    pub fn new(script: Script, skill: f64) -> Result<Self> {
        ensure!((0.0..=1.0).contains(&skill), "a script's skill is {skill}; it must be in [0, 1]");
        Ok(Self { script, skill, version: 0, hidden_size: 8, context_max: 1 << 20, hash: String::new() }
            .hashed())
    }

    /// The same policy with hidden states of `size` values; 0 means none.
    pub fn with_hidden_size(self, size: usize) -> Self {
        Self { hidden_size: size, ..self }.hashed()
    }

    /// The same policy with this longest context plus completion, in tokens.
    pub fn with_context_max(self, tokens: usize) -> Self {
        Self { context_max: tokens, ..self }.hashed()
    }

    /// "Training" on `kept` trajectories: the next version, whose skill is higher.
    pub fn improved(&self, kept: usize) -> Self {
        let remaining = (-(kept as f64) / KEPT_PER_E_FOLD).exp();
        let skill = 1.0 - (1.0 - self.skill) * remaining;
        Self { skill, version: self.version + 1, ..self.clone() }.hashed()
    }

    /// The probability of a right completion.
    pub fn skill(&self) -> f64 {
        self.skill
    }

    /// The policy after `version` improvements, whatever its skill.
    pub fn at_version(self, version: u32) -> Self {
        Self { version, ..self }.hashed()
    }

    /// How many times the policy was improved.
    pub fn version(&self) -> u32 {
        self.version
    }

    fn hashed(mut self) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 scripted policy v1");
        hasher.update(self.script.identity.as_bytes());
        hasher.update(&self.skill.to_bits().to_le_bytes());
        hasher.update(&self.version.to_le_bytes());
        hasher.update(&(self.hidden_size as u64).to_le_bytes());
        self.hash = hasher.finalize().to_hex().to_string();
        self
    }

    /// The prompt's length and the mixture for `context`.
    fn mixture(&self, context: &[u32]) -> Result<(usize, Mixture)> {
        let (prompt, play) = (self.script.lookup)(context).with_context(|| {
            format!("the script has no play for this context of {} tokens", context.len())
        })?;
        ensure!(!play.solution.is_empty(), "the script's solution for a prompt of {prompt} tokens is empty");
        let wrong = if play.wrong.is_empty() { vec![truncated(&play.solution)] } else { play.wrong };
        let share = (1.0 - self.skill) / wrong.len() as f64;
        let mut lines = vec![(self.skill, play.solution)];
        lines.extend(wrong.into_iter().map(|ids| (share, ids)));
        let mut mixture = Mixture { lines, at: 0, solved: true };
        for &id in &context[prompt..] {
            mixture.read(id);
        }
        Ok((prompt, mixture))
    }

    fn complete(&self, request: &Request, stops: &Stops) -> Result<Completion> {
        let (prompt, mut mixture) = self.mixture(&request.context_ids)?;
        let uniform = match request.sampling.temperature {
            0.0 => unit(hash_words(&request.context_ids[..prompt])),
            _ => unit(request.address.stream().next_u64()),
        };
        let line = mixture.choose(uniform, stops);
        let room = self.context_max.saturating_sub(request.context_ids.len());
        let mut partial = Partial::default();
        let mut ids = request.context_ids.clone();
        let mut finish = None;
        for &id in &line {
            if partial.token_ids.len() == request.tokens_max.min(room) {
                break;
            }
            let hidden = self.hidden(&ids, mixture.solved);
            partial.token_ids.push(id);
            partial.logprobs.push(mixture.read(id));
            ids.push(id);
            finish = partial.finish(id, request, stops);
            if finish.is_some() || stops.boundary_ids.contains(&id) {
                partial.close(hidden);
            } else {
                partial.open = hidden;
            }
            if finish.is_some() {
                break;
            }
        }
        let limit = if room <= request.tokens_max && partial.token_ids.len() == room {
            FinishReason::ContextFull
        } else {
            FinishReason::TokensMax
        };
        Ok(partial.into_completion(finish.unwrap_or(limit)))
    }

    fn read_one(&self, request: &ReadRequest) -> Result<Reading> {
        let ids = &request.ids;
        ensure!(
            (1..=ids.len()).contains(&request.from),
            "log-probs are wanted from position {}, but the sequence has {} tokens and nothing predicts the first",
            request.from,
            ids.len()
        );
        let (prompt, _) = self.mixture(ids)?;
        let (_, mut mixture) = self.mixture(&ids[..prompt])?;
        let mut logprobs = vec![LOGPROB_PROMPT; prompt];
        let mut solved = vec![true; prompt];
        for &id in &ids[prompt..] {
            solved.push(mixture.solved);
            logprobs.push(mixture.read(id));
        }
        let hidden = |&p: &usize| {
            ensure!(p < ids.len(), "a hidden state is wanted at position {p} of {}", ids.len());
            Ok(self.hidden(&ids[..p], solved[p]))
        };
        Ok(Reading {
            logprobs: logprobs[request.from..].to_vec(),
            hidden_f16: request.hidden_at.iter().map(hidden).collect::<Result<_>>()?,
        })
    }

    /// The state after reading `ids`: noise from the tokens; the first value also depends on
    /// whether the completion follows the solution so far.
    fn hidden(&self, ids: &[u32], solved: bool) -> Vec<u16> {
        let seed = hash_words(ids);
        let noise = |i: usize| unit(hash_words(&[seed as u32, (seed >> 32) as u32, i as u32])) * 2.0 - 1.0;
        let value = |i: usize| match (i, solved) {
            (0, true) => 0.7 + noise(0),
            (0, false) => -0.7 + noise(0),
            _ => noise(i),
        };
        (0..self.hidden_size).map(|i| f16::from_f64(value(i)).to_bits()).collect()
    }
}

impl Generate for Scripted {
    fn policy_hash(&self) -> &str {
        &self.hash
    }

    fn context_max(&self) -> usize {
        self.context_max
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { hidden: self.hidden_size > 0, ..Capabilities::ALL }
    }

    fn generate(
        &self,
        requests: &[Request],
        stops: &Stops,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Completion>> {
        let one = |&index: &usize| {
            let completion = self.complete(&requests[index], stops)?;
            profile::tokens(Tokens::Drawn, completion.token_ids.len());
            on_tokens(completion.token_ids.len());
            Ok((index, completion))
        };
        let complete = |indices: &[usize]| indices.par_iter().map(one).collect();
        complete_all(requests, self.context_max, |_| Ok(()), complete)
    }

    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
        requests.iter().for_each(|r| profile::tokens(Tokens::Read, r.ids.len()));
        requests.par_iter().map(|r| self.read_one(r)).collect()
    }

    fn option_logprobs(&self, choices: &[Choice]) -> Result<Vec<Vec<f32>>> {
        let one = |choice: &Choice| {
            choice.check(self.context_max)?;
            if (self.script.lookup)(&choice.context_ids).is_none() {
                return Ok(by_hash(choice));
            }
            let read = |option: &Vec<u32>| Ok(self.read_one(&choice.reading(option))?.logprobs.iter().sum());
            choice.options.iter().map(read).collect()
        };
        choices.par_iter().map(one).collect()
    }
}

/// Shares [`VERDICT_MASS`] between the options in proportions that the hash of the context decides.
fn by_hash(choice: &Choice) -> Vec<f32> {
    let seed = hash_words(&choice.context_ids);
    let share = |i: usize| unit(hash_words(&[seed as u32, (seed >> 32) as u32, i as u32])).powi(4) + 1e-6;
    let shares: Vec<f64> = (0..choice.options.len()).map(share).collect();
    let total: f64 = shares.iter().sum();
    shares.iter().map(|share| (VERDICT_MASS * share / total).ln() as f32).collect()
}

/// The solution's first half, ended as the solution is: the wrong line of a play that names none.
fn truncated(solution: &[u32]) -> Vec<u32> {
    let (last, rest) = solution.split_last().expect("a play's solution was checked not to be empty");
    rest[..rest.len() / 2].iter().chain([last]).copied().collect()
}

/// The lines that agree with everything read so far, with their probabilities.
struct Mixture {
    lines: Vec<(f64, Vec<u32>)>,
    /// Number of completion tokens read.
    at: usize,
    /// Whether they all follow the solution.
    solved: bool,
}

impl Mixture {
    /// Reads `id` and returns its log-probability given what was read before.
    fn read(&mut self, id: u32) -> f32 {
        let mass = |lines: &[(f64, Vec<u32>)]| lines.iter().map(|(w, _)| w).sum::<f64>();
        let before = mass(&self.lines);
        let at = self.at;
        if self.solved {
            // The solution stands first as long as it is alive.
            self.solved = self.lines.first().is_some_and(|(_, ids)| ids.get(at) == Some(&id));
        }
        self.lines.retain(|(_, ids)| ids.get(at) == Some(&id));
        self.at += 1;
        let after = mass(&self.lines);
        if after > 0.0 { ((after / before).ln() as f32).max(LOGPROB_FLOOR) } else { LOGPROB_FLOOR }
    }

    /// The next tokens, chosen by `uniform` in [0, 1): the rest of one line, or the end of the
    /// sequence if no line fits.
    fn choose(&self, uniform: f64, stops: &Stops) -> Vec<u32> {
        let total: f64 = self.lines.iter().map(|(w, _)| w).sum();
        let mut left = uniform * total;
        let alive = || self.lines.iter().filter(|(w, ids)| *w > 0.0 && ids.len() > self.at);
        for (weight, ids) in alive() {
            left -= weight;
            if left < 0.0 {
                return ids[self.at..].to_vec();
            }
        }
        let last = alive().next_back().map(|(_, ids)| ids[self.at..].to_vec());
        last.unwrap_or_else(|| stops.eos_ids.first().copied().into_iter().collect())
    }
}

/// A completion that is not finished.
#[derive(Default)]
struct Partial {
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    boundaries: Vec<Boundary>,
    bytes: Vec<u8>,
    /// Hidden state that predicted the last token, while its thought is open.
    open: Vec<u16>,
}

impl Partial {
    fn close(&mut self, hidden_f16: Vec<u16>) {
        self.boundaries.push(Boundary { end: self.token_ids.len(), hidden_f16 });
    }

    /// Why the completion ends with `id`, its last token, if it does.
    fn finish(&mut self, id: u32, request: &Request, stops: &Stops) -> Option<FinishReason> {
        if stops.eos_ids.contains(&id) {
            return Some(FinishReason::Eos);
        }
        if let Some(bytes) = stops.token_bytes.get(id as usize) {
            self.bytes.extend_from_slice(bytes);
            let found = |s: &Vec<u8>| !s.is_empty() && self.bytes.windows(s.len()).any(|w| w == s);
            if stops.strings.iter().any(found) {
                return Some(FinishReason::StopString);
            }
        }
        let boundary = request.stop_at_boundary && stops.boundary_ids.contains(&id);
        boundary.then_some(FinishReason::Boundary)
    }

    fn into_completion(mut self, finish: FinishReason) -> Completion {
        if self.boundaries.last().map_or(0, |b| b.end) < self.token_ids.len() {
            let hidden = std::mem::take(&mut self.open);
            self.close(hidden);
        }
        let Self { token_ids, logprobs, boundaries, .. } = self;
        Completion { token_ids, logprobs, finish, boundaries }
    }
}

fn hash_words(words: &[u32]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    let bytes = hasher.finalize();
    u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// 53 bits as a number in [0, 1).
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "scripted_tests.rs"]
mod tests;
