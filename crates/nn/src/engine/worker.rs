//! One thread's decode loop: prefills, single tokens and drafts of many sequences in one forward pass, finished sequences
//! replaced at once.
//!
//! A group of requests with one context is prefilled once; its members fork the pages and draw their first tokens
//! from the same logits. Members wait for a free slot, so at most one group per worker is admitted in part.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::draft;
use super::native::{Job, f16_bits};
use super::sampler::Sampler;
use crate::domain::{Boundary, Completion, FinishReason, Request};
use crate::model::cache::KvCache;
use crate::model::{Packed, Scratch, Span, decode};
use crate::ops::kernels::{KV_BLOCK, KvPrecision, logprob};
use crate::profile::{self, Operator, Tokens};

/// How many sequences one thread decodes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Most of them.
    slots_max: usize,
    /// Most rows of one forward pass, more than slots; what decoding leaves is filled with prefill.
    rows_max: usize,
    /// Rows of one forward pass over given tokens.
    pub read_max: usize,
}

impl Batch {
    /// Weights that no cache holds are read from memory in every pass, so more rows have to share that. Where a cache holds
    /// them, it should hold the sequences' keys and values, too: a dozen of the embedded model's in f32, measured with
    /// AVX2, which fill a tile of rows; more in bf16, whose tiles have 16 rows.
    pub fn of(model: &Packed) -> Self {
        const CACHED_BYTES: usize = 32 << 20;
        match (model.bytes(), model.kv()) {
            (0..=CACHED_BYTES, KvPrecision::F32) => Self { slots_max: 12, rows_max: 64, read_max: 64 },
            (0..=CACHED_BYTES, KvPrecision::Bf16) => Self { slots_max: 32, rows_max: 64, read_max: 64 },
            _ => Self { slots_max: 128, rows_max: 192, read_max: 128 },
        }
    }
}

/// See the module.
pub(super) struct Worker<'a> {
    ledger: Ledger<'a>,
    slots: Vec<Slot<'a>>,
    prefills: Vec<Prefill<'a>>,
    group: Group<'a>,
    scratch: Scratch,
    logits: Vec<f32>,
}

/// A sequence being drawn.
struct Slot<'a> {
    index: usize,
    request: &'a Request,
    cache: KvCache,
    stream: ChaCha8Rng,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    boundaries: Vec<Boundary>,
    /// The last drawn bytes, where a stop string may have begun.
    tail: Vec<u8>,
    /// What the next pass reads: the last drawn token, which the cache hasn't read yet, and a draft of what follows.
    unread: Vec<u32>,
    trust: draft::Trust,
}

/// A context being read for the members of a group that have been admitted.
struct Prefill<'a> {
    context: &'a [u32],
    cache: KvCache,
    members: Vec<usize>,
    /// Its pages are worth remembering, because a search goes on from them.
    is_searched: bool,
}

/// Where a context has been read to its end: what every member of its group begins with.
struct ContextEnd {
    cache: KvCache,
    /// Final-norm hidden state, (hidden)
    hidden: Vec<f32>,
    /// (vocab)
    logits: Vec<f32>,
}

/// The group whose members are being admitted.
struct Group<'a> {
    waiting: &'a [usize],
    context: GroupContext,
}

/// How far the group's context has been read.
enum GroupContext {
    Unread,
    /// By the last of [`Worker::prefills`].
    Reading,
    Read(ContextEnd),
}

impl<'a> Worker<'a> {
    pub fn new(job: &'a Job<'a>) -> Self {
        Self {
            ledger: Ledger { job, sampler: Sampler::default(), admitted: 0, reserved: 0, done: Vec::new() },
            slots: Vec::new(),
            prefills: Vec::new(),
            group: Group { waiting: &[], context: GroupContext::Unread },
            scratch: Scratch::default(),
            logits: Vec::new(),
        }
    }

    /// Decodes until the queue is empty; gives (index of request, completion) in no particular order.
    pub fn run(mut self) -> Result<Vec<(usize, Completion)>> {
        while !self.ledger.job.failed.load(Ordering::Relaxed) {
            self.admit()?;
            if self.ledger.admitted == 0 {
                break;
            }
            self.step()?;
        }
        Ok(self.ledger.done)
    }

