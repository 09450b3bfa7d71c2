//! The gated unit with the Gaussian error linear unit's tanh approximation (Hendrycks & Gimpel 2016; Shazeer 2020).
//!
//! Contract: `0.5 x (1 + tanh u)` is computed as `x σ(2u)`, with `u = √(2/π) (x + 0.044715 x³)`: the same function,
//! by the exponential that every kernel shares.

use rayon::prelude::*;

use super::pointwise::{one_plus_exp_minus, share};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::slots::Slots;
use autodidact_domain::profile::{self, Operator};

/// 2 √(2/π)
const SLOPE: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

/// `σ(2u)`
#[inline(always)]
fn gate<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let inner = s.fma(s.mul(x, x), s.splat(CUBIC), one);
    s.div(one, one_plus_exp_minus(s, s.mul(s.mul(x, s.splat(SLOPE)), inner)))
}

pub struct Geglu<'a> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub y: Slots<'a>,
}

impl Kernel for Geglu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in (0..self.y.len()).step_by(LANES) {
            let x = s.get(self.gate, i);
            self.y.put(s, s.mul(s.mul(x, gate(s, x)), s.get(self.up, i)), i);
        }
    }
}

/// Gradients of [`Geglu`].
pub struct GegluBackward<'a> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub dy: &'a [f32],
    pub dgate: Slots<'a>,
    pub dup: Slots<'a>,
}

impl Kernel for GegluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let one = s.splat(1.0);
        for i in (0..self.dy.len()).step_by(LANES) {
            let (x, dy) = (s.get(self.gate, i), s.get(self.dy, i));
            let sigmoid = gate(s, x);
            let gelu = s.mul(x, sigmoid);
            // gelu' = σ + gelu (1 - σ) (2u)'
            let inner = s.mul(s.fma(s.mul(x, x), s.splat(3.0 * CUBIC), one), s.splat(SLOPE));
            let slope = s.fma(s.mul(gelu, s.sub(one, sigmoid)), inner, sigmoid);
            self.dgate.put(s, s.mul(s.mul(dy, s.get(self.up, i)), slope), i);
            self.dup.put(s, s.mul(dy, gelu), i);
        }
    }
}

/// `gelu_pytorch_tanh(gate) * up`, element by element.
pub fn geglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    geglu_to(gate, up, y.into());
}

pub fn geglu_to(gate: &[f32], up: &[f32], y: Slots<'_>) {
    assert!(gate.len() == up.len() && gate.len() == y.len(), "gate, up and y have one length");
    let share = share(y.len(), LANES);
    if share >= y.len() {
        let _span = profile::span(Operator::GatedUnit);
        return dispatch(Isa::best(), Geglu { gate, up, y });
    }
    let pieces = gate.par_chunks(share).zip(up.par_chunks(share)).zip(y.pieces(share));
    pieces.for_each(|((gate, up), y)| {
        let _span = profile::span(Operator::GatedUnit);
        dispatch(Isa::best(), Geglu { gate, up, y });
    });
}

/// Gradients of [`geglu`]: by the gate into `dgate`, by up into `dup`.
pub fn geglu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: Slots<'_>, dup: Slots<'_>) {
    assert!(gate.len() == dy.len() && up.len() == dy.len(), "gate, up and dy have one length");
    assert!(dgate.len() == dy.len() && dup.len() == dy.len(), "gradients are as long as dy");
    let share = share(dy.len(), LANES);
    let outputs = dgate.pieces(share).zip(dup.pieces(share));
    let inputs = gate.par_chunks(share).zip(up.par_chunks(share)).zip(dy.par_chunks(share));
    outputs.zip(inputs).for_each(|((dgate, dup), ((gate, up), dy))| {
        let _span = profile::span(Operator::GatedUnit);
        dispatch(Isa::best(), GegluBackward { gate, up, dy, dgate, dup });
    });
}
