//! Weights to a GGUF file that llama.cpp loads: hyper-parameters under its keys, tensors under its
//! names, with its order of rows and its conventions. A model that no architecture can express is
//! refused before anything is written.
//!
//! Matrices get the requested type. With q8_0, matrices whose rows are no whole blocks become f16.
//! Norms, biases and routers stay f32, as in llama.cpp's own converter.

use std::io::Write;

use anyhow::{Context, Result};

use super::arch::Arch;
use super::blocks::{self, Q8_0_BLOCK};
use super::config::SINK_OFF;
use super::{names, rope};
use crate::gguf::{self, Dtype, TensorSpec, Value};
use crate::model::{ModelConfig, RopeScaling};

/// In which type matrices are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    F32,
    F16,
    Bf16,
    Q8_0,
}

impl GgufType {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::Q8_0 => Dtype::Q8_0,
        }
    }

    /// llama.cpp's number for a file that is mostly of this type.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }
}

/// A tensor to write, and the parameters it is made of.
struct Entry {
    spec: TensorSpec,
    content: Content,
}

enum Content {
    /// Parameters one after another; several of them are experts.
    Parameters {
        names: Vec<String>,
        permute: bool,
        plus_one: bool,
        scale: f32,
    },
    Numbers(Vec<f32>),
}

/// A policy that is written to a file.
pub struct GgufExport<'a> {
    config: &'a ModelConfig,
    elements: &'a dyn Fn(&str) -> Result<Vec<f32>>,
    arch: Arch,
    kind: GgufType,
    entries: Vec<Entry>,
}

impl<'a> GgufExport<'a> {
    /// Plans the file. `elements(name)` returns each parameter's elements when it is written.
    ///
    /// # Errors
    /// No architecture of llama.cpp computes what the model does.
    pub fn new(
        config: &'a ModelConfig,
        elements: &'a dyn Fn(&str) -> Result<Vec<f32>>,
        kind: GgufType,
    ) -> Result<Self> {
        let arch = Arch::of(config)?;
        let mut export = Self { config, elements, arch, kind, entries: Vec::new() };
        export.plan()?;
        Ok(export)
    }

