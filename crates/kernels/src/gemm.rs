//! Matrix products of f32 (Goto & van de Geijn 2008, without splitting the inner dimension).
//!
//! Contract: every element of `C` is one chain `acc = fma(a, b, acc)` in the order of the inner dimension,
//! from 0 (or from the old `C`). Blocks of the inner dimension store `C` and go on from it, which changes no
//! bit; tiles and threads only decide who computes which element.

use std::hint::black_box;

use rayon::prelude::*;

use super::panels::{PANEL, Packed};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::slots;
use autodidact_domain::profile::{self, Unit, Work};

/// Inner elements per block: 32 KiB of a panel, which every tile of a strip reads. The first ones fetch the next block.
const DEPTH: usize = 256;
/// Inner elements after which the next strip comes: a multiple of [`DEPTH`].
const DEPTH_OUTER: usize = 4 * DEPTH;
/// Elements of A per strip of rows: half of a second-level cache of 1 MiB.
const STRIP: usize = 1 << 17;
/// Inner elements whose code stands one after another.
const UNROLLED: usize = 4;
/// Multiply-adds worth a thread: about a tenth of a millisecond.
pub(super) const PARALLEL: usize = 1 << 22;

/// The left-hand side of a product, (m, k).
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// Row-major (m, k).
    Rows(&'a [f32]),
    /// Row-major (k, m): the transpose of what it holds.
    Columns(&'a [f32]),
}

/// `C = A B`, or `C += A B`; A (m, k), C row-major (m, n).
pub fn gemm(isa: Isa, a: Left<'_>, m: usize, b: &Packed, c: &mut [f32], accumulate: bool) {
    assert_eq!(c.len(), m * b.n(), "C is ({m}, {})", b.n());
    // SAFETY: C has as many elements, all of them written.
    unsafe { gemm_to(isa, a, m, b, Output::of(c), accumulate) };
}

/// `A B`, (m, n), in memory that nothing was written to before.
pub fn product(isa: Isa, a: Left<'_>, m: usize, b: &Packed) -> Vec<f32> {
    let count = m.checked_mul(b.n()).expect("C fits in memory");
    // SAFETY: C has as many elements; a product that doesn't accumulate reads none and writes every one.
    unsafe { slots::vector(count, |mut c| gemm_to(isa, a, m, b, Output(c.as_mut_ptr()), false)) }
}

/// # Safety
/// C has m * n elements, written before if it accumulates, which nobody else reads or writes meanwhile.
unsafe fn gemm_to(isa: Isa, a: Left<'_>, m: usize, b: &Packed, c: Output, accumulate: bool) {
    let (k, n) = (b.k(), b.n());
    let (Left::Rows(elements) | Left::Columns(elements)) = a;
    assert_eq!(elements.len(), m * k, "A is ({m}, {k})");
    let stride = if matches!(a, Left::Rows(_)) { k } else { m };
    let whole = Part { a, stride, m, b, depth: (0, k), vectors: (0, n.div_ceil(LANES)), accumulate };
    let Some(block) = whole.block(c, m * n, n) else { return };
    let product = profile::product(|| Work::product(Unit::F32, [m, n, k], size_of::<f32>() * n * k));
    let pieces_of = product.pieces();
    let compute = |piece| {
        let _span = pieces_of.span();
        dispatch(isa, piece);
    };
    let threads = rayon::current_num_threads();
    if threads == 1 || m * n * k < PARALLEL {
        return compute(block);
    }
    let pieces = block.split((m * n * k / (PARALLEL / 4)).min(threads * 4));
    pieces.into_par_iter().for_each(compute);
}

/// A product with a part of B, on one thread.
pub struct Part<'a> {
    /// (m, depth.1 - depth.0)
    pub a: Left<'a>,
    /// Elements between the rows that A is held in.
    pub stride: usize,
    pub m: usize,
    pub b: &'a Packed,
    /// Range of B's rows.
    pub depth: (usize, usize),
    /// Range of B's columns, in vectors of 16; C has these columns only.
    pub vectors: (usize, usize),
    /// `C += A B` instead of `C = A B`.
    pub accumulate: bool,
}

