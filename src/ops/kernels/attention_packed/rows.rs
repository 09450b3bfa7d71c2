//! Rows of one head among those of all of them.

use super::super::attention::KvPrecision;
use super::super::gemm::Output;
use super::super::simd::{Isa, Kernel, LANES, Simd, array, dispatch};
use super::Unit;

/// Rows before which they are asked for from memory.
const AHEAD: usize = 16;

/// Vectors of 16 numbers.
pub(super) type Lines<'a> = &'a [[f32; LANES]];

/// The rows of one head among those of all of them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    lines: Lines<'a>,
    /// Of the first row.
    first: usize,
    /// Between rows.
    stride: usize,
    /// Of a row.
    pub width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `d` elements, which begin `stride` elements apart, from element `first` on; all of them multiples of 16.
    pub(super) fn apart(elements: &'a [f32], first: usize, stride: usize, d: usize) -> Self {
        let (lines, rest) = elements.as_chunks::<LANES>();
        let whole = [first, stride, d].iter().all(|n| n.is_multiple_of(LANES)) && rest.is_empty();
        assert!(whole, "rows of {d} elements, {stride} apart from {first}, in vectors of {LANES}");
        Self { lines, first: first / LANES, stride: stride / LANES, width: d / LANES }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> Lines<'a> {
        &self.lines[self.first + i * self.stride..][..self.width]
    }
}

/// Rows of one head that are written.
#[derive(Clone, Copy)]
pub(super) struct RowsOut {
    pub to: Output,
    pub first: usize,
    pub stride: usize,
}

impl RowsOut {
    /// # Safety
    /// The row lies in memory that nobody else reads or writes meanwhile, and has this vector.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd>(&self, s: S, v: S::V, row: usize, vector: usize) {
        // SAFETY: as the caller promises.
        unsafe { s.put_at(v, self.to.at(self.first + row * self.stride + vector * LANES)) };
    }

    /// # Safety
    /// As for `put`, and the vector was written.
    #[inline(always)]
    pub(super) unsafe fn get<S: Simd>(&self, s: S, row: usize, vector: usize) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { s.at(self.to.at(self.first + row * self.stride + vector * LANES)) }
    }
}

/// The rows of one head, one after another.
pub(super) struct Copied {
    lines: Vec<[f32; LANES]>,
    width: usize,
}

impl Copied {
    fn of(isa: Isa, rows: Rows<'_>, count: usize, change: Change) -> Self {
        let mut lines = vec![[0.0; LANES]; count * rows.width];
        dispatch(isa, Copy { rows, change, to: &mut lines });
        Self { lines, width: rows.width }
    }

    /// Keys or values, as a cache holds them.
    pub(super) fn kept(isa: Isa, rows: Rows<'_>, count: usize, kv: KvPrecision) -> Self {
        let change = if kv == KvPrecision::Bf16 { Change::Round } else { Change::Scale(1.0) };
        Self::of(isa, rows, count, change)
    }

    /// Scaled queries.
    pub(super) fn scaled(isa: Isa, rows: Rows<'_>, count: usize, scale: f32) -> Self {
        Self::of(isa, rows, count, Change::Scale(scale))
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { lines: &self.lines, first: 0, stride: self.width, width: self.width }
    }

    /// By blocks of 16 rows: (blocks, d) vectors of 16 positions, zeros past the last one.
    pub(super) fn columns(&self, isa: Isa) -> Vec<[f32; LANES]> {
        let d = self.width * LANES;
        let mut blocks = vec![[0.0; LANES]; self.lines.len().div_ceil(d) * d];
        dispatch(isa, Columns { rows: &self.lines, width: self.width, to: &mut blocks });
        blocks
    }
}

struct Columns<'a> {
    rows: Lines<'a>,
    width: usize,
    to: &'a mut [[f32; LANES]],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.width * LANES;
        for (block, rows) in self.to.chunks_exact_mut(d).zip(self.rows.chunks(d)) {
            for (v, to) in block.chunks_exact_mut(LANES).enumerate() {
                let row = |r: usize| rows.get(r * self.width + v).map_or(s.splat(0.0), |row| s.load(row));
                let columns = s.transposed(array(row));
                to.iter_mut().zip(columns).for_each(|(to, column)| s.store(column, to));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Scale(f32),
    /// To the nearest bf16 numbers.
    Round,
}

struct Copy<'a> {
    rows: Rows<'a>,
    change: Change,
    to: &'a mut [[f32; LANES]],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, to) in self.to.chunks_exact_mut(self.rows.width).enumerate() {
            for (from, to) in self.rows.row(i).iter().zip(to) {
                // Rows lie too far apart for the processor to foresee the next ones.
                s.fetch(from.as_ptr().wrapping_add(AHEAD * self.rows.stride * LANES));
                let from = s.load(from);
                let changed = match self.change {
                    Change::Scale(scale) => s.mul(from, s.splat(scale)),
                    Change::Round => s.to_bf16(from),
                };
                s.store(changed, to);
            }
        }
    }
}

impl Unit<'_> {
    /// This unit's rows of a head in (N, heads, d).
    pub(super) fn rows_of<'a>(&self, all: &'a [f32], heads: usize, head: usize) -> Rows<'a> {
        let d = self.shape.head_dim;
        Rows::apart(all, (self.start * heads + head) * d, heads * d, d)
    }

    /// The same, to be written.
    pub(super) fn rows_out(&self, to: Output, heads: usize, head: usize) -> RowsOut {
        let d = self.shape.head_dim;
        RowsOut { to, first: (self.start * heads + head) * d, stride: heads * d }
    }
}