    /// Notes for the user of the file, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.arch == Arch::GraniteSwa {
            notes.push(
                "layers with windows or without rotary positions are written as architecture granite_swa, which \
                 older versions of llama.cpp don't know (llama-cpp-python 0.3.36 does)"
                    .to_owned(),
            );
        }
        let is_wider = |entry: &&Entry| self.kind == GgufType::Q8_0 && entry.spec.dtype == Dtype::F16;
        let wider = self.entries.iter().filter(is_wider).count();
        if wider > 0 {
            notes.push(format!(
                "{wider} matrices are f16 rather than q8_0: their rows aren't whole blocks of {Q8_0_BLOCK}"
            ));
        }
        notes
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> Result<u64> {
        self.entries.iter().map(|entry| Ok(entry.spec.bytes()? as u64)).sum()
    }

    fn plan(&mut self) -> Result<()> {
        let config = self.config.clone();
        // llama.cpp scales attention in its own way; the queries are multiplied by the difference.
        let (heads, head_dim) = (config.num_attention_heads, config.head_dim);
        let own = self.arch.attention_scalar(config.layers.len(), config.hidden_size, heads, head_dim);
        let scale = config.blocks.query_pre_attn_scalar.map_or(1.0, |scalar| (own / scalar).sqrt() as f32);
        let scaled = match self.arch {
            Arch::Gemma2 => "self_attn.q_proj.weight",
            // There is a norm between the projection and the attention.
            _ => "self_attn.q_norm.weight",
        };
        for (name, shape) in config.parameters() {
            let place = names::place(&config, self.arch, &name)?;
            let scale = if scale != 1.0 && name.ends_with(scaled) { scale } else { 1.0 };
            let experts = config.experts.as_ref().map_or(0, |experts| experts.num_experts);
            let (spec_shape, parts) = match place.expert {
                None => (shape, vec![name]),
                Some(0) => {
                    let part = |e: usize| name.replacen(".experts.0.", &format!(".experts.{e}."), 1);
                    ([vec![experts], shape].concat(), (0..experts).map(part).collect())
                }
                Some(_) => continue,
            };
            let dtype = self.dtype(&place.tensor, &spec_shape);
            let (permute, plus_one) = (place.permuted_heads.is_some(), place.plus_one);
            let content = Content::Parameters { names: parts, permute, plus_one, scale };
            self.push(place.tensor, dtype, spec_shape, content);
        }
        self.plan_extras(&config);
        Ok(())
    }

    /// Tensors that are not made from parameters.
    fn plan_extras(&mut self, config: &ModelConfig) {
        if config.tie_word_embeddings && self.arch.needs_output() {
            let shape = vec![config.vocab_size, config.hidden_size];
            let names = vec![config.output_name().to_owned()];
            let content = Content::Parameters { names, permute: false, plus_one: false, scale: 1.0 };
            self.push("output.weight".into(), self.dtype("output.weight", &shape), shape, content);
        }
        if matches!(config.rope.scaling, RopeScaling::Llama3 { .. }) {
            let divisors = rope::divisors(&config.rope, config.head_dim);
            self.push(rope::FREQUENCIES.into(), Dtype::F32, vec![divisors.len()], Content::Numbers(divisors));
        }
        if self.arch == Arch::GraniteSwa {
            let heads = config.num_attention_heads;
            for i in 0..config.layers.len() {
                let off = Content::Numbers(vec![SINK_OFF; heads]);
                self.push(format!("blk.{i}.attn_sinks.weight"), Dtype::F32, vec![heads], off);
            }
        }
    }

    fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, content: Content) {
        self.entries.push(Entry { spec: TensorSpec { name, dtype, shape }, content });
    }

    fn dtype(&self, tensor: &str, shape: &[usize]) -> Dtype {
        let columns = shape.last().copied().unwrap_or(1);
        if shape.len() < 2 || tensor.ends_with("ffn_gate_inp.weight") {
            Dtype::F32
        } else if self.kind == GgufType::Q8_0 && !columns.is_multiple_of(Q8_0_BLOCK) {
            Dtype::F16
        } else {
            self.kind.dtype()
        }
    }

    /// Writes the whole file; `others` are the vocabulary's metadata.
    pub fn write(&self, out: &mut impl Write, name: &str, others: Vec<(String, Value)>) -> Result<()> {
        let mut metadata = self.metadata(name);
        metadata.extend(others);
        let specs: Vec<TensorSpec> = self.entries.iter().map(|entry| entry.spec.clone()).collect();
        gguf::write(out, &metadata, &specs, |n| {
            let entry = &self.entries[n];
            self.content(entry).with_context(|| format!("tensor `{}` can't be written", entry.spec.name))
        })
    }

    fn content(&self, entry: &Entry) -> Result<Vec<u8>> {
        let (names, permute, plus_one, scale) = match &entry.content {
            Content::Numbers(numbers) => return blocks::from_f32(entry.spec.dtype, numbers),
            Content::Parameters { names, permute, plus_one, scale } => (names, *permute, *plus_one, *scale),
        };
        let mut all = Vec::new();
        for name in names {
            let mut numbers = (self.elements)(name)?;
            if plus_one {
                numbers.iter_mut().for_each(|x| *x += 1.0);
            }
            if scale != 1.0 {
                numbers.iter_mut().for_each(|x| *x *= scale);
            }
            let columns = entry.spec.shape.last().copied().unwrap_or(1);
            let mut bytes = blocks::from_f32(entry.spec.dtype, &numbers)?;
            if permute {
                let rows = if entry.spec.shape.len() == 1 { numbers.len() } else { numbers.len() / columns };
                bytes = names::permute(&bytes, bytes.len() / rows.max(1), self.config.head_dim);
            }
            all.extend(bytes);
        }
        Ok(all)
    }

    fn metadata(&self, name: &str) -> Vec<(String, Value)> {
        let config = self.config;
        let mut all: Vec<(String, Value)> = vec![
            ("general.architecture".into(), self.arch.name().into()),
            ("general.type".into(), "model".into()),
            ("general.name".into(), name.into()),
            ("general.file_type".into(), self.kind.file_type().into()),
        ];
        if self.kind == GgufType::Q8_0 {
            all.push(("general.quantization_version".into(), 2u32.into()));
        }
        let keys: Vec<(&str, Value)> = vec![
            ("vocab_size", config.vocab_size.into()),
            ("context_length", config.max_position_embeddings.into()),
            ("embedding_length", config.hidden_size.into()),
            ("block_count", config.layers.len().into()),
            ("feed_forward_length", config.intermediate_size.into()),
            ("attention.head_count", config.num_attention_heads.into()),
            ("attention.head_count_kv", config.num_key_value_heads.into()),
            ("attention.key_length", config.head_dim.into()),
            ("attention.value_length", config.head_dim.into()),
            ("attention.layer_norm_rms_epsilon", config.rms_norm_eps.into()),
        ];
        let more = rope::write(config).into_iter().chain(self.own_keys());
        let own = |(key, value): (&str, Value)| (format!("{}.{key}", self.arch.name()), value);
        all.extend(keys.into_iter().chain(more).map(own));
        all
    }

    /// The keys that only some architectures have.
    fn own_keys(&self) -> Vec<(&'static str, Value)> {
        let config = self.config;
        let mut keys: Vec<(&'static str, Value)> = Vec::new();
        let granite = self.arch == Arch::GraniteSwa;
        let sliding: Vec<bool> = config.layers.iter().map(|layer| layer.sliding).collect();
        if granite || sliding.contains(&true) {
            // Granite needs a width, even if no layer uses it.
            let window = config.sliding_window.unwrap_or(config.max_position_embeddings);
            keys.push(("attention.sliding_window", window.into()));
            keys.push(("attention.sliding_window_pattern", Value::Bools(sliding)));
        }
        if granite {
            let rope = config.layers.iter().map(|layer| layer.rope).collect();
            keys.push(("attention.rope_pattern", Value::Bools(rope)));
            keys.push(("logit_scale", 1.0.into()));
        }
        for (key, cap) in [
            ("attn_logit_softcapping", config.blocks.attn_logit_softcapping),
            ("final_logit_softcapping", config.blocks.final_logit_softcapping),
        ] {
            keys.extend(cap.map(|cap| (key, cap.into())));
        }
        if let Some(experts) = &config.experts {
            keys.push(("expert_count", experts.num_experts.into()));
            keys.push(("expert_used_count", experts.num_experts_per_tok.into()));
            keys.push(("expert_feed_forward_length", experts.intermediate_size.into()));
        }
        keys
    }
}
