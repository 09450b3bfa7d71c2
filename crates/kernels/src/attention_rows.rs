//! Attention of several query rows that read the same keys and values: the heads of a group, trajectories of one prompt
//! (Juravsky et al. 2024, "Hydragen"), and tokens of one chunk of a prompt.
//!
//! Contract: the bits of [`attend_row_on`], row by row. What rows share is read once for several of
//! them; a query's own chains, over a head's elements and over positions, stay as they are. Rows with a sliding window
//! share nothing.

use super::attention::{
    AttentionShape, KV_BLOCK, KvBlock, KvNumber, attend_row_on, scale_to, softmax, with_scratch,
};
use super::simd::{Isa, Kernel, LANES, Simd, array, dispatch};
use super::softcap::softcap_lanes;

/// Rows attended together: their scores of one key/value head stay in a second-level cache.
const ROWS: usize = 12;
/// Most queries of a register tile, and its vectors then: blocks of keys, or columns of values. What is read, and
/// widened where it is bf16, serves all of them.
const QUERIES: usize = 12;
const VECTORS: usize = 2;
/// Vectors of a tile of at most half as many queries, so that enough chains are under way.
const VECTORS_FEW: usize = 4;

/// What one row reads.
#[derive(Clone, Copy, Debug)]
pub struct RowReads<'a, N> {
    /// Blocks of its sequence.
    pub blocks: &'a [KvBlock<'a, N>],
    pub position: usize,
}

