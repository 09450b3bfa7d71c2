//! A few rows times a small matrix, and the gradient of that: for networks of a few thousand parameters, which are not
//! worth packing.
//!
//! Contract: products are rounded before they are added, in the order of the matrix's rows, or of the rows that meet. A row's
//! sums don't depend on the other rows.

use super::simd::{Isa, Kernel, LANES, Simd, array, dispatch};

/// Rows whose sums advance together: a single chain would wait for its own additions.
const ROWS: usize = 4;

/// `y += x w`: x (rows, n), w (n, m), y (rows, m).
pub fn add_rows(x: &[f32], w: &[f32], m: usize, y: &mut [f32]) {
    let (rows, n) = shape(x, w, m, y);
    dispatch(Isa::best(), AddRows { x, w, y, rows, n, m });
}

/// Rows and inner dimension of a product; panics if there is none.
fn shape(x: &[f32], w: &[f32], m: usize, y: &[f32]) -> (usize, usize) {
    let n = w.len().checked_div(m).unwrap_or(0);
    let rows = x.len().checked_div(n).unwrap_or(0);
    assert!(
        w.len() == n * m && x.len() == rows * n,
        "{} elements of rows of {n}, which ({n}, {m}) takes",
        x.len()
    );
    assert!(n == 0 || y.len() == rows * m, "{} elements of {rows} rows of {m}", y.len());
    (rows, n)
}

struct AddRows<'a> {
    x: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
    rows: usize,
    n: usize,
    m: usize,
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, w, y, rows, n, m } = self;
        for first in (0..rows).step_by(ROWS) {
            // Past the last row, the last one again: its sums are made twice and written once.
            let row = |r: usize| (first + r).min(rows - 1);
            let x: [&[f32]; ROWS] = array(|r| &x[row(r) * n..][..n]);
            // Two vectors of each row's sums stay in registers while all of the matrix passes by.
            for at in (0..m).step_by(2 * LANES) {
                let places = [at, (at + LANES).min(m)];
                let mut sums = [[s.splat(0.0); 2]; ROWS];
                for (r, sums) in sums.iter_mut().enumerate() {
                    *sums = array(|i| s.get(&y[row(r) * m..][..m], places[i]));
                }
                for (i, w) in w.chunks_exact(m).enumerate() {
                    let w: [S::V; 2] = array(|i| s.get(w, places[i]));
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        let x = s.splat(x[i]);
                        sums.iter_mut().zip(w).for_each(|(sum, w)| *sum = s.add(*sum, s.mul(x, w)));
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(rows - first) {
                    let y = &mut y[(first + r) * m..][..m];
                    places.iter().zip(sums).for_each(|(&at, sum)| s.put(*sum, y, at));
                }
            }
        }
    }
}

/// `dw += xᵀ dy`: x (rows, n), dy (rows, m), dw (n, m).
pub fn add_outer(x: &[f32], dy: &[f32], m: usize, dw: &mut [f32]) {
    let (rows, n) = shape(x, dw, m, dy);
    dispatch(Isa::best(), AddOuter { x, dy, dw, rows, n, m });
}

struct AddOuter<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
    rows: usize,
    n: usize,
    m: usize,
}

impl Kernel for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, dy, dw, rows, n, m } = self;
        for at in (0..m).step_by(LANES) {
            for (i, dw) in dw.chunks_exact_mut(m).enumerate() {
                let mut sum = s.get(dw, at);
                for r in 0..rows {
                    sum = s.add(sum, s.mul(s.splat(x[r * n + i]), s.get(&dy[r * m..][..m], at)));
                }
                s.put(sum, dw, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bits_are_those_of_plain_loops(
            rows in 0usize..7, n in 0usize..9, m in 1usize..70, seed in 0u32..1000,
        ) {
            let number = |i: usize| ((i as u32 + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0;
            let numbers = |count: usize, from: usize| -> Vec<f32> { (from..from + count).map(number).collect() };
            let (x, w, y) = (numbers(rows * n, 0), numbers(n * m, 3), numbers(rows * m, 7));
            let (mut sums, mut outer) = (y.clone(), w.clone());
            for (r, i) in (0..rows).flat_map(|r| (0..n).map(move |i| (r, i))) {
                for j in 0..m {
                    sums[r * m + j] += x[r * n + i] * w[i * m + j];
                    outer[i * m + j] += x[r * n + i] * y[r * m + j];
                }
            }
            for isa in Isa::available() {
                let (mut y_isa, mut w_isa) = (y.clone(), w.clone());
                let (rows_of, n_of) = shape(&x, &w, m, &y);
                prop_assert!(n == 0 || (rows_of, n_of) == (rows, n));
                dispatch(isa, AddRows { x: &x, w: &w, y: &mut y_isa, rows: rows_of, n: n_of, m });
                dispatch(isa, AddOuter { x: &x, dy: &y, dw: &mut w_isa, rows: rows_of, n: n_of, m });
                prop_assert!(y_isa == sums && w_isa == outer, "{isa:?}");
            }
        }
    }
}
