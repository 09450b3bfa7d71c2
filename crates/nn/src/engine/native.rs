//! The engine on this machine's cores: many sequences decoded together, by the trainer's own kernels.
//!
//! Data-parallel: every rayon thread runs its own decode loop (`worker`) over one queue of requests, the
//! longest first. Requests with the same context share its prefill, and readings what they begin with. Since every row of the forward pass depends on
//! its own sequence alone, a completion is a pure function of (policy, context, sampling, address): neither the
//! threads, nor the batch, nor what is remembered from earlier calls changes a bit of it.
//!
//! Weights are read in whatever bits they are held in. Where few sequences are left, drafts fill the pass (`draft`). Not here:
//! splitting one forward pass over threads. One request alone runs on one core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::prefix::PrefixCache;
use super::sampler;
use super::stopping::StopTable;
use super::worker::{Batch, Worker};
use crate::domain::{
    Capabilities, Choice, Completion, FinishReason, Generate, ReadRequest, Reading, Request, Stops,
};
use crate::model::cache::{KvCache, PagePool};
use crate::model::{Packed, Scratch, Span, decode};
use crate::ops::kernels::logprob;
use crate::profile::{self, Operator, Tokens};

/// Rows that a pass over weights takes hardly longer for than for one.
const DRAFTED_ROWS: usize = 8;

/// A policy in memory, ready to generate.
#[derive(Debug)]
pub struct Native {
    pub(super) model: Packed,
    pub(super) pool: Arc<PagePool>,
    batch_tokens: usize,
    pub(super) batch: Batch,
    /// Rows of a pass that cost hardly more than one: what isn't needed for sequences goes to drafts.
    pub(super) drafted_rows: usize,
    prefixes: Mutex<PrefixCache>,
}

impl Native {
    /// An engine of a policy. Sequences being decoded hold at most `batch_tokens` tokens of keys and values, over all
    /// threads; a request that needs more than its thread's share runs alone there. As many again may be
    /// remembered for later calls.
    pub fn new(model: Packed, batch_tokens: usize) -> Result<Self> {
        ensure!(batch_tokens > 0, "batch_tokens is 0; at least one token must fit");
        let pool = model.page_pool();
        let (batch, prefixes) = (Batch::of(&model), Mutex::new(PrefixCache::new(batch_tokens)));
        // Each row of a mixture brings experts of its own.
        let drafted_rows = if model.config().experts.is_some() { 0 } else { DRAFTED_ROWS };
        Ok(Self { pool, batch_tokens, batch, drafted_rows, prefixes, model })
    }

    /// The same engine, with drafts in passes of at most so many rows; 0 drafts nothing. It changes time alone.
    #[cfg(test)]
    fn drafting(self, rows: usize) -> Self {
        Self { drafted_rows: rows, ..self }
    }

