//! Attention over packed sequences, for training: tiles of 32 queries as matrix products, backward by
//! computing the weights anew (Dao et al. 2022 keep none either).
//!
//! Contract: the forward pass of a row has the bits of [`super::attend_row`], because products are single
//! chains and unseen keys weigh exactly nothing. Gradients of keys and values are sums in the order of query
//! heads, then queries. A sequence's results depend on that sequence alone.

use rayon::prelude::*;

use super::attention::{AttentionShape, softmax};
use super::gemm::{Left, Part};
use super::panels::{PANEL, Packed};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::softcap::{MultiplyBy, Softcap, SoftcapSlopes};
use crate::profile::{self, Operator, Work};

/// Queries per tile.
const ROWS: usize = 32;

/// One sequence and one key/value head with its group of query heads.
struct Unit<'a> {
    isa: Isa,
    start: usize,
    count: usize,
    kv_head: usize,
    shape: &'a AttentionShape,
}

/// Causal attention within each sequence: q and the result (N, heads * head_dim), k and v (N, kv_heads *
/// head_dim); sequence `s` is rows `starts[s]..starts[s + 1]`.
pub(crate) fn attend(
    isa: Isa,
    [q, k, v]: [&[f32]; 3],
    shape: &AttentionShape,
    starts: &[usize],
    out: &mut [f32],
) {
    let units = units(isa, shape, starts);
    profile::work(Operator::AttentionForward, || work(2, shape, starts));
    let forward = |unit: &Unit| {
        let _span = profile::span(Operator::AttentionForward);
        unit.forward(q, k, v)
    };
    let results: Vec<Vec<f32>> = units.par_iter().map(forward).collect();
    let _span = profile::span(Operator::AttentionForward);
    for (unit, rows) in units.iter().zip(results) {
        unit.scatter_queries(&rows, out);
    }
}

/// Gradients of [`attend`] by q, k and v, given `dout` like its result.
pub(crate) fn attend_backward(
    isa: Isa,
    [q, k, v, dout]: [&[f32]; 4],
    shape: &AttentionShape,
    starts: &[usize],
) -> [Vec<f32>; 3] {
    let units = units(isa, shape, starts);
    profile::work(Operator::AttentionBackward, || work(5, shape, starts));
    let backward = |unit: &Unit| {
        let _span = profile::span(Operator::AttentionBackward);
        unit.backward(q, k, v, dout)
    };
    let results: Vec<[Vec<f32>; 3]> = units.par_iter().map(backward).collect();
    let _span = profile::span(Operator::AttentionBackward);
    let mut whole = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    for (unit, [dq, dk, dv]) in units.iter().zip(results) {
        unit.scatter_queries(&dq, &mut whole[0]);
        unit.scatter_keys(&dk, &mut whole[1]);
        unit.scatter_keys(&dv, &mut whole[2]);
    }
    whole
}

/// Of so many products over the keys that every row of every sequence sees.
fn work(products: usize, shape: &AttentionShape, starts: &[usize]) -> Work {
    let seen = |count: usize| (0..count).map(|row| row + 1 - shape.first_seen(row)).sum::<usize>();
    let seen = starts.windows(2).map(|s| seen(s[1] - s[0])).sum();
    Work::attention(products, [shape.heads, shape.kv_heads, shape.head_dim], seen)
}

fn units<'a>(isa: Isa, shape: &'a AttentionShape, starts: &[usize]) -> Vec<Unit<'a>> {
    let sequences = starts.windows(2).filter(|s| s[0] < s[1]);
    let heads = |s: &[usize]| {
        let (start, count) = (s[0], s[1] - s[0]);
        (0..shape.kv_heads).map(move |kv_head| Unit { isa, start, count, kv_head, shape })
    };
    sequences.flat_map(heads).collect()
}

/// A tile of queries `from..to` and the keys `first..to` they may see.
#[derive(Clone, Copy)]
struct Tile {
    from: usize,
    to: usize,
    first: usize,
}

impl Tile {
    fn rows(self) -> usize {
        self.to - self.from
    }

    /// Elements of a row of scores: the seen keys in whole vectors.
    fn stride(self) -> usize {
        (self.to - self.first).next_multiple_of(LANES)
    }

    /// `C = A bᵀ` over all elements of the keys (or values) in `b`, (d, keys); rows of A begin `stride` elements apart.
    fn by_keys(self, isa: Isa, a: &[f32], stride: usize, b: &Packed, c: &mut [f32]) {
        let vectors = (self.first / LANES, self.to.div_ceil(LANES));
        let part = Part {
            a: Left::Rows(a),
            stride,
            m: self.rows(),
            b,
            depth: (0, b.k()),
            vectors,
            accumulate: false,
        };
        part.compute(isa, c, self.stride());
    }

