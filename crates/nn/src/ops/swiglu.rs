//! The gated units of a feed-forward layer (Shazeer 2020).

#![allow(unsafe_code, reason = "a result is written once, into memory that was not cleared first")]

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::kernels::gated::{self, GeluTanh, Silu};
use super::kernels::slots;
use super::tape::apply_2;
use super::tensor::{Candle, Elements, argument, elements, gradient, is_elsewhere, output};

/// gate, up of one shape → `silu(gate) * up` of that shape.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    ensure!(gate.dims() == up.dims(), "swiglu: gate is {:?} and up is {:?}", gate.dims(), up.dims());
    if is_elsewhere(gate) {
        return composed::swiglu(gate, up);
    }
    Ok(apply_2(&argument("swiglu: gate", gate)?, &argument("swiglu: up", up)?, Gated::Silu)?)
}

/// gate, up of one shape → `gelu_pytorch_tanh(gate) * up` of that shape.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    ensure!(gate.dims() == up.dims(), "geglu: gate is {:?} and up is {:?}", gate.dims(), up.dims());
    if is_elsewhere(gate) {
        return composed::geglu(gate, up);
    }
    Ok(apply_2(&argument("geglu: gate", gate)?, &argument("geglu: up", up)?, Gated::GeluTanh)?)
}

/// By the gate's activation.
enum Gated {
    Silu,
    GeluTanh,
}

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        match self {
            Self::Silu => "swiglu",
            Self::GeluTanh => "geglu",
        }
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        lg: &Layout,
        u: &CpuStorage,
        lu: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (g, u) = (elements(g, lg)?, elements(u, lu)?);
        // SAFETY: both write every element.
        let y = unsafe {
            slots::vector(g.len(), |y| match self {
                Self::Silu => gated::forward::<Silu>(g, u, y),
                Self::GeluTanh => gated::forward::<GeluTanh>(g, u, y),
            })
        };
        output(y, lg.shape())
    }

    fn bwd(
        &self,
        g: &Tensor,
        u: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (eg, eu, edy) = (Elements::of(g), Elements::of(u), Elements::of(&dy));
        let (gs, us, dys) = (eg.get()?, eu.get()?, edy.get()?);
        let run = match self {
            Self::Silu => gated::backward::<Silu>,
            Self::GeluTanh => gated::backward::<GeluTanh>,
        };
        // SAFETY: both write every element of both gradients.
        let [dgate, dup] =
            unsafe { slots::vectors([dys.len(); 2], |[dgate, dup]| run(gs, us, dys, dgate, dup)) };
        Ok((gradient(dgate, g)?, gradient(dup, u)?))
    }
}