    /// The same engine, remembering the beginnings of at most `tokens` tokens between calls; 0 remembers nothing.
    pub fn remembering(self, tokens: usize) -> Self {
        Self { prefixes: Mutex::new(PrefixCache::new(tokens)), ..self }
    }

    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        // What a panicking thread leaves behind is still exact: entries are whole or absent.
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        super::check_ids(ids, self.model.config().vocab_size, self.context_max())
    }

    /// The empty completion of a request that leaves no room for a token.
    fn nothing_to_draw(&self, request: &Request) -> Option<Completion> {
        let finish = if request.tokens_max == 0 {
            FinishReason::TokensMax
        } else if request.context_ids.len() >= self.context_max() {
            FinishReason::ContextFull
        } else {
            return None;
        };
        Some(Completion { token_ids: Vec::new(), logprobs: Vec::new(), finish, boundaries: Vec::new() })
    }

    /// Reads requests that begin with the same `shared` tokens, of which no row is wanted; gives them by their indices.
    fn read_group(
        &self,
        requests: &[ReadRequest],
        (shared, group): &(usize, Vec<usize>),
        buffers: &mut (Scratch, Vec<f32>),
    ) -> Result<Vec<(usize, Reading)>> {
        let mut cache = KvCache::new(&self.pool);
        let ids = &requests[group[0]].ids[..*shared];
        for ids in ids.chunks(self.batch.read_max) {
            let span = Span { cache: &mut cache, ids, wanted_from: ids.len() };
            decode(&self.model, &mut [span], &mut buffers.0)?;
        }
        let read = |&index: &usize| Ok((index, self.read_one(&requests[index], cache.clone(), buffers)?));
        group.iter().map(read).collect()
    }

    /// Reads what `cache` has not read yet.
    fn read_one(
        &self,
        request: &ReadRequest,
        mut cache: KvCache,
        buffers: &mut (Scratch, Vec<f32>),
    ) -> Result<Reading> {
        let (scratch, logits) = buffers;
        let ReadRequest { ids, from, hidden_at } = request;
        profile::tokens(Tokens::Read, ids.len());
        let width = self.model.config().hidden_size;
        let mut reading = Reading { logprobs: Vec::new(), hidden_f16: vec![Vec::new(); hidden_at.len()] };
        // Row `r` predicts `ids[r + 1]`; the last token predicts nothing that is asked for.
        let (rows, wanted) = (ids.len() - 1, first_wanted(request));
        for start in (cache.len()..rows).step_by(self.batch.read_max) {
            let end = (start + self.batch.read_max).min(rows);
            let first = wanted.clamp(start, end);
            let span = Span { cache: &mut cache, ids: &ids[start..end], wanted_from: first - start };
            let hidden = decode(&self.model, &mut [span], scratch)?;
            for (p, state) in hidden_at.iter().zip(&mut reading.hidden_f16) {
                if (first..end).contains(&(p - 1)) {
                    *state = f16_bits(&hidden[(p - 1 - first) * width..][..width]);
                }
            }
            let scored = (from - 1).clamp(first, end);
            self.model.logits(&hidden[(scored - first) * width..], logits);
            let vocab = self.model.config().vocab_size;
            let _span = profile::span(Operator::LogSoftmax);
            let rows = logits.chunks_exact(vocab).zip(&ids[scored + 1..]);
            reading.logprobs.extend(rows.map(|(row, &id)| logprob(row, id as usize)));
        }
        Ok(reading)
    }

    /// Reads the context once; options longer than a token go on from a fork of its pages.
    fn option_logprobs_one(&self, choice: &Choice, buffers: &mut (Scratch, Vec<f32>)) -> Result<Vec<f32>> {
        let (scratch, logits) = buffers;
        let context = choice.context_ids.as_slice();
        profile::tokens(Tokens::Read, context.len());
        let mut cache = KvCache::new(&self.pool);
        let last = context.len() - 1;
        for start in (0..context.len()).step_by(self.batch.read_max) {
            let end = (start + self.batch.read_max).min(context.len());
            let span = Span {
                cache: &mut cache,
                ids: &context[start..end],
                wanted_from: last.clamp(start, end) - start,
            };
            let hidden = decode(&self.model, &mut [span], scratch)?;
            if end == context.len() {
                self.model.logits(hidden, logits);
            }
        }
        let mut weights: Vec<f32> = choice.options.iter().map(|o| logprob(logits, o[0] as usize)).collect();
        let vocab = self.model.config().vocab_size;
        for (option, weight) in choice.options.iter().zip(&mut weights).filter(|(o, _)| o.len() > 1) {
            profile::tokens(Tokens::Read, option.len());
            let mut fork = cache.clone();
            let span = Span { cache: &mut fork, ids: &option[..option.len() - 1], wanted_from: 0 };
            let hidden = decode(&self.model, &mut [span], scratch)?;
            self.model.logits(hidden, logits);
            let rows = logits.chunks_exact(vocab).zip(&option[1..]);
            *weight += rows.map(|(row, &id)| logprob(row, id as usize)).sum::<f32>();
        }
        Ok(weights)
    }
}

impl Generate for Native {
    fn policy_hash(&self) -> &str {
        self.model.policy()
    }

