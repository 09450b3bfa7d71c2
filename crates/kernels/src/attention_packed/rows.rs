//! Rows of one head: among those of all of them, and one after another.

use super::super::attention::KvPrecision;
use super::super::gemm::Output;
use super::super::simd::{Isa, Kernel, LANES, Simd, array, dispatch};
use super::Unit;

/// Rows before which they are asked for from memory.
const AHEAD: usize = 16;

/// Vectors of 16 numbers.
pub(super) type Lines<'a> = &'a [[f32; LANES]];

/// Rows one after another, of whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    lines: Lines<'a>,
    /// Vectors of a row.
    pub width: usize,
}

impl<'a> Rows<'a> {
    /// Of rows of `d` elements, a multiple of 16.
    pub(super) fn of(elements: &'a [f32], d: usize) -> Self {
        let (lines, rest) = elements.as_chunks();
        assert!(rest.is_empty() && d.is_multiple_of(LANES), "rows of {d} elements, in vectors of {LANES}");
        Self { lines, width: d / LANES }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> Lines<'a> {
        &self.lines[i * self.width..][..self.width]
    }

    /// By blocks of 16 rows: (blocks, d) vectors of 16 positions, zeros past the last one.
    pub(super) fn columns(self, isa: Isa) -> Vec<[f32; LANES]> {
        let d = self.width * LANES;
        let mut blocks = vec![[0.0; LANES]; self.lines.len().div_ceil(d) * d];
        dispatch(isa, Columns { rows: self, to: &mut blocks });
        blocks
    }
}

struct Columns<'a> {
    rows: Rows<'a>,
    to: &'a mut [[f32; LANES]],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { lines, width } = self.rows;
        let d = width * LANES;
        for (block, rows) in self.to.chunks_exact_mut(d).zip(lines.chunks(d)) {
            for (v, to) in block.chunks_exact_mut(LANES).enumerate() {
                let row = |r: usize| rows.get(r * width + v).map_or(s.splat(0.0), |row| s.load(row));
                let columns = s.transposed(array(row));
                to.iter_mut().zip(columns).for_each(|(to, column)| s.store(column, to));
            }
        }
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

/// What becomes of numbers as they are copied.
#[derive(Clone, Copy)]
enum Change {
    Scale(f32),
    /// To the nearest bf16 numbers.
    Round,
}

/// Copies rows of `d` elements that begin `stride` elements apart.
struct Copy<'a> {
    from: &'a [f32],
    stride: usize,
    d: usize,
    change: Change,
    to: &'a mut [f32],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, stride, d, change, to } = self;
        for (from, to) in from.chunks(stride).zip(to.chunks_exact_mut(d)) {
            for i in (0..d).step_by(LANES) {
                // Rows lie too far apart for the processor to foresee the next ones.
                s.fetch(from.as_ptr().wrapping_add(AHEAD * stride + i));
                let x = s.get(&from[..d], i);
                let changed = match change {
                    Change::Scale(scale) => s.mul(x, s.splat(scale)),
                    Change::Round => s.to_bf16(x),
                };
                s.put(changed, to, i);
            }
        }
    }
}

impl Unit<'_> {
    /// From this head's first row on, of (N, heads, head_dim).
    pub(super) fn head<'a>(&self, all: &'a [f32], heads: usize, head: usize) -> &'a [f32] {
        let d = self.shape.head_dim;
        &all[(self.start * heads + head) * d..][..((self.count - 1) * heads + 1) * d]
    }

    /// A head's rows in (N, heads, d), one after another.
    fn copied(&self, all: &[f32], heads: usize, head: usize, change: Change) -> Vec<f32> {
        let d = self.shape.head_dim;
        let mut rows = vec![0.0; self.count * d];
        let from = self.head(all, heads, head);
        dispatch(self.isa, Copy { from, stride: heads * d, d, change, to: &mut rows });
        rows
    }

    /// This head's queries, scaled.
    pub(super) fn queries(&self, q: &[f32], head: usize) -> Vec<f32> {
        self.copied(q, self.shape.heads, head, Change::Scale(self.shape.scale))
    }

    /// The gradients of what a query head read.
    pub(super) fn given(&self, dout: &[f32], head: usize) -> Vec<f32> {
        self.copied(dout, self.shape.heads, head, Change::Scale(1.0))
    }

    /// Keys or values, as a cache holds them.
    pub(super) fn kept(&self, all: &[f32]) -> Vec<f32> {
        let change = match self.shape.kv {
            KvPrecision::F32 => Change::Scale(1.0),
            KvPrecision::Bf16 => Change::Round,
        };
        self.copied(all, self.shape.kv_heads, self.kv_head, change)
    }

    /// This unit's rows of a head in (N, heads, d), to be written.
    pub(super) fn rows_out(&self, to: Output, heads: usize, head: usize) -> RowsOut {
        let d = self.shape.head_dim;
        RowsOut { to, first: (self.start * heads + head) * d, stride: heads * d }
    }
}