/// [`attend_row_on`] of every row: q and out are (rows, heads * head_dim). Rows that share blocks
/// should stand together.
pub fn attend_rows<N: KvNumber>(
    q: &[f32],
    rows: &[RowReads<'_, N>],
    shape: &AttentionShape,
    out: &mut [f32],
) {
    attend_rows_on(Isa::best(), q, rows, shape, out);
}

pub(crate) fn attend_rows_on<N: KvNumber>(
    isa: Isa,
    q: &[f32],
    rows: &[RowReads<'_, N>],
    shape: &AttentionShape,
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    assert!(q.len() == rows.len() * width && out.len() == q.len(), "{} rows of {width} elements", rows.len());
    if shape.window.is_some() || !shape.head_dim.is_multiple_of(LANES) {
        let each = q.chunks_exact(width).zip(rows).zip(out.chunks_exact_mut(width));
        return each.for_each(|((q, row), out)| attend_row_on(isa, q, row.blocks, row.position, shape, out));
    }
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "no attention is {shape:?}");
    let mut start = 0;
    while start < rows.len() {
        let bundle = &rows[start..start + together(&rows[start..])];
        let (from, to) = (start * width, (start + bundle.len()) * width);
        let (q, out) = (&q[from..to], &mut out[from..to]);
        match bundle {
            // Nothing is shared, neither by rows nor by heads.
            [row] if shape.heads == shape.kv_heads => {
                attend_row_on(isa, q, row.blocks, row.position, shape, out);
            }
            _ => attend_bundle(isa, q, bundle, shape, out),
        }
        start += bundle.len();
    }
}

/// How many of the first rows begin with the same block.
fn together<N>(rows: &[RowReads<'_, N>]) -> usize {
    let first = |row: &RowReads<'_, N>| row.blocks.first().map(|block| block.0.as_ptr());
    rows.iter().take(ROWS).take_while(|row| first(row) == first(&rows[0])).count()
}

/// Blocks that every row reads whole.
fn shared<N>(rows: &[RowReads<'_, N>]) -> usize {
    let whole = rows.iter().map(|row| (row.position + 1) / KV_BLOCK).min().unwrap_or(0);
    let same = |b: &usize| rows.iter().all(|row| row.blocks[*b].0.as_ptr() == rows[0].blocks[*b].0.as_ptr());
    (0..whole).take_while(same).count()
}

fn attend_bundle<N: KvNumber>(
    isa: Isa,
    q: &[f32],
    rows: &[RowReads<'_, N>],
    shape: &AttentionShape,
    out: &mut [f32],
) {
    for row in rows {
        let count = row.blocks.len();
        assert!(count * KV_BLOCK > row.position, "{count} blocks for position {}", row.position);
        let length = shape.kv_heads * shape.head_dim * KV_BLOCK;
        let complete = row.blocks.iter().all(|(k, v)| k.len() == length && v.len() == length);
        assert!(complete, "blocks of 16 rows of {} heads", shape.kv_heads);
    }
    let length = rows.iter().map(|row| (row.position / KV_BLOCK + 1) * KV_BLOCK).max().unwrap_or(0);
    let (queries, d) = (rows.len() * (shape.heads / shape.kv_heads), shape.head_dim);
    with_scratch(queries * (length + 2 * d + 1), |scratch| {
        let (p, rest) = scratch.split_at_mut(queries * length);
        let (query, rest) = rest.split_at_mut(queries * d);
        let (sums, factors) = rest.split_at_mut(queries * d);
        let queries = Queries { p, length, query, sums, factors, d };
        dispatch(isa, Bundle { q, rows, shared: shared(rows), shape, out, queries });
    });
}

/// Queries that read the same key/value head.
struct Queries<'a> {
    /// Scores, then weights, (queries, length)
    p: &'a mut [f32],
    length: usize,
    /// Scaled, (queries, d)
    query: &'a mut [f32],
    /// Weighed values, (queries, d)
    sums: &'a mut [f32],
    /// What the sums are multiplied by, (queries)
    factors: &'a mut [f32],
    d: usize,
}

struct Bundle<'a, N> {
    /// (rows, heads * head_dim)
    q: &'a [f32],
    rows: &'a [RowReads<'a, N>],
    /// Blocks at the beginning that all rows read whole.
    shared: usize,
    shape: &'a AttentionShape,
    out: &'a mut [f32],
    queries: Queries<'a>,
}

impl<N: KvNumber> Kernel for Bundle<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { q, rows, shared, shape, out, mut queries } = self;
        let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
        let (common, position) = (&rows[0].blocks[..shared], shared * KV_BLOCK);
        for kv in 0..shape.kv_heads {
            // Query `row * group + h` is head `kv * group + h` of a row.
            let place = |i: usize| (i / group * shape.heads + kv * group + i % group) * d;
            for (i, query) in queries.query.chunks_exact_mut(d).enumerate() {
                scale_to(s, &q[place(i)..][..d], shape.scale, query);
            }
            queries.score(s, common, 0, kv);
            for (r, row) in rows.iter().enumerate() {
                let own = &row.blocks[shared..row.position / KV_BLOCK + 1];
                queries.of(r * group, group).score(s, own, position, kv);
            }
            queries.softmax(s, |i| rows[i / group].position + 1, shape.softcap);
            queries.sums.fill(0.0);
            queries.weigh(s, common, 0, position, kv);
            for (r, row) in rows.iter().enumerate() {
                queries.of(r * group, group).weigh(s, &row.blocks[shared..], position, row.position + 1, kv);
            }
            for (i, sums) in queries.sums.chunks_exact(d).enumerate() {
                scale_to(s, sums, queries.factors[i], &mut out[place(i)..][..d]);
            }
        }
    }
}

/// Most queries of a register tile.
#[inline(always)]
fn queries_max<S: Simd>() -> usize {
    if S::ROWS * S::VECTORS >= QUERIES * VECTORS { QUERIES } else { 2 }
}

/// Vectors of a register tile of `queries` queries.
#[inline(always)]
fn vectors<S: Simd>(queries: usize) -> usize {
    match queries_max::<S>() {
        QUERIES if queries * 2 <= QUERIES => VECTORS_FEW,
        QUERIES => VECTORS,
        _ => 1,
    }
}

