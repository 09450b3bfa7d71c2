//! The residual connection's sum. On its own because candle's waits for a second thread pool.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::tape::apply_2;
use super::tensor::{Candle, argument, elements, is_elsewhere, output};
use crate::profile::{self, Operator};

/// a, b of one shape → `a + b` of that shape.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ensure!(a.dims() == b.dims(), "add: a is {:?} and b is {:?}", a.dims(), b.dims());
    if is_elsewhere(a) {
        return composed::add(a, b);
    }
    Ok(apply_2(&argument("add: a", a)?, &argument("add: b", b)?, Add)?)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let _span = profile::span(Operator::Elementwise);
        let sums = elements(a, la)?.iter().zip(elements(b, lb)?).map(|(a, b)| a + b);
        output(sums.collect(), la.shape())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dy.clone()), Some(dy.clone())))
    }
}
