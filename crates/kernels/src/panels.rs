//! Right-hand sides of products as panels of 32 columns, in the order in which a tile reads them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::aligned::Line;
use super::gemm::PARALLEL;
use super::simd::{Isa, Kernel, LANES, Simd, array, dispatch};
use autodidact_domain::profile::{self, Operator};

/// Columns of a panel.
pub const PANEL: usize = 2 * LANES;

/// The right-hand side of a product, (k, n), as panels (n / 32, k, 32) padded with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    k: usize,
    n: usize,
    lines: Vec<Line>,
}

impl Packed {
    /// From a row-major (k, n) matrix.
    pub fn from_rows(b: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "a matrix of shape ({k}, {n})");
        Self::from_rows_apart(b, n, k, n)
    }

    /// From k rows of n elements that begin `stride` elements apart.
    pub fn from_rows_apart(b: &[f32], stride: usize, k: usize, n: usize) -> Self {
        Self::build(k, n, |panel, lines| {
            let first = panel * PANEL;
            let columns = PANEL.min(n - first);
            for (p, pair) in lines.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let row = &b[p * stride + first..][..columns];
                // A whole row is two moves of a vector each; copying any number of elements is a call.
                let halves = match row.as_chunks::<LANES>() {
                    ([left, right], []) => [*left, *right],
                    _ => padded(row),
                };
                for (line, half) in pair.iter_mut().zip(halves) {
                    line.write(Line(half));
                }
            }
        })
    }

    /// From a row-major (n, k) matrix: the transpose of what it holds.
    pub fn from_columns(b: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "a matrix of shape ({n}, {k})");
        Self::from_columns_apart(b, k, k, n)
    }

    /// From n columns of k elements that begin `stride` elements apart.
    pub fn from_columns_apart(b: &[f32], stride: usize, k: usize, n: usize) -> Self {
        Self::build(k, n, |panel, lines| {
            let first = panel * PANEL;
            let columns = PANEL.min(n - first);
            dispatch(Isa::best(), Columns { b: &b[first * stride..], stride, k, columns, lines });
        })
    }

    /// `fill` writes every line of a panel.
    fn build(k: usize, n: usize, fill: impl Fn(usize, &mut [MaybeUninit<Line>]) + Sync) -> Self {
        let count = n.div_ceil(PANEL) * k * 2;
        let mut lines = Vec::with_capacity(count);
        let spare = &mut lines.spare_capacity_mut()[..count];
        if k > 0 && n * k >= PARALLEL / 4 {
            let _aside = profile::unnamed();
            spare.par_chunks_exact_mut(2 * k).enumerate().for_each(|(panel, lines)| {
                let _span = profile::span(Operator::Packing);
                fill(panel, lines);
            });
        } else if k > 0 {
            let _span = profile::span(Operator::Packing);
            spare.chunks_exact_mut(2 * k).enumerate().for_each(|(panel, lines)| fill(panel, lines));
        }
        // SAFETY: `fill` wrote the lines of every panel.
        unsafe { lines.set_len(count) };
        Self { k, n, lines }
    }

    /// Of panels (n / 32, k, 32), as two lines for each of the k rows.
    pub(super) fn from_lines(k: usize, n: usize, lines: Vec<Line>) -> Self {
        assert_eq!(lines.len(), n.div_ceil(PANEL) * k * 2, "panels of a matrix of shape ({k}, {n})");
        Self { k, n, lines }
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    /// Panel by panel, two for each of the k rows.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }

    /// The lines of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[Line] {
        &self.lines[panel * self.k * 2..][..self.k * 2]
    }

    /// Inner dimension.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }
}

/// Up to 32 columns of k elements, which begin `stride` elements apart, as the lines of a panel.
struct Columns<'a> {
    b: &'a [f32],
    stride: usize,
    k: usize,
    columns: usize,
    lines: &'a mut [MaybeUninit<Line>],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, stride, k, columns, lines } = self;
        for (block, lines) in lines.chunks_mut(2 * LANES).enumerate() {
            let count = lines.len() / 2;
            for half in 0..2 {
                let column = |c: usize| match half * LANES + c {
                    c if c < columns => s.get(&b[c * stride..][..k], block * LANES),
                    _ => s.splat(0.0),
                };
                let rows = s.transposed(array(column));
                for (pair, row) in lines.chunks_exact_mut(2).zip(rows).take(count) {
                    s.store(row, &mut pair[half].write(Line([0.0; LANES])).0);
                }
            }
        }
    }
}

/// At most 32 elements, padded with zeros.
fn padded(row: &[f32]) -> [[f32; LANES]; 2] {
    let mut halves = [[0.0; LANES]; 2];
    halves.as_flattened_mut()[..row.len()].copy_from_slice(row);
    halves
}
