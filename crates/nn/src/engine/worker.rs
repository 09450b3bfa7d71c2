//! One thread's decode loop: prefills, single tokens and drafts of many sequences in one forward
//! pass. A finished sequence is replaced at once.
//!
//! A group of requests with one context is prefilled once. Its members fork the pages and sample
//! their first tokens from the same logits. Members wait for a free slot, so at most one group per
//! worker is admitted in part.

use std::sync::atomic::Ordering;

use anyhow::Result;

use super::draft;
use super::native::Job;
use super::sampler::Sampler;
use super::sequence::Sequence;
use crate::domain::Completion;
use crate::model::cache::KvCache;
use crate::model::{Packed, Scratch, Span, decode};
use crate::ops::kernels::{KV_BLOCK, KvPrecision};
use crate::profile::{self, Tokens};

/// How many sequences one thread decodes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Most sequences.
    slots_max: usize,
    /// Most rows of one forward pass, more than `slots_max`. Prefill fills the rows that decoding
    /// leaves.
    rows_max: usize,
    /// Most rows of one forward pass over given tokens.
    pub read_max: usize,
}

impl Batch {
    /// Weights that don't fit in the processor's cache are read from memory in every pass; more
    /// rows share that cost. Small models fit, and then the keys and values of their sequences
    /// should fit too. For the embedded model in f32, 12 sequences do (measured with AVX2); they
    /// also fill a tile of rows. In bf16 there are more, and tiles have 16 rows.
    pub(super) fn of(model: &Packed) -> Self {
        const CACHED_BYTES: usize = 32 << 20;
        match (model.bytes(), model.kv()) {
            (0..=CACHED_BYTES, KvPrecision::F32) => Self { slots_max: 12, rows_max: 64, read_max: 64 },
            (0..=CACHED_BYTES, KvPrecision::Bf16) => Self { slots_max: 32, rows_max: 64, read_max: 64 },
            _ => Self { slots_max: 128, rows_max: 192, read_max: 128 },
        }
    }
}

/// One thread's decode loop.
pub(super) struct Worker<'a> {
    ledger: Ledger<'a>,
    slots: Vec<Slot<'a>>,
    prefills: Vec<Prefill<'a>>,
    group: Group<'a>,
    scratch: Scratch,
    logits: Vec<f32>,
}

/// A sequence that is being decoded.
struct Slot<'a> {
    sequence: Sequence<'a>,
    cache: KvCache,
    /// What the next pass reads: the last sampled token, which the cache does not hold yet, and a
    /// draft of the tokens after it.
    unread: Vec<u32>,
    acceptance: draft::AcceptanceRate,
}

/// A context that is read for the admitted members of a group.
struct Prefill<'a> {
    context: &'a [u32],
    cache: KvCache,
    members: Vec<usize>,
    /// Whether a search continues from its pages, which makes them worth remembering.
    is_searched: bool,
}

/// A context that was read to its end: what every member of its group begins with.
struct ContextEnd {
    cache: KvCache,
    /// Final-norm hidden state, (hidden)
    hidden: Vec<f32>,
    /// (vocab)
    logits: Vec<f32>,
}

/// The group whose members are admitted next.
struct Group<'a> {
    waiting: &'a [usize],
    context: GroupContext,
}

/// How far the group's context was read.
enum GroupContext {
    Unread,
    /// By the last of [`Worker::prefills`].
    Reading,
    Read(ContextEnd),
}

