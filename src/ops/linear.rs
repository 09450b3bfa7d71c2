//! `y = x wᵀ`. Gradients: `dx = dy w`, `dw = dyᵀ x`, each by the same tile as the forward pass.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::kernels::gemm::{Left, Packed, gemm};
use super::kernels::simd::Isa;
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// x (N, in), w (out, in) → (N, out).
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ((x, _, inp), (w, out, w_inp)) = (matrix("linear: x", x)?, matrix("linear: w", w)?);
    ensure!(inp == w_inp, "linear: x has {inp} columns and w is ({out}, {w_inp})");
    if is_elsewhere(&x) {
        return composed::linear(&x, &w);
    }
    Ok(x.apply_op2(&w, Linear)?)
}

struct Linear;

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
        let mut y = vec![0.0; m * out];
        let w = Packed::from_columns(elements(w, lw)?, inp, out);
        gemm(Isa::best(), Left::Rows(elements(x, lx)?), m, &w, &mut y, false);
        output(y, (m, out))
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
        let dx = if x.track_op() {
            let mut dx = vec![0.0; m * inp];
            let packed = Packed::from_rows(Elements::of(w).get()?, out, inp);
            let _dx = profile::named(Operator::LinearBackwardInput);
            gemm(Isa::best(), Left::Rows(dy.get()?), m, &packed, &mut dx, false);
            gradient(dx, x)?
        } else {
            None
        };
        let dw = if w.track_op() {
            let mut dw = vec![0.0; out * inp];
            let packed = Packed::from_rows(Elements::of(x).get()?, m, inp);
            let _dw = profile::named(Operator::LinearBackwardWeight);
            gemm(Isa::best(), Left::Columns(dy.get()?), out, &packed, &mut dw, false);
            gradient(dw, w)?
        } else {
            None
        };
        Ok((dx, dw))
    }
}
