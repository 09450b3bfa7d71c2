//! Metadata to configuration. What llama.cpp computes for a file becomes the `config.json` of the
//! family that computes the same, and is read like one. Values that would change the result and
//! can't be expressed in a configuration are refused by their key.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::arch::{Arch, NO_ROPE_EVERY};
use super::rope;
use crate::gguf::{File, Metadata};
use crate::model::{Family, ModelConfig};

/// Attention sinks below this have no effect, whatever the scores are.
pub(super) const SINK_OFF: f32 = -1e30;

/// A file's keys; those of its architecture are named without the architecture.
pub(super) struct Keys<'a> {
    pub file: &'a File,
    pub arch: Arch,
}

/// The architecture and configuration of a file.
pub(super) fn read(file: &File) -> Result<(Arch, ModelConfig)> {
    let meta = file.metadata();
    let name = meta.text("general.architecture")?.context("general.architecture is missing")?;
    let keys = Keys { file, arch: Arch::from_name(name)? };
    keys.refuse_unsupported()?;
    let json = Value::Object(keys.json()?).to_string();
    let config = ModelConfig::parse(&json)
        .context("the hyper-parameters, read as a config.json, don't make a supported model")?;
    Ok((keys.arch, config))
}

impl Keys<'_> {
    pub(super) fn meta(&self) -> &Metadata {
        self.file.metadata()
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch.name())
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensors().contains_key(tensor)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        let (key, value) = (self.key(name), self.meta().number(&self.key(name))?);
        // JSON can't express these numbers and would turn them into null.
        ensure!(
            value.is_none_or(f64::is_finite),
            "{key} is {}; it must be finite",
            value.unwrap_or_default()
        );
        Ok(value)
    }

    /// A size. If there is one per layer, all must be the same.
    fn size(&self, name: &str) -> Result<Option<u64>> {
        let key = self.key(name);
        let Ok(Some(list)) = self.meta().integers(&key) else { return self.meta().unsigned(&key) };
        match list.first() {
            Some(&first) if list.iter().all(|&n| n == first) => {
                Ok(Some(u64::try_from(first).with_context(|| format!("{key} holds {first}"))?))
            }
            _ => {
                bail!("{key} differs from layer to layer, which is not supported; only one value for all is")
            }
        }
    }

    fn required(&self, name: &str) -> Result<u64> {
        self.size(name)?.with_context(|| format!("{} is missing", self.key(name)))
    }

    fn family(&self) -> Result<Family> {
        let has_window = self.size("attention.sliding_window")?.is_some_and(|window| window > 0);
        Ok(match self.arch {
            Arch::Llama if has_window => Family::Mistral,
            Arch::Llama => Family::Llama,
            Arch::SmolLm3 | Arch::GraniteSwa => Family::SmolLm3,
            Arch::Qwen2 => Family::Qwen2,
            Arch::Qwen3 => Family::Qwen3,
            Arch::Olmo2 if has_window => Family::Olmo3,
            Arch::Olmo2 => Family::Olmo2,
            Arch::Olmoe => Family::Olmoe,
            Arch::Gemma2 => Family::Gemma2,
            Arch::Gemma3 => Family::Gemma3,
            Arch::Qwen3Moe => Family::Qwen3Moe,
        })
    }

    /// Refuses values that no configuration can express.
    fn refuse_unsupported(&self) -> Result<()> {
        let splits = self.meta().unsigned("split.count")?.unwrap_or(1);
        ensure!(
            splits <= 1,
            "split.count is {splits}: the model is split in several files; merge them with `llama-gguf-split --merge`"
        );
        for (name, neutral) in [
            ("logit_scale", 1.0),
            ("residual_scale", 1.0),
            ("embedding_scale", 1.0),
            ("expert_weights_scale", 1.0),
            ("nextn_predict_layers", 0.0),
            ("attention.clamp_kqv", 0.0),
            ("expert_shared_count", 0.0),
            ("expert_shared_feed_forward_length", 0.0),
        ] {
            let value = self.number(name)?.unwrap_or(neutral);
            // In llama.cpp a scale of 0 means that there is none.
            let is_neutral = value == neutral || value == 0.0;
            ensure!(is_neutral, "{} is {value}, which is not supported; only {neutral} is", self.key(name));
        }
        if !matches!(self.arch, Arch::Olmoe | Arch::Qwen3Moe) {
            let experts = self.size("expert_count")?.unwrap_or(0);
            ensure!(
                experts == 0,
                "{} is {experts}: mixtures of experts are supported in olmoe and qwen3moe",
                self.key("expert_count")
            );
        }
        if let Some(false) = self.meta().flag(&self.key("attention.causal"))? {
            bail!("{} is false; only causal models are supported", self.key("attention.causal"));
        }
        Ok(())
    }

    fn json(&self) -> Result<Map<String, Value>> {
        let meta = self.meta();
        let family = self.family()?;
        let layers = self.layer_count()?;
        let (hidden, heads) = (self.required("embedding_length")?, self.required("attention.head_count")?);
        let head_dim = self.head_dim(hidden, heads)?;
        let vocabulary = self.file.tensor("token_embd.weight")?.rows();
        let mut json = json!({
            "model_type": family.model_type(),
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.size("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head_dim,
            "intermediate_size": self.intermediate_size()?,
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?
                .with_context(|| format!("{} is missing", self.key("attention.layer_norm_rms_epsilon")))?,
            "max_position_embeddings": self.required("context_length")?,
            "tie_word_embeddings": !self.has("output.weight"),
            "bos_token_id": meta.id("tokenizer.ggml.bos_token_id")?,
            "eos_token_id": self.end_ids()?,
            "pad_token_id": meta.id("tokenizer.ggml.padding_token_id")?,
        });
        let Value::Object(all) = &mut json else { bail!("no object") };
        if family != Family::Qwen2 {
            all.insert("attention_bias".into(), self.has("blk.0.attn_q.bias").into());
        }
        if matches!(family, Family::Llama | Family::SmolLm3) {
            all.insert("mlp_bias".into(), self.has("blk.0.ffn_up.bias").into());
        }
        self.windows(family, layers, all)?;
        self.of_family(family, layers, all)?;
        rope::read(self, family, head_dim, all)?;
        let Value::Object(all) = json else { bail!("no object") };
        Ok(all)
    }

    /// Bounded by the number of tensors, so that a damaged count causes no work.
    fn layer_count(&self) -> Result<u64> {
        let layers = self.required("block_count")?;
        let tensors = self.file.tensors().len() as u64;
        ensure!(
            layers <= tensors,
            "{} is {layers}, but the file holds {tensors} tensors",
            self.key("block_count")
        );
        Ok(layers)
    }

    fn head_dim(&self, hidden: u64, heads: u64) -> Result<u64> {
        ensure!(heads > 0, "{} is 0", self.key("attention.head_count"));
        let head_dim = self.size("attention.key_length")?.unwrap_or(hidden / heads);
        for name in ["attention.value_length", "rope.dimension_count"] {
            let value = self.size(name)?.unwrap_or(head_dim);
            ensure!(
                value == head_dim,
                "{} is {value}, which is not supported; only a head's {head_dim} elements are",
                self.key(name)
            );
        }
        Ok(head_dim)
    }

    fn intermediate_size(&self) -> Result<u64> {
        match (self.arch, self.size("feed_forward_length")?) {
            (_, Some(size)) => Ok(size),
            (Arch::Qwen3Moe, None) => self.required("expert_feed_forward_length"),
            (_, None) => self.required("feed_forward_length"),
        }
    }

    /// Every token that ends a text or a turn.
    fn end_ids(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            ids.extend(self.meta().id(&format!("tokenizer.ggml.{name}"))?);
        }
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|&id| seen.insert(id));
        Ok(ids)
    }

    /// Which layers have a window, and how wide it is.
    fn windows(&self, family: Family, layers: u64, all: &mut Map<String, Value>) -> Result<()> {
        let window = self.size("attention.sliding_window")?.filter(|&window| window > 0);
        let (every, window) = match self.arch {
            Arch::Llama => {
                all.insert("sliding_window".into(), json!(window));
                return Ok(());
            }
            Arch::Olmo2 if family == Family::Olmo3 => (4, window),
            Arch::Gemma2 => (2, Some(window.unwrap_or(4096))),
            Arch::Gemma3 => (6, window),
            Arch::GraniteSwa => (0, window),
            _ => return Ok(()),
        };
        let sliding = match window {
            Some(_) => self.pattern("attention.sliding_window_pattern", layers, every)?,
            None => vec![false; layers as usize],
        };
        let kind = |&slides: &bool| if slides { "sliding_attention" } else { "full_attention" };
        all.insert("layer_types".into(), sliding.iter().map(kind).collect());
        all.insert("sliding_window".into(), json!(window));
        all.insert("use_sliding_window".into(), sliding.contains(&true).into());
        Ok(())
    }

    /// One flag per layer: as a list, or as a number n, with the flag off in every n-th layer;
    /// `default` if the key is missing.
    fn pattern(&self, name: &str, layers: u64, default: u64) -> Result<Vec<bool>> {
        let key = self.key(name);
        if let Ok(Some(flags)) = self.meta().flags(&key) {
            ensure!(flags.len() as u64 >= layers, "{key} has {} entries for {layers} layers", flags.len());
            return Ok(flags[..layers as usize].to_vec());
        }
        let every = self.meta().unsigned(&key)?.unwrap_or(default);
        ensure!(every > 0, "{key} is missing");
        Ok((0..layers).map(|i| i % every < every - 1).collect())
    }

    fn of_family(&self, family: Family, layers: u64, all: &mut Map<String, Value>) -> Result<()> {
        match family {
            Family::SmolLm3 => {
                let rope = match self.arch {
                    Arch::SmolLm3 => (1..=layers).map(|i| !i.is_multiple_of(NO_ROPE_EVERY as u64)).collect(),
                    _ if self.meta().get(&self.key("attention.rope_pattern")).is_none() => {
                        vec![true; layers as usize]
                    }
                    _ => self.pattern("attention.rope_pattern", layers, 0)?,
                };
                all.insert("no_rope_layers".into(), rope.iter().map(|&rope| u8::from(rope)).collect());
                if self.arch == Arch::GraniteSwa {
                    self.refuse_granite(all)?;
                }
            }
            Family::Gemma2 | Family::Gemma3 => {
                let default = |cap| Some(cap).filter(|_| family == Family::Gemma2);
                let attention = self.number("attn_logit_softcapping")?.or(default(50.0));
                let last = self.number("final_logit_softcapping")?.or(default(30.0));
                let attention = attention.filter(|_| family == Family::Gemma2);
                all.insert("attn_logit_softcapping".into(), json!(attention));
                all.insert("final_logit_softcapping".into(), json!(last.filter(|&cap| cap != 0.0)));
                let size = |key: &str| all.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
                let scalar = self.arch.attention_scalar(
                    layers as usize,
                    size("hidden_size"),
                    size("num_attention_heads"),
                    size("head_dim"),
                );
                all.insert("query_pre_attn_scalar".into(), json!(scalar));
            }
            Family::Olmoe | Family::Qwen3Moe => {
                let experts = self.required("expert_count")?;
                let stacked = self.file.tensor("blk.0.ffn_gate_exps.weight")?.shape.first().copied();
                ensure!(
                    stacked == usize::try_from(experts).ok(),
                    "{} is {experts}, but blk.0.ffn_gate_exps.weight holds {}",
                    self.key("expert_count"),
                    stacked.unwrap_or_default()
                );
                all.insert("num_experts".into(), experts.into());
                all.insert("num_experts_per_tok".into(), self.required("expert_used_count")?.into());
                all.insert("norm_topk_prob".into(), (family == Family::Qwen3Moe).into());
                if family == Family::Qwen3Moe {
                    let size = self.required("expert_feed_forward_length")?;
                    all.insert("moe_intermediate_size".into(), size.into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Granite's additions, which are accepted only if they are turned off.
    fn refuse_granite(&self, all: &Map<String, Value>) -> Result<()> {
        if let Some(scale) = self.number("attention.scale")?.filter(|&scale| scale != 0.0) {
            let head_dim = all.get("head_dim").and_then(Value::as_f64).unwrap_or_default();
            ensure!(
                (scale * head_dim.sqrt() - 1.0).abs() < 1e-5,
                "{} is {scale}, which is not supported; only one over the square root of a head's {head_dim} elements",
                self.key("attention.scale")
            );
        }
        for name in self.file.tensors().keys().filter(|name| name.ends_with(".attn_sinks.weight")) {
            let sinks = super::blocks::to_f32(self.file.tensor(name)?.dtype, &self.file.read(name)?)?;
            ensure!(
                sinks.iter().all(|&sink| sink <= SINK_OFF),
                "tensor `{name}` holds attention sinks, which are not supported"
            );
        }
        Ok(())
    }
}
