//! Muon: momentum, orthogonalised by Newton–Schulz (Jordan et al. 2024), as `torch.optim.Muon` computes it
//! with `adjust_lr_fn="original"`, except that the iteration is in f32 unless other arithmetic is asked for, and in
//! bfloat16 there.
//!
//! For matrices of hidden layers; embeddings, output layers and norms belong to AdamW.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::super::kernels::Arithmetic;
use super::super::kernels::dense::Dense;
use super::super::kernels::gemm::Left;
use super::MomentPrecision;
use super::moment::{MomentStorage, Rounding};
use super::{Buffers, Held, Moment, Parameter, State, global_norm, restore_all, save_all, step_all};
use crate::profile::{self, Operator};

/// Coefficients of the quintic, chosen for the steepest slope at zero.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// PyTorch's name of the buffer.
const MOMENTUM: &str = "momentum_buffer";
/// Below it a gradient counts as zero.
const NORM_MIN: f64 = 1e-7;

/// Momentum, orthogonalised; parameters may join at any step.
#[derive(Clone, Debug)]
pub struct Muon {
    /// Decay of the mean of gradients, which looks ahead as Nesterov's does.
    pub momentum: f64,
    /// Of the iteration's products.
    pub arithmetic: Arithmetic,
    storage: MomentStorage,
    buffers: BTreeMap<String, Momentum>,
}

#[derive(Clone, Debug)]
struct Momentum(Moment);

impl Buffers for Momentum {
    fn new(precision: MomentPrecision, count: usize) -> Self {
        Self(Moment::new(precision, count))
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn save(&self) -> Vec<(&'static str, Cow<'_, Moment>)> {
        vec![(MOMENTUM, Cow::Borrowed(&self.0))]
    }

    fn restore(precision: MomentPrecision, take: &mut dyn FnMut(&str) -> Result<Moment>) -> Result<Self> {
        Ok(Self(take(MOMENTUM)?.expect(precision)?))
    }
}

impl Default for Muon {
    /// Momentum 0.95, in f32.
    fn default() -> Self {
        Self::new(0.95, Arithmetic::F32)
    }
}

impl Muon {
    /// An optimizer that has seen nothing, with its momentum in f32.
    pub fn new(momentum: f64, arithmetic: Arithmetic) -> Self {
        Self { momentum, arithmetic, storage: MomentStorage::default(), buffers: BTreeMap::new() }
    }

    /// The same, with its momentum kept so.
    pub fn storing(self, storage: MomentStorage) -> Self {
        Self { storage, ..self }
    }

    /// One update of every parameter, each a matrix. An error leaves all as they were.
    pub fn step(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        for p in parameters.iter() {
            ensure!(p.shape.len() == 2, "Muon updates matrices; {} has shape {:?}", p.name, p.shape);
        }
        let storage = &self.storage;
        let (old, new, arithmetic) = (self.momentum as f32, (1.0 - self.momentum) as f32, self.arithmetic);
        step_all(storage.precision, &mut self.buffers, parameters, |p, buffer| {
            let _products = profile::named(Operator::Optimizer);
            let _span = profile::span(Operator::Optimizer);
            let mut ahead = Vec::with_capacity(p.values.len());
            let rounding =
                Rounding { address: &storage.address, parameter: p.name, buffer: MOMENTUM, update: p.update };
            buffer.0.whole().update(&rounding, |means| {
                for (mean, &g) in means.iter_mut().zip(p.gradient) {
                    *mean += (g - *mean) * new;
                    ahead.push(g + (*mean - g) * old);
                }
            });
            let (rows, columns) = (p.shape[0], p.shape[1]);
            let update = orthogonalised(arithmetic, ahead, rows, columns);
            let stretch = (rows as f64 / columns.max(1) as f64).max(1.0).sqrt();
            let keep = (1.0 - p.learning_rate * p.weight_decay) as f32;
            let step = (p.learning_rate * stretch) as f32;
            for (x, u) in p.values.iter_mut().zip(update) {
                *x = *x * keep - step * u;
            }
        })
    }

    /// All buffers, by `<parameter>.momentum_buffer`.
    pub fn state(&self) -> Held<'_> {
        save_all(&self.buffers)
    }

    /// Goes on from what [`Muon::state`] gave.
    pub fn restore(&mut self, state: State) -> Result<()> {
        self.buffers = restore_all(self.storage.precision, state, MOMENTUM)?;
        Ok(())
    }
}

/// Floating-point operations of an update of a matrix of this shape: those of the iteration.
pub fn muon_flops(rows: usize, columns: usize) -> f64 {
    let (short, long) = (rows.min(columns) as f64, rows.max(columns) as f64);
    ITERATIONS as f64 * (4.0 * short * short * long + 2.0 * short.powi(3))
}

/// `U f(S) Vᵀ` for `x = U S Vᵀ`, (rows, columns), where f brings singular values near 1.
fn orthogonalised(arithmetic: Arithmetic, mut x: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    if rows > columns {
        let wide = orthogonalised(arithmetic, transposed(&x, rows, columns), columns, rows);
        return transposed(&wide, columns, rows);
    }
    let [a, b, c] = QUINTIC;
    let norm = global_norm(&[&x]).max(NORM_MIN) as f32;
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..ITERATIONS {
        // Columns of xᵀ are rows of x: x itself is its own transpose's columns.
        let gram = Dense::columns(&x, columns, rows).product(arithmetic, Left::Rows(&x), rows);
        let mut polynomial = Dense::rows(&gram, rows, rows).product(arithmetic, Left::Rows(&gram), rows);
        polynomial.iter_mut().zip(&gram).for_each(|(square, gram)| *square = b * gram + c * *square);
        let mut next = Dense::rows(&x, rows, columns).product(arithmetic, Left::Rows(&polynomial), rows);
        next.iter_mut().zip(&x).for_each(|(next, x)| *next += a * x);
        x = next;
    }
    x
}

fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| x[i * columns + j])).collect()
}