    /// `C = P b` over the seen keys (or values) in `b`, (keys, d).
    fn over_keys(self, isa: Isa, p: &[f32], b: &Packed, c: &mut [f32]) {
        let (a, d) = (Left::Rows(p), b.n());
        let (depth, vectors) = ((self.first, self.to), (0, d.div_ceil(LANES)));
        Part { a, stride: self.stride(), m: self.rows(), b, depth, vectors, accumulate: false }
            .compute(isa, c, d);
    }

    /// `C += Pᵀ b` over the tile's queries in `b`, (queries, d); C from the first seen key on.
    fn over_queries(self, isa: Isa, p: &[f32], b: &Packed, c: &mut [f32]) {
        let (a, d) = (Left::Columns(p), b.n());
        let (depth, vectors) = ((self.from, self.to), (0, d.div_ceil(LANES)));
        let m = self.to - self.first;
        Part { a, stride: self.stride(), m, b, depth, vectors, accumulate: true }.compute(isa, c, d);
    }
}

impl Unit<'_> {
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// From this head's first row on, of (N, heads, head_dim).
    fn head<'a>(&self, all: &'a [f32], heads: usize, head: usize) -> &'a [f32] {
        let d = self.shape.head_dim;
        &all[(self.start * heads + head) * d..][..((self.count - 1) * heads + 1) * d]
    }

    /// (head_dim, count)
    fn columns(&self, all: &[f32]) -> Packed {
        let (d, heads) = (self.shape.head_dim, self.shape.kv_heads);
        Packed::from_columns_apart(self.head(all, heads, self.kv_head), heads * d, d, self.count)
    }

    /// (count, head_dim)
    fn rows(&self, all: &[f32], heads: usize, head: usize) -> Packed {
        let d = self.shape.head_dim;
        Packed::from_rows_apart(self.head(all, heads, head), heads * d, self.count, d)
    }

    /// This head's queries, scaled.
    fn queries(&self, q: &[f32], head: usize) -> Vec<f32> {
        let (d, heads) = (self.shape.head_dim, self.shape.heads);
        let mut rows = Vec::with_capacity(self.count * d);
        for row in self.head(q, heads, head).chunks(heads * d) {
            rows.extend_from_slice(&row[..d]);
        }
        dispatch(self.isa, Scale { x: &mut rows, scale: self.shape.scale });
        rows
    }

    /// (group, count, d) to (N, heads, d).
    fn scatter_queries(&self, rows: &[f32], to: &mut [f32]) {
        for (g, rows) in rows.chunks_exact(self.count * self.shape.head_dim).enumerate() {
            self.scatter(rows, to, self.shape.heads, self.kv_head * self.group() + g);
        }
    }

    /// (count, d) to (N, kv_heads, d).
    fn scatter_keys(&self, rows: &[f32], to: &mut [f32]) {
        self.scatter(rows, to, self.shape.kv_heads, self.kv_head);
    }

    fn scatter(&self, rows: &[f32], to: &mut [f32], heads: usize, head: usize) {
        let d = self.shape.head_dim;
        for (i, row) in rows.chunks_exact(d).enumerate() {
            to[((self.start + i) * heads + head) * d..][..d].copy_from_slice(row);
        }
    }

    fn tiles(&self) -> impl Iterator<Item = Tile> {
        (0..self.count).step_by(ROWS).map(|from| Tile {
            from,
            to: self.count.min(from + ROWS),
            first: self.shape.first_seen(from) / PANEL * PANEL,
        })
    }

    /// The tile's weights before division by their sums, 0 where a query doesn't see, and the inverse sums.
    /// With a cap and room in `slopes`, those of the capped scores too.
    fn weights(
        &self,
        tile: Tile,
        query: &[f32],
        keys: &Packed,
        p: &mut [f32],
        inverses: &mut [f32],
        slopes: &mut [f32],
    ) {
        let d = self.shape.head_dim;
        tile.by_keys(self.isa, &query[tile.from * d..], d, keys, p);
        if let Some(cap) = self.shape.softcap {
            dispatch(self.isa, Softcap { x: p, cap });
            dispatch(self.isa, SoftcapSlopes { capped: p, cap, slopes });
        }
        dispatch(self.isa, Softmax { tile, shape: self.shape, p, inverses });
    }

    /// (group, count, d)
    fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let (d, kv_heads) = (self.shape.head_dim, self.shape.kv_heads);
        let (keys, values) = (self.columns(k), self.rows(v, kv_heads, self.kv_head));
        let mut out = vec![0.0; self.group() * self.count * d];
        let mut p = vec![0.0; ROWS * self.count.next_multiple_of(LANES)];
        let mut inverses = [0.0; ROWS];
        for (g, out) in out.chunks_exact_mut(self.count * d).enumerate() {
            let query = self.queries(q, self.kv_head * self.group() + g);
            for tile in self.tiles() {
                let p = &mut p[..tile.rows() * tile.stride()];
                self.weights(tile, &query, &keys, p, &mut inverses, &mut []);
                let out = &mut out[tile.from * d..tile.to * d];
                tile.over_keys(self.isa, p, &values, out);
                for (out, &inverse) in out.chunks_exact_mut(d).zip(&inverses) {
                    dispatch(self.isa, Scale { x: out, scale: inverse });
                }
            }
        }
        out
    }

    /// Gradients by q (group, count, d), k (count, d) and v (count, d). With P the weights and O the output:
    /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P (dP - Σ P dP), dQ = dS K, dK = dSᵀ Q.
    fn backward(&self, q: &[f32], k: &[f32], v: &[f32], dout: &[f32]) -> [Vec<f32>; 3] {
        let (d, count, shape, isa) = (self.shape.head_dim, self.count, self.shape, self.isa);
        let (keys, values) = (self.columns(k), self.columns(v));
        let key_rows = self.rows(k, shape.kv_heads, self.kv_head);
        let (mut dk, mut dv) = (vec![0.0; count * d], vec![0.0; count * d]);
        let mut dq = vec![0.0; self.group() * count * d];
        let mut p = vec![0.0; ROWS * count.next_multiple_of(LANES)];
        let mut ds = p.clone();
        let mut slopes = if shape.softcap.is_some() { p.clone() } else { Vec::new() };
        let mut inverses = [0.0; ROWS];
        for (g, dq) in dq.chunks_exact_mut(count * d).enumerate() {
            let head = self.kv_head * self.group() + g;
            let query = self.queries(q, head);
            let query_rows = Packed::from_rows(&query, count, d);
            let (dout_rows, dout) = (self.rows(dout, shape.heads, head), self.head(dout, shape.heads, head));
            let apart = shape.heads * d;
            for tile in self.tiles() {
                let size = tile.rows() * tile.stride();
                let (p, ds) = (&mut p[..size], &mut ds[..size]);
                let kept = size.min(slopes.len());
                let slopes = &mut slopes[..kept];
                self.weights(tile, &query, &keys, p, &mut inverses, slopes);
                tile.by_keys(isa, &dout[tile.from * apart..], apart, &values, ds);
                dispatch(isa, SoftmaxBackward { tile, shape, p, ds, inverses: &inverses });
                if shape.softcap.is_some() {
                    dispatch(isa, MultiplyBy { x: ds, y: slopes });
                }
                tile.over_keys(isa, ds, &key_rows, &mut dq[tile.from * d..tile.to * d]);
                tile.over_queries(isa, p, &dout_rows, &mut dv[tile.first * d..tile.to * d]);
                tile.over_queries(isa, ds, &query_rows, &mut dk[tile.first * d..tile.to * d]);
            }
            // The queries were scaled, so the keys' gradient is right already.
            dispatch(isa, Scale { x: dq, scale: shape.scale });
        }
        [dq, dk, dv]
    }
}

