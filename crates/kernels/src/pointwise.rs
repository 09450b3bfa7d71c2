//! Row-wise and element-wise kernels, forward and backward: norm, gated unit, log-softmax.
//!
//! Contract: sums over a row run in 16 lanes and a fixed tree; sums over rows run in the order of the rows.

use rayon::prelude::*;

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::slots::Slots;
use autodidact_domain::profile::{self, Operator};

/// Elements worth a thread.
const PARALLEL: usize = 1 << 16;

/// Elements of whole rows of `d` for one thread; `all` if the work is too small to share.
pub fn share(all: usize, d: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads == 1 || all < PARALLEL { all.max(1) } else { all.div_ceil(threads * 2).next_multiple_of(d) }
}

const ROUND: f32 = 12_582_912.0;
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
const EXP: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
const EXP_LOW: f32 = -87.33;
const EXP_HIGH: f32 = 88.37;

/// `e^x` within 2 ulp; 0 below -87.33, infinite above 88.37, NaN for NaN.
///
/// Range reduction and polynomial as in Cephes' `expf` (Moshier), every step rounded once.
pub fn exp(x: f32) -> f32 {
    if x < EXP_LOW {
        return 0.0;
    }
    if x > EXP_HIGH {
        return f32::INFINITY;
    }
    let t = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = EXP[1..].iter().fold(EXP[0], |p, &c| p.mul_add(r, c));
    let p = p.mul_add(r * r, r) + 1.0;
    x.mul_add(0.0, f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23)))
}

/// [`exp`] of 16 lanes.
#[inline(always)]
pub fn exp_lanes<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(t, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN_2_LOW), s.fma(n, s.splat(-LN_2_HIGH), x));
    let mut p = s.splat(EXP[0]);
    for c in &EXP[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    let y = s.scale_by_power(s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0)), t);
    // Scaling could have made a number of NaN.
    let y = s.fma(x, s.splat(0.0), y);
    let y = s.select_gt(s.splat(EXP_LOW), x, s.splat(0.0), y);
    s.select_gt(x, s.splat(EXP_HIGH), s.splat(f32::INFINITY), y)
}

/// The last lanes of a row, the others minus infinity.
#[inline(always)]
fn tail_below<S: Simd>(s: S, tail: &[f32]) -> S::V {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    lanes[..tail.len()].copy_from_slice(tail);
    s.load(&lanes)
}

/// log Σ exp(xᵢ), as a call for any instruction set.
pub struct LogSumExp<'a>(pub &'a [f32]);

impl Kernel for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = Largest(self.0).run(s);
        let (chunks, tail) = self.0.as_chunks::<LANES>();
        let tail = tail_below(s, tail);
        let mut sum = s.splat(0.0);
        for chunk in chunks {
            sum = s.add(sum, exp_lanes(s, s.sub(s.load(chunk), s.splat(max))));
        }
        let sum = s.add(sum, exp_lanes(s, s.sub(tail, s.splat(max))));
        // In double precision, because platforms differ in the last bit of a logarithm.
        max + f64::from(s.sum(sum)).ln() as f32
    }
}

/// Turns a row of logits into the gradient of `scale * logprob(logits, target)` by the logits.
pub struct LogprobBackward<'a> {
    pub logits: &'a mut [f32],
    pub target: usize,
    pub scale: f32,
}

impl Kernel for LogprobBackward<'_> {
    /// The target's log-probability.
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let lse = LogSumExp(self.logits).run(s);
        let logprob = self.logits[self.target] - lse;
        let lse = s.splat(lse);
        let scale = s.splat(-self.scale);
        for i in (0..self.logits.len()).step_by(LANES) {
            let p = exp_lanes(s, s.sub(s.get(self.logits, i), lse));
            s.put(s.mul(p, scale), self.logits, i);
        }
        self.logits[self.target] += self.scale;
        logprob
    }
}

/// Root-mean-square norm of rows, as a call for any instruction set.
pub struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub eps: f32,
    pub y: Slots<'a>,
}

/// `1 / rms(x)`
#[inline(always)]
fn inverse_rms<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let mut sum = s.splat(0.0);
    for i in (0..x.len()).step_by(LANES) {
        let x = s.get(x, i);
        sum = s.fma(x, x, sum);
    }
    1.0 / (s.sum(sum) / x.len() as f32 + eps).sqrt()
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let d = self.weight.len();
        for (x, mut y) in self.x.chunks_exact(d).zip(self.y.rows(d)) {
            let inverse = s.splat(inverse_rms(s, x, self.eps));
            for i in (0..d).step_by(LANES) {
                y.put(s, s.mul(s.mul(s.get(x, i), inverse), s.get(self.weight, i)), i);
            }
        }
    }
}

/// Gradients of [`RmsNorm`]: by x into `dx`, by the weight added to `dw`.
pub struct RmsNormBackward<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub eps: f32,
    pub dy: &'a [f32],
    pub dx: Slots<'a>,
    pub dw: &'a mut [f32],
}

