//! The cached forward pass over a ragged batch: any number of new tokens of each of any number of
//! sequences.
//!
//! Prefill chunks and single decode tokens mix freely. Every row (one new token of one sequence) is
//! computed only from that sequence, by the same kernels as the training forward. So neither the
//! batch nor the size of chunks changes a bit of it. In the last layer every row gets its key and
//! value; only rows whose hidden state is wanted go further.
//!
//! It knows nothing about sampling, requests or text. It is single-threaded: callers use one
//! [`Scratch`] per thread.

use anyhow::{Result, bail, ensure};

use super::Packed;
use super::cache::{Held, KvCache};
use super::packed::{PackedDense, PackedLayer, PackedMlp, PackedNorm};
use crate::ops::kernels::{
    AlignedVec, KV_BLOCK, KvPrecision, PackedWeight, Routing, RowReads, add, add_weighted, attend_rows,
    linear, rows_of_experts, scale, write_kv,
};
use crate::profile::{self, Operator, Work};

/// New tokens of one sequence.
#[derive(Debug)]
pub struct Span<'a> {
    /// The sequence so far; grows by `ids`.
    pub cache: &'a mut KvCache,
    /// Token ids at positions `cache.len()..`; at least one.
    pub ids: &'a [u32],
    /// Hidden states are wanted of `ids[wanted_from..]`; `ids.len()` wants none.
    pub wanted_from: usize,
}

/// Buffers of a forward pass, kept between calls so that a step allocates almost nothing. Each is
/// at least as long as its shape needs.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Residual stream, (rows, hidden)
    x: AlignedVec,
    /// (rows, hidden)
    normed: AlignedVec,
    /// Queries or keys before their norm.
    raw: AlignedVec,
    /// (rows, query_size)
    q: AlignedVec,
    /// (rows, kv_size)
    k: AlignedVec,
    v: AlignedVec,
    /// (rows, query_size)
    attended: AlignedVec,
    mlp: MlpScratch,
    /// The output of a block, added to the residual stream, (rows, hidden)
    added: AlignedVec,
    /// Position of each row within its sequence.
    positions: Vec<usize>,
    /// One past the last row of each span.
    row_ends: Vec<usize>,
}

/// Buffers of a feed-forward.
#[derive(Debug, Default)]
struct MlpScratch {
    /// (rows, intermediate)
    gate: AlignedVec,
    up: AlignedVec,
    activated: AlignedVec,
    /// Logits and weights of experts, (rows, experts)
    routed: AlignedVec,
    weights: AlignedVec,
    /// Input and output of one expert, (its rows, hidden)
    input: AlignedVec,
    output: AlignedVec,
}

/// Reads every span's new tokens into its cache and returns the final-norm hidden states of the
/// wanted rows, (wanted, hidden), in the order of the spans.
pub fn decode<'s>(model: &Packed, spans: &mut [Span], scratch: &'s mut Scratch) -> Result<&'s [f32]> {
    check(model, spans)?;
    scratch.embed(model, spans);
    let last = model.layers.len() - 1;
    for (index, layer) in model.layers.iter().enumerate() {
        scratch.write_keys_and_values(model, index, layer, spans);
        if index == last {
            scratch.keep_wanted(model, spans);
            if scratch.positions.is_empty() {
                break;
            }
        }
        scratch.attend(model, index, layer, spans);
        scratch.feed_forward(model, layer);
    }
    for span in spans {
        span.cache.advance(span.ids.len());
    }
    let len = scratch.positions.len() * model.config.hidden_size;
    let hidden = sized(&mut scratch.normed, len);
    model.norm.run(&scratch.x[..len], hidden);
    Ok(hidden)
}

fn check(model: &Packed, spans: &[Span]) -> Result<()> {
    let (vocab, positions_max) = (model.config.vocab_size, model.config.max_position_embeddings);
    for span in spans {
        if let Some(id) = span.ids.iter().find(|&&id| id as usize >= vocab) {
            bail!("token id {id} is outside the model's vocabulary of {vocab} tokens");
        }
        let end = span.cache.len() + span.ids.len();
        ensure!(!span.ids.is_empty(), "a span of a forward pass is empty");
        ensure!(
            end <= positions_max,
            "a sequence of {end} tokens exceeds the model's {positions_max} positions"
        );
        ensure!(
            span.cache.policy() == model.policy(),
            "a cache of policy {} can't be read under policy {}",
            span.cache.policy(),
            model.policy()
        );
        ensure!(
            span.cache.precision() == model.kv(),
            "a cache of {:?} can't be read by a model that keeps {:?}",
            span.cache.precision(),
            model.kv()
        );
    }
    Ok(())
}

