//! Causal attention of one query row over blocks of 16 keys and values (Vaswani et al. 2017), with grouped
//! queries (Ainslie et al. 2023) and a sliding window.
//!
//! Contract: a score is one fma chain over the head's elements; the softmax subtracts the exact maximum and
//! sums in 16 lanes by `position % 16`; values are weighed in one chain over positions. So a row's result
//! depends on its query, its position and the keys it sees, and decoding and training share every bit.

use std::cell::Cell;

use super::pointwise::exp_lanes;
use super::simd::{Isa, Kernel, LANES, Simd, array, bf16_bits, dispatch};
use super::softcap::softcap_lanes;

/// Positions per key/value block; blocks start at multiples of it.
pub const KV_BLOCK: usize = LANES;

/// Query heads at a time: each is a chain per vector, and a single chain would wait for its own additions.
const HEADS: usize = 4;

/// Keys (kv_heads, head_dim, 16) and values (kv_heads, 16, head_dim) of 16 positions.
pub type KvBlock<'a, N> = (&'a [N], &'a [N]);

/// What keys and values are rounded to before a query meets them, in decoding and in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    F32,
    /// Half the memory of a cache, and half of what decoding reads of it.
    Bf16,
}

impl KvPrecision {
    /// Of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<u16>(),
        }
    }
}

/// A number of a cache's keys and values: f32, or the bits of bf16.
pub trait KvNumber: Copy {
    /// The nearest one.
    fn of(x: f32) -> Self;

    /// 16 of them.
    ///
    /// # Safety
    /// `from` is readable for 16 numbers.
    unsafe fn at<S: Simd>(s: S, from: *const Self) -> S::V;

    /// `x[at..]`, up to 16 numbers of it, the other lanes 0.
    fn get<S: Simd>(s: S, x: &[Self], at: usize) -> S::V;
}

impl KvNumber for f32 {
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    unsafe fn at<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { s.at(from) }
    }

    #[inline(always)]
    fn get<S: Simd>(s: S, x: &[Self], at: usize) -> S::V {
        s.get(x, at)
    }
}

impl KvNumber for u16 {
    fn of(x: f32) -> Self {
        bf16_bits(x)
    }

    #[inline(always)]
    unsafe fn at<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: as the caller promises; an array needs no more than its elements' alignment.
        s.bf16(unsafe { &*from.cast() })
    }

    #[inline(always)]
    fn get<S: Simd>(s: S, x: &[Self], at: usize) -> S::V {
        let rest = &x[at..];
        let mut lanes = [0; LANES];
        let count = rest.len().min(LANES);
        lanes[..count].copy_from_slice(&rest[..count]);
        s.bf16(&lanes)
    }
}

/// What one attention layer looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    pub heads: usize,
    /// Divides `heads`; query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Multiplies the scores, usually `head_dim^-0.5`.
    pub scale: f32,
    /// Keys a query sees, itself included; `None` is all that came before.
    pub window: Option<usize>,
    /// Scaled scores go through `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    pub kv: KvPrecision,
}

impl AttentionShape {
    /// The first key that the query at `position` sees.
    pub fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |w| (position + 1).saturating_sub(w))
    }
}

/// Writes one position's key and value rows (kv_heads * head_dim each) into slot `slot` of its block.
///
/// Block layouts: keys (kv_heads, head_dim, 16), values (kv_heads, 16, head_dim).
pub fn write_kv<N: KvNumber>(
    k_row: &[f32],
    v_row: &[f32],
    slot: usize,
    shape: &AttentionShape,
    k_block: &mut [N],
    v_block: &mut [N],
) {
    let (d, width) = (shape.head_dim, shape.kv_heads * shape.head_dim);
    assert!(slot < KV_BLOCK && k_row.len() == width && v_row.len() == width, "slot {slot}, rows of {width}");
    assert!(k_block.len() == width * KV_BLOCK && v_block.len() == width * KV_BLOCK, "blocks of 16 rows");
    for (k, column) in k_row.iter().zip(k_block.chunks_exact_mut(KV_BLOCK)) {
        column[slot] = N::of(*k);
    }
    for (v, block) in v_row.chunks_exact(d).zip(v_block.chunks_exact_mut(KV_BLOCK * d)) {
        block[slot * d..][..d].iter_mut().zip(v).for_each(|(to, v)| *to = N::of(*v));
    }
}

