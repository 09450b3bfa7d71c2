//! A linear layer whose weight is frozen but for a product of two narrow matrices (LoRA, Hu et al. 2021).
//!
//! The forward pass multiplies by the merged weight `M = W + s B A`, so it has the bits of a plain linear layer of `M`:
//! what is sampled is what is trained. Gradients go to x, A and B by `dA = s (dy B)ᵀ x`, `dB = s dyᵀ (x Aᵀ)`; that of
//! the frozen weight, as large as the weight, is never made.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use super::kernels::gemm::{Left, Packed, gemm};
use super::kernels::simd::Isa;
use super::tensor::{Candle, Elements, elements, gradient, matrix, output};

/// `w + scale b a`: w (out, in), a (r, in), b (out, r) → (out, in), without a gradient.
pub fn lora_merge(w: &Tensor, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    let ((w, out, inp), (a, r, a_inp)) = (matrix("lora_merge: w", w)?, matrix("lora_merge: a", a)?);
    let (b, b_out, b_r) = matrix("lora_merge: b", b)?;
    ensure!(
        (a_inp, b_out, b_r) == (inp, out, r),
        "lora_merge: a is ({r}, {a_inp}) and b is ({b_out}, {b_r}) for a weight of ({out}, {inp})"
    );
    let mut merged = vec![0.0; out * inp];
    let (ea, eb, ew) = (Elements::of(&a), Elements::of(&b), Elements::of(&w));
    gemm(Isa::best(), Left::Rows(eb.get()?), out, &Packed::from_rows(ea.get()?, r, inp), &mut merged, false);
    merged.iter_mut().zip(ew.get()?).for_each(|(m, w)| *m = w + scale * *m);
    Ok(Tensor::from_vec(merged, (out, inp), w.device())?)
}

/// x (N, in), a (r, in), b (out, r) → (N, out): `x mergedᵀ`, where `merged` (out, in) is [`lora_merge`] of a frozen
/// weight, `a` and `b`. With a `mask` (N · in) of dropout the adapter reads `mask ⊙ x` instead of x.
pub fn lora_linear(
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    merged: &Tensor,
    scale: f32,
    mask: Option<Arc<Vec<f32>>>,
) -> Result<Tensor> {
    let ((x, n, inp), (a, r, a_inp)) = (matrix("lora_linear: x", x)?, matrix("lora_linear: a", a)?);
    let (b, out, b_r) = matrix("lora_linear: b", b)?;
    let (merged, m_out, m_inp) = matrix("lora_linear: merged", merged)?;
    ensure!(
        (a_inp, m_inp, m_out, b_r) == (inp, inp, out, r),
        "lora_linear: x has {inp} columns, a is ({r}, {a_inp}), b is ({out}, {b_r}) and merged is ({m_out}, {m_inp})"
    );
    if let Some(mask) = &mask {
        ensure!(mask.len() == n * inp, "lora_linear: a mask of {} for x of ({n}, {inp})", mask.len());
    }
    Ok(x.apply_op3(&a, &b, LoraLinear { merged: merged.detach(), scale, mask })?)
}

struct LoraLinear {
    merged: Tensor,
    scale: f32,
    mask: Option<Arc<Vec<f32>>>,
}

/// `x aᵀ`, scaled: x (m, inp), a (r, inp) → (m, r).
fn narrow(x: &[f32], m: usize, a: &[f32], r: usize, scale: f32) -> Vec<f32> {
    let mut h = vec![0.0; m * r];
    let inp = a.len() / r.max(1);
    gemm(Isa::best(), Left::Rows(x), m, &Packed::from_columns(a, inp, r), &mut h, false);
    h.iter_mut().for_each(|h| *h *= scale);
    h
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "lora_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let ((m, inp), (out, r)) = (lx.shape().dims2()?, lb.shape().dims2()?);
        let (x, a, b) = (elements(x, lx)?, elements(a, la)?, elements(b, lb)?);
        let mut y = vec![0.0; m * out];
        let merged = Elements::of(&self.merged);
        let packed = Packed::from_columns(merged.get()?, inp, out);
        gemm(Isa::best(), Left::Rows(x), m, &packed, &mut y, false);
        if let Some(mask) = &self.mask {
            // The merged weight has let the adapter read all of x: only the difference is added.
            let changed: Vec<f32> = x.iter().zip(mask.iter()).map(|(x, keep)| x * (keep - 1.0)).collect();
            let h = narrow(&changed, m, a, r, self.scale);
            gemm(Isa::best(), Left::Rows(&h), m, &Packed::from_columns(b, r, out), &mut y, true);
        }
        output(y, (m, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((m, inp), (out, r)) = (x.dims2()?, b.dims2()?);
        let dy = dy.contiguous()?;
        let (ex, ea, eb) = (Elements::of(x), Elements::of(a), Elements::of(b));
        let (edy, merged) = (Elements::of(&dy), Elements::of(&self.merged));
        let (dys, isa) = (edy.get()?, Isa::best());
        let masked: Option<Vec<f32>> = match &self.mask {
            Some(mask) => Some(ex.get()?.iter().zip(mask.iter()).map(|(x, keep)| x * keep).collect()),
            None => None,
        };
        let read = masked.as_deref().unwrap_or(ex.get()?);

        let mut dh = vec![0.0; m * r];
        gemm(isa, Left::Rows(dys), m, &Packed::from_rows(eb.get()?, out, r), &mut dh, false);
        dh.iter_mut().for_each(|dh| *dh *= self.scale);
        let mut da = vec![0.0; r * inp];
        gemm(isa, Left::Columns(&dh), r, &Packed::from_rows(read, m, inp), &mut da, false);
        let h = narrow(read, m, ea.get()?, r, self.scale);
        let mut db = vec![0.0; out * r];
        gemm(isa, Left::Columns(dys), out, &Packed::from_rows(&h, m, r), &mut db, false);

        if !x.track_op() {
            return Ok((None, gradient(da, a)?, gradient(db, b)?));
        }
        let mut dx = vec![0.0; m * inp];
        gemm(isa, Left::Rows(dys), m, &Packed::from_rows(merged.get()?, out, inp), &mut dx, false);
        if let Some(mask) = &self.mask {
            let mut through = vec![0.0; m * inp];
            gemm(isa, Left::Rows(&dh), m, &Packed::from_rows(ea.get()?, r, inp), &mut through, false);
            let terms = through.iter().zip(mask.iter());
            dx.iter_mut().zip(terms).for_each(|(dx, (t, keep))| *dx += t * (keep - 1.0));
        }
        Ok((gradient(dx, x)?, gradient(da, a)?, gradient(db, b)?))
    }
}
