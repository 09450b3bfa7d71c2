//! Attention of a sequence whose queries see a short window of keys, for training: queries four at a time meet the one
//! to three blocks of 16 keys they see, and gradients of a key are sums over the few queries that saw it.
//!
//! Contract: the bits of tiles that see more ([`tiles`](super::tiles)), because what a query
//! doesn't see would have weighed exactly nothing there, and chains run in the same order.

use super::super::attention::AttentionShape;
use super::super::gemm::Output;
use super::super::pointwise::exp_lanes;
use super::super::simd::{Kernel, LANES, Simd, array, dispatch};
use super::Unit;
use super::rows::{Lines, Rows, RowsOut};

/// Blocks of keys that a query sees at most.
const BLOCKS: usize = 3;
/// Queries that share a register tile, and the blocks they see.
const QUERIES: usize = 4;
/// Elements of a query's row of weights.
const WIDTH: usize = BLOCKS * LANES;

/// Whether a layer's windows are as short.
pub(super) fn fits(shape: &AttentionShape) -> bool {
    let is_short = shape.window.is_some_and(|window| window <= (BLOCKS - 1) * LANES + 1);
    is_short && shape.softcap.is_none() && shape.head_dim.is_multiple_of(LANES)
}

impl Unit<'_> {
    /// As [`Unit::forward`], for a window that [`fits`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn forward_in_window(&self, q: &[f32], k: &[f32], v: &[f32], out: Output) {
        let (d, heads) = (self.shape.head_dim, self.shape.heads);
        let (keys, values) = (self.kept(k), self.kept(v));
        let window = Window::new(self, Rows::of(&keys, d), Rows::of(&values, d));
        for head in self.query_heads() {
            let queries = self.queries(q, head);
            let (window, queries) = (&window, Rows::of(&queries, d));
            // As the caller promises: rows and head are this unit's and lie within the result.
            dispatch(self.isa, Forward { window, queries, out: self.rows_out(out, heads, head) });
        }
    }

    /// As [`Unit::backward`], for a window that [`fits`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn backward_in_window(
        &self,
        [q, k, v, dout]: [&[f32]; 4],
        [dq_all, dk_all, dv_all]: [Output; 3],
    ) {
        let (d, heads) = (self.shape.head_dim, self.shape.heads);
        let (keys, values) = (self.kept(k), self.kept(v));
        let window = &Window::new(self, Rows::of(&keys, d), Rows::of(&values, d));
        let value_columns = &window.values.columns(self.isa);
        let [dk, dv] = [dk_all, dv_all].map(|all| self.rows_out(all, self.shape.kv_heads, self.kv_head));
        for (i, head) in self.query_heads().enumerate() {
            let (queries, dout) = (self.queries(q, head), self.given(dout, head));
            let (queries, dout) = (Rows::of(&queries, d), Rows::of(&dout, d));
            // As the caller promises: rows and heads are this unit's and lie within the gradients.
            let dq = self.rows_out(dq_all, heads, head);
            let is_first = i == 0;
            dispatch(self.isa, Backward { window, value_columns, queries, dout, dq, dk, dv, is_first });
        }
    }
}

/// One sequence, and one head's keys and values, as a cache holds them.
struct Window<'a> {
    shape: &'a AttentionShape,
    count: usize,
    keys: Rows<'a>,
    key_columns: Vec<[f32; LANES]>,
    values: Rows<'a>,
}

impl<'a> Window<'a> {
    fn new(unit: &Unit<'a>, keys: Rows<'a>, values: Rows<'a>) -> Self {
        let key_columns = keys.columns(unit.isa);
        Self { shape: unit.shape, count: unit.count, keys, key_columns, values }
    }

    /// Groups of queries that see the same blocks.
    fn groups(&self) -> impl Iterator<Item = Group> {
        let (count, shape) = (self.count, self.shape);
        (0..count).step_by(QUERIES).map(move |from| {
            let first = shape.first_seen(from) / LANES;
            Group { from, rows: QUERIES.min(count - from), first, blocks: from / LANES + 1 - first }
        })
    }
}

/// A group's scores of `B` blocks, or what becomes of them.
type Scores<S, const B: usize> = [[<S as Simd>::V; B]; QUERIES];