impl<'a> Part<'a> {
    /// Computes into rows of C, `c_stride` elements apart.
    pub fn compute(self, isa: Isa, c: &mut [f32], c_stride: usize) {
        if let Some(block) = self.block(Output::of(c), c.len(), c_stride) {
            dispatch(isa, block);
        }
    }

    /// Computes into the columns from `first` on of C, which has rows of `c_stride` and `c_len` elements in all.
    ///
    /// # Safety
    /// C has that many elements, and no one else reads or writes these columns meanwhile.
    pub(super) unsafe fn compute_at(self, isa: Isa, c: Output, first: usize, c_stride: usize, c_len: usize) {
        assert!(first < c_stride && first <= c_len, "column {first} of {c_stride}");
        let c = Output(c.at(first));
        if let Some(block) = self.block(c, c_len - first, c_stride) {
            dispatch(isa, block);
        }
    }

    /// Checks every length; `None` if nothing is left to do.
    fn block(self, c: Output, c_len: usize, c_stride: usize) -> Option<Block<'a>> {
        let Self { a, stride, m, b, depth, vectors, accumulate } = self;
        let columns = (vectors.1 * LANES).min(b.n()).saturating_sub(vectors.0 * LANES);
        assert!(depth.0 <= depth.1 && depth.1 <= b.k(), "rows {depth:?} of {}", b.k());
        assert!(
            vectors.0 <= vectors.1 && vectors.1 <= b.n().div_ceil(LANES),
            "vectors {vectors:?} of {} columns",
            b.n()
        );
        if m == 0 || columns == 0 {
            return None;
        }
        assert!(columns <= c_stride && (m - 1) * c_stride + columns <= c_len, "C is ({m}, {columns})");
        if depth.0 == depth.1 {
            if !accumulate {
                for row in 0..m {
                    // SAFETY: the columns lie within C, as was just asserted.
                    unsafe { std::ptr::write_bytes(c.0.wrapping_add(row * c_stride), 0, columns) };
                }
            }
            return None;
        }
        Some(Block {
            a,
            stride,
            b,
            depth,
            c,
            c_stride,
            c_first: vectors.0,
            accumulate,
            rows: (0, m),
            vectors,
        })
    }
}

/// Where C starts. Pieces of one product write disjoint elements.
#[derive(Clone, Copy)]
pub(super) struct Output(*mut f32);

impl Output {
    pub(super) fn of(c: &mut [f32]) -> Self {
        Self(c.as_mut_ptr())
    }

    pub(super) fn from_start(c: *mut f32) -> Self {
        Self(c)
    }

    pub(super) fn at(self, element: usize) -> *mut f32 {
        self.0.wrapping_add(element)
    }
}

// SAFETY: one is made of memory that nobody else reaches until every piece of the product is done; pieces are disjoint.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A piece of a product: some rows, some vectors of columns.
#[derive(Clone, Copy)]
struct Block<'a> {
    a: Left<'a>,
    stride: usize,
    b: &'a Packed,
    depth: (usize, usize),
    c: Output,
    c_stride: usize,
    /// The vector that C's first column belongs to.
    c_first: usize,
    accumulate: bool,
    rows: (usize, usize),
    vectors: (usize, usize),
}

impl Block<'_> {
    /// About `count` disjoint pieces: of rows if there are enough of them, else of columns.
    fn split(self, count: usize) -> Vec<Self> {
        let (m, vectors) = (self.rows.1, self.vectors.1);
        if m >= 48 * count || m >= vectors * LANES {
            let step = m.div_ceil(count).next_multiple_of(12);
            (0..m).step_by(step).map(|r| Self { rows: (r, m.min(r + step)), ..self }).collect()
        } else {
            let step = vectors.div_ceil(count).next_multiple_of(2);
            (0..vectors).step_by(step).map(|v| Self { vectors: (v, vectors.min(v + step)), ..self }).collect()
        }
    }
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.a {
            Left::Rows(a) => self.cover::<S, false>(s, a),
            Left::Columns(a) => self.cover::<S, true>(s, a),
        }
    }
}

