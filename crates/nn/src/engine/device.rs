//! The engine on a device of candle's: batches of sequences, one forward pass a token, by the operators that train
//! there.
//!
//! Draws have the same addresses and the same sampler as [`super::native`]. The device's products may differ in their
//! last bits with the batch, so what is promised there does not hold here: batches are cut by the requests alone, so
//! that a repeated call on the same machine does the same work, but another batch size may draw another token where two
//! are nearly as probable.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::native::f16_bits;
use super::sampler::{self, Sampler};
use super::stopping::StopTable;
use crate::domain::{
    Boundary, Capabilities, Completion, FinishReason, Generate, ReadRequest, Reading, Request, Stops,
};
use crate::model::{self, Frozen, Lora, Parameters, TensorCache, Weights, advance, last_rows};
use crate::ops::kernels::logprob;
use crate::profile::{self, Tokens};

/// Sequences in a batch at most.
const BATCH_MAX: usize = 64;
/// Rows of logits that exist at a time while reading.
const LOGIT_ROWS: usize = 256;
/// Finished sequences are dropped from a batch when they are this share of it: copying the cache has its price.
const DROP_SHARE: usize = 4;

/// What is sampled; tensors are shared with whoever trains.
pub enum Sampled {
    Full(Weights),
    Frozen(Frozen),
    Lora(Lora),
}

impl Sampled {
    fn parameters(&self) -> Parameters<'_> {
        match self {
            Self::Full(weights) => weights.into(),
            Self::Frozen(frozen) => frozen.into(),
            Self::Lora(lora) => lora.into(),
        }
    }
}

/// A policy on a device, ready to generate.
pub struct DeviceEngine {
    policy: Sampled,
    hash: String,
    vocab_size: usize,
    hidden_size: usize,
    layers: usize,
    context_max: usize,
    batch_tokens: usize,
}

/// A request under way.
struct Slot<'a> {
    index: usize,
    request: &'a Request,
    stream: ChaCha8Rng,
    tail: Vec<u8>,
    drawn: Completion,
    finished: bool,
}

impl DeviceEngine {
    /// An engine of a policy. A batch holds at most `batch_tokens` tokens of keys and values, padding included; a
    /// request that needs more runs alone.
    pub fn new(policy: Sampled, batch_tokens: usize) -> Result<Self> {
        ensure!(batch_tokens > 0, "batch_tokens is 0; at least one token must fit");
        let (hash, config) = match &policy {
            Sampled::Full(weights) => (weights.hash(), &weights.config),
            Sampled::Frozen(frozen) => (frozen.hash().to_string(), &frozen.config),
            Sampled::Lora(lora) => (lora.hash()?, &lora.base.config),
        };
        Ok(Self {
            hash,
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            layers: config.layers.len(),
            context_max: config.max_position_embeddings,
            batch_tokens,
            policy,
        })
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        super::check_ids(ids, self.vocab_size, self.context_max)
    }

    /// Cuts sequences of these lengths into batches, the longest first.
    fn batches(&self, lengths: &[(usize, usize)]) -> Vec<Vec<usize>> {
        let mut order = lengths.to_vec();
        order.sort_by_key(|&(index, length)| (std::cmp::Reverse(length), index));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut longest = 0;
        for (index, length) in order {
            match batches.last_mut() {
                Some(batch)
                    if batch.len() < BATCH_MAX && (batch.len() + 1) * longest <= self.batch_tokens =>
                {
                    batch.push(index);
                }
                _ => {
                    longest = length;
                    batches.push(vec![index]);
                }
            }
        }
        batches
    }

