//! Rotary position embedding (Su et al. 2021), rotate-half layout. A rotation's gradient turns back.

#![allow(unsafe_code, reason = "a result is written once, into memory that was not cleared first")]

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::composed;
use super::kernels::RopeTable;
use super::kernels::pointwise::share;
use super::kernels::slots::{self, Slots};
use super::tape::apply_1;
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// x (N, heads * head_dim), row `i` at `positions[i]` → the same shape.
pub fn rope(x: &Tensor, heads: usize, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let (x, n, width) = matrix("rope: x", x)?;
    let d = table.head_dim();
    ensure!(d > 0 && width == heads * d, "rope: x has {width} columns, not {heads} heads of {d}");
    ensure!(positions.len() == n, "rope: {} positions for {n} rows", positions.len());
    let last = positions.iter().max().map_or(0, |&p| p as usize + 1);
    ensure!(
        last <= table.positions_max(),
        "rope: position {} is past the table's {} positions: shorten the sequence or enlarge the context",
        last - 1,
        table.positions_max()
    );
    if is_elsewhere(&x) {
        return composed::rope(&x, heads, table, positions);
    }
    Ok(apply_1(&x, Rope { table: table.clone(), positions: positions.clone() })?)
}

struct Rope {
    table: Arc<RopeTable>,
    positions: Arc<Vec<u32>>,
}

impl Rope {
    fn rotate(&self, x: &[f32], direction: f32) -> Vec<f32> {
        if x.is_empty() {
            return Vec::new();
        }
        let width = x.len() / self.positions.len();
        assert_eq!(x.len(), width * self.positions.len(), "a position for each row");
        let share = share(x.len(), width);
        let rotate = |((x, y), at): ((&[f32], Slots<'_>), &[u32])| {
            let _span = profile::span(Operator::Rope);
            self.table.rotate(x, y, at, direction);
        };
        // SAFETY: x has whole rows, one for each position, and every one is turned.
        unsafe {
            slots::vector(x.len(), |y| {
                let positions = self.positions.par_chunks(share.div_ceil(width));
                x.par_chunks(share).zip(y.pieces(share)).zip(positions).for_each(rotate);
            })
        }
    }
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        output(self.rotate(elements(x, layout)?, 1.0), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let dy = dy.contiguous()?;
        gradient(self.rotate(Elements::of(&dy).get()?, -1.0), x)
    }
}