impl Block<'_> {
    /// Strips of rows, then vectors of columns, then blocks of the inner dimension, then tiles: a strip of A
    /// stays in the second-level cache, a panel's block in the first.
    #[inline(always)]
    fn cover<S: Simd, const COLUMNS: bool>(self, s: S, a: &[f32]) {
        let (start, end) = self.depth;
        let tiles = (self.rows.1 - self.rows.0).div_ceil(S::ROWS);
        let per_strip = (STRIP / ((end - start).min(DEPTH_OUTER) * S::ROWS)).clamp(2, 20);
        for (outer, strip) in (start..end)
            .step_by(DEPTH_OUTER)
            .flat_map(|outer| (0..tiles).step_by(per_strip).map(move |strip| (outer, strip)))
        {
            let mut vector = self.vectors.0;
            while vector < self.vectors.1 {
                let step = step::<S, COLUMNS>(self.rows.1 - self.rows.0, self.vectors.1 - vector);
                let outer_end = end.min(outer + DEPTH_OUTER);
                for depth in (outer..outer_end).step_by(DEPTH) {
                    let from = depth - start;
                    let next = if depth + DEPTH < outer_end {
                        (vector, depth + DEPTH)
                    } else {
                        (vector + step, outer)
                    };
                    for t in strip..tiles.min(strip + per_strip) {
                        let (row, rows) = self.tile_rows(t, tiles);
                        let tile = Tile {
                            a: &a
                                [if COLUMNS { from * self.stride + row } else { row * self.stride + from }..],
                            depth,
                            length: DEPTH.min(end - depth),
                            vector,
                            row,
                            ahead: self.ahead(next, (t - strip) * DEPTH.min(end - depth)),
                            whole: &self,
                        };
                        match step {
                            8 if !COLUMNS && S::VECTORS_MAX >= 8 => tile.compute::<S, 1, 8, false>(s),
                            4 if !COLUMNS && S::VECTORS_MAX >= 4 => tile.rows_1_to_3::<S, 4>(s, rows),
                            2 => tile.rows_any::<S, 2, COLUMNS>(s, rows),
                            _ => tile.rows_any::<S, 1, COLUMNS>(s, rows),
                        }
                    }
                }
                vector += step;
            }
        }
    }

    /// From where a tile should fetch lines of the block that comes next, one for each of its inner elements, if the tiles
    /// before it have fetched that many; null if the block has no more.
    #[inline(always)]
    fn ahead(&self, (vector, depth): (usize, usize), fetched: usize) -> *const f32 {
        if vector >= self.vectors.1 || fetched >= 2 * DEPTH.min(self.depth.1 - depth) {
            return std::ptr::null();
        }
        let line = ((vector / 2) * self.b.k() + depth) * 2 + fetched;
        self.b.lines().as_ptr().cast::<f32>().wrapping_add(line * LANES)
    }

    /// First row and height of tile `t` of `tiles` equal ones: 13 rows are 6 and 7, never 12 and 1.
    #[inline(always)]
    fn tile_rows(&self, t: usize, tiles: usize) -> (usize, usize) {
        let (first, count) = (self.rows.0, self.rows.1 - self.rows.0);
        let row = first + count * t / tiles;
        (row, first + count * (t + 1) / tiles - row)
    }
}

/// Vectors per tile, 1, 2, 4 or 8: few rows need more of them, so that enough chains are under way at a time.
#[inline(always)]
fn step<S: Simd, const COLUMNS: bool>(rows: usize, vectors_left: usize) -> usize {
    let wanted = match rows {
        _ if COLUMNS => S::VECTORS,
        1 => S::VECTORS_MAX,
        2 | 3 => S::VECTORS_MAX.div_ceil(2),
        _ => S::VECTORS,
    };
    if wanted <= vectors_left { wanted } else { 1 << vectors_left.ilog2() }
}

/// A register tile's place.
struct Tile<'a> {
    /// From the tile's first element.
    a: &'a [f32],
    depth: usize,
    length: usize,
    vector: usize,
    row: usize,
    /// Lines to fetch meanwhile, one for each inner element; null if none.
    ahead: *const f32,
    whole: &'a Block<'a>,
}

