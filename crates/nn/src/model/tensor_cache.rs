//! Keys and values as candle's tensors: what rollouts read on devices that the kernels don't run on.
//!
//! Sequences of a batch end together: shorter ones are padded on the left, and the padding is masked. Unlike with
//! [`super::cache`], what a row gives may depend on its batch by the last bits, because the device's own products do.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};

use super::forward::{Forward, Parameters};
use crate::ops::{AttentionShape, composed};

/// Keys and values of a batch of sequences.
#[derive(Debug)]
pub struct TensorCache {
    /// Padding before each sequence.
    pads: Vec<usize>,
    /// Columns that are in the cache.
    length: usize,
    /// Of each layer, (B, kv_heads, length, head_dim).
    layers: RefCell<Vec<Option<(Tensor, Tensor)>>>,
}

impl TensorCache {
    /// An empty one, for sequences with so much padding before them.
    pub fn new(pads: Vec<usize>, layers: usize) -> Self {
        Self { pads, length: 0, layers: RefCell::new(vec![None; layers]) }
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.pads.len()
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.length - self.pads.iter().min().copied().unwrap_or(0).min(self.length)
    }

    /// Keeps these sequences alone.
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.pads = rows.iter().map(|&row| self.pads[row]).collect();
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        for (k, v) in self.layers.borrow_mut().iter_mut().flatten() {
            let index = Tensor::new(index.as_slice(), k.device())?;
            (*k, *v) = (k.index_select(&index, 0)?, v.index_select(&index, 0)?);
        }
        Ok(())
    }

    /// Takes in keys and values (B · T, kv_heads · head_dim) of layer `index`, and lets the queries read.
    pub(super) fn attention(
        &self,
        index: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        shape: &AttentionShape,
    ) -> Result<Tensor> {
        let (b, d) = (self.batch(), shape.head_dim);
        let t = q.dims()[0] / b;
        let split = |x: &Tensor, heads: usize| -> Result<Tensor> {
            Ok(x.reshape((b, t, heads, d))?.transpose(1, 2)?.contiguous()?)
        };
        let (q, mut k, mut v) =
            (split(q, shape.heads)?, split(k, shape.kv_heads)?, split(v, shape.kv_heads)?);
        let mut layers = self.layers.borrow_mut();
        let layer = layers.get_mut(index).with_context(|| format!("the cache has no layer {index}"))?;
        if let Some((before_k, before_v)) = layer.take() {
            (k, v) = (Tensor::cat(&[&before_k, &k], 2)?, Tensor::cat(&[&before_v, &v], 2)?);
        }
        *layer = Some((k.clone(), v.clone()));
        let attended = composed::masked_attention(&q, &k, &v, shape, &self.mask(t, shape, q.device())?)?;
        Ok(attended.transpose(1, 2)?.reshape((b * t, shape.heads * d))?)
    }

    /// 0 where the last `t` columns see a column, -∞ elsewhere: (B, 1, t, length + t). A row of padding sees itself.
    fn mask(&self, t: usize, shape: &AttentionShape, device: &Device) -> Result<Tensor> {
        let columns = self.length + t;
        let mut mask = vec![f32::NEG_INFINITY; self.batch() * t * columns];
        let rows = self.pads.iter().flat_map(|&pad| (self.length..columns).map(move |at| (pad, at)));
        for ((pad, at), row) in rows.zip(mask.chunks_exact_mut(columns)) {
            let first = if at < pad { at } else { pad + shape.first_seen(at - pad) };
            row[first..=at].fill(0.0);
        }
        Ok(Tensor::from_vec(mask, (self.batch(), 1, t, columns), device)?)
    }
}

/// Reads the next `t` tokens of every sequence, `ids` (B · t): final-norm hidden states (B, t, hidden).
pub fn advance<'a>(
    parameters: impl Into<Parameters<'a>>,
    ids: &[u32],
    cache: &mut TensorCache,
) -> Result<Tensor> {
    let parameters = parameters.into();
    let (b, config) = (cache.batch(), parameters.config());
    ensure!(b > 0 && ids.len().is_multiple_of(b), "{} tokens for {b} sequences", ids.len());
    let t = ids.len() / b;
    let columns = cache.length..cache.length + t;
    let max = config.max_position_embeddings;
    let longest = columns.end - cache.pads.iter().min().copied().unwrap_or(0);
    ensure!(longest <= max, "a sequence of {longest} tokens exceeds the model's {max} positions");
    let position = |pad: usize, at: usize| at.saturating_sub(pad) as u32;
    let positions = cache.pads.iter().flat_map(|&pad| columns.clone().map(move |at| position(pad, at)));
    let pass = Forward::cached(parameters, positions.collect(), cache);
    let mut x = pass.embed(ids)?.detach();
    for index in 0..pass.layers() {
        x = pass.layer(index, &x)?.detach();
    }
    let hidden = pass.norm(&x)?.detach();
    cache.length += t;
    Ok(hidden.reshape((b, t, config.hidden_size))?)
}

/// Logits (N, vocab) of final-norm hidden states (N, hidden).
pub fn logits<'a>(parameters: impl Into<Parameters<'a>>, hidden: &Tensor) -> Result<Tensor> {
    let parameters = parameters.into();
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
