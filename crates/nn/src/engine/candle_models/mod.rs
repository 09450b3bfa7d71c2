//! Models that candle-transformers runs and our own decoder does not: further families, and
//! quantised files. They are sampled and read, not trained.
//!
//! They serve as judges and references. Samples use the same sampler and the same addresses as
//! [`super::native`]. Every sequence is a batch of one: its context in one forward pass, then token
//! by token. So a completion is a function of (policy, context, sampling, address) here too,
//! whatever else is in the call. The cost: candle's models return logits only for a sequence's last
//! token and share no prefixes. Reading takes as long as generating, and sequences run one after
//! another, each on all threads. There are no hidden states.
//!
//! Contexts are shorter than the model could read ([`CONTEXT_MAX`], and a family's sliding window).
//! Attention in one pass takes memory with the square of the length, and candle's windows are a
//! token wider than transformers'. Settings that candle ignores silently are refused, because the
//! result would be wrong.

mod families;
mod gguf;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::requests::{check_choices, check_ids, check_reads, complete_all};
use super::sampler::Sampler;
use super::sequence::Sequence;
use super::stopping::StopTable;
use crate::domain::{
    Capabilities, Choice, Completion, Generate, ReadRequest, Reading, Request, Stops, caught,
};
use crate::model::{CONFIG_FILE, checkpoint_files};
use crate::ops::kernels::logprob;
use crate::profile::{self, Tokens};

pub use families::FAMILIES;
pub use gguf::ARCHITECTURES;

/// Longest context, in tokens, of a model that runs its context in one pass.
pub const CONTEXT_MAX: usize = 4096;

/// One step of a sequence: from token ids (1, n) at a position to the logits of the last token.
/// Position 0 begins a new sequence.
type Forward = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor> + Send>;

/// A network and its limits.
struct Network {
    forward: Forward,
    family: String,
    vocab_size: usize,
    context_max: usize,
}

/// A model in memory that can be sampled and read, but not trained.
pub struct CandleModel {
    forward: Mutex<Forward>,
    policy: String,
    family: String,
    vocab_size: usize,
    context_max: usize,
}

impl std::fmt::Debug for CandleModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleModel").field("family", &self.family).field("policy", &self.policy).finish()
    }
}

/// Whether `path` is a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether this engine runs the model at `path`: a GGUF file, or a checkpoint directory of one of
/// [`FAMILIES`].
pub fn serves(path: &Path) -> bool {
    is_gguf(path) || families::model_type(path).is_ok_and(|name| FAMILIES.contains(&name.as_str()))
}

impl CandleModel {
    /// Loads a checkpoint directory (`config.json` and safetensors, widened to f32) or a GGUF file.
    ///
    /// # Errors
    /// A missing or damaged file, a family that is not supported, or a setting that candle ignores.
    pub fn load(path: &Path) -> Result<Self> {
        // candle's loaders divide by what the file has, and ask for memory by it.
        let network =
            caught("the file", || if is_gguf(path) { gguf::load(path) } else { families::load(path) });
        let network = network.with_context(|| format!("the model {} can't be used", path.display()))?;
        let Network { forward, family, vocab_size, context_max } = network;
        ensure!(vocab_size > 0 && context_max > 1, "{}: no vocabulary or no context", path.display());
        let policy = hash(path)?;
        Ok(Self { forward: Mutex::new(forward), policy, family, vocab_size, context_max })
    }

    /// The family or architecture, as its file names it.
    pub fn family(&self) -> &str {
        &self.family
    }

    fn network(&self) -> MutexGuard<'_, Forward> {
        // After a panic in another thread its cache is dropped at the next sequence's first step.
        self.forward.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let checked = check_ids(ids, self.vocab_size, self.context_max);
        checked.with_context(|| format!("this {} can't read it", self.family))
    }

    /// The logits (vocab) after `ids`, the first of which is at position `at`.
    fn logits(&self, forward: &mut Forward, ids: &[u32], at: usize) -> Result<Vec<f32>> {
        let input = Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?;
        let row: Vec<f32> = forward(&input, at)
            .and_then(|logits| logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1())
            .with_context(|| {
                format!("this {} can't read {} tokens at position {at}", self.family, ids.len())
            })?;
        ensure!(
            row.len() == self.vocab_size,
            "this {} gives {} logits for a vocabulary of {}",
            self.family,
            row.len(),
            self.vocab_size
        );
        ensure!(
            row.iter().all(|logit| logit.is_finite()),
            "this {} gives a logit that isn't a finite number; its weights are damaged",
            self.family
        );
        Ok(row)
    }

    fn complete(
        &self,
        mut sequence: Sequence,
        stops: &StopTable,
        sampler: &mut Sampler,
    ) -> Result<(usize, Completion)> {
        let mut network = self.network();
        let context = sequence.request.context_ids.as_slice();
        let mut logits = self.logits(&mut network, context, 0)?;
        loop {
            sequence.sample(sampler, &logits, &[], stops, self.context_max)?;
            if let Some(finish) = sequence.finish {
                return Ok(sequence.into_completion(finish));
            }
            let last = &sequence.token_ids[sequence.token_ids.len() - 1..];
            logits = self.logits(&mut network, last, context.len() + sequence.token_ids.len() - 1)?;
        }
    }

    /// Log-probabilities of `ids[from..]`.
    fn logprobs(&self, forward: &mut Forward, ids: &[u32], from: usize) -> Result<Vec<f32>> {
        let mut logprobs = Vec::with_capacity(ids.len() - from);
        if from == ids.len() {
            return Ok(logprobs);
        }
        let mut logits = self.logits(forward, &ids[..from], 0)?;
        for at in from..ids.len() {
            logprobs.push(logprob(&logits, ids[at] as usize));
            if at + 1 < ids.len() {
                logits = self.logits(forward, &ids[at..=at], at)?;
            }
        }
        Ok(logprobs)
    }
}

