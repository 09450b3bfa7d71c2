//! A linear layer whose weight is frozen, with or without the product of two narrow matrices added (LoRA, Hu et al. 2021).
//!
//! `y = x Wᵀ + s (x Aᵀ) Bᵀ`: what the adapter gives is added onto what the weight gave, in that order, by rollouts and
//! training alike, so that what is sampled is what is trained. Gradients go to x, A and B; that of the frozen weight,
//! as large as the weight, is never made.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Shape, Tensor};

use super::composed;
use super::kernels::PackedWeight;
use super::kernels::gemm::{Left, gemm, product};
use super::kernels::panels::Packed;
use super::kernels::simd::Isa;
use super::tape::{apply_1, apply_3, is_tracked};
use super::tensor::{Candle, Elements, elements, gradient, matrix, output};
use crate::profile::{self, Operator};

/// A weight (out, in) that is only read. `clone` shares it.
#[derive(Clone, Debug)]
pub enum FrozenMatrix {
    /// For the CPU's kernels.
    Packed(Arc<PackedWeight>),
    /// For candle's operators, in its own type.
    Elsewhere(Tensor),
}

impl FrozenMatrix {
    /// Output and input features.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Packed(w) => (w.out(), w.inp()),
            Self::Elsewhere(w) => (w.dims()[0], w.dims()[1]),
        }
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(w) => w.bytes(),
            Self::Elsewhere(w) => w.elem_count() * w.dtype().size_in_bytes(),
        }
    }

    /// All of it as f32, (out, in) row-major.
    pub fn to_rows(&self) -> Result<Vec<f32>> {
        match self {
            Self::Packed(w) => Ok(w.to_rows()),
            Self::Elsewhere(w) => Ok(w.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?),
        }
    }
}

/// x (N, in), w (out, in) → (N, out): `x wᵀ`.
pub fn frozen_linear(x: &Tensor, w: &FrozenMatrix) -> Result<Tensor> {
    let ((x, _, inp), (out, w_inp)) = (matrix("frozen_linear: x", x)?, w.shape());
    ensure!(inp == w_inp, "frozen_linear: x has {inp} columns and w is ({out}, {w_inp})");
    match w {
        FrozenMatrix::Packed(w) => Ok(apply_1(&x, FrozenLinear(w.clone()))?),
        FrozenMatrix::Elsewhere(w) => composed::frozen_linear(&x, w),
    }
}

struct FrozenLinear(Arc<PackedWeight>);

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen_linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (m, _) = layout.shape().dims2()?;
        let mut y = vec![0.0; m * self.0.out()];
        self.0.forward(elements(x, layout)?, m, &mut y, false);
        output(y, (m, self.0.out()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let (m, inp) = x.dims2()?;
        let dy = dy.contiguous()?;
        let mut dx = vec![0.0; m * inp];
        self.0.backward(Elements::of(&dy).get()?, m, &mut dx);
        gradient(dx, x)
    }
}

/// x (N, in), a (r, in), b (out, r), w (out, in) → (N, out): `x wᵀ + scale (x aᵀ) bᵀ`. With a `mask` (N · in) of
/// dropout the adapter reads `mask ⊙ x` instead of x.
pub fn lora_linear(
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    w: &FrozenMatrix,
    scale: f32,
    mask: Option<Arc<Vec<f32>>>,
) -> Result<Tensor> {
    let ((x, n, inp), (a, r, a_inp)) = (matrix("lora_linear: x", x)?, matrix("lora_linear: a", a)?);
    let (b, out, b_r) = matrix("lora_linear: b", b)?;
    ensure!(
        (a_inp, w.shape(), b_r) == (inp, (out, inp), r),
        "lora_linear: x has {inp} columns, a is ({r}, {a_inp}), b is ({out}, {b_r}) and w is {:?}",
        w.shape()
    );
    if let Some(mask) = &mask {
        ensure!(mask.len() == n * inp, "lora_linear: a mask of {} for x of ({n}, {inp})", mask.len());
    }
    match w {
        FrozenMatrix::Packed(w) => Ok(apply_3([&x, &a, &b], LoraLinear { w: w.clone(), scale, mask })?),
        FrozenMatrix::Elsewhere(w) => {
            composed::lora_linear(&x, &a, &b, w, scale, mask.as_ref().map(|mask| mask.as_slice()))
        }
    }
}

