//! Reading `config.json`: tolerant of what doesn't matter, strict about what does.
//!
//! Keys that the decoder doesn't know are kept, to be written back. A key whose value would change
//! the result in a way that isn't implemented is refused; the error names the value and what is
//! supported. The meaning of keys follows transformers 5.23.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::{Activation, AttentionBias, Blocks, Experts, LayerConfig, ModelConfig};
use super::{Family, rope};

/// An object of `config.json`.
pub(super) struct Keys {
    /// The path of the object within the file, with a dot at the end.
    prefix: String,
    map: Map<String, Value>,
}

impl Keys {
    pub(super) fn new(prefix: &str, map: &Map<String, Value>) -> Self {
        Self { prefix: prefix.to_owned(), map: map.clone() }
    }

    /// The value of a key, `None` if it is absent or null.
    pub(super) fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::deserialize(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => bail!("config.json: {}{key} is {value}: {error}", self.prefix),
            },
        }
    }

    fn is_present(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.get(key)?.unwrap_or(false))
    }

    /// Refuses a key that is set to anything but null.
    fn refuse(&self, key: &str, why: &str) -> Result<()> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) => bail!("config.json: {key} {value} is not supported; {why}"),
        }
    }
}

/// Token ids as configurations write them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T = u32> {
    One(T),
    Many(Vec<T>),
}

/// Reads the text of a `config.json`.
pub(super) fn parse(text: &str) -> Result<ModelConfig> {
    let value: Value = serde_json::from_str(text).context("config.json is not valid JSON")?;
    let Value::Object(map) = value else { bail!("config.json is {value}; it must be an object") };
    let keys = Keys { prefix: String::new(), map: text_part(map)? };
    let model_type: String = keys.get("model_type")?.context("config.json has no `model_type`")?;
    let family = Family::from_model_type(&model_type)?;
    refuse_unsupported(&keys, family)?;
    let mut config = sizes(&keys, family)?;
    config.blocks = blocks(&keys, family)?;
    (config.rope, config.sliding_rope) = rope::read(&keys, family)?;
    config.sliding_window = window(&keys, family)?;
    let count = keys.get("num_hidden_layers")?.with_context(|| missing("num_hidden_layers", family))?;
    config.layers = layers(&keys, &config, count)?;
    config.experts = experts(&keys, &config)?;
    // Keys that the configuration's fields write are not kept a second time.
    let written = config.written();
    config.other = keys.map.into_iter().filter(|(key, _)| !written.contains_key(key)).collect();
    config.validate()?;
    Ok(config)
}

/// The language model's part of a multimodal configuration; other configurations unchanged.
fn text_part(mut map: Map<String, Value>) -> Result<Map<String, Value>> {
    if map.get("model_type").and_then(Value::as_str) != Some("gemma3") {
        return Ok(map);
    }
    let Some(Value::Object(mut text)) = map.remove("text_config") else {
        bail!("config.json: model_type `gemma3` needs an object `text_config`");
    };
    text.insert("model_type".to_owned(), Family::Gemma3.model_type().into());
    text.remove("architectures");
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "quantization_config"] {
        if let (Some(value), false) = (map.remove(key), text.contains_key(key)) {
            text.insert(key.to_owned(), value);
        }
    }
    Ok(text)
}

fn missing(key: &str, family: Family) -> String {
    format!("config.json has no `{key}`, which model_type `{}` needs", family.model_type())
}