/// Causal attention of one query row over its sequence's blocks.
///
/// q and out are (heads * head_dim); block `b` holds positions `16 b ..`; key `j` is seen if
/// `position - window < j <= position`. Blocks wholly before the window may be empty slices.
pub fn attend_row_on<N: KvNumber>(
    isa: Isa,
    q: &[f32],
    blocks: &[KvBlock<'_, N>],
    position: usize,
    shape: &AttentionShape,
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    assert!(q.len() == width && out.len() == width, "q and out are rows of {width} elements");
    assert!(
        shape.window != Some(0) && shape.heads.is_multiple_of(shape.kv_heads),
        "no attention is {shape:?}"
    );
    assert!(blocks.len() * KV_BLOCK > position, "{} blocks for position {position}", blocks.len());
    let seen = Seen { blocks, first: shape.first_seen(position), position };
    with_scratch(HEADS * seen.scratch() + shape.head_dim, |scratch| {
        dispatch(isa, AttendRow { q, seen, shape, out, scratch });
    });
}

/// Lends `f` this thread's scratch memory, of `length` elements with any content.
pub(super) fn with_scratch<R>(length: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
    let mut scratch = SCRATCH.take();
    if scratch.len() < length {
        scratch.resize(length.next_power_of_two(), 0.0);
    }
    let result = f(&mut scratch[..length]);
    SCRATCH.set(scratch);
    result
}

/// The keys that one query sees.
#[derive(Clone, Copy)]
struct Seen<'a, N> {
    blocks: &'a [KvBlock<'a, N>],
    first: usize,
    position: usize,
}

impl<N> Seen<'_, N> {
    /// Blocks with a seen key.
    #[inline(always)]
    fn range(&self) -> (usize, usize) {
        (self.first / KV_BLOCK, self.position / KV_BLOCK + 1)
    }

    /// Elements of a row of scores: whole blocks, the first seen block first.
    fn scratch(&self) -> usize {
        let (start, end) = self.range();
        (end - start) * KV_BLOCK
    }

    /// Slots of block `b` with a seen key.
    #[inline(always)]
    fn slots(&self, b: usize) -> (usize, usize) {
        (self.first.saturating_sub(b * KV_BLOCK), (self.position + 1 - b * KV_BLOCK).min(KV_BLOCK))
    }
}

struct AttendRow<'a, N> {
    q: &'a [f32],
    seen: Seen<'a, N>,
    shape: &'a AttentionShape,
    out: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl<N: KvNumber> Kernel for AttendRow<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (heads, kv_heads, d) = (self.shape.heads, self.shape.kv_heads, self.shape.head_dim);
        let length = self.seen.scratch();
        let (low, high) = (self.seen.first % KV_BLOCK, length - KV_BLOCK + self.seen.position % KV_BLOCK + 1);
        let (query, weights) = self.scratch.split_at_mut(d);
        for first in (0..heads).step_by(HEADS) {
            let count = HEADS.min(heads - first);
            let mut factors = [0.0; HEADS];
            // Past the last head, the last one again: its result is computed twice and written once.
            let kv: [usize; HEADS] = array(|i| (first + i.min(count - 1)) / (heads / kv_heads));
            for (i, p) in weights.chunks_exact_mut(length).take(count).enumerate() {
                scale_to(s, &self.q[(first + i) * d..][..d], self.shape.scale, query);
                scores(s, query, &self.seen, kv[i], p);
                if let Some(cap) = self.shape.softcap {
                    softcap_lanes(s, p, cap);
                }
                factors[i] = softmax(s, p, low, high);
            }
            let out = &mut self.out[first * d..(first + count) * d];
            weigh(s, weights, &self.seen, kv, factors, d, out);
        }
    }
}

/// `y = x * scale`
#[inline(always)]
pub(super) fn scale_to<S: Simd>(s: S, x: &[f32], scale: f32, y: &mut [f32]) {
    for i in (0..x.len()).step_by(LANES) {
        s.put(s.mul(s.get(x, i), s.splat(scale)), y, i);
    }
}

/// Turns scores `low..high` into `exp(score - max)`, the others into 0; returns the inverse of the sum. `p`
/// starts at a multiple of 16 positions and ends at one.
#[inline(always)]
pub fn softmax<S: Simd>(s: S, p: &mut [f32], low: usize, high: usize) -> f32 {
    p[..low].fill(f32::NEG_INFINITY);
    p[high..].fill(f32::NEG_INFINITY);
    let chunks = p.as_chunks_mut::<LANES>().0;
    let mut max = s.splat(f32::NEG_INFINITY);
    for chunk in chunks.iter() {
        max = s.max(s.load(chunk), max);
    }
    let max = s.splat(s.largest(max));
    let mut sum = s.splat(0.0);
    for chunk in chunks.iter_mut() {
        let e = exp_lanes(s, s.sub(s.load(chunk), max));
        sum = s.add(sum, e);
        s.store(e, chunk);
    }
    1.0 / s.sum(sum)
}

/// `p = query · key` of every key in a block with a seen one.
#[inline(always)]
fn scores<S: Simd, N: KvNumber>(s: S, query: &[f32], seen: &Seen<'_, N>, kv_head: usize, p: &mut [f32]) {
    let (start, end) = seen.range();
    let mut b = start;
    while b < end {
        let p = &mut p[(b - start) * KV_BLOCK..];
        let blocks = &seen.blocks[b..end];
        b += match blocks.len() {
            8.. if S::VECTORS_MAX >= 8 => score_blocks::<S, N, 8>(s, query, blocks, kv_head, p),
            4.. => score_blocks::<S, N, 4>(s, query, blocks, kv_head, p),
            2.. => score_blocks::<S, N, 2>(s, query, blocks, kv_head, p),
            _ => score_blocks::<S, N, 1>(s, query, blocks, kv_head, p),
        };
    }
}

