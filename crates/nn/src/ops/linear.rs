//! `y = x wᵀ`. Gradients: `dx = dy w`, `dw = dyᵀ x`, each by the same tile as the forward pass.

use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor, TensorId};

use super::composed;
use super::kernels::Arithmetic;
use super::kernels::dense::{Dense, Prepared};
use super::kernels::gemm::Left;
use super::tape::{apply_2, is_tracked};
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// x (N, in), w (out, in) → (N, out), in f32.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    linear_by(Arithmetic::F32, x, w)
}

/// As [`linear`], with all three products by `arithmetic`; on other devices than the CPU by theirs.
pub fn linear_by(arithmetic: Arithmetic, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    linear_with(arithmetic, x, w, None)
}

/// What the gradients of several weights that meet the same x need of it: laid out by the first of them, for all.
#[derive(Clone, Default)]
pub struct SharedPacking(Arc<OnceLock<(TensorId, Arithmetic, Prepared)>>);

#[cfg(test)]
impl SharedPacking {
    /// What is laid out.
    pub(super) fn of(&self) -> Option<TensorId> {
        self.0.get().map(|(id, ..)| *id)
    }
}

/// As [`linear_by`]; weights that meet the same x may share what their gradients need of it.
pub fn linear_with(
    arithmetic: Arithmetic,
    x: &Tensor,
    w: &Tensor,
    shared: Option<&SharedPacking>,
) -> Result<Tensor> {
    let ((x, _, inp), (w, out, w_inp)) = (matrix("linear: x", x)?, matrix("linear: w", w)?);
    ensure!(inp == w_inp, "linear: x has {inp} columns and w is ({out}, {w_inp})");
    if is_elsewhere(&x) {
        return composed::linear(&x, &w);
    }
    Ok(apply_2(&x, &w, Linear(arithmetic, shared.cloned()))?)
}

struct Linear(Arithmetic, Option<SharedPacking>);

impl Linear {
    /// `dyᵀ x`: dy (m, out), x (m, inp).
    fn weight_gradient(&self, x: &Tensor, dy: &[f32], [m, inp, out]: [usize; 3]) -> Candle<Vec<f32>> {
        let (elements, dy) = (Elements::of(x), Left::Columns(dy));
        let dense = Dense::rows(elements.get()?, m, inp);
        let lay_out = || (x.id(), self.0, dense.prepared(self.0));
        let packing = self.1.as_ref().map(|SharedPacking(shared)| shared.get_or_init(lay_out));
        Ok(match packing {
            // Nothing is laid out of another x than the first one's, or for other arithmetic.
            Some((id, arithmetic, prepared)) if (*id, *arithmetic) == (x.id(), self.0) => {
                prepared.product(dy, out)
            }
            _ => dense.product(self.0, dy, out),
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let ((m, inp), (out, _)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        let w = Dense::columns(elements(w, lw)?, inp, out);
        output(w.product(self.0, Left::Rows(elements(x, lx)?), m), (m, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let ((m, inp), out) = (x.dims2()?, w.dim(0)?);
        let dy = dy.contiguous()?;
        let dy = Elements::of(&dy);
        // A frozen argument costs nothing.
        let dx = if is_tracked(x) {
            let w = Elements::of(w);
            let _dx = profile::named(Operator::LinearBackwardInput);
            gradient(Dense::rows(w.get()?, out, inp).product(self.0, Left::Rows(dy.get()?), m), x)?
        } else {
            None
        };
        let dw = if is_tracked(w) {
            let _dw = profile::named(Operator::LinearBackwardWeight);
            gradient(self.weight_gradient(x, dy.get()?, [m, inp, out])?, w)?
        } else {
            None
        };
        Ok((dx, dw))
    }
}