impl Generate for CandleModel {
    fn policy_hash(&self) -> &str {
        &self.policy
    }

    fn context_max(&self) -> usize {
        self.context_max
    }

    fn capabilities(&self) -> Capabilities {
        // candle's models return logits, not the state before the output layer.
        Capabilities { hidden: false, ..Capabilities::ALL }
    }

    fn generate(
        &self,
        requests: &[Request],
        stops: &Stops,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Completion>> {
        let stops = StopTable::new(stops, self.vocab_size)?;
        let complete = |indices: &[usize]| {
            let mut sampler = Sampler::default();
            let mut done = Vec::with_capacity(indices.len());
            for &index in indices {
                let request = &requests[index];
                let completed = self.complete(Sequence::new(index, request), &stops, &mut sampler);
                let (index, completion) =
                    completed.with_context(|| format!("request {index} ({})", request.address))?;
                profile::tokens(Tokens::Prompted, request.context_ids.len());
                on_tokens(completion.token_ids.len());
                done.push((index, completion));
            }
            Ok(done)
        };
        complete_all(requests, self.context_max, |ids| self.check_ids(ids), complete)
    }

    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
        check_reads(requests, |ids| self.check_ids(ids))?;
        let one = |ReadRequest { ids, from, hidden_at }: &ReadRequest| {
            profile::tokens(Tokens::Read, ids.len());
            let logprobs = self.logprobs(&mut self.network(), ids, *from)?;
            Ok(Reading { logprobs, hidden_f16: vec![Vec::new(); hidden_at.len()] })
        };
        requests.iter().map(one).collect()
    }

    fn option_logprobs(&self, choices: &[Choice]) -> Result<Vec<Vec<f32>>> {
        check_choices(choices, self.context_max, |ids| self.check_ids(ids))?;
        let mut all = Vec::with_capacity(choices.len());
        for choice in choices {
            profile::tokens(Tokens::Read, choice.tokens());
            let mut network = self.network();
            let first = self.logits(&mut network, &choice.context_ids, 0)?;
            let mut sums = Vec::with_capacity(choice.options.len());
            for option in &choice.options {
                sums.push(match option.as_slice() {
                    [id] => logprob(&first, *id as usize),
                    _ => {
                        let ReadRequest { ids, from, .. } = choice.reading(option);
                        self.logprobs(&mut network, &ids, from)?.iter().sum()
                    }
                });
            }
            all.push(sums);
        }
        Ok(all)
    }
}

/// The files that a model consists of, the configuration first.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if is_gguf(path) {
        return Ok(vec![path.to_owned()]);
    }
    let names = std::iter::once(CONFIG_FILE.to_owned()).chain(checkpoint_files(path)?);
    Ok(names.map(|name| path.join(name)).collect())
}

/// blake3, in hex, over every file's length and bytes.
fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 foreign policy v1");
    for path in files(path)? {
        let failed = || format!("cannot read {}", path.display());
        let file = File::open(&path).with_context(failed)?;
        hasher.update(&file.metadata().with_context(failed)?.len().to_le_bytes());
        hasher.update_reader(file).with_context(failed)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A model that is copied, without a cache, for every new sequence; the copies share its weights.
///
/// A model in use is never copied: some of candle's caches would write into each other.
fn cloned<M: Clone + Send + 'static>(
    pristine: M,
    forward: fn(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
) -> Forward {
    let mut current = pristine.clone();
    Box::new(move |ids, at| {
        if at == 0 {
            current = pristine.clone();
        }
        forward(&mut current, ids, at)
    })
}

/// A model that can't be copied, but can clear its cache.
fn cleared<M: Send + 'static>(
    mut model: M,
    clear: fn(&mut M),
    forward: fn(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
) -> Forward {
    Box::new(move |ids, at| {
        if at == 0 {
            clear(&mut model);
        }
        forward(&mut model, ids, at)
    })
}

/// A model that can neither be copied nor clear its cache: it runs without a cache and reads the
/// whole sequence every time.
fn reread<M: Send + 'static>(
    mut model: M,
    forward: fn(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
) -> Forward {
    let mut whole: Option<Tensor> = None;
    Box::new(move |ids, at| {
        let sequence = match whole.take() {
            Some(before) if at > 0 => Tensor::cat(&[&before, ids], 1)?,
            _ => ids.clone(),
        };
        let logits = forward(&mut model, &sequence, 0);
        whole = Some(sequence);
        logits
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
