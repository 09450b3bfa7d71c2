//! Rows of a table by index. The gradient adds up in the order of the indices.

use anyhow::{Result, bail};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::composed;
use super::tape::apply_1;
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// table (V, D), N ids below V → (N, D). Also gathers rows of activations, such as the positions to train on.
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (table, v, _) = matrix("embedding: table", table)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= v) {
        bail!("embedding: id {id} of a table of {v} rows: do tokenizer and model belong together?");
    }
    if is_elsewhere(&table) {
        return composed::embedding(&table, ids);
    }
    Ok(apply_1(&table, Embedding { ids: ids.to_vec() })?)
}

struct Embedding {
    ids: Vec<u32>,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let _span = profile::span(Operator::Embedding);
        let (table, d) = (elements(table, layout)?, layout.shape().dims2()?.1);
        let mut y = Vec::with_capacity(self.ids.len() * d);
        for &id in &self.ids {
            y.extend_from_slice(&table[id as usize * d..][..d]);
        }
        output(y, (self.ids.len(), d))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let _span = profile::span(Operator::Embedding);
        let d = table.dim(1)?;
        let dy = dy.contiguous()?;
        let dy = Elements::of(&dy);
        let mut dtable = vec![0.0; table.elem_count()];
        for (&id, row) in self.ids.iter().zip(dy.get()?.chunks_exact(d.max(1))) {
            dtable[id as usize * d..][..d].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        gradient(dtable, table)
    }
}
