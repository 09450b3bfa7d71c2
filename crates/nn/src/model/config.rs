//! The shape of a decoder, as a Hugging Face `config.json` describes it.
//!
//! Families differ in flags, per layer ([`LayerConfig`]) or for all layers ([`Blocks`]), so the
//! forward passes know no family. [`ModelConfig::parse`] makes a configuration from a file's text.
//! [`ModelConfig::to_json`] writes it back, with every key of the file that the decoder doesn't
//! read.
//!
//! It knows nothing about tensors or files.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{Family, RopeParameters, RopeScaling, read};
use crate::ops::kernels::{Arithmetic, AttentionShape, Routing};

/// What one decoder layer does differently from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// Rotary position encoding of queries and keys; without it the layer sees order only through
    /// the mask.
    pub rope: bool,
    /// Attend to the last [`ModelConfig::sliding_window`] tokens only, the token itself included.
    pub sliding: bool,
    /// The feed-forward is a mixture of [`ModelConfig::experts`].
    pub sparse: bool,
}

/// Where a layer's norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and feed-forward.
    Pre,
    /// After attention and feed-forward, before their output is added.
    Post,
    /// Both.
    Sandwich,
}

/// The checkpoint's names of a layer's norms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NormNames {
    pub attention_in: Option<&'static str>,
    pub attention_out: Option<&'static str>,
    pub mlp_in: Option<&'static str>,
    pub mlp_out: Option<&'static str>,
}

impl NormPlacement {
    pub(super) fn names(self) -> NormNames {
        let (post_attention, post_mlp) =
            (Some("post_attention_layernorm"), Some("post_feedforward_layernorm"));
        match self {
            Self::Pre => NormNames {
                attention_in: Some("input_layernorm"),
                mlp_in: post_attention,
                ..NormNames::default()
            },
            Self::Post => {
                NormNames { attention_out: post_attention, mlp_out: post_mlp, ..NormNames::default() }
            }
            Self::Sandwich => NormNames {
                attention_in: Some("input_layernorm"),
                attention_out: post_attention,
                mlp_in: Some("pre_feedforward_layernorm"),
                mlp_out: post_mlp,
            },
        }
    }
}

/// Which queries and keys are normed before their rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Each head separately, all with the same weight.
    Head,
    /// All heads together.
    Full,
}

/// Which of an attention's projections have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionBias {
    None,
    /// Queries, keys and values.
    Qkv,
    /// The output too.
    All,
}

/// The feed-forward's activation of its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// `gelu_pytorch_tanh`
    GeluTanh,
}

/// What the blocks of all layers consist of; Llama's by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    pub norms: NormPlacement,
    /// Norms multiply by `1 + weight`.
    pub norm_plus_one: bool,
    pub qk_norm: QkNorm,
    pub attention_bias: AttentionBias,
    pub mlp_bias: bool,
    pub activation: Activation,
    /// Embeddings are multiplied by √hidden_size.
    pub scale_embeddings: bool,
    /// Scores are divided by its square root; `None`: by that of head_dim.
    pub query_pre_attn_scalar: Option<f64>,
    /// Scores go through `cap * tanh(score / cap)`.
    pub attn_logit_softcapping: Option<f64>,
    /// Logits likewise.
    pub final_logit_softcapping: Option<f64>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            norms: NormPlacement::Pre,
            norm_plus_one: false,
            qk_norm: QkNorm::None,
            attention_bias: AttentionBias::None,
            mlp_bias: false,
            activation: Activation::Silu,
            scale_embeddings: false,
            query_pre_attn_scalar: None,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
        }
    }
}

/// The mixture of experts of sparse layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    pub num_experts: usize,
    pub num_experts_per_tok: usize,
    /// Size of one expert's hidden layer, in elements.
    pub intermediate_size: usize,
    /// The chosen experts' weights are divided by their sum.
    pub norm_topk_prob: bool,
}

impl Experts {
    pub(super) fn routing(&self) -> Routing {
        Routing { experts: self.num_experts, top_k: self.num_experts_per_tok, normalise: self.norm_topk_prob }
    }
}

/// The shape of a decoder. Field names are `config.json`'s; sizes are in elements, positions in
/// tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub rope: RopeParameters,
    /// Rotary positions of sliding layers, if they differ.
    pub sliding_rope: Option<RopeParameters>,
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
    /// Width of the sliding layers' window in tokens.
    pub sliding_window: Option<usize>,
    /// One entry per decoder layer.
    pub layers: Vec<LayerConfig>,
    pub blocks: Blocks,
    /// The experts of sparse layers, if there are any.
    pub experts: Option<Experts>,
    pub bos_token_id: Option<u32>,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
    /// The keys of the `config.json` it was read from that its fields don't write, unchanged.
    pub other: BTreeMap<String, Value>,
}

