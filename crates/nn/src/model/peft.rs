//! Adapters on disk, in the format of Hugging Face PEFT: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! Settings that would change the result and are not implemented (DoRA, ranks per layer, trained
//! biases or embeddings) are refused by name. The same adapter is always written as the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::lora::{adaptable, suffix};
use super::weights::{finite_f32, lazy, var};
use super::write::{PYTORCH, write_tensors};
use super::{Adapter, LoraSettings, ModelConfig};

/// The file that describes the adapter; a folder that has it is an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file that holds its tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// The prefix of a module's name in a file of PEFT.
const PREFIX: &str = "base_model.model.";

/// Keys that mean something else than plain LoRA, unless they are absent, null, false or empty.
const UNSUPPORTED: [&str; 14] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "ensure_weight_tying",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_qalora",
];

impl Adapter {
    /// Writes both files into `dir`, which must exist. `base` is the name or path of the base
    /// model, for tools that look it up.
    pub fn save(&self, config: &ModelConfig, base: &str, dir: &Path) -> Result<()> {
        let tensors = self.tensors.iter().map(|(name, var)| lazy(format!("{PREFIX}{name}"), var));
        write_tensors(&dir.join(ADAPTER_WEIGHTS), PYTORCH, tensors)?;
        let path = dir.join(ADAPTER_CONFIG);
        let json = format!("{:#}\n", self.config_json(config, base));
        std::fs::write(&path, json).with_context(|| format!("can't write {}", path.display()))
    }

    fn config_json(&self, config: &ModelConfig, base: &str) -> Value {
        let LoraSettings { r, lora_alpha, lora_dropout, use_rslora } = self.settings;
        // PEFT's lora_alpha is an integer.
        let whole = lora_alpha.fract() == 0.0 && lora_alpha < 1e15;
        let alpha = if whole { json!(lora_alpha as u64) } else { json!(lora_alpha) };
        json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": r,
            "target_modules": self.target_modules(config),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": use_rslora,
        })
    }

    /// The shortest names that match the adapted layers and no other layer.
    fn target_modules(&self, config: &ModelConfig) -> Vec<String> {
        let mut short: Vec<String> = self.modules.iter().map(|m| suffix(m).to_owned()).collect();
        short.sort();
        short.dedup();
        let hit = adaptable(config).into_keys().filter(|m| short.iter().any(|s| s == suffix(m)));
        if hit.eq(self.modules.iter().cloned()) && config.experts.is_none() {
            short
        } else {
            self.modules.clone()
        }
    }

    /// Reads the adapter in `dir`, which must be of a model of this configuration.
    pub fn load(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))
        };
        let json = read(ADAPTER_CONFIG)?;
        let settings =
            parse(&json).with_context(|| format!("can't use {ADAPTER_CONFIG} in {}", dir.display()))?;
        let bytes = read(ADAPTER_WEIGHTS)?;
        let context = || format!("can't use {ADAPTER_WEIGHTS} in {}", dir.display());
        let file = SafeTensors::deserialize(&bytes).context("it is damaged").with_context(context)?;
        let mut tensors = BTreeMap::new();
        for (stored, view) in file.tensors() {
            let name = stored.strip_prefix(PREFIX).unwrap_or(&stored).to_owned();
            let tensor =
                var(finite_f32(&stored, view.dtype(), view.data(), 0).with_context(context)?, view.shape())?;
            tensors.insert(name, tensor);
        }
        Self::from_tensors(config, settings, tensors)
            .with_context(|| format!("the adapter in {} can't be used with this model", dir.display()))
    }
}

/// Values of `init_lora_weights` that only say how the adapter's tensors began. The others
/// (`"pissa"`, `"olora"`, `"corda"`, `"loftq"`, `"lora_ga"`, …) make PEFT change the base model
/// whenever it loads the adapter.
const PLAIN_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Reads an `adapter_config.json`.
fn parse(bytes: &[u8]) -> Result<LoraSettings> {
    let value: Value = serde_json::from_slice(bytes).context("it is not JSON")?;
    let peft_type = &value["peft_type"];
    ensure!(peft_type == "LORA", "peft_type is {peft_type}; only \"LORA\" is supported");
    for key in UNSUPPORTED {
        let asked = match &value[key] {
            Value::Null | Value::Bool(false) => false,
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        ensure!(!asked, "{key} is {}, which is not supported", value[key]);
    }
    let unknown = value.as_object().into_iter().flatten().find(|(key, value)| {
        key.starts_with("use_") && key.as_str() != "use_rslora" && **value == Value::Bool(true)
    });
    if let Some((key, _)) = unknown {
        bail!("{key} is true, which is not supported");
    }
    let init = &value["init_lora_weights"];
    ensure!(
        init.as_str().map_or(init.is_null() || init.is_boolean(), |init| PLAIN_INITS.contains(&init)),
        "init_lora_weights is {init}: PEFT changes the base model when it loads such an adapter; save it as \
         plain LoRA (for PiSSA, CorDA and OLoRA: `save_pretrained(…, path_initial_model_for_weight_conversion=…)`)"
    );
    let bias = &value["bias"];
    ensure!(bias.is_null() || bias == "none", "bias is {bias}; only \"none\" is supported");
    let Some(r) = value["r"].as_u64() else { bail!("r is {}; it must be a whole number", value["r"]) };
    let alpha = &value["lora_alpha"];
    let Some(lora_alpha) = alpha.as_f64() else { bail!("lora_alpha is {alpha}; it must be a number") };
    Ok(LoraSettings {
        r: usize::try_from(r)?,
        lora_alpha,
        lora_dropout: value["lora_dropout"].as_f64().unwrap_or(0.0),
        use_rslora: value["use_rslora"].as_bool().unwrap_or(false),
    })
}