    /// Gives slots to waiting requests while there is room.
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
                let finish = self.ledger.draw(&mut slot, &end.hidden, &end.logits)?;
                self.ledger.keep_or_retire(slot, finish, &mut self.slots);
                (job.on_tokens)(1);
            } else if let Some(prefill) = self.prefills.last_mut() {
                prefill.members.push(index);
            }
        }
        Ok(())
    }

    /// One forward pass: at least a token from every slot, and as much prefill as fits beside them.
    fn step(&mut self) -> Result<()> {
        let model = &self.ledger.job.engine.model;
        let (width, vocab) = (model.config().hidden_size, model.config().vocab_size);
        // Beside contexts that are read, rows are not to be had for nothing.
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
        let mut drawn = 0;
        let reading = matches!(self.group.context, GroupContext::Reading);
        for mut slot in std::mem::take(&mut self.slots) {
            let before = slot.token_ids.len();
            let finish = self.ledger.draw_drafted(&mut slot, &mut rows)?;
            drawn += slot.token_ids.len() - before;
            self.ledger.keep_or_retire(slot, finish, &mut self.slots);
        }
        for (hidden, logits) in rows {
            let prefill = self.prefills.remove(0);
            drawn += prefill.members.len();
            let end = prefill.end(&mut self.ledger, hidden, logits, &mut self.slots)?;
            if reading && self.prefills.is_empty() && !self.group.waiting.is_empty() {
                self.group.context = GroupContext::Read(end);
            }
        }
        (self.ledger.job.on_tokens)(drawn);
        Ok(())
    }
}

impl<'a> Slot<'a> {
    fn new(job: &'a Job<'a>, index: usize, cache: KvCache) -> Self {
        let request = &job.requests[index];
        Self {
            index,
            request,
            cache,
            stream: request.address.stream(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            boundaries: Vec::new(),
            tail: Vec::new(),
            unread: Vec::new(),
            trust: draft::Trust::new(),
        }
    }

    /// The last drawn token and a draft of at most so many behind it.
    fn span(&mut self, drafted: usize, context_max: usize) -> Span<'_> {
        self.unread.clear();
        self.unread.extend(self.token_ids.last());
        // A draft ends where the drawing does, at the latest.
        let tokens_max = self.request.tokens_max.min(context_max - self.request.context_ids.len());
        let left = tokens_max.saturating_sub(self.token_ids.len() + 1);
        let most = self.trust.most(drafted).min(left);
        draft::draft(&self.request.context_ids, &self.token_ids, most, &mut self.unread);
        Span { cache: &mut self.cache, ids: &self.unread, wanted_from: 0 }
    }
}

impl<'a> Prefill<'a> {
    /// Begins reading the context of a group, beyond what is remembered of it.
    fn new(job: &'a Job<'a>, group: &[usize]) -> Self {
        let context = job.requests[group[0]].context_ids.as_slice();
        let is_searched = group.iter().any(|&index| job.requests[index].stop_at_boundary);
        // At least the last token is read again: its hidden state isn't remembered.
        let before_last = &context[..context.len() - 1];
        let known = if is_searched { job.engine.prefixes().find(before_last) } else { Vec::new() };
        let cache = KvCache::from_full_pages(&job.engine.pool, known);
        Self { context, cache, members: Vec::new(), is_searched }
    }

    /// The next tokens to read, at most `room`; the hidden state of the last one of all is wanted.
    fn span(&mut self, room: usize) -> Span<'_> {
        let unread = &self.context[self.cache.len()..];
        let n = unread.len().min(room);
        let wanted_from = if n == unread.len() { n - 1 } else { n };
        Span { cache: &mut self.cache, ids: &unread[..n], wanted_from }
    }

    /// Turns the admitted members into slots with their first token drawn.
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
            let finish = ledger.draw(&mut slot, hidden, logits)?;
            ledger.keep_or_retire(slot, finish, slots);
        }
        Ok(ContextEnd { cache: self.cache, hidden: hidden.to_vec(), logits: logits.to_vec() })
    }
}