impl ModelConfig {
    /// Reads the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        read::parse(text)
    }

    /// The shape of the built-in seed model for a tokenizer of `vocab_size` tokens: two rotary
    /// layers with a window of 8 tokens below two layers without positions. Layers without
    /// positions let it count further than its training data.
    pub fn seed(vocab_size: usize) -> Self {
        let layer = |i| LayerConfig { rope: i < 2, sliding: i < 2, sparse: false };
        Self {
            family: Family::SmolLm3,
            vocab_size,
            hidden_size: 128,
            intermediate_size: 336,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 32,
            rms_norm_eps: 1e-6,
            rope: RopeParameters::new(1e4),
            sliding_rope: None,
            max_position_embeddings: 2048,
            tie_word_embeddings: true,
            sliding_window: Some(8),
            layers: (0..4).map(layer).collect(),
            blocks: Blocks::default(),
            experts: None,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            pad_token_id: Some(0),
            other: BTreeMap::new(),
        }
    }

    /// The window of layer `index` in tokens, itself included; `None` for full attention.
    pub fn window(&self, index: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.layers[index].sliding)
    }

    /// The shape of layer `index`'s attention for the kernels, with matrix products in
    /// `arithmetic`.
    pub fn attention_shape(&self, index: usize, arithmetic: Arithmetic) -> AttentionShape {
        AttentionShape {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            scale: match self.blocks.query_pre_attn_scalar {
                Some(scalar) => scalar.powf(-0.5) as f32,
                None => (self.head_dim as f32).sqrt().recip(),
            },
            window: self.window(index),
            softcap: self.blocks.attn_logit_softcapping.map(|cap| cap as f32),
            kv: arithmetic.kv(),
        }
    }

    /// The factor of embeddings, if there is one.
    pub(super) fn embedding_scale(&self) -> Option<f32> {
        self.blocks.scale_embeddings.then(|| (self.hidden_size as f64).sqrt() as f32)
    }

    /// The cap of the final logits.
    pub(super) fn logit_cap(&self) -> Option<f32> {
        self.blocks.final_logit_softcapping.map(|cap| cap as f32)
    }

    /// The experts of layer `index`, if it is sparse.
    pub(super) fn experts_of(&self, index: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|_| self.layers[index].sparse)
    }

    /// Whether the parameter belongs to one of several experts. A step may leave it without a
    /// gradient.
    pub fn is_of_expert(name: &str) -> bool {
        name.contains(".mlp.experts.")
    }

    /// The tensor that turns hidden states into logits.
    pub fn output_name(&self) -> &'static str {
        if self.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" }
    }

    /// Number of elements of one position's queries.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Number of elements of one position's keys, and of its values.
    pub fn kv_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every parameter's name and shape, in the checkpoint's own names, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.hidden_size;
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, d]),
            ("model.norm.weight".to_owned(), vec![d]),
        ];
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab_size, d]));
        }
        for i in 0..self.layers.len() {
            let mut push = |name: &str, shape| all.push((format!("model.layers.{i}.{name}"), shape));
            self.attention_parameters(&mut push);
            self.mlp_parameters(i, &mut push);
        }
        all.sort();
        all
    }

    fn attention_parameters(&self, push: &mut impl FnMut(&str, Vec<usize>)) {
        let (d, q, kv) = (self.hidden_size, self.query_size(), self.kv_size());
        let names = self.blocks.norms.names();
        for norm in
            [names.attention_in, names.attention_out, names.mlp_in, names.mlp_out].into_iter().flatten()
        {
            push(&format!("{norm}.weight"), vec![d]);
        }
        let bias = self.blocks.attention_bias;
        let qkv = bias != AttentionBias::None;
        let projections =
            [("q", q, d, qkv), ("k", kv, d, qkv), ("v", kv, d, qkv), ("o", d, q, bias == AttentionBias::All)];
        for (name, out, inp, has_bias) in projections {
            push(&format!("self_attn.{name}_proj.weight"), vec![out, inp]);
            if has_bias {
                push(&format!("self_attn.{name}_proj.bias"), vec![out]);
            }
        }
        let (q_norm, k_norm) = match self.blocks.qk_norm {
            QkNorm::None => return,
            QkNorm::Head => (self.head_dim, self.head_dim),
            QkNorm::Full => (q, kv),
        };
        push("self_attn.q_norm.weight", vec![q_norm]);
        push("self_attn.k_norm.weight", vec![k_norm]);
    }

    fn mlp_parameters(&self, index: usize, push: &mut impl FnMut(&str, Vec<usize>)) {
        let d = self.hidden_size;
        let mut dense = |prefix: &str, inter: usize, has_bias: bool| {
            for (name, out, inp) in [("gate", inter, d), ("up", inter, d), ("down", d, inter)] {
                push(&format!("{prefix}{name}_proj.weight"), vec![out, inp]);
                if has_bias {
                    push(&format!("{prefix}{name}_proj.bias"), vec![out]);
                }
            }
        };
        let Some(experts) = self.experts_of(index) else {
            return dense("mlp.", self.intermediate_size, self.blocks.mlp_bias);
        };
        for e in 0..experts.num_experts {
            dense(&format!("mlp.experts.{e}."), experts.intermediate_size, false);
        }
        push("mlp.gate.weight", vec![experts.num_experts, d]);
    }

    /// A complete `config.json` that transformers 5 reads, from this configuration's fields and the
    /// other keys of the file it was read from.
    pub fn to_json(&self) -> String {
        // Sorted by key, whichever map serde_json was built with, so that equal models have equal
        // text.
        let mut all = self.written();
        for (key, value) in &self.other {
            all.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let mut text = format!("{:#}", json!(all));
        text.push('\n');
        text
    }

    /// The keys that are written from the fields. A family's special keys are kept from the file
    /// instead.
    pub(super) fn written(&self) -> BTreeMap<String, Value> {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let mut value = json!({
            "architectures": [self.family.architecture()],
            "bos_token_id": self.bos_token_id,
            "dtype": "float32",
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": self.family.model_type(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.layers.len(),
            "num_key_value_heads": self.num_key_value_heads,
            "pad_token_id": self.pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "vocab_size": self.vocab_size,
        });
        if self.rope.scaling == RopeScaling::Default && self.sliding_rope.is_none() {
            let theta = self.rope.rope_theta;
            value["rope_parameters"] = json!({ "rope_theta": theta, "rope_type": "default" });
            value["rope_theta"] = json!(theta);
        }
        if matches!(self.family, Family::Llama | Family::SmolLm3) {
            value["attention_bias"] = json!(self.blocks.attention_bias == AttentionBias::All);
            value["attention_dropout"] = json!(0.0);
            value["hidden_act"] = match self.blocks.activation {
                Activation::Silu => json!("silu"),
                Activation::GeluTanh => json!("gelu_pytorch_tanh"),
            };
            value["mlp_bias"] = json!(self.blocks.mlp_bias);
        }
        if self.family == Family::SmolLm3 {
            let kind = |l: &LayerConfig| if l.sliding { "sliding_attention" } else { "full_attention" };
            value["no_rope_layers"] = self.layers.iter().map(|l| u8::from(l.rope)).collect();
            value["layer_types"] = self.layers.iter().map(kind).collect();
            value["use_sliding_window"] = json!(self.sliding_window.is_some());
            value["sliding_window"] = json!(self.sliding_window);
        }
        let Value::Object(map) = value else { return BTreeMap::new() };
        map.into_iter().collect()
    }

    /// Checks that the fields fit together; [`Self::parse`] has already done so.
    pub fn validate(&self) -> Result<()> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers.len()),
            ("num_attention_heads", heads),
            ("num_key_value_heads", kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            // The bound keeps every product of two sizes far from overflow.
            ensure!((1..=1 << 24).contains(&size), "config.json: {name} is {size}; it must be in 1..=2^24");
        }
        ensure!(
            heads.is_multiple_of(kv_heads),
            "config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        );
        ensure!(self.head_dim.is_multiple_of(2), "config.json: head_dim {} is odd", self.head_dim);
        let blocks = &self.blocks;
        let positive = [
            ("rms_norm_eps", Some(self.rms_norm_eps)),
            ("query_pre_attn_scalar", blocks.query_pre_attn_scalar),
            ("attn_logit_softcapping", blocks.attn_logit_softcapping),
            ("final_logit_softcapping", blocks.final_logit_softcapping),
        ];
        for (name, x) in positive {
            let fits = x.is_none_or(|x| x.is_finite() && x > 0.0);
            ensure!(fits, "config.json: {name} {} is not a positive number", x.unwrap_or_default());
        }
        [Some(self.rope), self.sliding_rope].iter().flatten().try_for_each(RopeParameters::validate)?;
        ensure!(self.sliding_window != Some(0), "config.json: sliding_window is 0");
        self.validate_layers()
    }

    fn validate_layers(&self) -> Result<()> {
        for (i, layer) in self.layers.iter().enumerate() {
            ensure!(
                !layer.sliding || self.sliding_window.is_some(),
                "config.json: layer_types[{i}] is sliding_attention, but no window is in use; set \
                 use_sliding_window to true and sliding_window to its width, or use full_attention"
            );
            ensure!(
                self.family != Family::Llama || (layer.rope && !layer.sliding),
                "layer {i} of a llama model must use rotary positions and full attention; use smollm3"
            );
        }
        let sparse = self.layers.iter().filter(|layer| layer.sparse).count();
        let Some(Experts { num_experts, num_experts_per_tok, intermediate_size, .. }) = self.experts else {
            ensure!(sparse == 0, "{sparse} layers are mixtures of experts, but no experts are configured");
            return Ok(());
        };
        for (name, size, most) in [
            // Each expert of each layer has its own tensors.
            ("num_experts", num_experts, (1 << 18) / sparse.max(1)),
            ("num_experts_per_tok", num_experts_per_tok, num_experts),
            ("moe_intermediate_size", intermediate_size, 1 << 24),
        ] {
            if !(1..=most).contains(&size) {
                bail!("config.json: {name} is {size}; it must be in 1..={most}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
