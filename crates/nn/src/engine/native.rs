//! The engine on this machine's cores: it decodes many sequences together, with the trainer's
//! kernels.
//!
//! It is data-parallel. Every rayon thread runs its own decode loop (`worker`) over one queue of
//! requests, the longest first. Requests with the same context share its prefill; readings share
//! the tokens they begin with. Every row of the forward pass depends only on its own sequence. So a
//! completion is a pure function of (policy, context, sampling, address): threads, batch and
//! remembered prefixes can't change a bit of it.
//!
//! Weights are read in the precision they are stored in. Where few sequences are left, drafts fill
//! the pass (`draft`). Left out: splitting one forward pass over threads. A single request runs on
//! one core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::prefix::PrefixCache;
use super::requests::{check_choices, check_ids, check_reads, complete_all, in_order};
use super::sequence::f16_bits;
use super::stopping::StopTable;
use super::worker::{Batch, Worker};
use crate::domain::{Capabilities, Choice, Completion, Generate, ReadRequest, Reading, Request, Stops};
use crate::model::cache::{KvCache, PagePool};
use crate::model::{Packed, Scratch, Span, decode};
use crate::ops::kernels::logprob;
use crate::profile::{self, Operator, Tokens};

/// A pass over the weights with this many rows takes hardly longer than one with a single row.
const DRAFTED_ROWS: usize = 8;

/// A policy in memory, ready to generate.
#[derive(Debug)]
pub struct Native {
    pub(super) model: Packed,
    pub(super) pool: Arc<PagePool>,
    batch_tokens: usize,
    pub(super) batch: Batch,
    /// Rows of a pass that cost hardly more than one row. Sequences come first; drafts get the
    /// rest.
    pub(super) drafted_rows: usize,
    prefixes: Mutex<PrefixCache>,
}

impl Native {
    /// An engine of a policy. Sequences that are decoded together hold at most `batch_tokens`
    /// tokens of keys and values, over all threads. A request that needs more than its thread's
    /// share is the only one on its thread. The same number of tokens may be remembered for later
    /// calls.
    ///
    /// # Errors
    /// `batch_tokens` is 0.
    pub fn new(model: Packed, batch_tokens: usize) -> Result<Self> {
        ensure!(batch_tokens > 0, "batch_tokens is 0; at least one token must fit");
        let pool = model.page_pool();
        let (batch, prefixes) = (Batch::of(&model), Mutex::new(PrefixCache::new(batch_tokens)));
        // In a mixture of experts each row reads other weights, so further rows are not cheap.
        let drafted_rows = if model.config().experts.is_some() { 0 } else { DRAFTED_ROWS };
        Ok(Self { pool, batch_tokens, batch, drafted_rows, prefixes, model })
    }

    /// The same engine, with drafts in passes of at most `rows` rows; 0 drafts nothing. Only the
    /// time changes.
    #[cfg(test)]
    fn drafting(self, rows: usize) -> Self {
        Self { drafted_rows: rows, ..self }
    }

    /// The same engine, which remembers prefixes of at most `tokens` tokens between calls; 0
    /// remembers nothing.
    pub fn remembering(self, tokens: usize) -> Self {
        Self { prefixes: Mutex::new(PrefixCache::new(tokens)), ..self }
    }

    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        // After a panic in another thread the cache is still exact: entries are whole or absent.
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        check_ids(ids, self.model.config().vocab_size, self.context_max())
    }

    /// Decodes the requests with these indices; returns (index, completion) in any order.
    fn complete(
        &self,
        requests: &[Request],
        indices: &[usize],
        stops: &StopTable,
        on_tokens: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<(usize, Completion)>> {
        let workers = rayon::current_num_threads().min(indices.len()).max(1);
        let slots_max = indices.len().div_ceil(workers);
        let job = Job {
            engine: self,
            requests,
            stops,
            on_tokens,
            queue: Queue::new(requests, indices, slots_max),
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
        Ok(done.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Reads requests that begin with the same `shared` tokens, of which no row is wanted; returns
    /// (index, reading).
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

    /// Reads the tokens that `cache` has not read yet.
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
        // Row `r` predicts `ids[r + 1]`. What the last token predicts is not wanted.
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

    /// Reads the context once. Options longer than a token continue from a fork of its pages.
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
        let mut sums: Vec<f32> = choice.options.iter().map(|o| logprob(logits, o[0] as usize)).collect();
        let vocab = self.model.config().vocab_size;
        for (option, sum) in choice.options.iter().zip(&mut sums).filter(|(o, _)| o.len() > 1) {
            profile::tokens(Tokens::Read, option.len());
            let mut fork = cache.clone();
            let span = Span { cache: &mut fork, ids: &option[..option.len() - 1], wanted_from: 0 };
            let hidden = decode(&self.model, &mut [span], scratch)?;
            self.model.logits(hidden, logits);
            let rows = logits.chunks_exact(vocab).zip(&option[1..]);
            *sum += rows.map(|(row, &id)| logprob(row, id as usize)).sum::<f32>();
        }
        Ok(sums)
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
        let stops = StopTable::new(stops, self.model.config().vocab_size)?;
        let complete = |indices: &[usize]| self.complete(requests, indices, &stops, on_tokens);
        complete_all(requests, self.context_max(), |ids| self.check_ids(ids), complete)
    }

    fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
        check_reads(requests, |ids| self.check_ids(ids))?;
        let buffers = <(Scratch, Vec<f32>)>::default;
        let groups = groups_to_read(requests);
        let read = groups
            .par_iter()
            .with_max_len(1)
            .map_init(buffers, |b, group| self.read_group(requests, group, b));
        let readings = read.collect::<Result<Vec<_>>>()?.into_iter().flatten();
        in_order(requests.len(), "read request", readings)
    }

    fn option_logprobs(&self, choices: &[Choice]) -> Result<Vec<Vec<f32>>> {
        check_choices(choices, self.context_max(), |ids| self.check_ids(ids))?;
        let buffers = <(Scratch, Vec<f32>)>::default;
        choices.par_iter().map_init(buffers, |b, choice| self.option_logprobs_one(choice, b)).collect()
    }
}

/// The first row whose hidden state or logits are wanted.
fn first_wanted(request: &ReadRequest) -> usize {
    let first = request.hidden_at.iter().chain([&request.from]).min();
    first.map_or(request.ids.len() - 1, |p| p - 1)
}

/// Most requests of a group. The limit lets several threads share a large group.
const GROUP_MAX: usize = 16;

/// Requests with the same prefix: the number of its tokens, of which no row is wanted, and the
/// indices of the requests.
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
    /// Most sequences that one worker decodes together, so that the others get their part.
    pub slots_max: usize,
    /// Tokens of keys and values that one worker's sequences may need.
    pub tokens_max: usize,
    /// Whether a worker met an error; the others then stop.
    pub failed: AtomicBool,
}

/// Groups of requests with the same context, the longest first. Every worker takes the next group.
pub(super) struct Queue {
    groups: Vec<Vec<usize>>,
    next: AtomicUsize,
}

impl Queue {
    /// Groups have at most `members_max` members, so that workers share one large group.
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

    /// Indices of requests with the same context; `None` when all groups are taken.
    pub(super) fn take(&self) -> Option<&[usize]> {
        self.groups.get(self.next.fetch_add(1, Ordering::Relaxed)).map(Vec::as_slice)
    }
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