/// Scores of the first `B` blocks, and how many those are; several at a time keep several chains under way.
///
/// The next blocks are fetched meanwhile: what a head reads of a block is too short for the processor to foresee it.
#[inline(always)]
fn score_blocks<S: Simd, N: KvNumber, const B: usize>(
    s: S,
    query: &[f32],
    blocks: &[KvBlock<'_, N>],
    kv_head: usize,
    p: &mut [f32],
) -> usize {
    let d = query.len();
    let keys: [&[[N; LANES]]; B] = array(|n| {
        let keys = &blocks[n].0[kv_head * d * KV_BLOCK..][..d * KV_BLOCK];
        &keys.as_chunks::<LANES>().0[..d]
    });
    let heads = blocks[0].0.len() / (d * KV_BLOCK);
    let ahead: [*const N; B] = array(|n| {
        let (next, head) = if B + n < blocks.len() { (B + n, kv_head) } else { (n, (kv_head + 1) % heads) };
        blocks[next].0[head * d * KV_BLOCK..].as_ptr()
    });
    let mut acc = [s.splat(0.0); B];
    for (i, &q) in query.iter().enumerate() {
        for ahead in ahead {
            s.fetch(ahead.wrapping_add(i * LANES).cast());
        }
        let q = s.splat(q);
        for (acc, keys) in acc.iter_mut().zip(&keys) {
            // SAFETY: `i < d`, and every element of `keys` has d lines.
            *acc = s.fma(q, unsafe { N::at(s, keys.get_unchecked(i).as_ptr()) }, *acc);
        }
    }
    for (n, acc) in acc.iter().enumerate() {
        s.put(*acc, &mut p[n * KV_BLOCK..][..KV_BLOCK], 0);
    }
    B
}

/// `out = (Σ p_j value_j) * factor` over the seen keys, for as many heads as `out` has.
#[inline(always)]
fn weigh<S: Simd, N: KvNumber>(
    s: S,
    p: &[f32],
    seen: &Seen<'_, N>,
    kv: [usize; HEADS],
    factors: [f32; HEADS],
    d: usize,
    out: &mut [f32],
) {
    for column in (0..d).step_by(2 * LANES) {
        match d - column {
            32.. => weigh_columns::<S, N, 2, false>(s, p, seen, kv, factors, (column, d), out),
            16 => weigh_columns::<S, N, 1, false>(s, p, seen, kv, factors, (column, d), out),
            17.. => weigh_columns::<S, N, 2, true>(s, p, seen, kv, factors, (column, d), out),
            _ => weigh_columns::<S, N, 1, true>(s, p, seen, kv, factors, (column, d), out),
        }
    }
}

/// [`weigh`] for `16 * NV` columns, or fewer with a `TAIL`.
#[inline(always)]
fn weigh_columns<S: Simd, N: KvNumber, const NV: usize, const TAIL: bool>(
    s: S,
    p: &[f32],
    seen: &Seen<'_, N>,
    kv: [usize; HEADS],
    factors: [f32; HEADS],
    (column, d): (usize, usize),
    out: &mut [f32],
) {
    let (start, end) = seen.range();
    let length = (end - start) * KV_BLOCK;
    let width = if TAIL { d - column } else { NV * LANES };
    let heads = out.len() / d;
    let mut acc = [[s.splat(0.0); NV]; HEADS];
    for b in start..end {
        let block = seen.blocks[b].1;
        let (low, high) = seen.slots(b);
        // Slots nobody wrote are never read: they may hold anything, NaN too.
        for (h, acc) in acc.iter_mut().enumerate() {
            let p = &p[h.min(heads - 1) * length + (b - start) * KV_BLOCK..][..KV_BLOCK];
            let values = &block[kv[h] * d * KV_BLOCK + column..];
            assert!(values.len() >= (KV_BLOCK - 1) * d + width, "a block of 16 values of {d} elements");
            for j in low..high {
                // SAFETY: `j < 16`, and `values` holds `width` elements of row 15.
                let (p, value) = unsafe { (*p.get_unchecked(j), values.get_unchecked(j * d..j * d + width)) };
                weigh_one::<S, N, NV, TAIL>(s, p, value, acc);
            }
        }
    }
    for (h, (acc, out)) in acc.iter().zip(out.chunks_exact_mut(d)).enumerate() {
        for (v, acc) in acc.iter().enumerate() {
            s.put(s.mul(*acc, s.splat(factors[h])), &mut out[column..column + width], v * LANES);
        }
    }
}

#[inline(always)]
fn weigh_one<S: Simd, N: KvNumber, const NV: usize, const TAIL: bool>(
    s: S,
    p: f32,
    value: &[N],
    acc: &mut [S::V; NV],
) {
    for (v, acc) in acc.iter_mut().enumerate() {
        let value = if TAIL {
            N::get(s, value, v * LANES)
        } else {
            // SAFETY: without a tail, `value` has `16 * NV` elements.
            unsafe { N::at(s, value.as_ptr().add(v * LANES)) }
        };
        *acc = s.fma(s.splat(p), value, *acc);
    }
}