/// Calls a method with the size of its tile as constants.
macro_rules! with_tile {
    ($queries:expr, $vectors:expr, $this:ident.$method:ident::<$s:ty, $n:ty>($($argument:expr),*)) => {
        match ($queries, $vectors) {
            (1, 4) => $this.$method::<$s, $n, 1, 4>($($argument),*),
            (2, 4) => $this.$method::<$s, $n, 2, 4>($($argument),*),
            (3, 4) => $this.$method::<$s, $n, 3, 4>($($argument),*),
            (4, 4) => $this.$method::<$s, $n, 4, 4>($($argument),*),
            (5, 4) => $this.$method::<$s, $n, 5, 4>($($argument),*),
            (6, 4) => $this.$method::<$s, $n, 6, 4>($($argument),*),
            (1, 2) => $this.$method::<$s, $n, 1, 2>($($argument),*),
            (2, 2) => $this.$method::<$s, $n, 2, 2>($($argument),*),
            (3, 2) => $this.$method::<$s, $n, 3, 2>($($argument),*),
            (4, 2) => $this.$method::<$s, $n, 4, 2>($($argument),*),
            (5, 2) => $this.$method::<$s, $n, 5, 2>($($argument),*),
            (6, 2) => $this.$method::<$s, $n, 6, 2>($($argument),*),
            (7, 2) => $this.$method::<$s, $n, 7, 2>($($argument),*),
            (8, 2) => $this.$method::<$s, $n, 8, 2>($($argument),*),
            (9, 2) => $this.$method::<$s, $n, 9, 2>($($argument),*),
            (10, 2) => $this.$method::<$s, $n, 10, 2>($($argument),*),
            (11, 2) => $this.$method::<$s, $n, 11, 2>($($argument),*),
            (12, 2) => $this.$method::<$s, $n, 12, 2>($($argument),*),
            (1, _) => $this.$method::<$s, $n, 1, 1>($($argument),*),
            (2, _) => $this.$method::<$s, $n, 2, 1>($($argument),*),
            (3, _) => $this.$method::<$s, $n, 3, 1>($($argument),*),
            (4, _) => $this.$method::<$s, $n, 4, 1>($($argument),*),
            (5, _) => $this.$method::<$s, $n, 5, 1>($($argument),*),
            (6, _) => $this.$method::<$s, $n, 6, 1>($($argument),*),
            (7, _) => $this.$method::<$s, $n, 7, 1>($($argument),*),
            (8, _) => $this.$method::<$s, $n, 8, 1>($($argument),*),
            (9, _) => $this.$method::<$s, $n, 9, 1>($($argument),*),
            (10, _) => $this.$method::<$s, $n, 10, 1>($($argument),*),
            (11, _) => $this.$method::<$s, $n, 11, 1>($($argument),*),
            (_, _) => $this.$method::<$s, $n, 12, 1>($($argument),*),
        }
    };
}

