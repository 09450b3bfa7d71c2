//! Log-probabilities of target tokens straight from hidden states: logits exist for a chunk of rows at a
//! time, and the backward pass recomputes them, unless the weight is frozen.
//!
//! With p the softmax of a row's logits and g the gradient of its log-probability, the logits' gradient is
//! `g (onehot(target) - p)`. The chunk's size changes no bit: the weight's gradient is one chain over rows.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail, ensure};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::composed;
use super::kernels::dense::Dense;
use super::kernels::gemm::Left;
use super::kernels::pointwise::LogprobBackward;
use super::kernels::simd::{Isa, dispatch};
use super::kernels::softcap::{MultiplyBy, SoftcapSlopes, softcap};
use super::kernels::{Arithmetic, PackedWeight, logprob};
use super::lora::FrozenMatrix;
use super::tape::{apply_1, apply_2, is_tracked};
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// Most logits at a time, unless 16 rows have more.
const LOGITS_MAX: usize = 1 << 23;

/// x (N, D), w (V, D), targets below V → (N): `log softmax(x wᵀ)[target]`, natural.
pub fn linear_logprob(x: &Tensor, w: &Tensor, targets: &Arc<Vec<u32>>) -> Result<Tensor> {
    capped_linear_logprob(Arithmetic::F32, x, w, targets, None)
}

/// As [`linear_logprob`] with products by `arithmetic`, of logits that went through `cap * tanh(logit / cap)` if a cap
/// is given.
pub fn capped_linear_logprob(
    arithmetic: Arithmetic,
    x: &Tensor,
    w: &Tensor,
    targets: &Arc<Vec<u32>>,
    cap: Option<f32>,
) -> Result<Tensor> {
    let (w, v, w_d) = matrix("linear_logprob: w", w)?;
    let (x, logits) = checked(x, v, w_d, targets, cap)?;
    if is_elsewhere(&x) {
        return composed::capped_linear_logprob(&x, &w, targets, cap);
    }
    Ok(apply_2(&x, &w, LinearLogprob(logits, arithmetic))?)
}

/// As [`capped_linear_logprob`], of a weight that is frozen.
pub fn frozen_logprob(
    x: &Tensor,
    w: &FrozenMatrix,
    targets: &Arc<Vec<u32>>,
    cap: Option<f32>,
) -> Result<Tensor> {
    let (v, d) = w.shape();
    let (x, logits) = checked(x, v, d, targets, cap)?;
    match w {
        FrozenMatrix::Packed(w) => {
            let unit = is_tracked(&x).then(Mutex::default);
            Ok(apply_1(&x, FrozenLogprob { logits, w: w.clone(), unit })?)
        }
        FrozenMatrix::Elsewhere(w) => composed::capped_linear_logprob(&x, w, targets, cap),
    }
}

fn checked(
    x: &Tensor,
    v: usize,
    w_d: usize,
    targets: &Arc<Vec<u32>>,
    cap: Option<f32>,
) -> Result<(Tensor, Logits)> {
    let (x, n, d) = matrix("linear_logprob: x", x)?;
    ensure!(d == w_d, "linear_logprob: x has {d} columns and w is ({v}, {w_d})");
    ensure!(targets.len() == n, "linear_logprob: {} targets for {n} rows", targets.len());
    if let Some(target) = targets.iter().find(|&&t| t as usize >= v) {
        bail!("linear_logprob: target {target} of a vocabulary of {v}");
    }
    Ok((x, Logits { v, d, targets: targets.clone(), cap }))
}

/// What is asked of logits (N, V), whatever weight they are made with.
struct Logits {
    v: usize,
    d: usize,
    targets: Arc<Vec<u32>>,
    cap: Option<f32>,
}

impl Logits {
    fn chunk_rows(&self) -> usize {
        (LOGITS_MAX / self.v.max(1)).clamp(16, 128)
    }