impl<'a> Worker<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
        Self {
            ledger: Ledger { job, sampler: Sampler::default(), admitted: 0, reserved: 0, done: Vec::new() },
            slots: Vec::new(),
            prefills: Vec::new(),
            group: Group { waiting: &[], context: GroupContext::Unread },
            scratch: Scratch::default(),
            logits: Vec::new(),
        }
    }

    /// Decodes until the queue is empty; returns (index of request, completion) in any order.
    pub(super) fn run(mut self) -> Result<Vec<(usize, Completion)>> {
        while !self.ledger.job.failed.load(Ordering::Relaxed) {
            self.admit()?;
            if self.ledger.admitted == 0 {
                break;
            }
            self.step()?;
        }
        Ok(self.ledger.done)
    }

    /// Admits waiting requests while there is room.
    fn admit(&mut self) -> Result<()> {
        let job = self.ledger.job;
        while self.ledger.admitted < job.slots_max.min(job.engine.batch.slots_max) {
            if self.group.waiting.is_empty() {
                let Some(waiting) = job.queue.take() else { break };
                self.group = Group { waiting, context: GroupContext::Unread };
            }
            let Some((&index, rest)) = self.group.waiting.split_first() else { break };
            if !self.ledger.reserve(index) {
                break;
            }
            if let GroupContext::Unread = self.group.context {
                self.prefills.push(Prefill::new(job, self.group.waiting));
                self.group.context = GroupContext::Reading;
            }
            self.group.waiting = rest;
            if let GroupContext::Read(end) = &self.group.context {
                let mut slot = Slot::new(job, index, end.cache.clone());
                self.ledger.sample(&mut slot, &end.hidden, &end.logits)?;
                self.ledger.keep_or_retire(slot, &mut self.slots);
                (job.on_tokens)(1);
            } else if let Some(prefill) = self.prefills.last_mut() {
                prefill.members.push(index);
            }
        }
        Ok(())
    }

    /// One forward pass: at least a token of every slot, and as much prefill as fits in the other
    /// rows.
    fn step(&mut self) -> Result<()> {
        let model = &self.ledger.job.engine.model;
        let (width, vocab) = (model.config().hidden_size, model.config().vocab_size);
        // While contexts are read, every row is needed for prefill, so nothing is drafted.
        let sequences = if self.prefills.is_empty() { self.slots.len() } else { usize::MAX };
        let drafted = draft::room(self.ledger.job.engine.drafted_rows, sequences);
        let mut spans: Vec<Span> = Vec::with_capacity(self.slots.len() + 1);
        let context_max = model.config().max_position_embeddings;
        spans.extend(self.slots.iter_mut().map(|slot| slot.span(drafted, context_max)));
        let mut room = self.ledger.job.engine.batch.rows_max - spans.len();
        for prefill in &mut self.prefills {
            if room == 0 {
                break;
            }
            let span = prefill.span(room);
            room -= span.ids.len();
            profile::tokens(Tokens::Prompted, span.ids.len());
            spans.push(span);
        }
        let hidden = decode(model, &mut spans, &mut self.scratch)?;
        model.logits(hidden, &mut self.logits);
        let mut rows = hidden.chunks_exact(width).zip(self.logits.chunks_exact(vocab));
        let mut sampled = 0;
        let reading = matches!(self.group.context, GroupContext::Reading);
        for mut slot in std::mem::take(&mut self.slots) {
            let before = slot.sequence.token_ids.len();
            self.ledger.sample_drafted(&mut slot, &mut rows)?;
            sampled += slot.sequence.token_ids.len() - before;
            self.ledger.keep_or_retire(slot, &mut self.slots);
        }
        for (hidden, logits) in rows {
            let prefill = self.prefills.remove(0);
            sampled += prefill.members.len();
            let end = prefill.end(&mut self.ledger, hidden, logits, &mut self.slots)?;
            if reading && self.prefills.is_empty() && !self.group.waiting.is_empty() {
                self.group.context = GroupContext::Read(end);
            }
        }
        (self.ledger.job.on_tokens)(sampled);
        Ok(())
    }
}

impl<'a> Slot<'a> {
    fn new(job: &'a Job<'a>, index: usize, cache: KvCache) -> Self {
        Self {
            sequence: Sequence::new(index, &job.requests[index]),
            cache,
            unread: Vec::new(),
            acceptance: draft::AcceptanceRate::new(),
        }
    }

    /// The last sampled token and a draft of at most `drafted` tokens after it.
    fn span(&mut self, drafted: usize, context_max: usize) -> Span<'_> {
        let Sequence { request, token_ids, .. } = &self.sequence;
        self.unread.clear();
        self.unread.extend(token_ids.last());
        // A draft ends where the completion must end, at the latest.
        let tokens_max = request.tokens_max.min(context_max - request.context_ids.len());
        let left = tokens_max.saturating_sub(token_ids.len() + 1);
        let most = self.acceptance.most(drafted).min(left);
        draft::draft(&request.context_ids, token_ids, most, &mut self.unread);
        Span { cache: &mut self.cache, ids: &self.unread, wanted_from: 0 }
    }
}

