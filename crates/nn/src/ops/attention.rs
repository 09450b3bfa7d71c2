//! Causal attention over packed sequences; the backward pass recomputes the weights and keeps none.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use super::composed;
use super::kernels::AttentionShape;
use super::kernels::attention_packed::{attend, attend_backward};
use super::kernels::simd::Isa;
use super::tape::apply_3;
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};

/// q (N, heads * head_dim), k and v (N, kv_heads * head_dim) → like q. Sequence `s` is rows
/// `starts[s]..starts[s + 1]`; a query sees its own sequence up to itself, within the window.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape,
    starts: &Arc<Vec<usize>>,
) -> Result<Tensor> {
    let (q, n, width) = matrix("attention: q", q)?;
    let ((k, k_n, k_width), (v, v_n, v_width)) = (matrix("attention: k", k)?, matrix("attention: v", v)?);
    check(shape, starts, n)?;
    let kv_width = shape.kv_heads * shape.head_dim;
    ensure!(width == shape.heads * shape.head_dim, "attention: q has {width} columns for {shape:?}");
    ensure!(
        (k_n, k_width) == (n, kv_width) && (v_n, v_width) == (n, kv_width),
        "attention: k is ({k_n}, {k_width}) and v is ({v_n}, {v_width}); both must be ({n}, {kv_width})"
    );
    if is_elsewhere(&q) {
        return composed::attention(&q, &k, &v, shape, starts);
    }
    Ok(apply_3([&q, &k, &v], Attention { shape: *shape, starts: starts.clone() })?)
}

/// The shape makes sense, and `starts` cuts `n` rows.
pub(super) fn check(shape: &AttentionShape, starts: &[usize], n: usize) -> Result<()> {
    ensure!(
        shape.head_dim > 0 && shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "attention: {} query heads can't share {} key heads",
        shape.heads,
        shape.kv_heads
    );
    ensure!(shape.window != Some(0), "attention: a window of 0 sees nothing");
    ensure!(
        shape.softcap.is_none_or(|cap| cap > 0.0),
        "attention: a cap of {:?} leaves no scores",
        shape.softcap
    );
    ensure!(
        starts.first() == Some(&0) && starts.last() == Some(&n) && starts.is_sorted(),
        "attention: starts must rise from 0 to {n} rows, and are {starts:?}"
    );
    Ok(())
}

struct Attention {
    shape: AttentionShape,
    starts: Arc<Vec<usize>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let inputs = [elements(q, lq)?, elements(k, lk)?, elements(v, lv)?];
        output(attend(Isa::best(), inputs, &self.shape, &self.starts), lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        dout: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dout = dout.contiguous()?;
        let (eq, ek, ev, edout) = (Elements::of(q), Elements::of(k), Elements::of(v), Elements::of(&dout));
        let inputs = [eq.get()?, ek.get()?, ev.get()?, edout.get()?];
        let [dq, dk, dv] = attend_backward(Isa::best(), inputs, &self.shape, &self.starts);
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}