/// What all families have.
fn sizes(keys: &Keys, family: Family) -> Result<ModelConfig> {
    let defaults = family.defaults();
    let required = |key: &str, default: Option<usize>| -> Result<usize> {
        keys.get(key)?.or(default).with_context(|| missing(key, family))
    };
    let hidden_size = required("hidden_size", None)?;
    let heads = required("num_attention_heads", defaults.num_attention_heads)?;
    ensure!(heads > 0, "config.json: num_attention_heads is 0");
    // A null means as many as query heads; an absent key means the family's default.
    let kv_heads = match keys.get("num_key_value_heads")? {
        Some(kv_heads) => kv_heads,
        None if keys.is_present("num_key_value_heads") => heads,
        None => defaults.num_key_value_heads.unwrap_or(heads),
    };
    let head_dim = match keys.get("head_dim")? {
        Some(head_dim) => head_dim,
        None => defaults.head_dim.unwrap_or(hidden_size / heads),
    };
    Ok(ModelConfig {
        family,
        vocab_size: required("vocab_size", defaults.vocab_size)?,
        hidden_size,
        intermediate_size: required("intermediate_size", None)?,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        rms_norm_eps: keys.get("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
        max_position_embeddings: keys
            .get("max_position_embeddings")?
            .unwrap_or(defaults.max_position_embeddings),
        tie_word_embeddings: keys.get("tie_word_embeddings")?.unwrap_or(defaults.tie_word_embeddings),
        bos_token_id: keys.get::<OneOrMany>("bos_token_id")?.and_then(|ids| ids.list().first().copied()),
        eos_token_ids: keys.get::<OneOrMany>("eos_token_id")?.map_or(Vec::new(), OneOrMany::list),
        // A negative one stands for none.
        pad_token_id: keys
            .get::<OneOrMany<i64>>("pad_token_id")?
            .and_then(|ids| ids.list().into_iter().find_map(|id| u32::try_from(id).ok())),
        // The caller fills in the rest.
        rope: rope::RopeParameters::new(defaults.rope_theta),
        sliding_rope: None,
        sliding_window: None,
        layers: Vec::new(),
        blocks: Blocks::default(),
        experts: None,
        other: BTreeMap::new(),
    })
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

fn blocks(keys: &Keys, family: Family) -> Result<Blocks> {
    let mut blocks = family.blocks();
    let defaults = family.defaults();
    let activation: Option<String> = keys.get(defaults.activation_key)?;
    blocks.activation = match activation.as_deref().unwrap_or(defaults.activation) {
        "silu" | "swish" => Activation::Silu,
        "gelu_pytorch_tanh" => Activation::GeluTanh,
        other => bail!(
            "config.json: {} `{other}` is not supported; supported: silu, gelu_pytorch_tanh",
            defaults.activation_key
        ),
    };
    if !matches!(family, Family::Mistral | Family::Qwen2) && keys.flag("attention_bias")? {
        blocks.attention_bias = AttentionBias::All;
    }
    if matches!(family, Family::Llama | Family::SmolLm3) {
        blocks.mlp_bias = keys.flag("mlp_bias")?;
    }
    if family.is_gemma() {
        blocks.query_pre_attn_scalar = Some(keys.get("query_pre_attn_scalar")?.unwrap_or(256.0));
        let cap = |key: &str, default: f64| -> Result<Option<f64>> {
            let absent = family == Family::Gemma2 && !keys.is_present(key);
            Ok(keys.get(key)?.or(absent.then_some(default)))
        };
        blocks.attn_logit_softcapping = cap("attn_logit_softcapping", 50.0)?;
        blocks.final_logit_softcapping = cap("final_logit_softcapping", 30.0)?;
    }
    Ok(blocks)
}

/// Refuses keys whose value changes the result in a way that isn't implemented.
fn refuse_unsupported(keys: &Keys, family: Family) -> Result<()> {
    if let Some(names) = keys.get::<Vec<String>>("architectures")?
        && names.iter().any(|name| name != family.architecture())
    {
        let (model_type, expected) = (family.model_type(), family.architecture());
        bail!("config.json: architectures {names:?} is not supported; for {model_type} only {expected} is");
    }
    if let Some(factor) = keys.get::<f64>("partial_rotary_factor")? {
        ensure!(factor == 1.0, "config.json: partial_rotary_factor {factor} is not supported; only 1 is");
    }
    keys.refuse("quantization_config", "use a float32, bfloat16 or float16 checkpoint")?;
    if family == Family::Olmoe {
        keys.refuse("clip_qkv", "only null is")?;
    }
    if family.is_gemma() {
        ensure!(
            !keys.flag("use_bidirectional_attention")?,
            "config.json: use_bidirectional_attention true is not supported; only false is"
        );
    }
    Ok(())
}

/// The window in tokens, if any layer may use one.
fn window(keys: &Keys, family: Family) -> Result<Option<usize>> {
    let key = "sliding_window";
    let window = keys.get(key)?;
    let by_default = || if keys.is_present(key) { None } else { Some(4096) };
    Ok(match family {
        Family::Llama | Family::Olmo2 | Family::Olmoe => None,
        Family::SmolLm3 => {
            if keys.flag("use_sliding_window")? {
                window
            } else {
                None
            }
        }
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe => match keys.flag("use_sliding_window")? {
            true => window.or_else(by_default),
            false => None,
        },
        Family::Mistral | Family::Olmo3 | Family::Gemma2 | Family::Gemma3 => window.or_else(by_default),
    })
}

/// The per-layer flags.
fn layers(keys: &Keys, config: &ModelConfig, count: usize) -> Result<Vec<LayerConfig>> {
    ensure!(count <= 1 << 16, "config.json: num_hidden_layers is {count}; at most 65536 are supported");
    let (family, has_window) = (config.family, config.sliding_window.is_some());
    let rope = rope_layers(keys, family, count)?;
    let sliding: Vec<bool> = match family {
        Family::Llama | Family::Olmo2 | Family::Olmoe => vec![false; count],
        Family::Mistral | Family::Qwen3Moe => vec![has_window; count],
        _ => match layer_types(keys, count)? {
            Some(sliding) => sliding,
            None => {
                let first: usize = keys.get("max_window_layers")?.unwrap_or(28);
                let every: usize = keys.get("sliding_window_pattern")?.unwrap_or(6);
                ensure!(every > 0, "config.json: sliding_window_pattern is 0");
                let slides = |i: usize| match family {
                    Family::SmolLm3 => has_window && !rope[i],
                    Family::Qwen2 | Family::Qwen3 => has_window && i >= first,
                    Family::Gemma2 => i.is_multiple_of(2),
                    Family::Gemma3 => !(i + 1).is_multiple_of(every),
                    _ => !(i + 1).is_multiple_of(4),
                };
                (0..count).map(slides).collect()
            }
        },
    };
    let sparse = sparse_layers(keys, family, count)?;
    let flags = rope.into_iter().zip(sliding).zip(sparse).take(count);
    Ok(flags.map(|((rope, sliding), sparse)| LayerConfig { rope, sliding, sparse }).collect())
}

/// In SmolLM3's `no_rope_layers` a 1 means that the layer *uses* rotary positions.
fn rope_layers(keys: &Keys, family: Family, count: usize) -> Result<Vec<bool>> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; count]);
    }
    let rope: Vec<bool> = match keys.get::<Vec<u8>>("no_rope_layers")? {
        Some(flags) => flags.iter().map(|&flag| flag != 0).collect(),
        None => {
            let interval: usize = keys.get("no_rope_layer_interval")?.unwrap_or(4);
            ensure!(interval > 0, "config.json: no_rope_layer_interval is 0");
            (0..count).map(|i| !(i + 1).is_multiple_of(interval)).collect()
        }
    };
    ensure!(
        rope.len() >= count,
        "config.json: no_rope_layers has {} entries for {count} layers; give one per layer",
        rope.len()
    );
    Ok(rope)
}

