//! Matrix products whose right-hand side is kept in fewer bits: it becomes f32 a slab at a time, in the cache of the
//! thread that multiplies by it.
//!
//! Contract: the bits of [`gemm`](super::gemm::gemm) on the whole right-hand side in f32. Slabs are of columns, and an
//! element is one chain over the inner dimension whichever slab it is in. What unpacking costs is shared by the rows
//! of A, and with few of them reading memory takes longer anyway.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::Line;
use super::gemm::{Left, Output, PARALLEL, Part};
use super::panels::{PANEL, Packed};
use super::simd::{Isa, LANES};
use autodidact_domain::profile::{self, Operator, Unit, Work};

/// Elements of a slab, unless one panel has more: f32 that stay in a second-level cache.
const SLAB: usize = 1 << 17;
/// Rows of A from which slabs may have several panels: A is then too large to be read again for each.
const ROWS_MANY: usize = 48;

/// A right-hand side (k, n).
pub trait Operand: Sync {
    fn k(&self) -> usize;

    fn n(&self) -> usize;

    /// What it takes of memory.
    fn bytes(&self) -> usize;
}

/// One that can be made f32.
pub(crate) trait Source: Operand {
    /// Writes columns `32 panel..` of some rows, two lines each; columns past the last are 0. The first row is a
    /// multiple of 32.
    fn unpack(&self, isa: Isa, panel: usize, rows: Range<usize>, lines: &mut [Line]);
}

thread_local! {
    /// A thread's slab. Nothing that borrows it gives work to other threads.
    static SLAB_LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// `C = A B`, or `C += A B`; A (m, k), C row-major (m, n).
pub(crate) fn gemm_unpacked(
    isa: Isa,
    a: Left<'_>,
    m: usize,
    b: &impl Source,
    c: &mut [f32],
    accumulate: bool,
) {
    let (k, n) = (b.k(), b.n());
    let (Left::Rows(elements) | Left::Columns(elements)) = a;
    assert_eq!(elements.len(), m * k, "A is ({m}, {k})");
    assert_eq!(c.len(), m * n, "C is ({m}, {n})");
    if m == 0 || n == 0 {
        return;
    }
    let panels = n.div_ceil(PANEL);
    let wide = if m < ROWS_MANY { 1 } else { (SLAB / (k * PANEL).max(1)).clamp(1, panels) };
    let stride = if matches!(a, Left::Rows(_)) { k } else { m };
    let output = Output::of(c);
    let product = profile::product(|| Work::product(Unit::F32, [m, n, k], b.bytes()));
    let pieces = product.pieces();
    let slab = |first: usize| {
        let _span = pieces.span();
        let first = first * wide;
        let count = wide.min(panels - first);
        let columns = (count * PANEL).min(n - first * PANEL);
        SLAB_LINES.with_borrow_mut(|lines| {
            lines.resize(2 * k * count, Line([0.0; LANES]));
            if k > 0 {
                let _span = profile::span(Operator::Unpacking);
                for (i, lines) in lines.chunks_exact_mut(2 * k).enumerate() {
                    b.unpack(isa, first + i, 0..k, lines);
                }
            }
            let b = Packed::from_lines(k, columns, std::mem::take(lines));
            let vectors = (0, columns.div_ceil(LANES));
            let part = Part { a, stride, m, b: &b, depth: (0, k), vectors, accumulate };
            // SAFETY: C has (m, n) elements, and slabs have disjoint columns of it.
            unsafe { part.compute_at(isa, output, first * PANEL, n, m * n) };
            *lines = b.into_lines();
        });
    };
    let slabs = panels.div_ceil(wide);
    if rayon::current_num_threads() == 1 || m * n * k < PARALLEL {
        (0..slabs).for_each(slab);
    } else {
        (0..slabs).into_par_iter().for_each(slab);
    }
}