/// Places within a block.
const SLOTS: [f32; LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// A place within a row of scores, as it is counted from block `b` on.
#[inline(always)]
fn place<S: Simd>(s: S, at: usize, b: usize) -> S::V {
    s.splat(at as f32 - (b * LANES) as f32)
}

#[derive(Clone, Copy)]
struct Group {
    /// The first query.
    from: usize,
    rows: usize,
    /// The first block that they see.
    first: usize,
    blocks: usize,
}

impl Group {
    /// What a query sees, within its row of weights.
    #[inline(always)]
    fn seen(&self, shape: &AttentionShape, query: usize) -> (usize, usize) {
        let first = self.first * LANES;
        (shape.first_seen(query) - first, query + 1 - first)
    }

    /// Products of each query with what the group sees of `columns`, `B` blocks.
    #[inline(always)]
    fn products<S: Simd, const B: usize>(
        &self,
        s: S,
        queries: Rows<'_>,
        columns: &[[f32; LANES]],
    ) -> Scores<S, B> {
        let d = queries.width * LANES;
        let keys: [Lines; B] = array(|b| &columns[(self.first + b) * d..][..d]);
        // Past the last query, the last one again: its products are computed twice and left.
        let rows: [&[f32]; QUERIES] =
            array(|q| &queries.row(self.from + q.min(self.rows - 1)).as_flattened()[..d]);
        let mut acc = [[s.splat(0.0); B]; QUERIES];
        for i in 0..d {
            let keys: [S::V; B] = array(|b| s.load(&keys[b][i]));
            for (acc, row) in acc.iter_mut().zip(&rows) {
                let x = s.splat(row[i]);
                acc.iter_mut().zip(&keys).for_each(|(acc, key)| *acc = s.fma(x, *key, *acc));
            }
        }
        acc
    }

    /// Scores become undivided weights, 0 where a query doesn't see; gives the inverses of their sums.
    ///
    /// As [`softmax`](super::super::attention::softmax), for several rows interleaved: one row at a time would wait for its own results.
    #[inline(always)]
    fn softmax<S: Simd, const B: usize>(
        &self,
        s: S,
        shape: &AttentionShape,
        p: &mut Scores<S, B>,
    ) -> [f32; QUERIES] {
        let never = s.splat(f32::NEG_INFINITY);
        let mut largest = [0.0; QUERIES];
        for (q, (p, largest)) in p.iter_mut().zip(&mut largest).enumerate() {
            let (low, high) = self.seen(shape, self.from + q);
            let mut max = never;
            for (b, p) in p.iter_mut().enumerate() {
                *p = s.select_gt(place(s, low, b), s.load(&SLOTS), never, *p);
                *p = s.select_gt(place(s, high, b), s.load(&SLOTS), *p, never);
                max = s.max(*p, max);
            }
            *largest = s.largest(max);
        }
        let mut inverses = [0.0; QUERIES];
        for ((p, largest), inverse) in p.iter_mut().zip(largest).zip(&mut inverses) {
            let mut sum = s.splat(0.0);
            for p in p {
                *p = exp_lanes(s, s.sub(*p, s.splat(largest)));
                sum = s.add(sum, *p);
            }
            *inverse = 1.0 / s.sum(sum);
        }
        inverses
    }

    /// Writes rows of weights, or of their gradients, `B` blocks of each.
    #[inline(always)]
    fn keep<S: Simd, const B: usize>(&self, s: S, scores: &Scores<S, B>, rows: &mut [f32]) {
        for (scores, row) in scores.iter().zip(rows.chunks_exact_mut(WIDTH)) {
            scores.iter().enumerate().for_each(|(b, score)| s.put(*score, row, b * LANES));
        }
    }

    /// Writes `(Σ p_j rows_j) factor` over what a query sees.
    ///
    /// # Safety
    /// `out` has the query's row, and nobody else reads or writes it meanwhile.
    #[inline(always)]
    unsafe fn weigh<S: Simd>(
        &self,
        s: S,
        (p, factor): (&[f32], f32),
        rows: Rows<'_>,
        (low, high): (usize, usize),
        (out, query): (RowsOut, usize),
    ) {
        let first = self.first * LANES;
        for v in (0..rows.width).step_by(2) {
            let next = (v + 1).min(rows.width - 1);
            let mut acc = [s.splat(0.0); 2];
            for (j, &p) in (first + low..).zip(&p[low..high]) {
                let (p, row) = (s.splat(p), rows.row(j));
                acc = [s.fma(p, s.load(&row[v]), acc[0]), s.fma(p, s.load(&row[next]), acc[1])];
            }
            // SAFETY: as the caller promises; the last vector of an odd number is written twice.
            unsafe {
                out.put(s, s.mul(acc[1], s.splat(factor)), query, next);
                out.put(s, s.mul(acc[0], s.splat(factor)), query, v);
            }
        }
    }
}

/// Of one query head, whose rows of the result are this thread's to write: whoever makes one promises it.
struct Forward<'a, 'w> {
    window: &'a Window<'w>,
    queries: Rows<'a>,
    out: RowsOut,
}

impl Kernel for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for group in self.window.groups() {
            match group.blocks {
                1 => self.group::<S, 1>(s, group),
                2 => self.group::<S, 2>(s, group),
                _ => self.group::<S, BLOCKS>(s, group),
            }
        }
    }
}

