//! `config.json` of a Hugging Face checkpoint, read tolerantly and refused by name.
//!
//! Unknown keys are ignored, because checkpoints carry many that don't change the function. Every key that
//! would change the function and isn't implemented is refused with the key, its value and what is supported.
//! What families differ in is a flag per layer ([`LayerConfig`]), so the decoder knows no family.
//!
//! Knows nothing about tensors or files. Semantics follow transformers 5.23 (`configuration_llama.py`,
//! `configuration_smollm3.py`, `modeling_rope_utils.py`).

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ops::kernels::AttentionShape;

/// The checkpoint families that can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Rotary positions and full causal attention in every layer.
    Llama,
    /// Rotary positions and a sliding window can be on or off in each layer (NoPE layers, arXiv:2501.18795).
    SmolLm3,
}

impl Family {
    const SUPPORTED: &'static str = "llama, smollm3";

    fn from_model_type(model_type: &str) -> Result<Self> {
        match model_type {
            "llama" => Ok(Self::Llama),
            "smollm3" => Ok(Self::SmolLm3),
            other => {
                bail!("config.json: model_type `{other}` is not supported; supported: {}", Self::SUPPORTED)
            }
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::SmolLm3 => "smollm3",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
        }
    }
}

/// What one decoder layer does differently from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Rotary position encoding of queries and keys; without it the layer sees order only through the mask.
    pub rope: bool,
    /// Attend to the last [`ModelConfig::sliding_window`] tokens only, the token itself included.
    pub sliding: bool,
}

/// The shape of a decoder. Field names are `config.json`'s; sizes are in elements, positions in tokens.
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
    pub rope_theta: f64,
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
    /// Width of the sliding layers' window in tokens.
    pub sliding_window: Option<usize>,
    /// One entry per decoder layer.
    pub layers: Vec<LayerConfig>,
    pub bos_token_id: Option<u32>,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
}