impl Kernel for RmsNormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let d = self.weight.len();
        let rows = self.x.chunks_exact(d).zip(self.dy.chunks_exact(d)).zip(self.dx.rows(d));
        for ((x, dy), mut dx) in rows {
            let inverse = inverse_rms(s, x, self.eps);
            let r = s.splat(inverse);
            let mut dot = s.splat(0.0);
            for i in (0..d).step_by(LANES) {
                let (x, g) = (s.get(x, i), s.get(dy, i));
                let normed = s.mul(x, r);
                s.put(s.fma(g, normed, s.get(self.dw, i)), self.dw, i);
                dot = s.fma(s.mul(g, s.get(self.weight, i)), normed, dot);
            }
            let mean = s.splat(-s.sum(dot) / d as f32);
            for i in (0..d).step_by(LANES) {
                let g = s.mul(s.get(dy, i), s.get(self.weight, i));
                dx.put(s, s.mul(s.fma(s.mul(s.get(x, i), r), mean, g), r), i);
            }
        }
    }
}

/// Root-mean-square norm of each row of `weight.len()` elements (Zhang & Sennrich 2019).
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    rms_norm_on(Isa::best(), x, weight, eps, y.into());
}

/// [`rms_norm`] with the given instruction set, into memory that was not written yet.
pub fn rms_norm_on(isa: Isa, x: &[f32], weight: &[f32], eps: f32, y: Slots<'_>) {
    let d = weight.len();
    assert!(d > 0 && x.len().is_multiple_of(d) && x.len() == y.len(), "x and y are rows of {d} elements");
    let share = share(x.len(), d);
    if share >= x.len() {
        let _span = profile::span(Operator::Norm);
        return dispatch(isa, RmsNorm { x, weight, eps, y });
    }
    let pieces = x.par_chunks(share).zip(y.pieces(share));
    pieces.for_each(|(x, y)| {
        let _span = profile::span(Operator::Norm);
        dispatch(isa, RmsNorm { x, weight, eps, y });
    });
}

/// `ln Σ exp(logits)`
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    dispatch(Isa::best(), LogSumExp(logits))
}

/// Natural log-probability of `target` under softmax(logits).
pub fn logprob(logits: &[f32], target: usize) -> f32 {
    logits[target] - log_sum_exp(logits)
}

/// The largest of some finite numbers; -∞ of none.
pub fn largest(x: &[f32]) -> f32 {
    dispatch(Isa::best(), Largest(x))
}

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (chunks, tail) = self.0.as_chunks::<LANES>();
        let mut max = tail_below(s, tail);
        for chunk in chunks {
            max = s.max(s.load(chunk), max);
        }
        s.largest(max)
    }
}

/// Sum in double precision, in 16 lanes and a fixed tree.
pub fn sum(x: &[f32]) -> f64 {
    dispatch(Isa::best(), Sum(x))
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let (chunks, tail) = self.0.as_chunks::<LANES>();
        let mut lanes = [0.0f64; LANES];
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        lanes.iter_mut().zip(tail).for_each(|(sum, &x)| *sum += f64::from(x));
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
}

/// `y = exp((x - max) * factor)`, or 0 where that is below `floor`.
pub fn exp_scaled(x: &[f32], max: f32, factor: f32, floor: f32, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "as many results as numbers");
    dispatch(Isa::best(), ExpScaled { x, max, factor, floor, y });
}

struct ExpScaled<'a> {
    x: &'a [f32],
    max: f32,
    factor: f32,
    floor: f32,
    y: &'a mut [f32],
}

impl Kernel for ExpScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (max, factor, floor) = (s.splat(self.max), s.splat(self.factor), s.splat(self.floor));
        for i in (0..self.x.len()).step_by(LANES) {
            let e = exp_lanes(s, s.mul(s.sub(s.get(self.x, i), max), factor));
            s.put(s.select_gt(floor, e, s.splat(0.0), e), self.y, i);
        }
    }
}

/// `x += y`, element by element.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many summands as sums");
    let _span = profile::span(Operator::Elementwise);
    dispatch(Isa::best(), Add { x, y });
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.x.len()).step_by(LANES) {
            s.put(s.add(s.get(self.x, i), s.get(self.y, i)), self.x, i);
        }
    }
}

/// `y = a + b`, element by element.
pub fn sum_of(a: &[f32], b: &[f32], y: Slots<'_>) {
    assert!(a.len() == y.len() && b.len() == y.len(), "as many summands as sums");
    let _span = profile::span(Operator::Elementwise);
    dispatch(Isa::best(), SumOf { a, b, y });
}

struct SumOf<'a> {
    a: &'a [f32],
    b: &'a [f32],
    y: Slots<'a>,
}

impl Kernel for SumOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in (0..self.y.len()).step_by(LANES) {
            self.y.put(s, s.add(s.get(self.a, i), s.get(self.b, i)), i);
        }
    }
}

/// `x += bias` in every row of `bias.len()` elements.
pub fn add_bias(x: &mut [f32], bias: &[f32]) {
    let _span = profile::span(Operator::Elementwise);
    for row in x.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// `x *= factor`
pub fn scale(x: &mut [f32], factor: f32) {
    let _span = profile::span(Operator::Elementwise);
    x.iter_mut().for_each(|x| *x *= factor);
}
