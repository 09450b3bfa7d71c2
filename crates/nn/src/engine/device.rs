//! The engine on a candle device: batches of sequences, one forward pass per token, with the
//! operators that train there.
//!
//! Samples have the same addresses and the same sampler as [`super::native`]. The device's products
//! may differ in their last bits with the batch, so the promise of the native engine does not hold
//! here. Batches depend only on the requests: a repeated call on the same machine does the same
//! work. Another batch size may sample another token where two tokens are nearly as probable.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use super::requests::{check_ids, check_reads, complete_all, in_order};
use super::sampler::Sampler;
use super::sequence::{Sequence, f16_bits};
use super::stopping::StopTable;
use crate::domain::{Capabilities, Completion, Generate, ReadRequest, Reading, Request, Stops};
use crate::model::{self, Body, TensorCache, advance, last_rows};
use crate::ops::kernels::logprob;
use crate::profile::{self, Tokens};

/// Most sequences of a batch.
const BATCH_MAX: usize = 64;
/// Most rows of logits that are in memory at a time while reading.
const LOGIT_ROWS: usize = 256;
/// Finished sequences leave a batch when they are one in this many of it. Dropping them copies the
/// cache, so it is not done for each.
const DROP_SHARE: usize = 4;

/// A policy on a device, ready to generate.
pub struct DeviceEngine {
    policy: Body,
    hash: String,
    vocab_size: usize,
    hidden_size: usize,
    layers: usize,
    context_max: usize,
    batch_tokens: usize,
}

impl DeviceEngine {
    /// An engine of a policy. A batch holds at most `batch_tokens` tokens of keys and values,
    /// padding included. A request that needs more is the only one of its batch.
    ///
    /// # Errors
    /// `batch_tokens` is 0, or the policy can't be hashed.
    pub fn new(policy: Body, batch_tokens: usize) -> Result<Self> {
        ensure!(batch_tokens > 0, "batch_tokens is 0; at least one token must fit");
        let (hash, config) = (policy.hash()?, policy.config());
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
        check_ids(ids, self.vocab_size, self.context_max)
    }

    /// Cuts sequences, given as (index, length), into batches, the longest first.
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

    /// Generates a batch to its end; returns (index, completion) in any order.
    fn complete(
        &self,
        mut sequences: Vec<Sequence>,
        stops: &StopTable,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<(usize, Completion)>> {
        let contexts: Vec<&[u32]> = sequences.iter().map(|s| s.request.context_ids.as_slice()).collect();
        let (ids, mut cache) = self.padded(&contexts);
        contexts.iter().for_each(|ids| profile::tokens(Tokens::Prompted, ids.len()));
        let (mut sampler, mut done) = (Sampler::default(), Vec::new());
        let mut hidden = advance(self.policy.parameters(), &ids, &mut cache)?;
        loop {
            let last = last_rows(&hidden)?; // (B, hidden)
            let logits = rows(&model::logits(self.policy.parameters(), &last)?)?;
            let states = rows(&last)?;
            let rows = logits.chunks_exact(self.vocab_size).zip(states.chunks_exact(self.hidden_size));
            let mut sampled = 0;
            for (sequence, (logits, state)) in sequences.iter_mut().zip(rows) {
                if sequence.finish.is_none() {
                    sequence.sample(&mut sampler, logits, state, stops, self.context_max)?;
                    sampled += 1;
                }
            }
            on_tokens(sampled);
            let finished = sequences.iter().filter(|s| s.finish.is_some()).count();
            let all = finished == sequences.len();
            // A finished sequence that waits for the others must not outgrow the model.
            let is_full = finished > 0 && cache.longest() >= self.context_max;
            if all || is_full || finished * DROP_SHARE >= sequences.len() {
                let open: Vec<usize> =
                    (0..sequences.len()).filter(|&i| sequences[i].finish.is_none()).collect();
                let mut left = Vec::with_capacity(open.len());
                for sequence in sequences {
                    match sequence.finish {
                        Some(finish) => done.push(sequence.into_completion(finish)),
                        None => left.push(sequence),
                    }
                }
                if left.is_empty() {
                    return Ok(done);
                }
                sequences = left;
                cache.keep(&open)?;
            }
            let next: Vec<u32> = sequences.iter().map(|s| s.token_ids.last().copied().unwrap_or(0)).collect();
            hidden = advance(self.policy.parameters(), &next, &mut cache)?;
        }
    }

    /// Token ids (B · T) of the sequences, shorter ones padded on the left, and an empty cache for
    /// them.
    fn padded(&self, sequences: &[&[u32]]) -> (Vec<u32>, TensorCache) {
        let longest = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let pads: Vec<usize> = sequences.iter().map(|ids| longest - ids.len()).collect();
        let mut padded = Vec::with_capacity(longest * sequences.len());
        for (ids, &pad) in sequences.iter().zip(&pads) {
            padded.extend(std::iter::repeat_n(0, pad).chain(ids.iter().copied()));
        }
        (padded, TensorCache::new(pads, self.layers))
    }

    /// Reads the sequences of one batch.
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
        let complete = |indices: &[usize]| {
            let length = |&index: &usize| {
                let Request { context_ids, tokens_max, .. } = &requests[index];
                (index, context_ids.len().saturating_add(*tokens_max).min(self.context_max))
            };
            let mut done = Vec::with_capacity(indices.len());
            for batch in self.batches(&indices.iter().map(length).collect::<Vec<_>>()) {
                let sequences = batch.into_iter().map(|i| Sequence::new(i, &requests[i])).collect();
                done.extend(self.complete(sequences, &stops, on_tokens)?);
            }
            Ok(done)
        };
        complete_all(requests, self.context_max, |ids| self.check_ids(ids), complete)
    }

    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
        check_reads(requests, |ids| self.check_ids(ids))?;
        let lengths: Vec<_> = requests.iter().enumerate().map(|(i, r)| (i, r.ids.len())).collect();
        let mut readings = Vec::with_capacity(requests.len());
        for batch in self.batches(&lengths) {
            let asked: Vec<&ReadRequest> = batch.iter().map(|&index| &requests[index]).collect();
            readings.extend(batch.into_iter().zip(self.read_batch(&asked)?));
        }
        in_order(requests.len(), "read request", readings)
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
    use crate::model::{Frozen, ModelConfig, Packed, Weights};
    use crate::ops::kernels::Arithmetic;

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

    /// Only rounding differs between the two engines; these weights leave no near ties.
    #[test]
    fn it_generates_and_reads_what_the_native_engine_does() {
        let weights = weights();
        let native = Native::new(Packed::new(&weights).unwrap(), 4000).unwrap();
        let stops = Stops { eos_ids: vec![2], boundary_ids: vec![3, 9, 17], ..Stops::default() };
        for batch_tokens in [40, 4000] {
            let full = Body::Full(weights.clone(), Arithmetic::F32);
            for policy in [full, Body::Frozen(Frozen::of(&weights).unwrap())] {
                let engine = DeviceEngine::new(policy, batch_tokens).unwrap();
                assert!(!engine.capabilities().replayable);
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