/// `x *= scale`
struct Scale<'a> {
    x: &'a mut [f32],
    scale: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.x.len()).step_by(LANES) {
            s.put(s.mul(s.get(self.x, i), s.splat(self.scale)), self.x, i);
        }
    }
}

struct Softmax<'a> {
    tile: Tile,
    shape: &'a AttentionShape,
    /// (rows, stride): scores, then weights
    p: &'a mut [f32],
    inverses: &'a mut [f32],
}

/// Of row `i`: the seen range, and the end of the vectors that hold it.
#[inline(always)]
fn seen(tile: Tile, shape: &AttentionShape, i: usize) -> (usize, usize, usize) {
    let (low, high) = (shape.first_seen(tile.from + i) - tile.first, tile.from + i + 1 - tile.first);
    (low, high, high.next_multiple_of(LANES))
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, p) in self.p.chunks_exact_mut(self.tile.stride()).enumerate() {
            let (low, high, end) = seen(self.tile, self.shape, i);
            self.inverses[i] = softmax(s, &mut p[..end], low, high);
            p[end..].fill(0.0);
        }
    }
}

struct SoftmaxBackward<'a> {
    tile: Tile,
    shape: &'a AttentionShape,
    /// (rows, stride): undivided weights, then weights
    p: &'a mut [f32],
    /// (rows, stride): the weights' gradients, then the scores'
    ds: &'a mut [f32],
    inverses: &'a [f32],
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let stride = self.tile.stride();
        let rows = self.p.chunks_exact_mut(stride).zip(self.ds.chunks_exact_mut(stride));
        for (i, ((p, ds), &inverse)) in rows.zip(self.inverses).enumerate() {
            let (_, high, end) = seen(self.tile, self.shape, i);
            // Padding past the sequence's last key was never computed.
            ds[high..].fill(0.0);
            let mut dot = s.splat(0.0);
            for i in (0..end).step_by(LANES) {
                let weight = s.mul(s.get(p, i), s.splat(inverse));
                s.put(weight, p, i);
                dot = s.fma(weight, s.get(ds, i), dot);
            }
            let dot = s.splat(s.sum(dot));
            for i in (0..end).step_by(LANES) {
                s.put(s.mul(s.get(p, i), s.sub(s.get(ds, i), dot)), ds, i);
            }
        }
    }
}
