//! The gated units of a feed-forward layer (Shazeer 2020): an activation of the gate, times what passes it.
//!
//! [`Silu`] is `x σ(x)`. [`GeluTanh`] is the Gaussian error linear unit's tanh approximation (Hendrycks & Gimpel 2016):
//! `0.5 x (1 + tanh u)` is computed as `x σ(2u)`, with `u = √(2/π) (x + 0.044715 x³)`. That is the same function, by
//! the exponential that every kernel shares.

use std::marker::PhantomData;

use autodidact_domain::profile::{self, Operator};
use rayon::prelude::*;

use super::pointwise::{exp_lanes, share};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::slots::Slots;

/// 2 √(2/π)
const SLOPE: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

/// What a gate goes through.
pub trait Activation: Sync {
    /// The activation of 16 numbers.
    fn value<S: Simd>(s: S, x: S::V) -> S::V;

    /// The value and its derivative. The value's last bits may differ from [`Activation::value`]'s.
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V);
}

/// `x σ(x)`
pub struct Silu;

/// `x σ(2u)`
pub struct GeluTanh;

/// `1 + e^-x`
#[inline(always)]
fn one_plus_exp_minus<S: Simd>(s: S, x: S::V) -> S::V {
    s.add(s.splat(1.0), exp_lanes(s, s.sub(s.splat(0.0), x)))
}

impl Activation for Silu {
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> S::V {
        s.div(x, one_plus_exp_minus(s, x))
    }

    #[inline(always)]
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let one = s.splat(1.0);
        let sigmoid = s.div(one, one_plus_exp_minus(s, x));
        let silu = s.mul(x, sigmoid);
        // silu' = σ + silu (1 - σ)
        (silu, s.fma(silu, s.sub(one, sigmoid), sigmoid))
    }
}

impl GeluTanh {
    /// `σ(2u)`
    #[inline(always)]
    fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
        let one = s.splat(1.0);
        let inner = s.fma(s.mul(x, x), s.splat(CUBIC), one);
        s.div(one, one_plus_exp_minus(s, s.mul(s.mul(x, s.splat(SLOPE)), inner)))
    }
}

impl Activation for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul(x, Self::sigmoid(s, x))
    }

    #[inline(always)]
    fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
        let one = s.splat(1.0);
        let sigmoid = Self::sigmoid(s, x);
        let gelu = s.mul(x, sigmoid);
        // gelu' = σ + gelu (1 - σ) (2u)'
        let inner = s.mul(s.fma(s.mul(x, x), s.splat(3.0 * CUBIC), one), s.splat(SLOPE));
        (gelu, s.fma(s.mul(gelu, s.sub(one, sigmoid)), inner, sigmoid))
    }
}

/// `activation(gate) * up`, element by element.
pub struct Gated<'a, A> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub y: Slots<'a>,
    pub activation: PhantomData<A>,
}

impl<A: Activation> Kernel for Gated<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in (0..self.y.len()).step_by(LANES) {
            let value = A::value(s, s.get(self.gate, i));
            self.y.put(s, s.mul(value, s.get(self.up, i)), i);
        }
    }
}

/// Gradients of [`Gated`].
pub struct GatedBackward<'a, A> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub dy: &'a [f32],
    pub dgate: Slots<'a>,
    pub dup: Slots<'a>,
    pub activation: PhantomData<A>,
}

impl<A: Activation> Kernel for GatedBackward<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in (0..self.dy.len()).step_by(LANES) {
            let dy = s.get(self.dy, i);
            let (value, slope) = A::value_and_slope(s, s.get(self.gate, i));
            self.dgate.put(s, s.mul(s.mul(dy, s.get(self.up, i)), slope), i);
            self.dup.put(s, s.mul(dy, value), i);
        }
    }
}

/// `silu(gate) * up`, element by element.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    forward::<Silu>(gate, up, y.into());
}

/// `gelu_pytorch_tanh(gate) * up`, element by element.
pub fn geglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    forward::<GeluTanh>(gate, up, y.into());
}

/// [`Gated`] on all threads, where that is worth it. Panics unless gate, up and y have one length.
pub fn forward<A: Activation>(gate: &[f32], up: &[f32], y: Slots<'_>) {
    assert!(gate.len() == up.len() && gate.len() == y.len(), "gate, up and y have one length");
    let activation = PhantomData::<A>;
    let share = share(y.len(), LANES);
    if share >= y.len() {
        let _span = profile::span(Operator::GatedUnit);
        return dispatch(Isa::best(), Gated { gate, up, y, activation });
    }
    let pieces = gate.par_chunks(share).zip(up.par_chunks(share)).zip(y.pieces(share));
    pieces.for_each(|((gate, up), y)| {
        let _span = profile::span(Operator::GatedUnit);
        dispatch(Isa::best(), Gated { gate, up, y, activation });
    });
}

/// Gradients of [`forward`]: by the gate into `dgate`, by up into `dup`. Panics unless all have one length.
pub fn backward<A: Activation>(gate: &[f32], up: &[f32], dy: &[f32], dgate: Slots<'_>, dup: Slots<'_>) {
    assert!(gate.len() == dy.len() && up.len() == dy.len(), "gate, up and dy have one length");
    assert!(dgate.len() == dy.len() && dup.len() == dy.len(), "gradients are as long as dy");
    let activation = PhantomData::<A>;
    let share = share(dy.len(), LANES);
    let outputs = dgate.pieces(share).zip(dup.pieces(share));
    let inputs = gate.par_chunks(share).zip(up.par_chunks(share)).zip(dy.par_chunks(share));
    outputs.zip(inputs).for_each(|((dgate, dup), ((gate, up), dy))| {
        let _span = profile::span(Operator::GatedUnit);
        dispatch(Isa::best(), GatedBackward { gate, up, dy, dgate, dup, activation });
    });
}