    /// Draws a batch to its end.
    fn draw<'a>(
        &self,
        mut slots: Vec<Slot<'a>>,
        stops: &StopTable,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Slot<'a>>> {
        let contexts: Vec<&[u32]> = slots.iter().map(|slot| slot.request.context_ids.as_slice()).collect();
        let (ids, mut cache) = self.padded(&contexts);
        contexts.iter().for_each(|ids| profile::tokens(Tokens::Prompted, ids.len()));
        let (mut sampler, mut done) = (Sampler::default(), Vec::new());
        let mut hidden = advance(self.policy.parameters(), &ids, &mut cache)?;
        loop {
            let last = last_rows(&hidden)?; // (B, hidden)
            let logits = rows(&model::logits(self.policy.parameters(), &last)?)?;
            let states = rows(&last)?;
            let drawing = slots.iter_mut().zip(logits.chunks_exact(self.vocab_size));
            let mut drawn = 0;
            for ((slot, logits), state) in drawing.zip(states.chunks_exact(self.hidden_size)) {
                if !slot.finished {
                    slot.next(&mut sampler, logits, state, stops, self.context_max)?;
                    drawn += 1;
                }
            }
            profile::tokens(Tokens::Drawn, drawn);
            on_tokens(drawn);
            let finished = slots.iter().filter(|slot| slot.finished).count();
            if finished == slots.len() {
                done.extend(slots);
                return Ok(done);
            }
            // One that waits for the others must not outgrow the model.
            let is_full = finished > 0 && cache.longest() >= self.context_max;
            if is_full || finished * DROP_SHARE >= slots.len() {
                let kept: Vec<usize> = (0..slots.len()).filter(|&i| !slots[i].finished).collect();
                cache.keep(&kept)?;
                let (over, going): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| slot.finished);
                done.extend(over);
                slots = going;
            }
            let next: Vec<u32> =
                slots.iter().map(|slot| slot.drawn.token_ids.last().copied().unwrap_or(0)).collect();
            hidden = advance(self.policy.parameters(), &next, &mut cache)?;
        }
    }

    /// The sequences beside one another, shorter ones padded on the left, and an empty cache for them.
    fn padded(&self, sequences: &[&[u32]]) -> (Vec<u32>, TensorCache) {
        let longest = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let pads: Vec<usize> = sequences.iter().map(|ids| longest - ids.len()).collect();
        let mut padded = Vec::with_capacity(longest * sequences.len());
        for (ids, &pad) in sequences.iter().zip(&pads) {
            padded.extend(std::iter::repeat_n(0, pad).chain(ids.iter().copied()));
        }
        (padded, TensorCache::new(pads, self.layers))
    }

    /// Reads sequences of one batch.
    fn read_batch(&self, requests: &[&ReadRequest]) -> Result<Vec<Reading>> {
        let sequences: Vec<&[u32]> =
            requests.iter().map(|request| &request.ids[..request.ids.len() - 1]).collect();
        let (ids, mut cache) = self.padded(&sequences);
        let longest = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        if longest == 0 {
            let nothing = |r: &&ReadRequest| Reading {
                logprobs: Vec::new(),
                hidden_f16: vec![Vec::new(); r.hidden_at.len()],
            };
            return Ok(requests.iter().map(nothing).collect());
        }
        requests.iter().for_each(|r| profile::tokens(Tokens::Read, r.ids.len()));
        let hidden = advance(self.policy.parameters(), &ids, &mut cache)?; // (B, T, hidden)
        let mut readings = Vec::with_capacity(requests.len());
        for (b, request) in requests.iter().enumerate() {
            let own = hidden.get(b)?.narrow(0, longest + 1 - request.ids.len(), request.ids.len() - 1)?;
            let own = own.contiguous()?; // row r predicts ids[r + 1]
            let mut logprobs = Vec::new();
            let first = request.from - 1;
            for start in (first..request.ids.len() - 1).step_by(LOGIT_ROWS) {
                let count = LOGIT_ROWS.min(request.ids.len() - 1 - start);
                let part = own.narrow(0, start, count)?.contiguous()?;
                let logits = rows(&model::logits(self.policy.parameters(), &part)?)?;
                let targets = &request.ids[start + 1..];
                logprobs.extend(
                    logits
                        .chunks_exact(self.vocab_size)
                        .zip(targets)
                        .map(|(row, &id)| logprob(row, id as usize)),
                );
            }
            let state = |&at: &usize| Ok(f16_bits(&rows(&own.get(at - 1)?)?));
            let hidden_f16 = request.hidden_at.iter().map(state).collect::<Result<_>>()?;
            readings.push(Reading { logprobs, hidden_f16 });
        }
        Ok(readings)
    }
}

