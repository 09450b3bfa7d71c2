//! Adam with decoupled weight decay (Loshchilov & Hutter 2019), as `torch.optim.AdamW` computes it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::super::kernels::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::{Buffers, Parameter, State, restore_all, save_all, step_all};
use crate::profile::{self, Operator};

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
    moments: BTreeMap<String, Moments>,
}

#[derive(Clone, Debug)]
struct Moments {
    step: u32,
    mean: Vec<f32>,
    mean_square: Vec<f32>,
}

impl Buffers for Moments {
    fn new(count: usize) -> Self {
        Self { step: 0, mean: vec![0.0; count], mean_square: vec![0.0; count] }
    }

    fn count(&self) -> usize {
        self.mean.len()
    }

    fn save(&self) -> Vec<(&'static str, Vec<f32>)> {
        // Exact: f32 counts to 16 million.
        let step = vec![self.step as f32];
        vec![("step", step), ("exp_avg", self.mean.clone()), ("exp_avg_sq", self.mean_square.clone())]
    }

    fn restore(take: &mut dyn FnMut(&str) -> Result<Vec<f32>>) -> Result<Self> {
        let (step, mean, mean_square) = (take("step")?, take("exp_avg")?, take("exp_avg_sq")?);
        ensure!(step.len() == 1, "an optimizer's step has {} values instead of one", step.len());
        ensure!(mean.len() == mean_square.len(), "moments of {} and {}", mean.len(), mean_square.len());
        Ok(Self { step: step[0] as u32, mean, mean_square })
    }
}

impl Default for AdamW {
    /// PyTorch's: betas 0.9 and 0.999, eps 1e-8.
    fn default() -> Self {
        Self::new(0.9, 0.999, 1e-8)
    }
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(beta1: f64, beta2: f64, eps: f64) -> Self {
        Self { beta1, beta2, eps, moments: BTreeMap::new() }
    }

    /// One update of every parameter. An error leaves all as they were.
    pub fn step(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        let (beta1, beta2, eps) = (self.beta1, self.beta2, self.eps);
        step_all(&mut self.moments, parameters, |p, moments| {
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
            let state = moments.mean.par_chunks_mut(SHARE).zip(moments.mean_square.par_chunks_mut(SHARE));
            let values = p.values.par_chunks_mut(SHARE).zip(p.gradient.par_chunks(SHARE));
            values.zip(state).for_each(|((values, gradient), (mean, mean_square))| {
                let _span = profile::span(Operator::Optimizer);
                dispatch(Isa::best(), Update { values, gradient, mean, mean_square, factors });
            });
        })
    }

    /// All buffers, by `<parameter>.{step,exp_avg,exp_avg_sq}`.
    pub fn state(&self) -> State {
        save_all(&self.moments)
    }

    /// Goes on from what [`AdamW::state`] gave.
    pub fn restore(&mut self, state: State) -> Result<()> {
        self.moments = restore_all(state, "exp_avg")?;
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
