//! Soft capping, `cap * tanh(x / cap)` (Gemma 2, arXiv:2408.00118): scores and logits that can't grow without bound.
//!
//! Contract: element by element, the same bits in lanes and one at a time. The hyperbolic tangent follows Cephes' `tanhf`
//! (Moshier): a polynomial near 0, where the exponential would cancel.

use super::pointwise::exp_lanes;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Below this the polynomial.
const NEAR: f32 = 0.625;
const TANH: [f32; 5] = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];

/// `tanh x` within about 3 ulp.
#[inline(always)]
fn tanh_lanes<S: Simd>(s: S, x: S::V) -> S::V {
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    let square = s.mul(x, x);
    let mut p = s.splat(TANH[0]);
    for c in &TANH[1..] {
        p = s.fma(p, square, s.splat(*c));
    }
    let near = s.fma(s.mul(p, square), x, x);
    let far = s.sub(one, s.div(two, s.add(exp_lanes(s, s.mul(x, two)), one)));
    let size = s.max(x, s.sub(s.splat(0.0), x));
    s.select_gt(size, s.splat(NEAR), far, near)
}

/// `x = cap * tanh(x / cap)`
#[inline(always)]
pub fn softcap_lanes<S: Simd>(s: S, x: &mut [f32], cap: f32) {
    let cap = s.splat(cap);
    for i in (0..x.len()).step_by(LANES) {
        s.put(s.mul(tanh_lanes(s, s.div(s.get(x, i), cap)), cap), x, i);
    }
}

/// Caps `x`.
pub struct Softcap<'a> {
    pub x: &'a mut [f32],
    pub cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        softcap_lanes(s, self.x, self.cap);
    }
}

/// The derivative at elements that are capped already: `1 - (x / cap)²`.
pub struct SoftcapSlopes<'a> {
    pub capped: &'a [f32],
    pub cap: f32,
    pub slopes: &'a mut [f32],
}

impl Kernel for SoftcapSlopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.slopes.len()).step_by(LANES) {
            let t = s.div(s.get(self.capped, i), s.splat(self.cap));
            s.put(s.sub(s.splat(1.0), s.mul(t, t)), self.slopes, i);
        }
    }
}

/// `x *= y`
pub struct MultiplyBy<'a> {
    pub x: &'a mut [f32],
    pub y: &'a [f32],
}

impl Kernel for MultiplyBy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.x.len()).step_by(LANES) {
            s.put(s.mul(s.get(self.x, i), s.get(self.y, i)), self.x, i);
        }
    }
}

/// `x = tanh(x)`, element by element.
pub fn tanh(x: &mut [f32]) {
    softcap(x, 1.0);
}

/// `x = cap * tanh(x / cap)`, element by element.
pub fn softcap(x: &mut [f32], cap: f32) {
    dispatch(Isa::best(), Softcap { x, cap });
}
