//! Queries by tiles of 32, as matrix products with all keys they may see.

use super::super::aligned::Line;
use super::super::attention::{AttentionShape, KvPrecision, softmax};
use super::super::gemm::{Left, Output, Part};
use super::super::panels::{PANEL, Packed};
use super::super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::super::softcap::{MultiplyBy, Softcap, SoftcapSlopes};
use super::Unit;

/// Queries per tile.
const ROWS: usize = 32;

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
    ///
    /// # Safety
    /// C's rows lie within memory that nobody else reads or writes meanwhile.
    unsafe fn over_keys(self, isa: Isa, p: &[f32], b: &Packed, c: &Placed) {
        let (depth, vectors) = ((self.first, self.to), (0, b.n().div_ceil(LANES)));
        let (a, stride) = (Left::Rows(p), self.stride());
        let part = Part { a, stride, m: self.rows(), b, depth, vectors, accumulate: false };
        // SAFETY: as the caller promises.
        unsafe { part.compute_at(isa, c.to, c.first, c.stride, c.rows * c.stride) };
    }

    /// `C += Pᵀ b` over the tile's queries in `b`, (queries, d); C from the first seen key on.
    fn over_queries(self, isa: Isa, p: &[f32], b: &Packed, c: &mut [f32]) {
        let (a, d) = (Left::Columns(p), b.n());
        let (depth, vectors) = ((self.from, self.to), (0, d.div_ceil(LANES)));
        let m = self.to - self.first;
        Part { a, stride: self.stride(), m, b, depth, vectors, accumulate: true }.compute(isa, c, d);
    }
}

/// Rows of `d` elements, `stride` elements apart, from element `first` on.
struct Placed {
    to: Output,
    first: usize,
    stride: usize,
    rows: usize,
    d: usize,
}

impl Unit<'_> {
    /// Keys or values, (head_dim, count)
    fn columns(&self, all: &[f32]) -> Packed {
        let (d, heads) = (self.shape.head_dim, self.shape.kv_heads);
        self.rounded(Packed::from_columns_apart(
            self.head(all, heads, self.kv_head),
            heads * d,
            d,
            self.count,
        ))
    }

    /// Of keys or values what a cache holds of them. Their gradients are those of what was rounded.
    fn rounded(&self, mut packed: Packed) -> Packed {
        if self.shape.kv == KvPrecision::Bf16 {
            dispatch(self.isa, Round(packed.lines_mut()));
        }
        packed
    }

    /// (count, head_dim)
    fn rows(&self, all: &[f32], heads: usize, head: usize) -> Packed {
        let d = self.shape.head_dim;
        Packed::from_rows_apart(self.head(all, heads, head), heads * d, self.count, d)
    }

    /// Writes (count, d) to (N, kv_heads, d).
    ///
    /// # Safety
    /// `to` has as many elements, and nobody else reads or writes this unit's.
    unsafe fn scatter(&self, rows: &[f32], to: Output) {
        let (d, heads) = (self.shape.head_dim, self.shape.kv_heads);
        for (i, row) in rows.chunks_exact(d).enumerate() {
            let to = to.at(((self.start + i) * heads + self.kv_head) * d);
            // SAFETY: a row of a head of this unit, and the rest as the caller promises.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to, d) };
        }
    }

    /// The tile's rows of a query head in (N, heads, d).
    ///
    /// # Safety
    /// `to` has all of them, the head is this unit's, and they are written before they are scaled.
    unsafe fn placed(&self, tile: Tile, head: usize, to: Output) -> Placed {
        let (d, heads) = (self.shape.head_dim, self.shape.heads);
        Placed {
            to: Output::from_start(to.at((self.start + tile.from) * heads * d)),
            first: head * d,
            stride: heads * d,
            rows: tile.rows(),
            d,
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

    /// As [`Unit::forward`], for any shape.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn forward_by_tiles(&self, q: &[f32], k: &[f32], v: &[f32], out: Output) {
        let kv_heads = self.shape.kv_heads;
        let (keys, values) = (self.columns(k), self.rounded(self.rows(v, kv_heads, self.kv_head)));
        let mut p = vec![0.0; ROWS * self.count.next_multiple_of(LANES)];
        let mut inverses = [0.0; ROWS];
        for head in self.query_heads() {
            let query = self.queries(q, head);
            for tile in self.tiles() {
                let p = &mut p[..tile.rows() * tile.stride()];
                self.weights(tile, &query, &keys, p, &mut inverses, &mut []);
                // SAFETY: rows and head are this unit's and lie within the result; they are written first.
                let rows = unsafe { self.placed(tile, head, out) };
                // SAFETY: as above.
                unsafe { tile.over_keys(self.isa, p, &values, &rows) };
                dispatch(self.isa, ScaleRows { rows, scales: &inverses });
            }
        }
    }

    /// As [`Unit::backward`], for any shape.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn backward_by_tiles(
        &self,
        [q, k, v, dout]: [&[f32]; 4],
        [dq_all, dk_all, dv_all]: [Output; 3],
    ) {
        let (d, count, shape, isa) = (self.shape.head_dim, self.count, self.shape, self.isa);
        let (keys, values) = (self.columns(k), self.columns(v));
        let key_rows = self.rounded(self.rows(k, shape.kv_heads, self.kv_head));
        let (mut dk, mut dv) = (vec![0.0; count * d], vec![0.0; count * d]);
        let mut p = vec![0.0; ROWS * count.next_multiple_of(LANES)];
        let mut ds = p.clone();
        let mut slopes = if shape.softcap.is_some() { p.clone() } else { Vec::new() };
        let mut inverses = [0.0; ROWS];
        for head in self.query_heads() {
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
                // SAFETY: rows and head are this unit's and lie within the gradient; they are written first.
                let dq = unsafe { self.placed(tile, head, dq_all) };
                // SAFETY: as above.
                unsafe { tile.over_keys(isa, ds, &key_rows, &dq) };
                // The queries were scaled, so the keys' gradient is right already.
                dispatch(isa, ScaleRows { rows: dq, scales: &[shape.scale; ROWS] });
                tile.over_queries(isa, p, &dout_rows, &mut dv[tile.first * d..tile.to * d]);
                tile.over_queries(isa, ds, &query_rows, &mut dk[tile.first * d..tile.to * d]);
            }
        }
        // SAFETY: as the caller promises.
        unsafe {
            self.scatter(&dk, dk_all);
            self.scatter(&dv, dv_all);
        }
    }
}

/// Multiplies rows, which were written and are nobody else's, by a number each.
struct ScaleRows<'a> {
    rows: Placed,
    scales: &'a [f32; ROWS],
}

impl Kernel for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Placed { to, first, stride, rows, d } = self.rows;
        for (r, &scale) in self.scales.iter().enumerate().take(rows) {
            // SAFETY: who made `Placed` wrote these elements and lets nobody else see them.
            let row = unsafe { std::slice::from_raw_parts_mut(to.at(r * stride + first), d) };
            for i in (0..d).step_by(LANES) {
                s.put(s.mul(s.get(row, i), s.splat(scale)), row, i);
            }
        }
    }
}

/// Every number becomes the nearest bf16 number.
struct Round<'a>(&'a mut [Line]);

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for line in self.0 {
            s.store(s.to_bf16(s.load(&line.0)), &mut line.0);
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
