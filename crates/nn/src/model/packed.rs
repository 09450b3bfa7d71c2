//! A policy laid out for rollouts: read by every thread, never trained.
//!
//! Trainable weights are copied, so training can continue while the copy is read. Frozen weights
//! are shared, and an adapter stays separate from them. It knows nothing about sequences;
//! [`super::decode`] runs it.

use std::sync::Arc;

use anyhow::Result;

use super::cache::PagePool;
use super::config::{Activation, QkNorm};
use super::{Adapter, Frozen, Lora, ModelConfig, Weights};
use crate::ops::kernels::{
    AttentionShape, KvPrecision, PackedWeight, RopeTable, Routing, add_bias, geglu, linear, rms_norm,
    softcap, swiglu,
};
use crate::profile::{self, Operator};

/// A decoder ready to generate.
#[derive(Debug)]
pub struct Packed {
    pub(super) config: Arc<ModelConfig>,
    policy: Arc<str>,
    /// (vocab, hidden)
    pub(super) embedding: Arc<PackedWeight>,
    /// The factor of embeddings, if there is one.
    pub(super) embedding_scale: Option<f32>,
    pub(super) layers: Vec<PackedLayer>,
    pub(super) norm: PackedNorm,
    /// (vocab, hidden)
    output: Arc<PackedWeight>,
    kv: KvPrecision,
}

/// One decoder layer; fields are named like the checkpoint's keys.
#[derive(Debug)]
pub(super) struct PackedLayer {
    /// Norms before and after attention and feed-forward.
    pub attention_in: Option<PackedNorm>,
    pub attention_out: Option<PackedNorm>,
    pub mlp_in: Option<PackedNorm>,
    pub mlp_out: Option<PackedNorm>,
    pub q_proj: PackedLinear,
    pub k_proj: PackedLinear,
    pub v_proj: PackedLinear,
    pub o_proj: PackedLinear,
    /// Norms over one head's elements, or over all heads'.
    pub q_norm: Option<PackedNorm>,
    pub k_norm: Option<PackedNorm>,
    pub mlp: PackedMlp,
    pub shape: AttentionShape,
    pub rope: Option<Arc<RopeTable>>,
}

impl PackedLayer {
    fn bytes(&self) -> usize {
        let dense = |d: &PackedDense| d.gate_proj.bytes() + d.up_proj.bytes() + d.down_proj.bytes();
        let mlp = match &self.mlp {
            PackedMlp::Dense(d) => dense(d),
            PackedMlp::Mixture { experts, .. } => experts.iter().map(dense).sum(),
        };
        mlp + [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
            .map(|p| p.bytes())
            .iter()
            .sum::<usize>()
    }
}

/// A layer's feed-forward.
#[derive(Debug)]
pub(super) enum PackedMlp {
    Dense(Box<PackedDense>),
    Mixture { gate: Arc<PackedWeight>, routing: Routing, experts: Vec<PackedDense> },
}

/// A gated feed-forward.
#[derive(Debug)]
pub(super) struct PackedDense {
    pub gate_proj: PackedLinear,
    pub up_proj: PackedLinear,
    pub down_proj: PackedLinear,
    pub activation: Activation,
}

impl PackedDense {
    /// `act(gate) * up`
    pub(super) fn activate(&self, gate: &[f32], up: &[f32], y: &mut [f32]) {
        match self.activation {
            Activation::Silu => swiglu(gate, up, y),
            Activation::GeluTanh => geglu(gate, up, y),
        }
    }
}

/// A projection.
#[derive(Debug)]
pub(super) struct PackedLinear {
    weight: Arc<PackedWeight>,
    adapter: Option<PackedAdapter>,
    bias: Option<Vec<f32>>,
}

/// A layer's part of an adapter.
#[derive(Debug)]
struct PackedAdapter {
    /// (r, in)
    a: PackedWeight,
    /// (out, r)
    b: PackedWeight,
    scale: f32,
}

impl PackedLinear {
    /// y (rows, out) of x (rows, in).
    pub(super) fn run(&self, x: &[f32], rows: usize, y: &mut [f32]) {
        linear(x, rows, &self.weight, y);
        if let Some(PackedAdapter { a, b, scale }) = &self.adapter {
            let _adapter = profile::named(Operator::Adapter);
            let mut h = vec![0.0; rows * a.out()];
            linear(x, rows, a, &mut h);
            h.iter_mut().for_each(|h| *h *= scale);
            b.forward(&h, rows, y, true);
        }
        if let Some(bias) = &self.bias {
            add_bias(y, bias);
        }
    }

    /// Number of output features.
    pub(super) fn out(&self) -> usize {
        self.weight.out()
    }

    fn bytes(&self) -> usize {
        self.weight.bytes()
    }
}

/// A norm, with the weight by which rows are multiplied.
#[derive(Debug)]
pub(super) struct PackedNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl PackedNorm {
    /// Norms the rows of x into y.
    pub(super) fn run(&self, x: &[f32], y: &mut [f32]) {
        rms_norm(x, &self.weight, self.eps, y);
    }
}

/// Reads the parameters of one layer.
struct Source<'a> {
    frozen: &'a Frozen,
    adapter: Option<&'a Adapter>,
    prefix: String,
}

