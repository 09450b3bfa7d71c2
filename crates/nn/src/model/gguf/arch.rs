//! llama.cpp's architectures: which of them computes what a configuration describes, and how they
//! differ.
//!
//! The source is llama.cpp's `src/models/*.cpp` (as vendored by llama-cpp-python 0.3.36). Its
//! graphs are fixed per architecture. A flag that an architecture's graph doesn't have is refused,
//! because the file would load and compute something else.

use anyhow::{Context, Result, bail, ensure};

use crate::model::{Activation, AttentionBias, Family, ModelConfig, QkNorm, RopeScaling};

/// An architecture, as `general.architecture` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    Llama,
    SmolLm3,
    /// Llama with a window and rotary positions on or off in each layer; the sinks of its attention
    /// can be turned off.
    GraniteSwa,
    Qwen2,
    Qwen3,
    /// OLMo 2, and with windows OLMo 3.
    Olmo2,
    Olmoe,
    Gemma2,
    Gemma3,
    Qwen3Moe,
}

const NAMES: [(Arch, &str); 10] = [
    (Arch::Llama, "llama"),
    (Arch::SmolLm3, "smollm3"),
    (Arch::GraniteSwa, "granite_swa"),
    (Arch::Qwen2, "qwen2"),
    (Arch::Qwen3, "qwen3"),
    (Arch::Olmo2, "olmo2"),
    (Arch::Olmoe, "olmoe"),
    (Arch::Gemma2, "gemma2"),
    (Arch::Gemma3, "gemma3"),
    (Arch::Qwen3Moe, "qwen3moe"),
];

/// Most layers that llama.cpp takes.
const LAYERS_MAX: usize = 512;

/// One in this many layers of llama.cpp's SmolLM3 has no rotary positions.
pub(super) const NO_ROPE_EVERY: usize = 4;

impl Arch {
    pub(super) fn from_name(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        let (arch, _) = found.with_context(|| {
            let supported = NAMES.map(|(_, name)| name).join(", ");
            format!("general.architecture `{name}` is not supported; supported: {supported}")
        })?;
        Ok(*arch)
    }