    /// Caps the logits, and writes their slopes if there is room for them.
    fn capped(&self, logits: &mut [f32], slopes: &mut [f32]) {
        let Some(cap) = self.cap else { return };
        let _span = profile::span(Operator::LogSoftmax);
        softcap(logits, cap);
        let room = slopes.len().min(logits.len());
        let (capped, slopes) = (&logits[..room], &mut slopes[..room]);
        dispatch(Isa::best(), SoftcapSlopes { capped, cap, slopes });
    }

    /// Chunks of (rows of x, targets).
    fn chunks<'a>(&'a self, x: &'a [f32], rows: usize) -> impl Iterator<Item = (&'a [f32], &'a [u32])> {
        self.targets
            .chunks(rows)
            .enumerate()
            .map(move |(c, t)| (&x[c * rows * self.d..][..t.len() * self.d], t))
    }

    /// Log-probabilities of the targets; `product(x, m, logits)` is `x wᵀ`.
    fn logprobs(&self, x: &[f32], product: impl Fn(&[f32], usize, &mut [f32])) -> Vec<f32> {
        let (v, rows) = (self.v, self.chunk_rows());
        let mut logits = vec![0.0; rows.min(self.targets.len()) * v];
        let mut y = Vec::with_capacity(self.targets.len());
        for (x, targets) in self.chunks(x, rows) {
            let logits = &mut logits[..targets.len() * v];
            product(x, targets.len(), logits);
            self.capped(logits, &mut []);
            let share = rows_per_thread(v);
            y.par_extend(logits.par_chunks_exact(v).zip(targets).with_min_len(share).map(
                |(row, &target)| {
                    let _span = profile::span(Operator::LogSoftmax);
                    logprob(row, target as usize)
                },
            ));
        }
        y
    }

    /// The logits' gradients, chunk by chunk: `with(x, first row, m, gradients)`.
    fn gradients(
        &self,
        x: &[f32],
        mut scale: Scale,
        product: impl Fn(&[f32], usize, &mut [f32]),
        mut with: impl FnMut(&[f32], usize, usize, &[f32]),
    ) {
        let (v, rows) = (self.v, self.chunk_rows());
        let mut logits = vec![0.0; rows.min(self.targets.len()) * v];
        let mut slopes = vec![0.0; if self.cap.is_some() { logits.len() } else { 0 }];
        for (c, (x, targets)) in self.chunks(x, rows).enumerate() {
            let logits = &mut logits[..targets.len() * v];
            product(x, targets.len(), logits);
            self.capped(logits, &mut slopes);
            let rows_of = c * rows..c * rows + targets.len();
            let each = logits.par_chunks_exact_mut(v).zip(targets).with_min_len(rows_per_thread(v));
            match &mut scale {
                Scale::By(dy) => each.zip(&dy[rows_of]).for_each(|((logits, &target), &scale)| {
                    let _span = profile::span(Operator::LogSoftmax);
                    dispatch(Isa::best(), LogprobBackward { logits, target: target as usize, scale });
                }),
                Scale::One(y) => each.zip(&mut y[rows_of]).for_each(|((logits, &target), y)| {
                    let _span = profile::span(Operator::LogSoftmax);
                    *y = dispatch(
                        Isa::best(),
                        LogprobBackward { logits, target: target as usize, scale: 1.0 },
                    );
                }),
            }
            if self.cap.is_some() {
                let _span = profile::span(Operator::LogSoftmax);
                dispatch(Isa::best(), MultiplyBy { x: logits, y: &slopes });
            }
            with(x, c * rows, targets.len(), logits);
        }
    }
}