/// What is admitted and what is done.
struct Ledger<'a> {
    job: &'a Job<'a>,
    sampler: Sampler,
    admitted: usize,
    /// Tokens of keys and values that the admitted requests may need.
    reserved: usize,
    done: Vec<(usize, Completion)>,
}

impl<'a> Ledger<'a> {
    /// Tokens of keys and values that a request may need, in whole pages.
    fn need(&self, index: usize) -> usize {
        let request = &self.job.requests[index];
        let len = request.context_ids.len().saturating_add(request.tokens_max);
        len.min(self.job.engine.model.config().max_position_embeddings).next_multiple_of(KV_BLOCK)
    }

    /// Admits a request if there is room; alone, whatever it needs.
    fn reserve(&mut self, index: usize) -> bool {
        let need = self.need(index);
        let fits = self.admitted == 0 || self.reserved + need <= self.job.tokens_max;
        if fits {
            self.admitted += 1;
            self.reserved += need;
        }
        fits
    }

    /// Draws a slot's next token from the row that predicts it.
    fn draw(&mut self, slot: &mut Slot, hidden: &[f32], logits: &[f32]) -> Result<Option<FinishReason>> {
        let request = slot.request;
        let word = slot.stream.next_u32();
        let span = profile::span(Operator::Sampling);
        let token = self.sampler.draw(logits, &request.sampling, word);
        drop(span);
        let span = profile::span(Operator::LogSoftmax);
        let logprob = logprob(logits, token);
        drop(span);
        profile::tokens(Tokens::Drawn, 1);
        ensure!(
            logprob.is_finite(),
            "the policy gives no finite log-probability for token {} of request {} ({}); its weights are damaged",
            slot.token_ids.len(),
            slot.index,
            request.address
        );
        let id = token as u32;
        slot.token_ids.push(id);
        slot.logprobs.push(logprob);
        let drawn = slot.token_ids.len();
        let context_max = self.job.engine.model.config().max_position_embeddings;
        let finish = self.job.stops.finish(request, id, drawn, context_max, &mut slot.tail);
        if finish.is_some() || self.job.stops.is_boundary(id) {
            slot.boundaries.push(Boundary { end: drawn, hidden_f16: f16_bits(hidden) });
        }
        Ok(finish)
    }

    /// Draws from the rows of what a slot read, as long as its draft comes true, and forgets the rest of it.
    fn draw_drafted<'r>(
        &mut self,
        slot: &mut Slot,
        rows: &mut impl Iterator<Item = (&'r [f32], &'r [f32])>,
    ) -> Result<Option<FinishReason>> {
        let unread = std::mem::take(&mut slot.unread);
        let read_before = slot.cache.len() - unread.len();
        let (mut finish, mut of_use) = (None, 0);
        for (i, (hidden, logits)) in rows.take(unread.len()).enumerate() {
            // The row's token must be the one that was drawn.
            if finish.is_none() && i == of_use && slot.token_ids.last() == Some(&unread[i]) {
                finish = self.draw(slot, hidden, logits)?;
                of_use += 1;
            }
        }
        slot.cache.truncate(read_before + of_use);
        slot.trust.learn(unread.len() - 1, of_use - 1);
        slot.unread = unread;
        Ok(finish)
    }

    fn keep_or_retire(&mut self, slot: Slot<'a>, finish: Option<FinishReason>, slots: &mut Vec<Slot<'a>>) {
        let Some(finish) = finish else { return slots.push(slot) };
        self.admitted -= 1;
        self.reserved -= self.need(slot.index);
        if slot.request.stop_at_boundary {
            let ids = slot.request.context_ids.iter().chain(&slot.token_ids).copied();
            self.job.engine.prefixes().insert(ids, slot.cache.full_pages());
        }
        let Slot { token_ids, logprobs, boundaries, .. } = slot;
        self.done.push((slot.index, Completion { token_ids, logprobs, finish, boundaries }));
    }
}