/// The keys of `config.json` that matter here; everything else is ignored.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    quantization_config: Option<Value>,
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    layer_types: Option<Vec<String>>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    pad_token_id: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl ModelConfig {
    /// Reads the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text).context("config.json is not valid")?;
        let model_type = raw.model_type.as_deref().context("config.json has no `model_type`")?;
        let family = Family::from_model_type(model_type)?;
        refuse_unsupported(&raw, family)?;
        let rope_theta = rope_theta(&raw, family)?;
        let required = |name: &str, value: Option<usize>| {
            value.with_context(|| {
                format!("config.json has no `{name}`, which model_type `{model_type}` needs")
            })
        };
        let hidden_size = required("hidden_size", raw.hidden_size)?;
        let num_attention_heads = required("num_attention_heads", raw.num_attention_heads)?;
        ensure!(num_attention_heads > 0, "config.json: num_attention_heads is 0");
        let layer_count = required("num_hidden_layers", raw.num_hidden_layers)?;
        let config = Self {
            family,
            vocab_size: required("vocab_size", raw.vocab_size)?,
            hidden_size,
            intermediate_size: required("intermediate_size", raw.intermediate_size)?,
            num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(num_attention_heads),
            head_dim: raw.head_dim.unwrap_or(hidden_size / num_attention_heads),
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta,
            max_position_embeddings: raw.max_position_embeddings.unwrap_or(match family {
                Family::Llama => 2048,
                Family::SmolLm3 => 32768,
            }),
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(family == Family::SmolLm3),
            sliding_window: active_window(&raw, family),
            layers: layers(&raw, family, layer_count)?,
            bos_token_id: raw.bos_token_id,
            eos_token_ids: match raw.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
            pad_token_id: raw.pad_token_id,
        };
        config.validate()?;
        Ok(config)
    }

    /// The shape of the built-in seed model for a tokenizer of `vocab_size` tokens: two rotary layers with a
    /// window of 8 tokens below two layers without positions, which is what lets it count further than its
    /// training data.
    pub fn seed(vocab_size: usize) -> Self {
        let layer = |i| LayerConfig { rope: i < 2, sliding: i < 2 };
        Self {
            family: Family::SmolLm3,
            vocab_size,
            hidden_size: 128,
            intermediate_size: 336,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 32,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            max_position_embeddings: 2048,
            tie_word_embeddings: true,
            sliding_window: Some(8),
            layers: (0..4).map(layer).collect(),
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            pad_token_id: Some(0),
        }
    }

    /// The window of layer `index` in tokens, itself included; `None` for full attention.
    pub fn window(&self, index: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.layers[index].sliding)
    }

    /// What layer `index`'s attention looks like to the kernels.
    pub fn attention_shape(&self, index: usize) -> AttentionShape {
        AttentionShape {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            scale: (self.head_dim as f32).sqrt().recip(),
            window: self.window(index),
        }
    }

    /// The tensor that turns hidden states into logits.
    pub fn output_name(&self) -> &'static str {
        if self.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" }
    }

    /// Elements of one position's queries.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Elements of one position's keys, and of its values.
    pub fn kv_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every parameter's name and shape, in the checkpoint's own names, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let (d, inter) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.query_size(), self.kv_size());
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, d]),
            ("model.norm.weight".to_owned(), vec![d]),
        ];
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab_size, d]));
        }
        for i in 0..self.layers.len() {
            let mut push = |name: &str, shape| all.push((format!("model.layers.{i}.{name}.weight"), shape));
            push("input_layernorm", vec![d]);
            push("post_attention_layernorm", vec![d]);
            push("self_attn.q_proj", vec![q, d]);
            push("self_attn.k_proj", vec![kv, d]);
            push("self_attn.v_proj", vec![kv, d]);
            push("self_attn.o_proj", vec![d, q]);
            push("mlp.gate_proj", vec![inter, d]);
            push("mlp.up_proj", vec![inter, d]);
            push("mlp.down_proj", vec![d, inter]);
        }
        all.sort();
        all
    }

    /// A complete `config.json` that transformers 4 and 5 read.
    pub fn to_json(&self) -> String {
        let mut value = json!({
            "architectures": [self.family.architecture()],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "dtype": "float32",
            "eos_token_id": self.eos_token_ids,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": false,
            "model_type": self.family.model_type(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.layers.len(),
            "num_key_value_heads": self.num_key_value_heads,
            "pad_token_id": self.pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": { "rope_theta": self.rope_theta, "rope_type": "default" },
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "vocab_size": self.vocab_size,
        });
        match self.eos_token_ids.as_slice() {
            [] => value["eos_token_id"] = Value::Null,
            [one] => value["eos_token_id"] = json!(one),
            _ => {}
        }
        if self.family == Family::SmolLm3 {
            let kind = |l: &LayerConfig| if l.sliding { "sliding_attention" } else { "full_attention" };
            value["no_rope_layers"] = self.layers.iter().map(|l| u8::from(l.rope)).collect();
            value["layer_types"] = self.layers.iter().map(kind).collect();
            value["use_sliding_window"] = json!(self.sliding_window.is_some());
            value["sliding_window"] = json!(self.sliding_window);
        }
        // Sorted by key whatever map serde_json was built with, so that equal models have equal text.
        let sorted: std::collections::BTreeMap<_, _> = value.as_object().into_iter().flatten().collect();
        let mut text = format!("{:#}", json!(sorted));
        text.push('\n');
        text
    }

    /// Checks that the fields fit together; [`Self::parse`] has done so already.
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
        let (eps, theta) = (self.rms_norm_eps, self.rope_theta);
        ensure!(eps.is_finite() && eps > 0.0, "config.json: rms_norm_eps {eps} is not a positive number");
        ensure!(theta.is_finite() && theta > 0.0, "config.json: rope_theta {theta} is not a positive number");
        ensure!(self.sliding_window != Some(0), "config.json: sliding_window is 0");
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
        Ok(())
    }
}