impl Queries<'_> {
    /// `count` of them.
    fn of(&mut self, first: usize, count: usize) -> Queries<'_> {
        let Self { length, d, .. } = *self;
        Queries {
            p: &mut self.p[first * length..][..count * length],
            length,
            query: &mut self.query[first * d..][..count * d],
            sums: &mut self.sums[first * d..][..count * d],
            factors: &mut self.factors[first..first + count],
            d,
        }
    }

    /// Scores of whole blocks, the first of which begins at `position`.
    #[inline(always)]
    fn score<S: Simd, N: KvNumber>(&mut self, s: S, blocks: &[KvBlock<'_, N>], position: usize, kv: usize) {
        // What all queries read of some blocks stays in the first-level cache.
        for (i, some) in blocks.chunks(VECTORS_FEW).enumerate() {
            for first in (0..self.factors.len()).step_by(queries_max::<S>()) {
                let count = queries_max::<S>().min(self.factors.len() - first);
                let mut b = 0;
                while b < some.len() {
                    let n = if some.len() - b >= vectors::<S>(count) { vectors::<S>(count) } else { 1 };
                    let at = position + (i * VECTORS_FEW + b) * KV_BLOCK;
                    with_tile!(count, n, self.score_tile::<S, N>(s, first, &some[b..], at, kv));
                    b += n;
                }
            }
        }
    }

    #[inline(always)]
    fn score_tile<S: Simd, N: KvNumber, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        first: usize,
        blocks: &[KvBlock<'_, N>],
        at: usize,
        kv: usize,
    ) {
        let d = self.d;
        let keys: [&[[N; LANES]]; V] =
            array(|n| &blocks[n].0[kv * d * KV_BLOCK..][..d * KV_BLOCK].as_chunks().0[..d]);
        let query: [&[f32]; Q] = array(|q| &self.query[(first + q) * d..][..d]);
        let mut acc = [[s.splat(0.0); V]; Q];
        for i in 0..d {
            // SAFETY: `i < d`, the length of every query and of every block's keys.
            let keys: [S::V; V] = array(|n| unsafe { N::at(s, keys[n].get_unchecked(i).as_ptr()) });
            for (acc, query) in acc.iter_mut().zip(&query) {
                // SAFETY: as above.
                let query = s.splat(unsafe { *query.get_unchecked(i) });
                for (acc, key) in acc.iter_mut().zip(&keys) {
                    *acc = s.fma(query, *key, *acc);
                }
            }
        }
        for (q, acc) in acc.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                s.put(*acc, &mut self.p[(first + q) * self.length + at + n * KV_BLOCK..][..KV_BLOCK], 0);
            }
        }
    }

    /// Turns scores into weights; query `i` sees the first `seen(i)` positions.
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, s: S, seen: impl Fn(usize) -> usize, cap: Option<f32>) {
        for (i, (p, factor)) in self.p.chunks_exact_mut(self.length).zip(self.factors.iter_mut()).enumerate()
        {
            let p = &mut p[..seen(i).next_multiple_of(KV_BLOCK)];
            if let Some(cap) = cap {
                softcap_lanes(s, p, cap);
            }
            *factor = softmax(s, p, 0, seen(i));
        }
    }

    /// Adds the values of positions `from..to`; the blocks begin at `from`.
    #[inline(always)]
    fn weigh<S: Simd, N: KvNumber>(
        &mut self,
        s: S,
        blocks: &[KvBlock<'_, N>],
        from: usize,
        to: usize,
        kv: usize,
    ) {
        if from == to {
            return;
        }
        for first in (0..self.factors.len()).step_by(queries_max::<S>()) {
            let count = queries_max::<S>().min(self.factors.len() - first);
            let mut column = 0;
            while column < self.d {
                let n = match (self.d - column) / LANES {
                    left if left >= vectors::<S>(count) => vectors::<S>(count),
                    left if left >= 2 && vectors::<S>(count) > 2 => 2,
                    _ => 1,
                };
                with_tile!(count, n, self.weigh_tile::<S, N>(s, first, blocks, (from, to), (kv, column)));
                column += n * LANES;
            }
        }
    }

    #[inline(always)]
    fn weigh_tile<S: Simd, N: KvNumber, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        first: usize,
        blocks: &[KvBlock<'_, N>],
        (from, to): (usize, usize),
        (kv, column): (usize, usize),
    ) {
        let (d, length) = (self.d, self.length);
        let mut acc = [[s.splat(0.0); V]; Q];
        for (q, acc) in acc.iter_mut().enumerate() {
            *acc = array(|n| s.get(&self.sums[(first + q) * d + column..], n * LANES));
        }
        for (b, block) in blocks.iter().enumerate().take((to - from).div_ceil(KV_BLOCK)) {
            let at = from + b * KV_BLOCK;
            // Slots nobody wrote are never read: they may hold anything, NaN too.
            let count = KV_BLOCK.min(to - at);
            let values = &block.1[kv * d * KV_BLOCK + column..];
            assert!(values.len() >= (KV_BLOCK - 1) * d + V * LANES, "16 values of {d} elements");
            let p: [&[f32]; Q] = array(|q| &self.p[(first + q) * length + at..][..count]);
            for j in 0..count {
                // SAFETY: row 15 has the columns, as asserted, and `j < count <= 16`, the length of every p.
                let values: [S::V; V] =
                    array(|n| unsafe { N::at(s, values.as_ptr().add(j * d + n * LANES)) });
                for (acc, p) in acc.iter_mut().zip(&p) {
                    // SAFETY: as above.
                    let p = s.splat(unsafe { *p.get_unchecked(j) });
                    for (acc, value) in acc.iter_mut().zip(&values) {
                        *acc = s.fma(p, *value, *acc);
                    }
                }
            }
        }
        for (q, acc) in acc.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                s.put(*acc, &mut self.sums[(first + q) * d + column..], n * LANES);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{KvPrecision, write_kv};

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 31 + seed * 7 + 1) as u32).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| number(i) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// Blocks of keys and values of `count` positions; what was never written is NaN.
    fn written<N: KvNumber>(count: usize, shape: &AttentionShape, seed: usize) -> Vec<(Vec<N>, Vec<N>)> {
        let width = shape.kv_heads * shape.head_dim;
        let none = N::of(f32::NAN);
        let empty = || (vec![none; width * KV_BLOCK], vec![none; width * KV_BLOCK]);
        let mut blocks: Vec<_> = (0..count.div_ceil(KV_BLOCK)).map(|_| empty()).collect();
        for position in 0..count {
            let (k, v) = (numbers(width, seed + position), numbers(width, seed + 1000 + position));
            let (keys, values) = &mut blocks[position / KV_BLOCK];
            write_kv(&k, &v, position % KV_BLOCK, shape, keys, values);
        }
        blocks
    }

    /// Rows of several sequences, with the given number of own positions each; of the first of three kinds are those that don't begin
    /// with the prompt.
    fn check<N: KvNumber>(lengths: &[(usize, usize)], prompt: usize, shape: &AttentionShape) {
        let width = shape.heads * shape.head_dim;
        let common = written::<N>(prompt / KV_BLOCK * KV_BLOCK, shape, 5);
        let own: Vec<_> = lengths.iter().enumerate().map(|(i, (n, _))| written(*n, shape, 100 * i)).collect();
        let sequences = own.iter().zip(lengths).map(|(own, (_, kind))| {
            let common = if *kind == 0 { &[][..] } else { &common[..] };
            common.iter().chain(own).map(|(k, v)| (k.as_slice(), v.as_slice())).collect()
        });
        let sequences: Vec<Vec<KvBlock<'_, N>>> = sequences.collect();
        let rows = sequences.iter().zip(lengths).map(|(blocks, (n, kind))| {
            let before = if *kind == 0 { 0 } else { common.len() * KV_BLOCK };
            RowReads { blocks, position: before + n - 1 }
        });
        let rows: Vec<RowReads<'_, N>> = rows.collect();
        let q = numbers(rows.len() * width, 3);
        let mut results = Vec::new();
        for isa in Isa::available() {
            let mut together = vec![0.0; q.len()];
            attend_rows_on(isa, &q, &rows, shape, &mut together);
            for (i, row) in rows.iter().enumerate() {
                let mut alone = vec![0.0; width];
                attend_row_on(isa, &q[i * width..][..width], row.blocks, row.position, shape, &mut alone);
                assert!(alone == together[i * width..][..width], "row {i} on {isa:?}, {shape:?}");
            }
            results.push(together);
        }
        assert!(results.iter().all(|r| *r == results[0]), "instruction sets differ for {shape:?}");
    }

    proptest! {
        /// Rows have the bits that each has by itself, whether they share a beginning or not.
        #[test]
        fn rows_have_the_bits_that_they_have_alone(
            lengths in prop::collection::vec((1usize..150, 0usize..3), 1..20),
            (kv_heads, group) in (1usize..4, 1usize..8),
            head_dim in prop_oneof![Just(16usize), Just(32), Just(64), Just(80), Just(24)],
            prompt in 0usize..90,
            window in prop_oneof![Just(None), Just(None), (1usize..40).prop_map(Some)],
            softcap in prop_oneof![Just(None), Just(Some(3.0f32))],
            kv in prop_oneof![Just(KvPrecision::F32), Just(KvPrecision::Bf16)],
        ) {
            let heads = kv_heads * group;
            let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.3, window, softcap, kv };
            match kv {
                KvPrecision::F32 => check::<f32>(&lengths, prompt, &shape),
                KvPrecision::Bf16 => check::<u16>(&lengths, prompt, &shape),
            }
        }
    }
}
