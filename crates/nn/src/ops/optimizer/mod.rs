//! Optimizers over plain slices: [`AdamW`] and [`Muon`], and clipping by the global norm.
//!
//! Contract: an update is a pure function of parameter, gradient and state, computed in f32 (Muon's iteration by the
//! arithmetic it is asked for) with a fixed order of every sum; parameters are shared among threads, which changes no
//! bit. Moments are kept in f32 or bf16. State is a map from `<parameter>.<PyTorch's name of the buffer>` to values, to be
//! saved and restored as it is.

mod adamw;
mod moment;
mod muon;

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;

use super::kernels::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::profile::{self, Operator};

pub use adamw::AdamW;
pub use moment::{Moment, MomentPrecision, MomentStorage};
pub use muon::{Muon, muon_flops};

/// An optimizer's buffers, by `<parameter>.<buffer>`.
pub type State = BTreeMap<String, Moment>;
/// The same, as the optimizer holds it.
pub type Held<'a> = BTreeMap<String, Cow<'a, Moment>>;

/// One parameter in one step.
pub struct Parameter<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: &'a mut [f32],
    /// As long as `values`.
    pub gradient: &'a [f32],
    pub learning_rate: f64,
    /// Decoupled: `values *= 1 - learning_rate * weight_decay` before the update. Usually 0 for norms.
    pub weight_decay: f64,
    /// Number of the update: with it, moments in bf16 are rounded otherwise each time.
    pub update: u32,
}

impl Parameter<'_> {
    fn check(&self) -> Result<()> {
        let (name, count) = (self.name, self.shape.iter().product::<usize>());
        ensure!(
            self.values.len() == count && self.gradient.len() == count,
            "parameter {name} of shape {:?} has {} values and a gradient of {}",
            self.shape,
            self.values.len(),
            self.gradient.len()
        );
        Ok(())
    }
}

/// What one parameter keeps between steps.
trait Buffers: Sized + Send {
    fn new(precision: MomentPrecision, count: usize) -> Self;
    /// Elements it belongs to.
    fn count(&self) -> usize;
    /// (name, values) of each buffer.
    fn save(&self) -> Vec<(&'static str, Cow<'_, Moment>)>;
    /// From what `save` gave; `take` removes a buffer by name.
    fn restore(precision: MomentPrecision, take: &mut dyn FnMut(&str) -> Result<Moment>) -> Result<Self>;
}

/// Updates every parameter by `update`, in parallel; buffers that are missing start at zero.
fn step_all<B: Buffers>(
    precision: MomentPrecision,
    buffers: &mut BTreeMap<String, B>,
    parameters: &mut [Parameter<'_>],
    update: impl Fn(&mut Parameter<'_>, &mut B) + Sync,
) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    for p in parameters.iter() {
        p.check()?;
        ensure!(names.insert(p.name), "parameter {} is given twice", p.name);
        let known = buffers.get(p.name).map_or(p.values.len(), B::count);
        ensure!(known == p.values.len(), "the optimizer knows {} with {known} elements", p.name);
    }
    let mut take =
        |p: &Parameter<'_>| buffers.remove(p.name).unwrap_or_else(|| B::new(precision, p.values.len()));
    let mut taken: Vec<B> = parameters.iter().map(&mut take).collect();
    parameters.par_iter_mut().zip(&mut taken).for_each(|(p, b)| update(p, b));
    buffers.extend(parameters.iter().map(|p| p.name.to_owned()).zip(taken));
    Ok(())
}

fn save_all<B: Buffers>(buffers: &BTreeMap<String, B>) -> Held<'_> {
    let each =
        buffers.iter().flat_map(|(name, b)| b.save().into_iter().map(move |(kind, x)| (name, kind, x)));
    each.map(|(name, kind, x)| (format!("{name}.{kind}"), x)).collect()
}

/// `kind` is one of the buffer names that [`Buffers::save`] gives.
fn restore_all<B: Buffers>(
    precision: MomentPrecision,
    mut state: State,
    kind: &str,
) -> Result<BTreeMap<String, B>> {
    let suffix = format!(".{kind}");
    let names: Vec<String> =
        state.keys().filter_map(|k| k.strip_suffix(&suffix)).map(str::to_owned).collect();
    let mut all = BTreeMap::new();
    for name in names {
        let mut take = |kind: &str| {
            let key = format!("{name}.{kind}");
            state.remove(&key).ok_or_else(|| anyhow::anyhow!("the optimizer's state lacks {key}"))
        };
        let buffers = B::restore(precision, &mut take)?;
        all.insert(name, buffers);
    }
    if let Some(key) = state.keys().next() {
        bail!("the optimizer's state has {key}, which belongs to another optimizer");
    }
    Ok(all)
}

/// Square root of the sum of squares over all gradients: 4096 elements in 16 lanes, then doubles in order.
pub fn global_norm(gradients: &[&[f32]]) -> f64 {
    let squares = |g: &&[f32]| -> f64 {
        let part = |x: &[f32]| {
            let _span = profile::span(Operator::Optimizer);
            dispatch(Isa::best(), SumOfSquares(x))
        };
        let parts: Vec<f32> = g.par_chunks(4096).map(part).collect();
        parts.into_iter().map(f64::from).sum()
    };
    gradients.iter().map(squares).sum::<f64>().sqrt()
}

/// Scales all gradients so that their [`global_norm`] is at most `norm_max`; returns the norm they had.
pub fn clip_global_norm(gradients: &mut [&mut [f32]], norm_max: f64) -> f64 {
    let norm = global_norm(&gradients.iter().map(|g| &**g).collect::<Vec<_>>());
    let factor = norm_max / (norm + 1e-6);
    if factor < 1.0 {
        for gradient in gradients {
            gradient.par_chunks_mut(1 << 16).for_each(|g| {
                let _span = profile::span(Operator::Optimizer);
                g.iter_mut().for_each(|g| *g *= factor as f32);
            });
        }
    }
    norm
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.splat(0.0);
        for i in (0..self.0.len()).step_by(LANES) {
            let x = s.get(self.0, i);
            sum = s.fma(x, x, sum);
        }
        s.sum(sum)
    }
}

#[cfg(test)]
mod tests;