impl Source<'_> {
    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.frozen.vector(&format!("{}{name}", self.prefix))?.to_vec1()?)
    }

    fn weight(&self, name: &str) -> Result<Arc<PackedWeight>> {
        self.frozen.packed(&format!("{}{name}.weight", self.prefix)).cloned()
    }

    fn linear(&self, name: &str) -> Result<PackedLinear> {
        let bias = format!("{name}.bias");
        let has_bias = self.frozen.has_vector(&format!("{}{bias}", self.prefix));
        let bias = if has_bias { Some(self.vector(&bias)?) } else { None };
        let adapter = match self.adapter {
            Some(adapter) => adapter.packed(&format!("{}{name}", self.prefix))?,
            None => None,
        };
        let adapter = adapter.map(|(a, b, scale)| PackedAdapter { a, b, scale });
        Ok(PackedLinear { weight: self.weight(name)?, adapter, bias })
    }

    fn norm(&self, name: &str) -> Result<PackedNorm> {
        let config = &self.frozen.config;
        let mut weight = self.vector(&format!("{name}.weight"))?;
        if config.blocks.norm_plus_one {
            weight.iter_mut().for_each(|w| *w += 1.0);
        }
        Ok(PackedNorm { weight, eps: config.rms_norm_eps as f32 })
    }

    fn norm_if_named(&self, name: Option<&str>) -> Result<Option<PackedNorm>> {
        name.map(|name| self.norm(name)).transpose()
    }

    fn feed_forward(&self, prefix: &str) -> Result<PackedDense> {
        Ok(PackedDense {
            gate_proj: self.linear(&format!("{prefix}gate_proj"))?,
            up_proj: self.linear(&format!("{prefix}up_proj"))?,
            down_proj: self.linear(&format!("{prefix}down_proj"))?,
            activation: self.frozen.config.blocks.activation,
        })
    }

    fn layer(&self, index: usize) -> Result<PackedLayer> {
        let config = &self.frozen.config;
        let norms = config.blocks.norms.names();
        let normed = config.blocks.qk_norm != QkNorm::None;
        Ok(PackedLayer {
            attention_in: self.norm_if_named(norms.attention_in)?,
            attention_out: self.norm_if_named(norms.attention_out)?,
            mlp_in: self.norm_if_named(norms.mlp_in)?,
            mlp_out: self.norm_if_named(norms.mlp_out)?,
            q_proj: self.linear("self_attn.q_proj")?,
            k_proj: self.linear("self_attn.k_proj")?,
            v_proj: self.linear("self_attn.v_proj")?,
            o_proj: self.linear("self_attn.o_proj")?,
            q_norm: self.norm_if_named(normed.then_some("self_attn.q_norm"))?,
            k_norm: self.norm_if_named(normed.then_some("self_attn.k_norm"))?,
            mlp: match config.experts_of(index) {
                None => PackedMlp::Dense(Box::new(self.feed_forward("mlp.")?)),
                Some(experts) => PackedMlp::Mixture {
                    gate: self.weight("mlp.gate")?,
                    routing: experts.routing(),
                    experts: (0..experts.num_experts)
                        .map(|e| self.feed_forward(&format!("mlp.experts.{e}.")))
                        .collect::<Result<_>>()?,
                },
            },
            shape: config.attention_shape(index, self.frozen.arithmetic()),
            rope: self.frozen.rope(index),
        })
    }
}

impl Packed {
    /// Copies and packs `weights`; their hash names the policy.
    pub fn new(weights: &Weights) -> Result<Self> {
        Self::of(&Frozen::of(weights)?)
    }

    /// Packs frozen weights, which it shares.
    pub fn of(frozen: &Frozen) -> Result<Self> {
        Self::build(frozen, None, frozen.hash().clone())
    }

    /// Packs frozen weights, which it shares, with an adapter, which it copies.
    pub fn adapted(lora: &Lora) -> Result<Self> {
        Self::build(&lora.base, Some(&lora.adapter), lora.hash()?.into())
    }

    fn build(frozen: &Frozen, adapter: Option<&Adapter>, policy: Arc<str>) -> Result<Self> {
        let config = frozen.config.clone();
        let source = |prefix: String| Source { frozen, adapter, prefix };
        let layer = |i: usize| source(format!("model.layers.{i}.")).layer(i);
        Ok(Self {
            policy,
            embedding: frozen.packed("model.embed_tokens.weight")?.clone(),
            embedding_scale: config.embedding_scale(),
            layers: (0..config.layers.len()).map(layer).collect::<Result<_>>()?,
            norm: source(String::new()).norm("model.norm")?,
            output: frozen.packed(config.output_name())?.clone(),
            kv: frozen.arithmetic().kv(),
            config,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The precision of keys and values.
    pub fn kv(&self) -> KvPrecision {
        self.kv
    }

    /// Bytes of the matrices that every token goes through.
    pub fn bytes(&self) -> usize {
        self.output.bytes() + self.layers.iter().map(PackedLayer::bytes).sum::<usize>()
    }

    /// Hash of the policy.
    pub fn policy(&self) -> &Arc<str> {
        &self.policy
    }

    /// A new pool of cache pages for this policy.
    pub fn page_pool(&self) -> Arc<PagePool> {
        PagePool::new(self.policy.clone(), self.layers.len(), self.config.kv_size(), self.kv)
    }

    /// Logits (rows, vocab) of final-norm hidden states (rows, hidden), into `logits`.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        let rows = hidden.len() / self.config.hidden_size;
        logits.resize(rows * self.config.vocab_size, 0.0);
        linear(hidden, rows, &self.output, logits);
        if let Some(cap) = self.config.logit_cap() {
            let _span = profile::span(Operator::LogSoftmax);
            softcap(logits, cap);
        }
    }
}