    fn context_max(&self) -> usize {
        self.model.config().max_position_embeddings
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn generate(
        &self,
        requests: &[Request],
        stops: &Stops,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Completion>> {
        for (i, request) in requests.iter().enumerate() {
            let checked =
                self.check_ids(&request.context_ids).and_then(|()| sampler::check(&request.sampling));
            checked.with_context(|| format!("request {i} ({})", request.address))?;
        }
        let stops = StopTable::new(stops, self.model.config().vocab_size)?;
        let mut completions: Vec<Option<Completion>> =
            requests.iter().map(|r| self.nothing_to_draw(r)).collect();
        let indices: Vec<usize> = (0..requests.len()).filter(|&i| completions[i].is_none()).collect();
        let workers = rayon::current_num_threads().min(indices.len()).max(1);
        let slots_max = indices.len().div_ceil(workers);
        let job = Job {
            engine: self,
            requests,
            stops: &stops,
            on_tokens,
            queue: Queue::new(requests, &indices, slots_max),
            slots_max,
            tokens_max: self.batch_tokens / workers,
            failed: AtomicBool::new(false),
        };
        let run = |_| {
            let done = Worker::new(&job).run();
            job.failed.fetch_or(done.is_err(), Ordering::Relaxed);
            done
        };
        let done: Vec<_> = (0..workers).into_par_iter().with_max_len(1).map(run).collect();
        for worker in done {
            for (index, completion) in worker? {
                completions[index] = Some(completion);
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
        let buffers = <(Scratch, Vec<f32>)>::default;
        let groups = groups_to_read(requests);
        let read = groups
            .par_iter()
            .with_max_len(1)
            .map_init(buffers, |b, group| self.read_group(requests, group, b));
        let mut readings: Vec<Option<Reading>> = vec![None; requests.len()];
        for (index, reading) in read.collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            readings[index] = Some(reading);
        }
        let missing =
            |(i, r): (usize, Option<Reading>)| r.with_context(|| format!("read request {i} was lost"));
        readings.into_iter().enumerate().map(missing).collect()
    }

    fn option_logprobs(&self, choices: &[Choice]) -> Result<Vec<Vec<f32>>> {
        for (i, choice) in choices.iter().enumerate() {
            let ids = choice.options.iter().try_for_each(|option| self.check_ids(option));
            choice
                .check(self.context_max())
                .and_then(|()| self.check_ids(&choice.context_ids))
                .and(ids)
                .with_context(|| format!("choice {i}"))?;
        }
        let buffers = <(Scratch, Vec<f32>)>::default;
        choices.par_iter().map_init(buffers, |b, choice| self.option_logprobs_one(choice, b)).collect()
    }
}

/// The first row of which something is asked.
fn first_wanted(request: &ReadRequest) -> usize {
    let first = request.hidden_at.iter().chain([&request.from]).min();
    first.map_or(request.ids.len() - 1, |p| p - 1)
}

/// Most requests of a group, so that a large one is shared between threads.
const GROUP_MAX: usize = 16;

/// Requests that begin alike: how many tokens, of which nothing is asked, and which requests.
fn groups_to_read(requests: &[ReadRequest]) -> Vec<(usize, Vec<usize>)> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut open: HashMap<&[u32], usize> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let shared = &request.ids[..first_wanted(request)];
        match open.get(shared) {
            Some(&group) if groups[group].1.len() < GROUP_MAX => groups[group].1.push(index),
            _ => {
                open.insert(shared, groups.len());
                groups.push((shared.len(), vec![index]));
            }
        }
    }
    groups
}

/// One call of [`Generate::generate`], as its workers see it.
pub(super) struct Job<'a> {
    pub engine: &'a Native,
    pub requests: &'a [Request],
    pub stops: &'a StopTable<'a>,
    pub on_tokens: &'a (dyn Fn(usize) + Sync),
    pub queue: Queue,
    /// Most sequences that one worker decodes together: leaves the others their part.
    pub slots_max: usize,
    /// Tokens of keys and values that one worker's sequences may need.
    pub tokens_max: usize,
    /// Some worker met an error; the others may stop.
    pub failed: AtomicBool,
}

/// Groups of requests with the same context, the longest first; every worker takes the next one.
pub(super) struct Queue {
    groups: Vec<Vec<usize>>,
    next: AtomicUsize,
}

impl Queue {
    /// Groups have at most `members_max` members, so that one large group is shared between workers.
    fn new(requests: &[Request], indices: &[usize], members_max: usize) -> Self {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut open: HashMap<&[u32], usize> = HashMap::new();
        for &index in indices {
            let request = &requests[index];
            match open.get(request.context_ids.as_slice()) {
                Some(&group) if groups[group].len() < members_max => groups[group].push(index),
                _ => {
                    open.insert(&request.context_ids, groups.len());
                    groups.push(vec![index]);
                }
            }
        }
        let length =
            |&index: &usize| requests[index].context_ids.len().saturating_add(requests[index].tokens_max);
        groups.sort_by_key(|group| std::cmp::Reverse(group.iter().map(length).max()));
        Self { groups, next: AtomicUsize::new(0) }
    }

    /// Indices of requests that share their context.
    pub fn take(&self) -> Option<&[usize]> {
        self.groups.get(self.next.fetch_add(1, Ordering::Relaxed)).map(Vec::as_slice)
    }
}

/// Rounds a hidden state to f16, to nearest, ties to even.
pub(super) fn f16_bits(hidden: &[f32]) -> Vec<u16> {
    hidden.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect()
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
