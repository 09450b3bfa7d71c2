//! Checkpoint directories of families that candle-transformers runs.
//!
//! candle's configuration types need keys that a `config.json` may leave to transformers' defaults;
//! they are filled in here. Keys that candle ignores although they change the result are refused.

#![allow(unsafe_code, reason = "weights are mapped from their files")]

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma, glm4_new, helium, mixtral, olmo, phi, phi3, qwen2_moe, stable_lm, starcoder2,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{CONTEXT_MAX, Forward, Network, cloned, reread};
use crate::model::{CONFIG_FILE, checkpoint_files};

/// `model_type` of every family that runs here. Left out, because candle 0.11.1 and transformers
/// differ: granite (its four multipliers), falcon with ALiBi, phi3 with long-context scaling.
pub const FAMILIES: [&str; 10] =
    ["gemma", "glm4", "helium", "mixtral", "olmo", "phi", "phi3", "qwen2_moe", "stablelm", "starcoder2"];

/// The `model_type` in a checkpoint directory's `config.json`.
pub(super) fn model_type(dir: &Path) -> Result<String> {
    let name = config(dir)?.get("model_type").and_then(Value::as_str).map(str::to_owned);
    name.with_context(|| format!("{} names no model_type", dir.join(CONFIG_FILE).display()))
}

fn config(dir: &Path) -> Result<Map<String, Value>> {
    let path = dir.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a JSON object", path.display()))
}

pub(super) fn load(dir: &Path) -> Result<Network> {
    let family = model_type(dir)?;
    let keys = Keys { family: &family, map: completed(&family, config(dir)?)? };
    keys.refuse_ignored_keys()?;
    let paths: Vec<_> = checkpoint_files(dir)?.into_iter().map(|name| dir.join(name)).collect();
    // SAFETY: the files are mapped only while tensors are copied out of them and widened to f32. If
    // another process truncates a file in these seconds, this process ends; the hash would show
    // another change.
    let vars = unsafe { VarBuilder::from_mmaped_safetensors(&paths, DType::F32, &Device::Cpu) };
    let vars = vars.with_context(|| format!("cannot open the tensors of {}", dir.display()))?;
    let vocab_size = keys.number("vocab_size")?;
    let context_max = keys.context_max()?;
    let forward = keys.network(vars)?;
    Ok(Network { forward, family, vocab_size, context_max })
}

/// The network of the family in `dir`, with other tensors.
#[cfg(test)]
pub(super) fn network_of(dir: &Path, vars: VarBuilder) -> Result<Forward> {
    let family = model_type(dir)?;
    Keys { family: &family, map: completed(&family, config(dir)?)? }.network(vars)
}