impl Tile<'_> {
    #[inline(always)]
    fn rows_1_to_3<S: Simd, const NV: usize>(&self, s: S, rows: usize) {
        match rows {
            1 => self.compute::<S, 1, NV, false>(s),
            2 => self.compute::<S, 2, NV, false>(s),
            3 => self.compute::<S, 3, NV, false>(s),
            _ => unreachable!("wide tiles have at most 3 rows, not {rows}"),
        }
    }

    #[inline(always)]
    fn rows_any<S: Simd, const NV: usize, const COLUMNS: bool>(&self, s: S, rows: usize) {
        match rows {
            1 => self.compute::<S, 1, NV, COLUMNS>(s),
            2 => self.compute::<S, 2, NV, COLUMNS>(s),
            3 if S::ROWS >= 3 => self.compute::<S, 3, NV, COLUMNS>(s),
            4 if S::ROWS >= 4 && NV <= S::VECTORS => self.compute::<S, 4, NV, COLUMNS>(s),
            5 if S::ROWS >= 5 && NV <= S::VECTORS => self.compute::<S, 5, NV, COLUMNS>(s),
            6 if S::ROWS >= 6 && NV <= S::VECTORS => self.compute::<S, 6, NV, COLUMNS>(s),
            7 if S::ROWS >= 7 && NV <= S::VECTORS => self.compute::<S, 7, NV, COLUMNS>(s),
            8 if S::ROWS >= 8 && NV <= S::VECTORS => self.compute::<S, 8, NV, COLUMNS>(s),
            9 if S::ROWS >= 9 && NV <= S::VECTORS => self.compute::<S, 9, NV, COLUMNS>(s),
            10 if S::ROWS >= 10 && NV <= S::VECTORS => self.compute::<S, 10, NV, COLUMNS>(s),
            11 if S::ROWS >= 11 && NV <= S::VECTORS => self.compute::<S, 11, NV, COLUMNS>(s),
            12 if S::ROWS >= 12 && NV <= S::VECTORS => self.compute::<S, 12, NV, COLUMNS>(s),
            _ => unreachable!("a tile has at most {} rows, not {rows}", S::ROWS),
        }
    }

    #[inline(always)]
    fn compute<S: Simd, const MR: usize, const NV: usize, const COLUMNS: bool>(&self, s: S) {
        let Block { b, stride, c_stride, .. } = *self.whole;
        let n = b.n();
        let column = self.vector * LANES;
        checked!(self.row + MR <= self.whole.rows.1 && column + (NV - 1) * LANES < n, "a tile inside C");
        let last = if COLUMNS { (self.length - 1) * stride + MR } else { (MR - 1) * stride + self.length };
        assert!(last <= self.a.len(), "tile of {MR} rows and {} inner elements", self.length);
        let offset = self.row * c_stride + (self.vector - self.whole.c_first) * LANES;
        // SAFETY: `Part::block` checked that C holds all rows below `m` and all columns of `vectors`.
        let c = unsafe { self.whole.c.0.add(offset) };
        // Of the last vector; the others are whole.
        let width = (n - column - (NV - 1) * LANES).min(LANES);
        let mut start = [[s.splat(0.0); NV]; MR];
        if self.whole.accumulate || self.depth > self.whole.depth.0 {
            for (r, start) in start.iter_mut().enumerate() {
                for (v, start) in start.iter_mut().enumerate() {
                    let c = c.wrapping_add(r.wrapping_mul(c_stride)).wrapping_add(v * LANES);
                    // SAFETY: `width` columns from `column + 16 v`, of a row below `m`.
                    *start = unsafe { if v + 1 < NV || width == LANES { s.at(c) } else { s.read(c, width) } };
                }
            }
        }
        // On its own, because what other loops touch stays in memory in builds with checks.
        let mut acc = start;
        let mut columns = [std::ptr::null::<f32>(); NV];
        for (v, pointer) in columns.iter_mut().enumerate() {
            let (panel, half) = ((self.vector + v) / 2, (self.vector + v) % 2);
            let index = (panel * b.k() + self.depth) * 2 + half;
            assert!(
                index + 2 * self.length <= b.lines().len() + half,
                "vector {} of {n} columns",
                self.vector + v
            );
            *pointer = b.lines()[index..].as_ptr().cast();
        }
        let mut reads = Reads::new(self, &columns);
        let mut left = self.length;
        // Wrapping arithmetic and no references, so that builds with checks are fast too.
        // SAFETY: line `index + 2 p` of B exists: asserted above for `p = length - 1`. Element (r, p) of A exists:
        // `last <= a.len()` was asserted for the largest r and p.
        unsafe {
            while left > 0 {
                // One loop for both: with a step that it knows, the compiler keeps an address for every row, in memory.
                let count = if left >= UNROLLED {
                    for p in 0..UNROLLED {
                        reads.multiply::<S, MR, COLUMNS>(s, p, &mut acc);
                    }
                    UNROLLED
                } else {
                    reads.multiply::<S, MR, COLUMNS>(s, 0, &mut acc);
                    1
                };
                reads.advance::<COLUMNS>(count);
                left -= count;
            }
        }
        let end = acc;
        for (r, end) in end.iter().enumerate() {
            for (v, &end) in end.iter().enumerate() {
                let c = c.wrapping_add(r.wrapping_mul(c_stride)).wrapping_add(v * LANES);
                // SAFETY: `width` columns from `column + 16 v`, of a row below `m`.
                unsafe {
                    if v + 1 < NV || width == LANES { s.put_at(end, c) } else { s.write(end, c, width) }
                }
            }
        }
    }
}