/// `scale b a`, (out, in) row-major: what an adapter of a (r, in) and b (out, r) adds to its layer's weight.
pub fn lora_delta(a: &Tensor, b: &Tensor, scale: f32) -> Result<Vec<f32>> {
    let ((a, r, inp), (b, out, b_r)) = (matrix("lora_delta: a", a)?, matrix("lora_delta: b", b)?);
    ensure!(b_r == r, "lora_delta: a is ({r}, {inp}) and b is ({out}, {b_r})");
    let (a, b) = (a.to_device(&Device::Cpu)?, b.to_device(&Device::Cpu)?);
    let (ea, eb) = (Elements::of(&a), Elements::of(&b));
    let mut delta = product(Isa::best(), Left::Rows(eb.get()?), out, &Packed::from_rows(ea.get()?, r, inp));
    delta.iter_mut().for_each(|d| *d *= scale);
    Ok(delta)
}

struct LoraLinear {
    w: Arc<PackedWeight>,
    scale: f32,
    mask: Option<Arc<Vec<f32>>>,
}

impl LoraLinear {
    /// What the adapter reads.
    fn masked(&self, x: &[f32]) -> Option<Vec<f32>> {
        let mask = self.mask.as_ref()?;
        Some(x.iter().zip(mask.iter()).map(|(x, keep)| x * keep).collect())
    }
}

/// `x aᵀ`, scaled: x (m, in), a (in, r) → (m, r).
fn narrow(x: &[f32], m: usize, a: &Packed, scale: f32) -> Vec<f32> {
    let mut h = product(Isa::best(), Left::Rows(x), m, a);
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
        self.w.forward(x, m, &mut y, false);
        let _adapter = profile::named(Operator::Adapter);
        let masked = self.masked(x);
        let h = narrow(masked.as_deref().unwrap_or(x), m, &Packed::from_columns(a, inp, r), self.scale);
        gemm(Isa::best(), Left::Rows(&h), m, &Packed::from_columns(b, r, out), &mut y, true);
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
        let (ex, ea, eb, edy) = (Elements::of(x), Elements::of(a), Elements::of(b), Elements::of(&dy));
        let (dys, isa) = (edy.get()?, Isa::best());
        let masked = self.masked(ex.get()?);
        let read = masked.as_deref().unwrap_or(ex.get()?);

        let adapter = profile::named(Operator::Adapter);
        let mut dh = product(isa, Left::Rows(dys), m, &Packed::from_rows(eb.get()?, out, r));
        dh.iter_mut().for_each(|dh| *dh *= self.scale);
        let da = product(isa, Left::Columns(&dh), r, &Packed::from_rows(read, m, inp));
        let h = narrow(read, m, &Packed::from_columns(ea.get()?, inp, r), self.scale);
        let db = product(isa, Left::Columns(dys), out, &Packed::from_rows(&h, m, r));

        if !is_tracked(x) {
            return Ok((None, gradient(da, a)?, gradient(db, b)?));
        }
        drop(adapter);
        let mut dx = vec![0.0; m * inp];
        self.w.backward(dys, m, &mut dx);
        let _adapter = profile::named(Operator::Adapter);
        let through = Packed::from_rows(ea.get()?, r, inp);
        match &self.mask {
            None => gemm(isa, Left::Rows(&dh), m, &through, &mut dx, true),
            Some(mask) => {
                let kept = product(isa, Left::Rows(&dh), m, &through);
                let terms = kept.iter().zip(mask.iter());
                dx.iter_mut().zip(terms).for_each(|(dx, (t, keep))| *dx += t * keep);
            }
        }
        Ok((gradient(dx, x)?, gradient(da, a)?, gradient(db, b)?))
    }
}
