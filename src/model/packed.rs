//! A policy's weights laid out for rollouts: packed once, read by every thread, never trained.
//!
//! The copy is independent of the trainable tensors, so training can go on while it is read. Knows nothing about
//! sequences; [`super::decode`] runs it.

use std::sync::Arc;

use anyhow::Result;

use super::cache::PagePool;
use super::{ModelConfig, Weights};
use crate::ops::kernels::{AttentionShape, PackedWeight, RopeTable, linear};

/// A decoder ready to generate.
#[derive(Debug)]
pub struct Packed {
    pub(super) config: Arc<ModelConfig>,
    policy: Arc<str>,
    /// (vocab, hidden)
    pub(super) embedding: Vec<f32>,
    pub(super) layers: Vec<PackedLayer>,
    /// (hidden)
    pub(super) norm: Vec<f32>,
    /// (vocab, hidden)
    output: PackedWeight,
    pub(super) rope: Arc<RopeTable>,
}

/// One decoder layer; fields are named like the checkpoint's keys.
#[derive(Debug)]
pub(super) struct PackedLayer {
    pub input_layernorm: Vec<f32>,
    pub q_proj: PackedWeight,
    pub k_proj: PackedWeight,
    pub v_proj: PackedWeight,
    pub o_proj: PackedWeight,
    pub post_attention_layernorm: Vec<f32>,
    pub gate_proj: PackedWeight,
    pub up_proj: PackedWeight,
    pub down_proj: PackedWeight,
    pub shape: AttentionShape,
    pub rope: bool,
}

impl Packed {
    /// Copies and packs `weights`; their hash names the policy.
    pub fn new(weights: &Weights) -> Result<Self> {
        let config = weights.config.clone();
        let dense = |name: &str| -> Result<Vec<f32>> { Ok(weights.tensor(name)?.flatten_all()?.to_vec1()?) };
        let packed = |name: &str| -> Result<PackedWeight> {
            let (out, inp) = weights.tensor(name)?.dims2()?;
            Ok(PackedWeight::new(&dense(name)?, out, inp))
        };
        let layer = |i: usize| -> Result<PackedLayer> {
            let key = |name: &str| format!("model.layers.{i}.{name}.weight");
            Ok(PackedLayer {
                input_layernorm: dense(&key("input_layernorm"))?,
                q_proj: packed(&key("self_attn.q_proj"))?,
                k_proj: packed(&key("self_attn.k_proj"))?,
                v_proj: packed(&key("self_attn.v_proj"))?,
                o_proj: packed(&key("self_attn.o_proj"))?,
                post_attention_layernorm: dense(&key("post_attention_layernorm"))?,
                gate_proj: packed(&key("mlp.gate_proj"))?,
                up_proj: packed(&key("mlp.up_proj"))?,
                down_proj: packed(&key("mlp.down_proj"))?,
                shape: config.attention_shape(i),
                rope: config.layers[i].rope,
            })
        };
        Ok(Self {
            policy: weights.hash().into(),
            embedding: dense("model.embed_tokens.weight")?,
            layers: (0..config.layers.len()).map(layer).collect::<Result<_>>()?,
            norm: dense("model.norm.weight")?,
            output: packed(config.output_name())?,
            rope: weights.rope(),
            config,
        })
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Hash of the weights this was packed from.
    pub fn policy(&self) -> &Arc<str> {
        &self.policy
    }

    /// A new pool of cache pages for this policy.
    pub fn page_pool(&self) -> Arc<PagePool> {
        PagePool::new(self.policy.clone(), self.layers.len(), self.config.kv_size())
    }

    /// Logits (rows, vocab) of final-norm hidden states (rows, hidden), into `logits`.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        let rows = hidden.len() / self.config.hidden_size;
        logits.resize(rows * self.config.vocab_size, 0.0);
        linear(hidden, rows, &self.output, logits);
    }
}