/// What a tile reads, element by element of the inner dimension.
struct Reads<const NV: usize> {
    /// Vectors of B.
    columns: [*const f32; NV],
    /// Rows 0, 4 and 8 of A, each through its own pointer and the others relative to them: addresses computed for every
    /// row would take the ports of multiply-adds.
    quads: [*const f32; 3],
    stride: usize,
    stride_thrice: usize,
    /// Lines to prefetch, and the distance between them in elements.
    ahead: *const f32,
    ahead_step: usize,
}

impl<const NV: usize> Reads<NV> {
    #[inline(always)]
    fn new(tile: &Tile<'_>, columns: &[*const f32; NV]) -> Self {
        let (a, stride) = (tile.a.as_ptr(), tile.whole.stride);
        // The compiler would make one pointer of the three, and compute addresses again.
        let quad = |rows: usize| black_box(a.wrapping_add(stride.wrapping_mul(rows)));
        let (ahead, ahead_step) = if tile.ahead.is_null() { (a, 0) } else { (tile.ahead, LANES) };
        let stride_thrice = black_box(stride.wrapping_mul(3));
        Self {
            columns: *columns,
            quads: [quad(0), quad(4), quad(8)],
            stride,
            stride_thrice,
            ahead,
            ahead_step,
        }
    }

    /// Adds the products of inner element `p` from here.
    ///
    /// # Safety
    /// Element `p` exists of MR rows of A and of NV vectors of B.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const MR: usize, const COLUMNS: bool>(
        &mut self,
        s: S,
        p: usize,
        acc: &mut [[S::V; NV]; MR],
    ) {
        s.fetch(self.ahead);
        self.ahead = self.ahead.wrapping_add(self.ahead_step);
        let mut vectors = [s.splat(0.0); NV];
        for (vector, column) in vectors.iter_mut().zip(&self.columns) {
            // SAFETY: the caller's.
            *vector = unsafe { s.at(column.wrapping_add(p * PANEL)) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            let x = if COLUMNS {
                self.quads[0].wrapping_add(p.wrapping_mul(self.stride)).wrapping_add(r)
            } else {
                let row = [0, self.stride, self.stride.wrapping_mul(2), self.stride_thrice][r % 4];
                self.quads[r / 4].wrapping_add(p).wrapping_add(row)
            };
            // SAFETY: the caller's.
            let x = unsafe { s.broadcast(x) };
            for (acc, &vector) in acc.iter_mut().zip(&vectors) {
                *acc = s.fma(x, vector, *acc);
            }
        }
    }

    /// Goes on by `count` inner elements.
    #[inline(always)]
    fn advance<const COLUMNS: bool>(&mut self, count: usize) {
        let step = if COLUMNS { count.wrapping_mul(self.stride) } else { count };
        self.quads = self.quads.map(|quad| quad.wrapping_add(step));
        self.columns = self.columns.map(|column| column.wrapping_add(count * PANEL));
    }
}
