//! The same operators composed of candle's own differentiable ones: what runs on other devices than the CPU, and the
//! measure of the fused operators in tests and benches. Same arguments, same results up to rounding.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{D, Tensor};

use super::kernels::{AttentionShape, RopeTable, Routing};

/// As [`super::linear`].
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&w.t()?)?)
}

/// `x wᵀ` of a weight in its own type, to which x is converted. candle makes the frozen weight's gradient, too.
pub fn frozen_linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(w.dtype())?.matmul(&w.t()?)?.to_dtype(x.dtype())?)
}

/// As [`super::lora_linear`].
pub fn lora_linear(
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    w: &Tensor,
    scale: f32,
    mask: Option<&[f32]>,
) -> Result<Tensor> {
    let read = match mask {
        Some(mask) => (x * Tensor::from_slice(mask, x.dims(), x.device())?)?,
        None => x.clone(),
    };
    let h = (linear(&read, a)? * f64::from(scale))?;
    Ok((frozen_linear(x, w)? + linear(&h, b)?)?)
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

/// As [`super::geglu`].
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.gelu()? * up)?)
}

/// As [`super::rms_norm_plus_one`].
pub fn rms_norm_plus_one(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    rms_norm(x, &(w + 1.0)?, eps)
}

/// As [`super::add_bias`].
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_add(bias)?)
}

/// As [`super::scale()`].
pub fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    Ok((x * f64::from(factor))?)
}

/// `cap * tanh(x / cap)`
pub fn softcap(x: &Tensor, cap: f32) -> Result<Tensor> {
    Ok(((x / f64::from(cap))?.tanh()? * f64::from(cap))?)
}

/// As [`super::route`].
pub fn route(logits: &Tensor, routing: Routing) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let p = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
    let (order, chosen) = (p.arg_sort_last_dim(false)?, routing.top_k as u32);
    // An expert's rank is where the order of experts has it.
    let rank = order.arg_sort_last_dim(true)?;
    let p = (p * rank.lt(chosen)?.to_dtype(logits.dtype())?)?;
    Ok(if routing.normalise { p.broadcast_div(&p.sum_keepdim(D::Minus1)?)? } else { p })
}

/// As [`super::mix`].
pub fn mix(y: &Tensor, weights: &Tensor, rows: &Arc<Vec<Vec<u32>>>) -> Result<Tensor> {
    let (n, experts) = weights.dims2()?;
    let mut out = Tensor::zeros((n, y.dim(1)?), y.dtype(), y.device())?;
    let mut first = 0;
    for (e, rows) in rows.iter().enumerate() {
        let index = Tensor::new(rows.as_slice(), y.device())?;
        let weights = weights.narrow(1, e, 1)?.contiguous()?.index_select(&index, 0)?;
        let y = y.narrow(0, first, rows.len())?.broadcast_mul(&weights)?;
        out = out.index_add(&index, &y, 0)?;
        first += rows.len();
    }
    anyhow::ensure!(experts == rows.len(), "{experts} experts");
    Ok(out)
}

/// As [`super::add`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((a + b)?)
}

/// As [`super::embedding`].
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    Ok(table.index_select(&Tensor::new(ids, table.device())?, 0)?)
}

/// As [`super::rope`].
pub fn rope(x: &Tensor, heads: usize, table: &Arc<RopeTable>, positions: &Arc<Vec<u32>>) -> Result<Tensor> {
    let (n, half) = (x.dim(0)?, table.head_dim() / 2);
    let (cos, sin): (Vec<_>, Vec<_>) = positions.iter().map(|&p| table.at(p as usize)).unzip();
    let cos = Tensor::from_vec(cos.concat(), (n, 1, half), x.device())?;
    let sin = Tensor::from_vec(sin.concat(), (n, 1, half), x.device())?;
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
        let (q, k, v) = (rows(q, heads)?, rows(k, kv_heads)?, rows(v, kv_heads)?);
        let mask: Vec<f32> = (0..t * t)
            .map(|at| (at / t, at % t))
            .map(|(i, j)| if j <= i && j >= shape.first_seen(i) { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        let mask = Tensor::from_vec(mask, (1, 1, t, t), q.device())?;
        let one = |x: Tensor| x.unsqueeze(0);
        let attended = masked_attention(&one(q)?, &one(k)?, &one(v)?, shape, &mask)?;
        outputs.push(attended.squeeze(0)?.transpose(0, 1)?.reshape((t, heads * d))?);
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// Attention of q (B, heads, T, head_dim) to k and v (B, kv_heads, L, head_dim), of which `mask` (B, 1, T, L) is
/// added to the scores: (B, heads, T, head_dim).
pub fn masked_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape,
    mask: &Tensor,
) -> Result<Tensor> {
    let (heads, kv_heads) = (shape.heads, shape.kv_heads);
    let repeat = |x: &Tensor| -> Result<Tensor> {
        let (b, _, l, d) = x.dims4()?;
        let x = x.unsqueeze(2)?.broadcast_as((b, kv_heads, heads / kv_heads, l, d))?;
        Ok(x.reshape((b, heads, l, d))?)
    };
    let (k, v) = (repeat(k)?, repeat(v)?);
    let mut scores = (q.matmul(&k.transpose(2, 3)?)? * f64::from(shape.scale))?;
    if let Some(cap) = shape.softcap {
        scores = softcap(&scores, cap)?;
    }
    let scores = scores.broadcast_add(mask)?;
    let p = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let p = p.broadcast_div(&p.sum_keepdim(D::Minus1)?)?;
    Ok(p.matmul(&v)?)
}

/// As [`super::linear_logprob`], with all logits at once.
pub fn linear_logprob(x: &Tensor, w: &Tensor, targets: &Arc<Vec<u32>>) -> Result<Tensor> {
    capped_linear_logprob(x, w, targets, None)
}

/// As [`super::capped_linear_logprob`], with all logits at once.
pub fn capped_linear_logprob(
    x: &Tensor,
    w: &Tensor,
    targets: &Arc<Vec<u32>>,
    cap: Option<f32>,
) -> Result<Tensor> {
    let mut logits = frozen_linear(x, w)?;
    if let Some(cap) = cap {
        logits = softcap(&logits, cap)?;
    }
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let logs = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let targets = Tensor::new(targets.as_slice(), x.device())?.unsqueeze(1)?;
    Ok(logs.gather(&targets, 1)?.squeeze(1)?)
}
