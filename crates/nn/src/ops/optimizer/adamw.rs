//! Adam with decoupled weight decay (Loshchilov & Hutter 2019), as `torch.optim.AdamW` computes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::super::kernels::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::MomentPrecision;
use super::moment::{MomentStorage, Rounding};
use super::{Buffers, Held, Moment, Parameter, State, restore_all, save_all, step_all};
use crate::profile::{self, Operator};

// PyTorch's names of the buffers.
const MEAN: &str = "exp_avg";
const MEAN_SQUARE: &str = "exp_avg_sq";
/// Elements worth a thread.
const SHARE: usize = 1 << 15;

/// Adam with decoupled weight decay; parameters may join at any step.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    storage: MomentStorage,
    moments: BTreeMap<String, Moments>,
}

#[derive(Clone, Debug)]
struct Moments {
    step: u32,
    mean: Moment,
    mean_square: Moment,
}

impl Buffers for Moments {
    fn new(precision: MomentPrecision, count: usize) -> Self {
        let zeros = || Moment::new(precision, count);
        Self { step: 0, mean: zeros(), mean_square: zeros() }
    }

    fn count(&self) -> usize {
        self.mean.count()
    }

    fn save(&self) -> Vec<(&'static str, Cow<'_, Moment>)> {
        // Exact: f32 counts to 16 million.
        let step = Moment::F32(vec![self.step as f32]);
        let (mean, mean_square) = (Cow::Borrowed(&self.mean), Cow::Borrowed(&self.mean_square));
        vec![("step", Cow::Owned(step)), (MEAN, mean), (MEAN_SQUARE, mean_square)]
    }

    fn restore(precision: MomentPrecision, take: &mut dyn FnMut(&str) -> Result<Moment>) -> Result<Self> {
        let step = take("step")?.single()? as u32;
        let (mean, mean_square) = (take(MEAN)?.expect(precision)?, take(MEAN_SQUARE)?.expect(precision)?);
        ensure!(
            mean.count() == mean_square.count(),
            "moments of {} and {}",
            mean.count(),
            mean_square.count()
        );
        Ok(Self { step, mean, mean_square })
    }
}

impl Default for AdamW {
    /// PyTorch's: betas 0.9 and 0.999, eps 1e-8.
    fn default() -> Self {
        Self::new(0.9, 0.999, 1e-8)
    }
}

impl AdamW {
    /// An optimizer that has seen nothing, with moments in f32.
    pub fn new(beta1: f64, beta2: f64, eps: f64) -> Self {
        Self { beta1, beta2, eps, storage: MomentStorage::default(), moments: BTreeMap::new() }
    }

    /// The same, with moments kept so.
    pub fn storing(self, storage: MomentStorage) -> Self {
        Self { storage, ..self }
    }

    /// One update of every parameter. An error leaves all as they were.
    pub fn step(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        let (beta1, beta2, eps, storage) = (self.beta1, self.beta2, self.eps, &self.storage);
        step_all(storage.precision, &mut self.moments, parameters, |p, moments| {
            moments.step += 1;
            let correction1 = 1.0 - beta1.powi(moments.step as i32);
            let correction2 = 1.0 - beta2.powi(moments.step as i32);
            let factors = Factors {
                keep: (1.0 - p.learning_rate * p.weight_decay) as f32,
                new1: (1.0 - beta1) as f32,
                old2: beta2 as f32,
                new2: (1.0 - beta2) as f32,
                root: correction2.sqrt() as f32,
                eps: eps as f32,
                step: (p.learning_rate / correction1) as f32,
            };
            let rounding =
                |buffer| Rounding { address: &storage.address, parameter: p.name, buffer, update: p.update };
            let (of_mean, of_square) = (rounding(MEAN), rounding(MEAN_SQUARE));
            let shares = moments.mean.shares(SHARE).into_par_iter().zip(moments.mean_square.shares(SHARE));
            let values = p.values.par_chunks_mut(SHARE).zip(p.gradient.par_chunks(SHARE));
            values.zip(shares).for_each(|((values, gradient), (mean, mean_square))| {
                let _span = profile::span(Operator::Optimizer);
                mean.update(&of_mean, |mean| {
                    mean_square.update(&of_square, |mean_square| {
                        dispatch(Isa::best(), Update { values, gradient, mean, mean_square, factors });
                    });
                });
            });
        })
    }

    /// All buffers, by `<parameter>.{step,exp_avg,exp_avg_sq}`.
    pub fn state(&self) -> Held<'_> {
        save_all(&self.moments)
    }

    /// Goes on from what [`AdamW::state`] gave.
    pub fn restore(&mut self, state: State) -> Result<()> {
        self.moments = restore_all(self.storage.precision, state, MEAN)?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Factors {
    keep: f32,
    new1: f32,
    old2: f32,
    new2: f32,
    root: f32,
    eps: f32,
    step: f32,
}

struct Update<'a> {
    values: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    mean_square: &'a mut [f32],
    factors: Factors,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.factors;
        for i in (0..self.values.len()).step_by(LANES) {
            let (g, mean) = (s.get(self.gradient, i), s.get(self.mean, i));
            let mean = s.fma(s.sub(g, mean), s.splat(f.new1), mean);
            let square = s.mul(s.get(self.mean_square, i), s.splat(f.old2));
            let square = s.fma(s.mul(g, g), s.splat(f.new2), square);
            let size = s.add(s.div(s.sqrt(square), s.splat(f.root)), s.splat(f.eps));
            let kept = s.mul(s.get(self.values, i), s.splat(f.keep));
            s.put(mean, self.mean, i);
            s.put(square, self.mean_square, i);
            s.put(s.fma(s.div(mean, size), s.splat(-f.step), kept), self.values, i);
        }
    }
}