impl<'a> Slot<'a> {
    fn new(index: usize, request: &'a Request) -> Self {
        let drawn = Completion {
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            finish: FinishReason::TokensMax,
            boundaries: Vec::new(),
        };
        let stream = request.address.stream();
        Self { index, request, stream, tail: Vec::new(), drawn, finished: false }
    }

    /// Draws the next token from the row that predicts it.
    fn next(
        &mut self,
        sampler: &mut Sampler,
        logits: &[f32],
        state: &[f32],
        stops: &StopTable,
        context_max: usize,
    ) -> Result<()> {
        let token = sampler.draw(logits, &self.request.sampling, self.stream.next_u32());
        let (id, logprob) = (token as u32, logprob(logits, token));
        ensure!(
            logprob.is_finite(),
            "the policy gives no finite log-probability for token {} of request {} ({}); its weights are damaged",
            self.drawn.token_ids.len(),
            self.index,
            self.request.address
        );
        self.drawn.token_ids.push(id);
        self.drawn.logprobs.push(logprob);
        let end = self.drawn.token_ids.len();
        let finish = stops.finish(self.request, id, end, context_max, &mut self.tail);
        if finish.is_some() || stops.is_boundary(id) {
            self.drawn.boundaries.push(Boundary { end, hidden_f16: f16_bits(state) });
        }
        if let Some(finish) = finish {
            (self.drawn.finish, self.finished) = (finish, true);
        }
        Ok(())
    }
}

impl Generate for DeviceEngine {
    fn policy_hash(&self) -> &str {
        &self.hash
    }

    fn context_max(&self) -> usize {
        self.context_max
    }

    fn capabilities(&self) -> Capabilities {
        // The device's products may differ in their last bits with the batch.
        Capabilities { replayable: false, ..Capabilities::ALL }
    }

    fn generate(
        &self,
        requests: &[Request],
        stops: &Stops,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Completion>> {
        let stops = StopTable::new(stops, self.vocab_size)?;
        let mut completions: Vec<Option<Completion>> = Vec::with_capacity(requests.len());
        let mut lengths = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let checked =
                self.check_ids(&request.context_ids).and_then(|()| sampler::check(&request.sampling));
            checked.with_context(|| format!("request {index} ({})", request.address))?;
            let context = request.context_ids.len();
            let empty = |finish| Completion { finish, ..Slot::new(index, request).drawn };
            completions.push(match () {
                () if request.tokens_max == 0 => Some(empty(FinishReason::TokensMax)),
                () if context >= self.context_max => Some(empty(FinishReason::ContextFull)),
                () => None,
            });
            if completions[index].is_none() {
                lengths.push((index, context.saturating_add(request.tokens_max).min(self.context_max)));
            }
        }
        for batch in self.batches(&lengths) {
            let slots = batch.into_iter().map(|index| Slot::new(index, &requests[index])).collect();
            for slot in self.draw(slots, &stops, on_tokens)? {
                completions[slot.index] = Some(slot.drawn);
            }
        }
        let missing =
            |(i, c): (usize, Option<Completion>)| c.with_context(|| format!("request {i} was lost"));
        completions.into_iter().enumerate().map(missing).collect()
    }

    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
        for (i, request) in requests.iter().enumerate() {
            let checked = self.check_ids(&request.ids).and_then(|()| request.check());
            checked.with_context(|| format!("read request {i}"))?;
        }
        let lengths: Vec<_> = requests.iter().enumerate().map(|(i, r)| (i, r.ids.len())).collect();
        let mut readings: Vec<Option<Reading>> = vec![None; requests.len()];
        for batch in self.batches(&lengths) {
            let asked: Vec<&ReadRequest> = batch.iter().map(|&index| &requests[index]).collect();
            for (index, reading) in batch.into_iter().zip(self.read_batch(&asked)?) {
                readings[index] = Some(reading);
            }
        }
        let missing =
            |(i, r): (usize, Option<Reading>)| r.with_context(|| format!("read request {i} was lost"));
        readings.into_iter().enumerate().map(missing).collect()
    }
}

