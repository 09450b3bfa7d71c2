//! The same operators composed of candle's own differentiable ones: the measure of the fused operators, in
//! tests and benches. Same arguments, same results up to rounding.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{D, Device, Tensor};

use super::kernels::{AttentionShape, RopeTable};

/// As [`super::linear`].
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&w.t()?)?)
}

/// As [`super::rms_norm`].
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let rms = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    Ok(x.broadcast_div(&rms)?.broadcast_mul(w)?)
}

/// As [`super::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.silu()? * up)?)
}

/// As [`super::add`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((a + b)?)
}

/// As [`super::embedding`].
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    Ok(table.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?)
}

/// As [`super::rope`].
pub fn rope(x: &Tensor, heads: usize, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let (n, half) = (x.dim(0)?, table.head_dim() / 2);
    let (cos, sin): (Vec<_>, Vec<_>) = positions.iter().map(|&p| table.at(p as usize)).unzip();
    let cos = Tensor::from_vec(cos.concat(), (n, 1, half), &Device::Cpu)?;
    let sin = Tensor::from_vec(sin.concat(), (n, 1, half), &Device::Cpu)?;
    let x = x.reshape((n, heads, 2 * half))?;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[first, second], 2)?.reshape((n, heads * 2 * half))?)
}

/// As [`super::attention`], sequence by sequence.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape,
    starts: &Arc<Vec<usize>>,
) -> Result<Tensor> {
    let (heads, kv_heads, d) = (shape.heads, shape.kv_heads, shape.head_dim);
    let mut outputs = Vec::new();
    for range in starts.windows(2).filter(|range| range[0] < range[1]) {
        let (first, t) = (range[0], range[1] - range[0]);
        let rows = |x: &Tensor, heads: usize| -> Result<Tensor> {
            Ok(x.narrow(0, first, t)?.reshape((t, heads, d))?.transpose(0, 1)?.contiguous()?)
        };
        let repeat = |x: Tensor| -> Result<Tensor> {
            let x = x.unsqueeze(1)?.broadcast_as((kv_heads, heads / kv_heads, t, d))?;
            Ok(x.reshape((heads, t, d))?)
        };
        let (q, k, v) = (rows(q, heads)?, repeat(rows(k, kv_heads)?)?, repeat(rows(v, kv_heads)?)?);
        let mask: Vec<f32> = (0..t * t)
            .map(|at| (at / t, at % t))
            .map(|(i, j)| if j <= i && j >= shape.first_seen(i) { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        let scores = (q.matmul(&k.transpose(1, 2)?)? * f64::from(shape.scale))?;
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (t, t), &Device::Cpu)?)?;
        let p = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let p = p.broadcast_div(&p.sum_keepdim(D::Minus1)?)?;
        outputs.push(p.matmul(&v)?.transpose(0, 1)?.reshape((t, heads * d))?);
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// As [`super::linear_logprob`], with all logits at once.
pub fn linear_logprob(x: &Tensor, w: &Tensor, targets: &Arc<Vec<u32>>) -> Result<Tensor> {
    let logits = linear(x, w)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let logs = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let targets = Tensor::new(targets.as_slice(), &Device::Cpu)?.unsqueeze(1)?;
    Ok(logs.gather(&targets, 1)?.squeeze(1)?)
}
