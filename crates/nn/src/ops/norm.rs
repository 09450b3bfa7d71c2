//! Root-mean-square norm (Zhang & Sennrich 2019), rows of x by one weight.

#![allow(unsafe_code, reason = "a result is written once, into memory that was not cleared first")]

use std::borrow::Cow;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::composed;
use super::kernels::pointwise::{RmsNormBackward, rms_norm_on};
use super::kernels::simd::{Isa, dispatch};
use super::kernels::slots::{self, Slots};
use super::tape::apply_2;
use super::tensor::{Candle, Elements, argument, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// Rows whose share of the weight's gradient is summed on its own; then the shares are, in order.
const ROWS: usize = 128;

/// x (N, D), w (D) → (N, D): `x / sqrt(mean(x²) + eps) * w`.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    apply(x, w, RmsNorm { eps: eps as f32, plus_one: false })
}

/// x (N, D), w (D) → (N, D): `x / sqrt(mean(x²) + eps) * (1 + w)`, Gemma's norm.
pub fn rms_norm_plus_one(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    apply(x, w, RmsNorm { eps: eps as f32, plus_one: true })
}

fn apply(x: &Tensor, w: &Tensor, op: RmsNorm) -> Result<Tensor> {
    let ((x, _, d), w) = (matrix("rms_norm: x", x)?, argument("rms_norm: w", w)?);
    ensure!(w.dims() == [d] && d > 0, "rms_norm: x has {d} columns and w has shape {:?}", w.dims());
    if is_elsewhere(&x) {
        let run = if op.plus_one { composed::rms_norm_plus_one } else { composed::rms_norm };
        return run(&x, &w, f64::from(op.eps));
    }
    Ok(apply_2(&x, &w, op)?)
}

struct RmsNorm {
    eps: f32,
    plus_one: bool,
}

impl RmsNorm {
    /// What rows are multiplied by.
    fn weight<'a>(&self, w: &'a [f32]) -> Cow<'a, [f32]> {
        if self.plus_one { w.iter().map(|w| 1.0 + w).collect() } else { w.into() }
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let x = elements(x, lx)?;
        let weight = self.weight(elements(w, lw)?);
        // SAFETY: of a norm every element is written.
        let y = unsafe { slots::vector(x.len(), |y| rms_norm_on(Isa::best(), x, &weight, self.eps, y)) };
        output(y, lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (ex, ew, edy) = (Elements::of(x), Elements::of(w), Elements::of(&dy));
        let (xs, weight, dys) = (ex.get()?, self.weight(ew.get()?), edy.get()?);
        let weight = &*weight;
        let d = weight.len();
        assert!(xs.len() == dys.len() && xs.len().is_multiple_of(d), "rows of {d}, and as many gradients");
        let mut shares: Vec<Vec<f32>> = Vec::new();
        let backward = |((x, dy), dx): ((&[f32], &[f32]), Slots<'_>)| {
            let _span = profile::span(Operator::Norm);
            let mut dw = vec![0.0; d];
            dispatch(Isa::best(), RmsNormBackward { x, weight, eps: self.eps, dy, dx, dw: &mut dw });
            dw
        };
        // SAFETY: rows of x, whole ones, get a gradient each.
        let dx = unsafe {
            slots::vector(xs.len(), |dx| {
                let rows = xs.par_chunks(ROWS * d).zip(dys.par_chunks(ROWS * d));
                rows.zip(dx.pieces(ROWS * d)).map(backward).collect_into_vec(&mut shares);
            })
        };
        let mut dw = vec![0.0; d];
        for share in shares {
            dw.iter_mut().zip(share).for_each(|(sum, x)| *sum += x);
        }
        Ok((gradient(dx, x)?, gradient(dw, w)?))
    }
}