impl<'a> Prefill<'a> {
    /// Begins to read the context of a group, after the prefix that is remembered.
    fn new(job: &'a Job<'a>, group: &[usize]) -> Self {
        let context = job.requests[group[0]].context_ids.as_slice();
        let is_searched = group.iter().any(|&index| job.requests[index].stop_at_boundary);
        // The last token is always read, because hidden states are not remembered.
        let before_last = &context[..context.len() - 1];
        let known = if is_searched { job.engine.prefixes().find(before_last) } else { Vec::new() };
        let cache = KvCache::from_full_pages(&job.engine.pool, known);
        Self { context, cache, members: Vec::new(), is_searched }
    }

    /// The next tokens to read, at most `room`. The hidden state of the context's last token is
    /// wanted.
    fn span(&mut self, room: usize) -> Span<'_> {
        let unread = &self.context[self.cache.len()..];
        let n = unread.len().min(room);
        let wanted_from = if n == unread.len() { n - 1 } else { n };
        Span { cache: &mut self.cache, ids: &unread[..n], wanted_from }
    }

    /// Turns the admitted members into slots and samples their first tokens.
    fn end(
        self,
        ledger: &mut Ledger<'a>,
        hidden: &[f32],
        logits: &[f32],
        slots: &mut Vec<Slot<'a>>,
    ) -> Result<ContextEnd> {
        if self.is_searched {
            let ids = self.context.iter().copied();
            ledger.job.engine.prefixes().insert(ids, self.cache.full_pages());
        }
        for &index in &self.members {
            let mut slot = Slot::new(ledger.job, index, self.cache.clone());
            ledger.sample(&mut slot, hidden, logits)?;
            ledger.keep_or_retire(slot, slots);
        }
        Ok(ContextEnd { cache: self.cache, hidden: hidden.to_vec(), logits: logits.to_vec() })
    }
}

/// What is admitted and what is done.
struct Ledger<'a> {
    job: &'a Job<'a>,
    sampler: Sampler,
    admitted: usize,
    /// Most tokens of keys and values that the admitted requests need.
    reserved: usize,
    done: Vec<(usize, Completion)>,
}

impl<'a> Ledger<'a> {
    /// Most tokens of keys and values that a request needs, in whole pages.
    fn need(&self, index: usize) -> usize {
        let request = &self.job.requests[index];
        let len = request.context_ids.len().saturating_add(request.tokens_max);
        len.min(self.job.engine.model.config().max_position_embeddings).next_multiple_of(KV_BLOCK)
    }

    /// Admits a request if there is room. The only request is always admitted.
    fn reserve(&mut self, index: usize) -> bool {
        let need = self.need(index);
        let fits = self.admitted == 0 || self.reserved + need <= self.job.tokens_max;
        if fits {
            self.admitted += 1;
            self.reserved += need;
        }
        fits
    }

    /// Samples a slot's next token from the row that predicts it.
    fn sample(&mut self, slot: &mut Slot, hidden: &[f32], logits: &[f32]) -> Result<()> {
        let context_max = self.job.engine.model.config().max_position_embeddings;
        slot.sequence.sample(&mut self.sampler, logits, hidden, self.job.stops, context_max)
    }

    /// Samples from the rows that a slot read, as long as the sampled tokens are the drafted ones.
    /// Drops the rest of the rows.
    fn sample_drafted<'r>(
        &mut self,
        slot: &mut Slot,
        rows: &mut impl Iterator<Item = (&'r [f32], &'r [f32])>,
    ) -> Result<()> {
        let unread = std::mem::take(&mut slot.unread);
        let read_before = slot.cache.len() - unread.len();
        let mut used = 0;
        for (i, (hidden, logits)) in rows.take(unread.len()).enumerate() {
            // The row's token must be the one that was sampled.
            let follows = i == used && slot.sequence.token_ids.last() == Some(&unread[i]);
            if slot.sequence.finish.is_none() && follows {
                self.sample(slot, hidden, logits)?;
                used += 1;
            }
        }
        slot.cache.truncate(read_before + used);
        slot.acceptance.learn(unread.len() - 1, used - 1);
        slot.unread = unread;
        Ok(())
    }

    fn keep_or_retire(&mut self, slot: Slot<'a>, slots: &mut Vec<Slot<'a>>) {
        let Some(finish) = slot.sequence.finish else { return slots.push(slot) };
        let Slot { sequence, cache, .. } = slot;
        self.admitted -= 1;
        self.reserved -= self.need(sequence.index);
        if sequence.request.stop_at_boundary {
            let ids = sequence.request.context_ids.iter().chain(&sequence.token_ids).copied();
            self.job.engine.prefixes().insert(ids, cache.full_pages());
        }
        self.done.push(sequence.into_completion(finish));
    }
}