/// What the gradients of log-probabilities are multiplied by.
enum Scale<'a> {
    /// One factor for each row.
    By(&'a [f32]),
    /// Nothing; the log-probabilities are wanted too, and written here.
    One(&'a mut [f32]),
}

struct LinearLogprob(Logits, Arithmetic);

impl CustomOp2 for LinearLogprob {
    fn name(&self) -> &'static str {
        "linear_logprob"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (v, d) = lw.shape().dims2()?;
        let w = Dense::columns(elements(w, lw)?, d, v).prepared(self.1);
        let product = |x: &[f32], m, y: &mut [f32]| w.multiply(Left::Rows(x), m, y, false);
        output(self.0.logprobs(elements(x, lx)?, product), self.0.targets.len())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let (v, d) = w.dims2()?;
        let dy = dy.contiguous()?;
        let (ex, ew, edy) = (Elements::of(x), Elements::of(w), Elements::of(&dy));
        let forward = Dense::columns(ew.get()?, d, v).prepared(self.1);
        let backward = Dense::rows(ew.get()?, v, d).prepared(self.1);
        let mut dx = vec![0.0; self.0.targets.len() * d];
        let mut dw = vec![0.0; if is_tracked(w) { v * d } else { 0 }];
        let product = |x: &[f32], m, y: &mut [f32]| forward.multiply(Left::Rows(x), m, y, false);
        self.0.gradients(ex.get()?, Scale::By(edy.get()?), product, |x, first, m, logits| {
            let dx = &mut dx[first * d..][..m * d];
            let named = profile::named(Operator::LinearBackwardInput);
            backward.multiply(Left::Rows(logits), m, dx, false);
            drop(named);
            if !dw.is_empty() {
                let _dw = profile::named(Operator::LinearBackwardWeight);
                Dense::rows(x, m, d).multiply(self.1, Left::Columns(logits), v, &mut dw, true);
            }
        });
        Ok((gradient(dx, x)?, if dw.is_empty() { None } else { gradient(dw, w)? }))
    }
}

/// The gradient of a row's log-probability by its hidden state is known as soon as its logits are, but for a factor:
/// where there will be a backward pass, the forward one makes it, so that the logits are made once.
struct FrozenLogprob {
    logits: Logits,
    w: Arc<PackedWeight>,
    /// What the forward pass leaves to the backward one, (N, D).
    unit: Option<Mutex<Vec<f32>>>,
}

impl FrozenLogprob {
    /// Log-probabilities, and their gradients by the hidden states.
    fn with_gradients(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let d = self.logits.d;
        let (mut y, mut unit) = (vec![0.0; self.logits.targets.len()], vec![0.0; x.len()]);
        let product = |x: &[f32], m, y: &mut [f32]| self.w.forward(x, m, y, false);
        self.logits.gradients(x, Scale::One(&mut y), product, |_, first, m, logits| {
            self.w.backward(logits, m, &mut unit[first * d..][..m * d]);
        });
        (y, unit)
    }
}

impl CustomOp1 for FrozenLogprob {
    fn name(&self) -> &'static str {
        "frozen_logprob"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (x, n) = (elements(x, layout)?, self.logits.targets.len());
        let Some(kept) = &self.unit else {
            let product = |x: &[f32], m, y: &mut [f32]| self.w.forward(x, m, y, false);
            return output(self.logits.logprobs(x, product), n);
        };
        let (y, unit) = self.with_gradients(x);
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = unit;
        output(y, n)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let kept = self
            .unit
            .as_ref()
            .map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
        let ex = Elements::of(x);
        // A second backward pass finds nothing left.
        let mut dx = match kept.filter(|unit| unit.len() == x.elem_count()) {
            Some(unit) => unit,
            None => self.with_gradients(ex.get()?).1,
        };
        let dy = dy.contiguous()?;
        let edy = Elements::of(&dy);
        for (dx, dy) in dx.chunks_exact_mut(self.logits.d.max(1)).zip(edy.get()?) {
            dx.iter_mut().for_each(|dx| *dx *= dy);
        }
        gradient(dx, x)
    }
}

/// Rows of logits worth a thread.
fn rows_per_thread(vocab: usize) -> usize {
    (1_usize << 14).div_ceil(vocab.max(1))
}
