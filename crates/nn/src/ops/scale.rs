//! Multiplication by a constant.

use anyhow::Result;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::composed;
use super::kernels::scale as scale_elements;
use super::tape::apply_1;
use super::tensor::{Candle, Elements, argument, elements, gradient, is_elsewhere, output};

/// x of any shape → `x * factor` of that shape.
pub fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    if is_elsewhere(x) {
        return composed::scale(x, factor);
    }
    Ok(apply_1(&argument("scale: x", x)?, Scale { factor })?)
}

struct Scale {
    factor: f32,
}

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let mut y = elements(x, layout)?.to_vec();
        scale_elements(&mut y, self.factor);
        output(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let mut dx = Elements::of(&dy).get()?.to_vec();
        scale_elements(&mut dx, self.factor);
        gradient(dx, x)
    }
}
