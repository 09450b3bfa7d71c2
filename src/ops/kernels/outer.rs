//! A single row times a small matrix, and the gradient of that: for networks of a few thousand parameters, which are not
//! worth packing.
//!
//! Contract: products are rounded before they are added, in the order of the matrix's rows.

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// `y += x w`: x (n), w (n, m), y (m).
pub fn add_rows(x: &[f32], w: &[f32], y: &mut [f32]) {
    assert_eq!(w.len(), x.len() * y.len(), "a matrix of {} rows of {}", x.len(), y.len());
    dispatch(Isa::best(), AddRows { x, w, y });
}

struct AddRows<'a> {
    x: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, w, y } = self;
        let m = y.len();
        // Two vectors of sums stay in registers while all rows pass by.
        for at in (0..m).step_by(2 * LANES) {
            let next = (at + LANES).min(m);
            let (mut first, mut second) = (s.get(y, at), s.get(y, next));
            for (x, row) in x.iter().zip(w.chunks_exact(m)) {
                let x = s.splat(*x);
                first = s.add(first, s.mul(x, s.get(row, at)));
                second = s.add(second, s.mul(x, s.get(row, next)));
            }
            s.put(first, y, at);
            s.put(second, y, next);
        }
    }
}

/// `dw += xᵀ dy`: x (n), dy (m), dw (n, m).
pub fn add_outer(x: &[f32], dy: &[f32], dw: &mut [f32]) {
    assert_eq!(dw.len(), x.len() * dy.len(), "a matrix of {} rows of {}", x.len(), dy.len());
    dispatch(Isa::best(), AddOuter { x, dy, dw });
}

struct AddOuter<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let m = self.dy.len();
        for (x, row) in self.x.iter().zip(self.dw.chunks_exact_mut(m.max(1))) {
            let x = s.splat(*x);
            for at in (0..m).step_by(LANES) {
                let sum = s.add(s.get(row, at), s.mul(x, s.get(self.dy, at)));
                s.put(sum, row, at);
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
        fn the_bits_are_those_of_plain_loops(n in 0usize..9, m in 1usize..70, seed in 0u32..1000) {
            let number = |i: usize| ((i as u32 + seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0;
            let (x, w): (Vec<f32>, Vec<f32>) = ((0..n).map(number).collect(), (0..n * m).map(number).collect());
            let y: Vec<f32> = (0..m).map(|i| number(i + 7)).collect();
            let (mut sums, mut outer) = (y.clone(), w.clone());
            for (x, row) in x.iter().zip(w.chunks_exact(m)) {
                sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += x * w);
            }
            for (x, row) in x.iter().zip(outer.chunks_exact_mut(m)) {
                row.iter_mut().zip(&y).for_each(|(g, d)| *g += x * d);
            }
            for isa in Isa::available() {
                let (mut y_isa, mut w_isa) = (y.clone(), w.clone());
                dispatch(isa, AddRows { x: &x, w: &w, y: &mut y_isa });
                dispatch(isa, AddOuter { x: &x, dy: &y, dw: &mut w_isa });
                prop_assert!(y_isa == sums && w_isa == outer, "{isa:?}");
            }
        }
    }
}
