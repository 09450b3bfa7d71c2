//! The training forward: several sequences packed into one row dimension, differentiable down to every parameter.
//!
//! A pre-norm decoder (Touvron et al. 2023): rms-norm, grouped-query attention with optional rotary positions and
//! sliding window, rms-norm, SwiGLU. It stops at the final norm, so that a loss can fold the output layer and the
//! log-softmax into one operator ([`crate::ops::linear_logprob`]). Same kernels as [`super::decode`], so the same
//! bits. Not here: dropout, because a policy that trains must be the policy that samples.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::Weights;
use crate::ops;

/// Final-norm hidden states (ΣT, hidden) of sequences laid end to end.
///
/// `ids` holds ΣT token ids; sequence `s` is `ids[starts[s]..starts[s + 1]]`, its positions count from 0.
pub fn forward(weights: &Weights, ids: &[u32], starts: &Arc<Vec<usize>>) -> Result<Tensor> {
    let config = &weights.config;
    let positions = positions(ids.len(), starts, config.max_position_embeddings)?;
    let mut x = ops::embedding(weights.tensor("model.embed_tokens.weight")?, ids)?; // (ΣT, D)
    for i in 0..config.layers.len() {
        let param = |name: &str| weights.tensor(&format!("model.layers.{i}.{name}.weight"));
        let linear = |x: &Tensor, name: &str| ops::linear(x, param(name)?);

        let normed = ops::rms_norm(&x, param("input_layernorm")?, config.rms_norm_eps)?;
        let mut q = linear(&normed, "self_attn.q_proj")?; // (ΣT, heads * head_dim)
        let mut k = linear(&normed, "self_attn.k_proj")?; // (ΣT, kv_heads * head_dim)
        let v = linear(&normed, "self_attn.v_proj")?;
        if config.layers[i].rope {
            let table = weights.rope();
            q = ops::rope(&q, config.num_attention_heads, &table, &positions)?;
            k = ops::rope(&k, config.num_key_value_heads, &table, &positions)?;
        }
        let attended = ops::attention(&q, &k, &v, &config.attention_shape(i), starts)?;
        x = ops::add(&x, &linear(&attended, "self_attn.o_proj")?)?;

        let normed = ops::rms_norm(&x, param("post_attention_layernorm")?, config.rms_norm_eps)?;
        let activated = ops::swiglu(&linear(&normed, "mlp.gate_proj")?, &linear(&normed, "mlp.up_proj")?)?;
        x = ops::add(&x, &linear(&activated, "mlp.down_proj")?)?;
    }
    ops::rms_norm(&x, weights.tensor("model.norm.weight")?, config.rms_norm_eps)
}

/// The output layer (vocab, hidden): the embeddings where they are tied.
pub fn output_weight(weights: &Weights) -> &Tensor {
    weights.tensor(weights.config.output_name()).expect("a policy has an output layer")
}

/// Each row's position within its sequence.
fn positions(rows: usize, starts: &[usize], positions_max: usize) -> Result<Arc<Vec<u32>>> {
    ensure!(
        starts.first() == Some(&0) && starts.last() == Some(&rows) && starts.is_sorted(),
        "sequence starts {starts:?} don't cut {rows} tokens into sequences: they rise from 0 to {rows}"
    );
    let mut positions = Vec::with_capacity(rows);
    for bounds in starts.windows(2) {
        let len = bounds[1] - bounds[0];
        ensure!(len <= positions_max, "a sequence has {len} tokens; the model reads at most {positions_max}");
        positions.extend(0..len as u32);
    }
    Ok(Arc::new(positions))
}