impl Scratch {
    /// Looks up the tokens' embeddings and lays out the rows.
    fn embed(&mut self, model: &Packed, spans: &mut [Span]) {
        let _span = profile::span(Operator::Embedding);
        let d = model.config.hidden_size;
        let rows: usize = spans.iter().map(|span| span.ids.len()).sum();
        self.positions.clear();
        self.row_ends.clear();
        let mut x = sized(&mut self.x, rows * d).chunks_exact_mut(d);
        for span in spans {
            for ((i, &id), row) in span.ids.iter().enumerate().zip(&mut x) {
                model.embedding.row(id as usize, row);
                if let Some(factor) = model.embedding_scale {
                    scale(row, factor);
                }
                self.positions.push(span.cache.len() + i);
            }
            self.row_ends.push(self.positions.len());
            span.cache.reserve(span.ids.len());
        }
    }

    /// Norms every row and writes its key and value into its sequence's pages.
    fn write_keys_and_values(
        &mut self,
        model: &Packed,
        index: usize,
        layer: &PackedLayer,
        spans: &mut [Span],
    ) {
        let (rows, d, width) = (self.positions.len(), model.config.hidden_size, model.config.kv_size());
        let normed = sized(&mut self.normed, rows * d);
        norm_or_copy(layer.attention_in.as_ref(), &self.x[..rows * d], normed);
        let (keys, values) = (sized(&mut self.k, rows * width), sized(&mut self.v, rows * width));
        match &layer.k_norm {
            None => layer.k_proj.run(normed, rows, keys),
            Some(norm) => {
                let raw = sized(&mut self.raw, rows * width);
                layer.k_proj.run(normed, rows, raw);
                norm.run(raw, keys);
            }
        }
        layer.v_proj.run(normed, rows, values);
        turn(layer, keys, &self.positions);
        match layer.shape.kv {
            KvPrecision::F32 => self.keep_keys_and_values::<f32>(index, layer, width, spans),
            KvPrecision::Bf16 => self.keep_keys_and_values::<u16>(index, layer, width, spans),
        }
    }

    fn keep_keys_and_values<N: Held>(
        &self,
        index: usize,
        layer: &PackedLayer,
        width: usize,
        spans: &mut [Span],
    ) {
        let _span = profile::span(Operator::Cache);
        let mut row = 0;
        for (span, &end) in spans.iter_mut().zip(&self.row_ends) {
            while row < end {
                let position = self.positions[row];
                let (k, v) = (&self.k[row * width..][..width], &self.v[row * width..][..width]);
                let (k_block, v_block) = span.cache.block_mut::<N>(index, position);
                write_kv(k, v, position % KV_BLOCK, &layer.shape, k_block, v_block);
                row += 1;
            }
        }
    }

    /// Drops the rows that are not wanted; only the last layer's keys and values needed them.
    fn keep_wanted(&mut self, model: &Packed, spans: &[Span]) {
        let d = model.config.hidden_size;
        let (mut kept, mut start) = (0, 0);
        for (span, end) in spans.iter().zip(&mut self.row_ends) {
            for row in start + span.wanted_from.min(span.ids.len())..*end {
                if row != kept {
                    self.x.copy_within(row * d..(row + 1) * d, kept * d);
                    self.normed.copy_within(row * d..(row + 1) * d, kept * d);
                    self.positions[kept] = self.positions[row];
                }
                kept += 1;
            }
            start = std::mem::replace(end, kept);
        }
        self.positions.truncate(kept);
    }

    /// Adds the attention block's output to the residual stream; the block reads `normed`.
    fn attend(&mut self, model: &Packed, index: usize, layer: &PackedLayer, spans: &[Span]) {
        let (rows, d, width) = (self.positions.len(), model.config.hidden_size, model.config.query_size());
        let queries = sized(&mut self.q, rows * width);
        let normed = &self.normed[..rows * d];
        match &layer.q_norm {
            None => layer.q_proj.run(normed, rows, queries),
            Some(norm) => {
                let raw = sized(&mut self.raw, rows * width);
                layer.q_proj.run(normed, rows, raw);
                norm.run(raw, queries);
            }
        }
        turn(layer, queries, &self.positions);
        match layer.shape.kv {
            KvPrecision::F32 => self.read_cache::<f32>(index, layer, width, spans),
            KvPrecision::Bf16 => self.read_cache::<u16>(index, layer, width, spans),
        }
        let added = sized(&mut self.added, rows * d);
        layer.o_proj.run(&self.attended[..rows * width], rows, added);
        add_normed(&mut self.x, layer.attention_out.as_ref(), added, &mut self.normed[..rows * d]);
    }

    /// Attends from every row's query to its sequence's keys and values.
    fn read_cache<N: Held>(&mut self, index: usize, layer: &PackedLayer, width: usize, spans: &[Span]) {
        let _span = profile::span(Operator::AttentionDecode);
        profile::work(Operator::AttentionDecode, || cached_work(layer, &self.positions));
        let rows = self.positions.len();
        let (mut blocks, mut seen) = (Vec::new(), Vec::with_capacity(rows));
        let mut start = 0;
        for (span, &end) in spans.iter().zip(&self.row_ends) {
            if start < end {
                let (first, from) = (layer.shape.first_seen(self.positions[start]), blocks.len());
                span.cache.blocks::<N>(index, first, self.positions[end - 1] + 1, &mut blocks);
                seen.extend((start..end).map(|row| from..from + self.positions[row] / KV_BLOCK + 1));
            }
            start = end;
        }
        let reads = seen.into_iter().zip(&self.positions);
        let reads: Vec<RowReads<'_, N>> =
            reads.map(|(seen, &position)| RowReads { blocks: &blocks[seen], position }).collect();
        let attended = sized(&mut self.attended, rows * width);
        attend_rows(&self.q[..rows * width], &reads, &layer.shape, attended);
    }