/// Which layers slide, if there is a key `layer_types`.
fn layer_types(keys: &Keys, count: usize) -> Result<Option<Vec<bool>>> {
    let Some(types) = keys.get::<Vec<String>>("layer_types")? else { return Ok(None) };
    let sliding = types.iter().enumerate().map(|(i, kind)| match kind.as_str() {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(anyhow!(
            "config.json: layer_types[{i}] `{other}` is not supported; supported: full_attention, \
             sliding_attention"
        )),
    });
    let sliding: Vec<bool> = sliding.collect::<Result<_>>()?;
    ensure!(
        sliding.len() >= count,
        "config.json: layer_types has {} entries for {count} layers; give one per layer",
        sliding.len()
    );
    Ok(Some(sliding))
}

/// Which layers are mixtures of experts.
fn sparse_layers(keys: &Keys, family: Family, count: usize) -> Result<Vec<bool>> {
    let (dense, step) = match family {
        Family::Olmoe => (Vec::new(), 1),
        Family::Qwen3Moe => {
            let dense: Vec<usize> = keys.get("mlp_only_layers")?.unwrap_or_default();
            (dense, keys.get("decoder_sparse_step")?.unwrap_or(1))
        }
        _ => return Ok(vec![false; count]),
    };
    ensure!(step > 0, "config.json: decoder_sparse_step is 0");
    Ok((0..count).map(|i| (i + 1usize).is_multiple_of(step) && !dense.contains(&i)).collect())
}

fn experts(keys: &Keys, config: &ModelConfig) -> Result<Option<Experts>> {
    if !config.layers.iter().any(|layer| layer.sparse) {
        return Ok(None);
    }
    let family = config.family;
    let required = |key: &str| -> Result<usize> { keys.get(key)?.with_context(|| missing(key, family)) };
    // transformers 5 calls them num_local_experts.
    let num_experts = match keys.get("num_experts")? {
        Some(n) => n,
        None => keys.get("num_local_experts")?.with_context(|| missing("num_experts", family))?,
    };
    Ok(Some(Experts {
        num_experts,
        num_experts_per_tok: required("num_experts_per_tok")?,
        intermediate_size: match family {
            Family::Olmoe => config.intermediate_size,
            _ => required("moe_intermediate_size")?,
        },
        norm_topk_prob: keys.flag("norm_topk_prob")?,
    }))
}