impl Forward<'_, '_> {
    #[inline(always)]
    fn group<S: Simd, const B: usize>(&self, s: S, group: Group) {
        let Self { window, queries, out } = *self;
        let mut p = [0.0; QUERIES * WIDTH];
        let mut scores = group.products::<S, B>(s, queries, &window.key_columns);
        let inverses = group.softmax(s, window.shape, &mut scores);
        group.keep(s, &scores, &mut p);
        for (q, (p, inverse)) in p.chunks_exact(WIDTH).zip(inverses).take(group.rows).enumerate() {
            let query = group.from + q;
            let seen = group.seen(window.shape, query);
            // SAFETY: as whoever made this promises.
            unsafe { group.weigh(s, (p, inverse), window.values, seen, (out, query)) };
        }
    }
}

/// Of one query head, whose rows of the gradients are this thread's to write: whoever makes one promises it. With P the
/// weights: dV = Pᵀ dO, dP = dO Vᵀ, dS = P (dP - Σ P dP), dQ = dS K, dK = dSᵀ Q.
struct Backward<'a, 'w> {
    window: &'a Window<'w>,
    value_columns: &'a [[f32; LANES]],
    /// Scaled.
    queries: Rows<'a>,
    dout: Rows<'a>,
    dq: RowsOut,
    dk: RowsOut,
    dv: RowsOut,
    /// The gradients by keys and values are written first; other heads add to them.
    is_first: bool,
}

impl Backward<'_, '_> {
    /// Writes a group's weights and scores' gradients to `p` and `ds`, and its queries' gradients.
    #[inline(always)]
    fn group<S: Simd, const B: usize>(&self, s: S, group: Group, (p, ds): (&mut [f32], &mut [f32])) {
        let Self { window, queries, dout, .. } = *self;
        let mut weights = group.products::<S, B>(s, queries, &window.key_columns);
        let inverses = group.softmax(s, window.shape, &mut weights);
        let mut scores = group.products::<S, B>(s, dout, self.value_columns);
        for (q, ((weights, scores), inverse)) in weights.iter_mut().zip(&mut scores).zip(inverses).enumerate()
        {
            let (_, high) = group.seen(window.shape, group.from + q);
            let mut dot = s.splat(0.0);
            for (b, (weight, score)) in weights.iter_mut().zip(scores.iter_mut()).enumerate() {
                *weight = s.mul(*weight, s.splat(inverse));
                // What comes later may be anything, and is nothing to this query.
                *score = s.select_gt(place(s, high, b), s.load(&SLOTS), *score, s.splat(0.0));
                dot = s.fma(*weight, *score, dot);
            }
            let dot = s.splat(s.sum(dot));
            for (weight, score) in weights.iter().zip(scores) {
                *score = s.mul(*weight, s.sub(*score, dot));
            }
        }
        group.keep(s, &weights, p);
        group.keep(s, &scores, ds);
        for (q, ds) in ds.chunks_exact(WIDTH).take(group.rows).enumerate() {
            let (query, scale) = (group.from + q, window.shape.scale);
            let seen = group.seen(window.shape, query);
            // SAFETY: as whoever made this promises.
            unsafe { group.weigh(s, (ds, scale), window.keys, seen, (self.dq, query)) };
        }
    }