/// A `config.json` with every key that candle's types require.
fn completed(family: &str, mut map: Map<String, Value>) -> Result<Map<String, Value>> {
    // transformers 5 writes rope_theta and rope_scaling into one table.
    if let Some(Value::Object(rope)) = map.get("rope_parameters").cloned() {
        if let Some(theta) = rope.get("rope_theta") {
            map.entry("rope_theta").or_insert(theta.clone());
        }
        if let Some(factor) = rope.get("partial_rotary_factor") {
            map.entry("partial_rotary_factor").or_insert(factor.clone());
        }
        if rope.get("rope_type").is_some_and(|kind| kind != "default") {
            map.entry("rope_scaling").or_insert(Value::Object(rope));
        }
    }
    if family == "gemma" {
        // transformers uses only the newer key: in early checkpoints the older key names another
        // function.
        map.remove("hidden_act");
    }
    let positions = map.get("max_position_embeddings").cloned().unwrap_or(json!(CONTEXT_MAX));
    let defaults = match family {
        "gemma" => json!({ "attention_bias": false, "hidden_activation": "gelu_pytorch_tanh" }),
        "helium" => json!({ "use_flash_attn": false, "tie_word_embeddings": false }),
        "mixtral" => json!({ "use_flash_attn": false, "sliding_window": positions, "hidden_act": "silu" }),
        "olmo" => json!({ "attention_bias": false, "tie_word_embeddings": false, "hidden_act": "silu" }),
        "phi" => json!({ "tie_word_embeddings": false, "qk_layernorm": false, "partial_rotary_factor": 0.5 }),
        "qwen2_moe" => json!({
            "sliding_window": positions, "use_sliding_window": false, "max_window_layers": 28,
            "tie_word_embeddings": false, "hidden_act": "silu", "norm_topk_prob": false, "decoder_sparse_step": 1,
        }),
        "stablelm" => json!({ "hidden_act": "silu", "partial_rotary_factor": 0.25 }),
        "starcoder2" => json!({ "use_bias": true, "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5 }),
        "glm4" => json!({ "tie_word_embeddings": false, "hidden_act": "silu", "partial_rotary_factor": 0.5 }),
        _ => json!({}),
    };
    let always = json!({ "rope_theta": 10000.0 });
    for (key, value) in [defaults, always].iter().filter_map(Value::as_object).flatten() {
        if map.get(key).is_none_or(Value::is_null) {
            map.insert(key.clone(), value.clone());
        }
    }
    if map.get("num_key_value_heads").is_none_or(Value::is_null) {
        let heads = map.get("num_attention_heads").context("config.json has no num_attention_heads")?.clone();
        map.insert("num_key_value_heads".into(), heads);
    }
    Ok(map)
}

struct Keys<'a> {
    family: &'a str,
    map: Map<String, Value>,
}

impl Keys<'_> {
    fn number(&self, key: &str) -> Result<usize> {
        let value = self.map.get(key).and_then(Value::as_u64);
        Ok(value.with_context(|| format!("config.json: {key} is not a number"))? as usize)
    }

    fn is_set(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
    }

    /// Refuses keys that change the result and that candle's model of the family ignores.
    fn refuse_ignored_keys(&self) -> Result<()> {
        let unread: &[&str] = match self.family {
            "stablelm" => &["rope_scaling", "use_parallel_residual", "qk_layernorm"],
            "phi3" => &["rope_scaling", "attention_bias"],
            _ => &["rope_scaling"],
        };
        if let Some(key) = unread.iter().find(|key| self.is_set(key)) {
            bail!(
                "config.json: {key} = {} is not supported for {}: candle 0.11.1 ignores it and would compute \
                 something else; give another checkpoint",
                self.map[*key],
                self.family
            );
        }
        Ok(())
    }

    /// The smallest of: the model's positions, what one pass can take, and the length up to which
    /// windows are exact.
    fn context_max(&self) -> Result<usize> {
        let window =
            self.map.get("sliding_window").and_then(Value::as_u64).map_or(usize::MAX, |w| w as usize);
        Ok(self.number("max_position_embeddings").unwrap_or(8192).min(window).min(CONTEXT_MAX))
    }

    fn parsed<C: DeserializeOwned>(&self) -> Result<C> {
        let config = serde_json::from_value(Value::Object(self.map.clone()));
        config.map_err(|error| anyhow!("config.json is not what a {} has: {error}", self.family))
    }

    fn network(&self, vars: VarBuilder) -> Result<Forward> {
        Ok(match self.family {
            "gemma" => cloned(gemma::Model::new(false, &self.parsed()?, vars)?, gemma::Model::forward),
            "glm4" => {
                let model = glm4_new::ModelForCausalLM::new(&self.parsed()?, vars)?;
                cloned(model, glm4_new::ModelForCausalLM::forward)
            }
            "helium" => cloned(helium::Model::new(&self.parsed()?, vars)?, helium::Model::forward),
            "mixtral" => cloned(mixtral::Model::new(&self.parsed()?, vars)?, mixtral::Model::forward),
            "olmo" => cloned(olmo::Model::new(&self.parsed()?, vars)?, olmo::Model::forward),
            // The model counts its positions itself.
            "phi" => cloned(phi::Model::new(&self.parsed()?, vars)?, |model, ids, _| model.forward(ids)),
            "phi3" => {
                let config: phi3::Config = self.parsed()?;
                let factor = config.partial_rotary_factor.unwrap_or(1.0);
                ensure!(
                    factor == 1.0,
                    "config.json: partial_rotary_factor {factor} is not supported for phi3; give a checkpoint with 1"
                );
                cloned(phi3::Model::new(&config, vars)?, phi3::Model::forward)
            }
            "qwen2_moe" => cloned(qwen2_moe::Model::new(&self.parsed()?, vars)?, qwen2_moe::Model::forward),
            "stablelm" => {
                let without_cache =
                    Keys { family: self.family, map: self.map.iter().map(without_cache).collect() };
                reread(stable_lm::Model::new(&without_cache.parsed()?, vars)?, stable_lm::Model::forward)
            }
            "starcoder2" => {
                cloned(starcoder2::Model::new(&self.parsed()?, vars)?, starcoder2::Model::forward)
            }
            other => bail!("model_type `{other}` is not supported here; supported: {}", FAMILIES.join(", ")),
        })
    }
}

/// The same key and value, except that the cache is turned off.
fn without_cache((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), if key == "use_cache" { Value::Bool(false) } else { value.clone() })
}
