//! The forward pass over the next tokens of sequences whose keys and values are in a
//! [`TensorCache`].
//!
//! It runs the training forward on any candle device and tracks no gradients. It knows nothing
//! about sampling.

use anyhow::{Result, ensure};
use candle_core::{D, Tensor};

use super::forward::{Forward, Parameters};
use super::tensor_cache::TensorCache;
use crate::ops::composed;

/// Reads the next `t` tokens of every sequence, `ids` (B · t): final-norm hidden states (B, t,
/// hidden).
///
/// # Errors
/// `ids` has not the same number of tokens for every sequence, or a sequence outgrows the model.
pub fn advance(parameters: Parameters, ids: &[u32], cache: &mut TensorCache) -> Result<Tensor> {
    let (b, config) = (cache.batch(), parameters.config());
    ensure!(b > 0 && ids.len().is_multiple_of(b), "{} tokens for {b} sequences", ids.len());
    let t = ids.len() / b;
    let positions = cache.next_positions(t, config.max_position_embeddings)?;
    let pass = Forward::cached(parameters, positions, cache);
    let mut x = pass.embed(ids)?.detach();
    for index in 0..pass.layers() {
        x = pass.layer(index, &x)?.detach();
    }
    let hidden = pass.norm(&x)?.detach();
    cache.advance(t);
    Ok(hidden.reshape((b, t, config.hidden_size))?)
}

/// Logits (N, vocab) of final-norm hidden states (N, hidden).
pub fn logits(parameters: Parameters, hidden: &Tensor) -> Result<Tensor> {
    let logits = parameters.output(hidden)?.detach();
    Ok(match parameters.config().logit_cap() {
        Some(cap) => composed::softcap(&logits, cap)?,
        None => logits,
    })
}

/// The last row of each sequence, (B, hidden) of (B, t, hidden).
pub fn last_rows(hidden: &Tensor) -> Result<Tensor> {
    let t = hidden.dim(D::Minus2)?;
    Ok(hidden.narrow(1, t - 1, 1)?.squeeze(1)?.contiguous()?)
}
