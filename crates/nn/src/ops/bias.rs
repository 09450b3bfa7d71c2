//! A linear layer's bias. Its gradient adds up in the order of the rows.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::kernels::add_bias as add_to_rows;
use super::tape::apply_2;
use super::tensor::{Candle, Elements, argument, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// x (N, D), bias (D) → (N, D): `x + bias` in every row.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let ((x, _, d), bias) = (matrix("add_bias: x", x)?, argument("add_bias: bias", bias)?);
    ensure!(bias.dims() == [d] && d > 0, "add_bias: x has {d} columns and the bias is {:?}", bias.dims());
    if is_elsewhere(&x) {
        return composed::add_bias(&x, &bias);
    }
    Ok(apply_2(&x, &bias, AddBias)?)
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let mut y = elements(x, lx)?.to_vec();
        add_to_rows(&mut y, elements(bias, lb)?);
        output(y, lx.shape())
    }

    fn bwd(
        &self,
        _: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span(Operator::Elementwise);
        let dy = dy.contiguous()?;
        let mut dbias = vec![0.0; bias.elem_count()];
        for row in Elements::of(&dy).get()?.chunks_exact(dbias.len()) {
            dbias.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        Ok((Some(dy.clone()), gradient(dbias, bias)?))
    }
}
