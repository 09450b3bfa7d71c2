//! Keys and values as candle tensors, for rollouts on devices that the kernels don't run on.
//!
//! The sequences of a batch end together. Shorter ones are padded on the left, and the padding is
//! masked. Unlike with [`super::cache`], a row's last bits may depend on its batch, because the
//! device's own products do. It knows nothing about layers beyond their index, and nothing about
//! weights: [`super::advance()`] runs the forward pass.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use crate::ops::{AttentionShape, composed};

/// Keys and values of a batch of sequences.
#[derive(Debug)]
pub struct TensorCache {
    /// Number of padding tokens before each sequence.
    pads: Vec<usize>,
    /// Number of columns in the cache, padding included.
    length: usize,
    /// Keys and values of each layer, (B, kv_heads, length, head_dim).
    layers: RefCell<Vec<Option<(Tensor, Tensor)>>>,
}

impl TensorCache {
    /// An empty cache for sequences that have `pads` padding tokens before them.
    pub fn new(pads: Vec<usize>, layers: usize) -> Self {
        Self { pads, length: 0, layers: RefCell::new(vec![None; layers]) }
    }

    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.pads.len()
    }

    /// Number of tokens of the longest sequence, without padding.
    pub fn longest(&self) -> usize {
        self.length - self.least_padding().min(self.length)
    }

    fn least_padding(&self) -> usize {
        self.pads.iter().min().copied().unwrap_or(0)
    }

    /// The position of each of the next `t` tokens of every sequence, (B · t). Padding is at
    /// position 0.
    ///
    /// # Errors
    /// A sequence would be longer than `positions_max`.
    pub(super) fn next_positions(&self, t: usize, positions_max: usize) -> Result<Vec<u32>> {
        let columns = self.length..self.length + t;
        let longest = columns.end - self.least_padding();
        ensure!(
            longest <= positions_max,
            "a sequence of {longest} tokens exceeds the model's {positions_max} positions"
        );
        let position = |pad: usize, at: usize| at.saturating_sub(pad) as u32;
        let of = |&pad: &usize| columns.clone().map(move |at| position(pad, at));
        Ok(self.pads.iter().flat_map(of).collect())
    }

    /// Counts `t` tokens of every sequence that were read in every layer.
    pub(super) fn advance(&mut self, t: usize) {
        self.length += t;
    }

    /// Keeps only these sequences.
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.pads = rows.iter().map(|&row| self.pads[row]).collect();
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        for (k, v) in self.layers.borrow_mut().iter_mut().flatten() {
            let index = Tensor::new(index.as_slice(), k.device())?;
            (*k, *v) = (k.index_select(&index, 0)?, v.index_select(&index, 0)?);
        }
        Ok(())
    }

    /// Appends keys and values (B · T, kv_heads · head_dim) of layer `index`; returns what the
    /// queries (B · T, heads · head_dim) read, like the queries.
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

    /// 0 where one of the last `t` columns sees a column, -∞ elsewhere: (B, 1, t, length + t). A
    /// row of padding sees itself.
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