    /// The name as `general.architecture` writes it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(arch, _)| *arch == self).map_or("", |(_, name)| name)
    }

    /// Whether element pairs that rotate together are neighbours. Rows of queries and keys are then
    /// in another order than in a Hugging Face checkpoint.
    pub(super) fn is_permuted(self) -> bool {
        matches!(self, Self::Llama | Self::SmolLm3 | Self::GraniteSwa)
    }

    /// Whether the output layer must be written although it is tied to the embeddings.
    pub(super) fn needs_output(self) -> bool {
        matches!(self, Self::Olmo2 | Self::Olmoe)
    }

    /// Attention is scaled by this to the power of -1/2, whatever the model's configuration
    /// contains.
    pub(super) fn attention_scalar(self, layers: usize, hidden: usize, heads: usize, head_dim: usize) -> f64 {
        match (self, layers) {
            // How llama.cpp recognises the models of 27 billion parameters.
            (Self::Gemma2, 46) | (Self::Gemma3, 62) => (hidden / heads.max(1)) as f64,
            _ => head_dim as f64,
        }
    }

    /// The architecture that computes exactly what `config` describes.
    pub(super) fn of(config: &ModelConfig) -> Result<Self> {
        let arch = match config.family {
            Family::Llama | Family::Mistral | Family::SmolLm3 => Self::of_llama(config),
            Family::Qwen2 => Self::Qwen2,
            Family::Qwen3 => Self::Qwen3,
            Family::Olmo2 | Family::Olmo3 => Self::Olmo2,
            Family::Olmoe => Self::Olmoe,
            Family::Gemma2 => Self::Gemma2,
            Family::Gemma3 => Self::Gemma3,
            Family::Qwen3Moe => Self::Qwen3Moe,
        };
        arch.check(config).with_context(|| {
            format!(
                "llama.cpp's architecture `{}` can't express this {} model; export it with --format merged",
                arch.name(),
                config.family.model_type()
            )
        })?;
        Ok(arch)
    }

    fn of_llama(config: &ModelConfig) -> Self {
        let blocks = &config.blocks;
        let layers = || config.layers.iter().enumerate();
        if layers().any(|(_, layer)| layer.sliding) {
            return Self::GraniteSwa;
        }
        let is_llama3 = matches!(config.rope.scaling, RopeScaling::Llama3 { .. });
        let has_bias = blocks.attention_bias != AttentionBias::None || blocks.mlp_bias;
        if layers().all(|(_, layer)| layer.rope) {
            Self::Llama
        } else if layers().all(|(i, layer)| layer.rope != (i + 1).is_multiple_of(NO_ROPE_EVERY))
            && !is_llama3
            && !has_bias
        {
            Self::SmolLm3
        } else {
            Self::GraniteSwa
        }
    }

    fn check(self, config: &ModelConfig) -> Result<()> {
        let blocks = &config.blocks;
        let is_gemma = matches!(self, Self::Gemma2 | Self::Gemma3);
        ensure!(
            config.layers.len() <= LAYERS_MAX,
            "num_hidden_layers is {}; at most {LAYERS_MAX}",
            config.layers.len()
        );
        ensure!(
            (blocks.activation == Activation::GeluTanh) == is_gemma,
            "the activation is {:?}",
            blocks.activation
        );
        let takes_output_bias = matches!(self, Self::Llama | Self::GraniteSwa);
        ensure!(blocks.attention_bias != AttentionBias::All || takes_output_bias, "attention_bias is true");
        let takes_windows = matches!(self, Self::GraniteSwa | Self::Olmo2 | Self::Gemma2 | Self::Gemma3);
        ensure!(
            takes_windows || !config.layers.iter().any(|layer| layer.sliding),
            "some layers have a sliding window of {} tokens",
            config.sliding_window.unwrap_or_default()
        );
        if matches!(self, Self::Qwen2 | Self::Olmo2 | Self::Olmoe) {
            let per_head = config.hidden_size / config.num_attention_heads;
            ensure!(
                config.head_dim == per_head && config.query_size() == config.hidden_size,
                "head_dim is {}; it must be hidden_size / num_attention_heads, {per_head}",
                config.head_dim
            );
        }
        self.check_gemma(config)?;
        self.check_experts(config)?;
        self.check_rope(config)
    }

    fn check_gemma(self, config: &ModelConfig) -> Result<()> {
        let blocks = &config.blocks;
        let (attention, last) = (blocks.attn_logit_softcapping, blocks.final_logit_softcapping);
        match self {
            Self::Gemma2 => {
                ensure!(attention.is_some(), "attn_logit_softcapping is null");
                ensure!(last.is_some(), "final_logit_softcapping is null");
                ensure!(config.tie_word_embeddings, "tie_word_embeddings is false");
            }
            Self::Gemma3 => ensure!(attention.is_none(), "attn_logit_softcapping is {attention:?}"),
            _ => {}
        }
        Ok(())
    }

    fn check_experts(self, config: &ModelConfig) -> Result<()> {
        let Some(experts) = &config.experts else { return Ok(()) };
        ensure!(
            config.layers.iter().all(|layer| layer.sparse),
            "mlp_only_layers or decoder_sparse_step leaves layers without experts"
        );
        let normalises = self == Self::Qwen3Moe;
        ensure!(experts.norm_topk_prob == normalises, "norm_topk_prob is {}", experts.norm_topk_prob);
        if self == Self::Olmoe {
            let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
            ensure!(
                heads == kv_heads && config.blocks.qk_norm == QkNorm::Full,
                "num_key_value_heads is {kv_heads}; it must be num_attention_heads, {heads}"
            );
        }
        Ok(())
    }

    fn check_rope(self, config: &ModelConfig) -> Result<()> {
        match config.rope.scaling {
            RopeScaling::Default | RopeScaling::Linear { .. } => {}
            RopeScaling::Llama3 { .. } => {
                let takes_factors = matches!(self, Self::Llama | Self::GraniteSwa);
                ensure!(takes_factors, "the rotary scaling is llama3");
            }
            RopeScaling::Yarn { beta_fast, beta_slow, truncate, .. } => {
                // llama.cpp reads neither of them from a file of these architectures.
                ensure!(
                    beta_fast == 32.0 && beta_slow == 1.0 && truncate,
                    "yarn has beta_fast {beta_fast}, beta_slow {beta_slow} and truncate {truncate}; only 32, 1 and true \
                     can be said"
                );
                ensure!(self != Self::Gemma3, "the rotary scaling is yarn");
            }
        }
        let Some(sliding) = config.sliding_rope else { return Ok(()) };
        let is_plain = sliding.scaling == RopeScaling::Default;
        let has_base = self == Self::Gemma3 || sliding.rope_theta == config.rope.rope_theta;
        if !(is_plain && has_base) {
            bail!("rotary positions of sliding layers are {sliding:?}, those of full ones {:?}", config.rope);
        }
        Ok(())
    }
}