    /// Adds the feed-forward block's output to the residual stream.
    fn feed_forward(&mut self, model: &Packed, layer: &PackedLayer) {
        let (rows, d) = (self.positions.len(), model.config.hidden_size);
        let normed = sized(&mut self.normed, rows * d);
        norm_or_copy(layer.mlp_in.as_ref(), &self.x[..rows * d], normed);
        let added = sized(&mut self.added, rows * d);
        match &layer.mlp {
            PackedMlp::Dense(dense) => self.mlp.dense(dense, normed, rows, added),
            PackedMlp::Mixture { gate, routing, experts } => {
                self.mlp.mixture(gate, *routing, experts, normed, rows, added);
            }
        }
        add_normed(&mut self.x, layer.mlp_out.as_ref(), added, normed);
    }
}

impl MlpScratch {
    /// y (rows, hidden) of x (rows, hidden).
    fn dense(&mut self, dense: &PackedDense, x: &[f32], rows: usize, y: &mut [f32]) {
        let width = dense.gate_proj.out();
        let (gate, up) = (sized(&mut self.gate, rows * width), sized(&mut self.up, rows * width));
        dense.gate_proj.run(x, rows, gate);
        dense.up_proj.run(x, rows, up);
        let activated = sized(&mut self.activated, rows * width);
        dense.activate(gate, up, activated);
        dense.down_proj.run(activated, rows, y);
    }

    /// As [`MlpScratch::dense`], with the experts that the router chooses for each row.
    fn mixture(
        &mut self,
        gate: &PackedWeight,
        routing: Routing,
        experts: &[PackedDense],
        x: &[f32],
        rows: usize,
        y: &mut [f32],
    ) {
        let d = gate.inp();
        let (mut routed, mut weights) = (std::mem::take(&mut self.routed), std::mem::take(&mut self.weights));
        let (mut input, mut output) = (std::mem::take(&mut self.input), std::mem::take(&mut self.output));
        let logits = sized(&mut routed, rows * experts.len());
        linear(x, rows, gate, logits);
        let weighed = sized(&mut weights, rows * experts.len());
        routing.weights(logits, weighed);
        y.fill(0.0);
        for (e, read) in rows_of_experts(weighed, experts.len()).iter().enumerate() {
            if read.is_empty() {
                continue;
            }
            let (x_e, y_e) = (sized(&mut input, read.len() * d), sized(&mut output, read.len() * d));
            for (&row, x_e) in read.iter().zip(x_e.chunks_exact_mut(d)) {
                x_e.copy_from_slice(&x[row as usize * d..][..d]);
            }
            self.dense(&experts[e], x_e, read.len(), y_e);
            for (&row, y_e) in read.iter().zip(y_e.chunks_exact(d)) {
                let row = row as usize;
                add_weighted(&mut y[row * d..][..d], weighed[row * experts.len() + e], y_e);
            }
        }
        (self.routed, self.weights, self.input, self.output) = (routed, weights, input, output);
    }
}

/// Rotates every row's heads to its position, if the layer has rotary positions.
fn turn(layer: &PackedLayer, rows: &mut [f32], positions: &[usize]) {
    let Some(table) = &layer.rope else { return };
    let _span = profile::span(Operator::Rope);
    let width = rows.len() / positions.len().max(1);
    for (row, &position) in rows.chunks_exact_mut(width.max(1)).zip(positions) {
        table.apply(row, position);
    }
}

/// The work of attention for rows at `positions`.
fn cached_work(layer: &PackedLayer, positions: &[usize]) -> Work {
    let shape = &layer.shape;
    let seen = positions.iter().map(|&p| p + 1 - shape.first_seen(p)).sum();
    Work::attention(2, [shape.heads, shape.kv_heads, shape.head_dim], seen, shape.kv.bytes())
}

fn norm_or_copy(norm: Option<&PackedNorm>, x: &[f32], y: &mut [f32]) {
    match norm {
        Some(norm) => norm.run(x, y),
        None => y.copy_from_slice(x),
    }
}

/// Adds a block's output to the beginning of the residual stream, normed if the block has a norm
/// after it. `spare` is as long as the output.
fn add_normed(x: &mut [f32], norm: Option<&PackedNorm>, given: &[f32], spare: &mut [f32]) {
    let x = &mut x[..given.len()];
    match norm {
        Some(norm) => {
            norm.run(given, spare);
            add(x, spare);
        }
        None => add(x, given),
    }
}

/// The first `len` elements of a buffer, which is replaced if it is too short. Their content is
/// arbitrary.
fn sized(buffer: &mut AlignedVec, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        *buffer = AlignedVec::new(len);
    }
    &mut buffer[..len]
}
