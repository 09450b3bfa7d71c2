//! The gated units of a feed-forward layer (Shazeer 2020).

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::kernels::gelu::geglu_backward;
use super::kernels::pointwise::swiglu_backward;
use super::kernels::{geglu as geglu_elements, swiglu as swiglu_elements};
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
        let mut y = vec![0.0; lg.shape().elem_count()];
        let run = match self {
            Self::Silu => swiglu_elements,
            Self::GeluTanh => geglu_elements,
        };
        run(elements(g, lg)?, elements(u, lu)?, &mut y);
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
        let (mut dgate, mut dup) = (vec![0.0; dy.elem_count()], vec![0.0; dy.elem_count()]);
        let (eg, eu, edy) = (Elements::of(g), Elements::of(u), Elements::of(&dy));
        let run = match self {
            Self::Silu => swiglu_backward,
            Self::GeluTanh => geglu_backward,
        };
        run(eg.get()?, eu.get()?, edy.get()?, &mut dgate, &mut dup);
        Ok((gradient(dgate, g)?, gradient(dup, u)?))
    }
}