    /// The keys' and values' gradients: what the queries that saw them add, in order. A query's weight of key `k` is at
    /// `starts[query] + k`.
    #[inline(always)]
    fn keys_and_values<S: Simd>(&self, s: S, p: &[f32], ds: &[f32], starts: &[usize]) {
        let length = self.window.shape.window.unwrap_or(usize::MAX);
        for key in 0..self.window.count {
            let saw = key..self.window.count.min(key.saturating_add(length));
            for v in 0..self.queries.width {
                let (mut k, mut value) = match self.is_first {
                    true => (s.splat(0.0), s.splat(0.0)),
                    // SAFETY: as whoever made this promises; the first head wrote them.
                    false => unsafe { (self.dk.get(s, key, v), self.dv.get(s, key, v)) },
                };
                for (query, start) in saw.clone().zip(&starts[saw.clone()]) {
                    let at = start.wrapping_add(key);
                    value = s.fma(s.splat(p[at]), s.load(&self.dout.row(query)[v]), value);
                    k = s.fma(s.splat(ds[at]), s.load(&self.queries.row(query)[v]), k);
                }
                // SAFETY: as above.
                unsafe {
                    self.dk.put(s, k, key, v);
                    self.dv.put(s, value, key, v);
                }
            }
        }
    }
}

impl Kernel for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let window = self.window;
        // Rows past the last query are a group's, too.
        let rows = window.count.next_multiple_of(QUERIES);
        let (mut p_all, mut ds_all) = (vec![0.0; rows * WIDTH], vec![0.0; rows * WIDTH]);
        let mut starts = Vec::with_capacity(rows);
        for group in window.groups() {
            let at = group.from * WIDTH..(group.from + QUERIES) * WIDTH;
            let rows = (&mut p_all[at.clone()], &mut ds_all[at]);
            match group.blocks {
                1 => self.group::<S, 1>(s, group, rows),
                2 => self.group::<S, 2>(s, group, rows),
                _ => self.group::<S, BLOCKS>(s, group, rows),
            }
            let start = |query: usize| (query * WIDTH).wrapping_sub(group.first * LANES);
            starts.extend((group.from..group.from + group.rows).map(start));
        }
        self.keys_and_values(s, &p_all, &ds_all, &starts);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::KvPrecision;
    use crate::simd::Isa;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 31 + seed * 7 + 1) as u32).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| number(i) as f32 / (1 << 22) as f32 - 2.0).collect()
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    proptest! {
        /// Of a sequence among others, forward and backward, on every instruction set.
        #[test]
        fn a_window_gives_the_bits_of_tiles(
            (start, count) in (0usize..3, 1usize..90),
            (kv_heads, group) in (1usize..3, 1usize..4),
            head_dim in prop_oneof![Just(16usize), Just(32), Just(48), Just(64)],
            window in 1usize..=33,
            kv in prop_oneof![Just(KvPrecision::F32), Just(KvPrecision::Bf16)],
            scale in prop_oneof![Just(0.3f32), Just(30.0)],
        ) {
            let heads = kv_heads * group;
            let window = Some(window);
            let shape = AttentionShape { heads, kv_heads, head_dim, scale, window, softcap: None, kv };
            prop_assert!(fits(&shape));
            let rows = start + count + 1;
            let (of_queries, of_keys) = (rows * heads * head_dim, rows * kv_heads * head_dim);
            let (q, dout) = (numbers(of_queries, 1), numbers(of_queries, 4));
            let (k, v) = (numbers(of_keys, 2), numbers(of_keys, 3));
            let mut results = Vec::new();
            for isa in Isa::available() {
                for in_window in [false, true] {
                    let mut out = vec![0.0; of_queries];
                    let [mut dq, mut dk, mut dv] = [of_queries, of_keys, of_keys].map(|n| vec![0.0; n]);
                    for kv_head in 0..kv_heads {
                        let unit = Unit { isa, start, count, kv_head, shape: &shape };
                        let gradients = [&mut dq, &mut dk, &mut dv].map(|g| Output::of(g));
                        // SAFETY: results and gradients have all rows, and only this thread writes them.
                        unsafe {
                            if in_window {
                                unit.forward_in_window(&q, &k, &v, Output::of(&mut out));
                                unit.backward_in_window([&q, &k, &v, &dout], gradients);
                            } else {
                                unit.forward_by_tiles(&q, &k, &v, Output::of(&mut out));
                                unit.backward_by_tiles([&q, &k, &v, &dout], gradients);
                            }
                        }
                    }
                    results.push((isa, in_window, [out, dq, dk, dv]));
                }
            }
            for (isa, in_window, result) in &results {
                let same = result.iter().zip(&results[0].2).all(|(a, b)| bits(a) == bits(b));
                prop_assert!(same, "{isa:?}, in window: {in_window}, {shape:?}");
            }
        }
    }
}