/// Refuses keys whose value changes the function in a way that isn't implemented.
fn refuse_unsupported(raw: &Raw, family: Family) -> Result<()> {
    if let Some(names) = &raw.architectures
        && names.iter().any(|name| name != family.architecture())
    {
        let (model_type, expected) = (family.model_type(), family.architecture());
        bail!("config.json: architectures {names:?} is not supported; for {model_type} only {expected} is");
    }
    if let Some(act) = &raw.hidden_act
        && act != "silu"
    {
        bail!("config.json: hidden_act `{act}` is not supported; supported: silu");
    }
    ensure!(
        raw.attention_bias != Some(true),
        "config.json: attention_bias true is not supported; only false is"
    );
    ensure!(raw.mlp_bias != Some(true), "config.json: mlp_bias true is not supported; only false is");
    if let Some(factor) = raw.partial_rotary_factor {
        ensure!(factor == 1.0, "config.json: partial_rotary_factor {factor} is not supported; only 1 is");
    }
    ensure!(
        raw.quantization_config.as_ref().is_none_or(Value::is_null),
        "config.json: quantization_config is not supported; use a float32, bfloat16 or float16 checkpoint"
    );
    for (key, value) in [("rope_scaling", &raw.rope_scaling), ("rope_parameters", &raw.rope_parameters)] {
        let Some(value) = value else { continue };
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        let plain = value.is_null()
            || match kind {
                Some(kind) => kind == "default",
                None => key == "rope_parameters" && value.get("rope_theta").is_some(),
            };
        ensure!(plain, "config.json: {key} {value} is not supported; only rope_type `default` is");
    }
    Ok(())
}

/// transformers 5 writes `rope_parameters.rope_theta`, transformers 4 `rope_theta`.
fn rope_theta(raw: &Raw, family: Family) -> Result<f64> {
    let nested = raw.rope_parameters.as_ref().and_then(|p| p.get("rope_theta"));
    let nested = match nested {
        None | Some(Value::Null) => None,
        Some(v) => Some(
            v.as_f64()
                .with_context(|| format!("config.json: rope_parameters.rope_theta {v} is no number"))?,
        ),
    };
    Ok(nested.or(raw.rope_theta).unwrap_or(match family {
        Family::Llama => 1e4,
        Family::SmolLm3 => 2e6,
    }))
}

/// The window in tokens, if any layer may use one.
fn active_window(raw: &Raw, family: Family) -> Option<usize> {
    let used = family == Family::SmolLm3 && raw.use_sliding_window == Some(true);
    raw.sliding_window.filter(|_| used)
}

/// The per-layer flags. In SmolLM3's `no_rope_layers` a 1 means that the layer *uses* rotary positions.
fn layers(raw: &Raw, family: Family, count: usize) -> Result<Vec<LayerConfig>> {
    ensure!(count <= 1 << 16, "config.json: num_hidden_layers is {count}; at most 65536 are supported");
    if family == Family::Llama {
        return Ok(vec![LayerConfig { rope: true, sliding: false }; count]);
    }
    let interval = raw.no_rope_layer_interval.unwrap_or(4);
    let rope: Vec<bool> = match &raw.no_rope_layers {
        Some(flags) => flags.iter().map(|&flag| flag != 0).collect(),
        None => {
            ensure!(interval > 0, "config.json: no_rope_layer_interval is 0");
            (0..count).map(|i| !(i + 1).is_multiple_of(interval)).collect()
        }
    };
    ensure!(
        rope.len() >= count,
        "config.json: no_rope_layers has {} entries for {count} layers; give one per layer",
        rope.len()
    );
    let has_window = active_window(raw, family).is_some();
    let sliding: Vec<bool> = match &raw.layer_types {
        None => rope.iter().map(|&rope| has_window && !rope).collect(),
        Some(types) => types
            .iter()
            .enumerate()
            .map(|(i, kind)| match kind.as_str() {
                "sliding_attention" => Ok(true),
                "full_attention" => Ok(false),
                other => bail!(
                    "config.json: layer_types[{i}] `{other}` is not supported; supported: full_attention, \
                     sliding_attention"
                ),
            })
            .collect::<Result<_>>()?,
    };
    ensure!(
        sliding.len() >= count,
        "config.json: layer_types has {} entries for {count} layers; give one per layer",
        sliding.len()
    );
    Ok(rope
        .into_iter()
        .zip(sliding)
        .take(count)
        .map(|(rope, sliding)| LayerConfig { rope, sliding })
        .collect())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