/// A tensor's elements, row-major.
fn rows(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Purpose, Sampling};
    use crate::engine::native::Native;
    use crate::model::{ModelConfig, Packed};

    fn weights() -> Weights {
        let mut config = ModelConfig::seed(40);
        config.hidden_size = 32;
        config.intermediate_size = 48;
        config.num_attention_heads = 4;
        config.num_key_value_heads = 2;
        config.head_dim = 8;
        Weights::init(config, &Address::new(5, Purpose::Init, 0, "", &[])).unwrap()
    }

    fn requests() -> Vec<Request> {
        let request = |n: u32| Request {
            context_ids: (0..1 + n * 3).map(|i| (i * 7 + n) % 40).collect(),
            address: Address::new(1, Purpose::Rollout, 0, "t", &[n]),
            sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
            tokens_max: 5 + n as usize,
            stop_at_boundary: n.is_multiple_of(2),
        };
        (0..9).map(request).collect()
    }

    /// Nothing but rounding lies between the two engines; these weights leave no near ties.
    #[test]
    fn it_draws_and_reads_what_the_native_engine_does() {
        let weights = weights();
        let native = Native::new(Packed::new(&weights).unwrap(), 4000).unwrap();
        let stops = Stops { eos_ids: vec![2], boundary_ids: vec![3, 9, 17], ..Stops::default() };
        for batch_tokens in [40, 4000] {
            for policy in [Sampled::Full(weights.clone()), Sampled::Frozen(Frozen::of(&weights).unwrap())] {
                let engine = DeviceEngine::new(policy, batch_tokens).unwrap();
                let requests = requests();
                let ours = engine.generate(&requests, &stops, &|_| ()).unwrap();
                let theirs = native.generate(&requests, &stops, &|_| ()).unwrap();
                for (a, b) in ours.iter().zip(&theirs) {
                    assert_eq!((&a.token_ids, a.finish), (&b.token_ids, b.finish));
                    assert!(a.logprobs.iter().zip(&b.logprobs).all(|(a, b)| (a - b).abs() < 1e-4));
                    let ends = |c: &Completion| c.boundaries.iter().map(|b| b.end).collect::<Vec<_>>();
                    assert_eq!(ends(a), ends(b));
                }
                let read = |(r, c): (&Request, &Completion)| ReadRequest {
                    ids: [r.context_ids.as_slice(), &c.token_ids].concat(),
                    from: r.context_ids.len(),
                    hidden_at: vec![r.context_ids.len()],
                };
                let reads: Vec<ReadRequest> = requests.iter().zip(&ours).map(read).collect();
                let (ours, theirs) = (engine.read(&reads).unwrap(), native.read(&reads).unwrap());
                for (a, b) in ours.iter().zip(&theirs) {
                    assert_eq!(a.logprobs.len(), b.logprobs.len());
                    assert!(a.logprobs.iter().zip(&b.logprobs).all(|(a, b)| (a - b).abs() < 1e-4));
                    let number = |bits: &u16| half::f16::from_bits(*bits).to_f32();
                    let pairs = a.hidden_f16[0].iter().zip(&b.hidden_f16[0]);
                    assert!(pairs.into_iter().all(|(a, b)| (number(a) - number(b)).abs() < 1e-2));
                }
            }
        }
    }
}
