//! The checkpoint families: their names, the defaults of keys that their `config.json` may leave
//! out, and what their decoders do without any key. Everything else about a family is a flag in
//! [`super::ModelConfig`]; no forward pass knows the family.
//!
//! Defaults are those of transformers 5.23's `configuration_*.py`.

use anyhow::{Context, Result};

use super::config::{Activation, AttentionBias, Blocks, NormPlacement, QkNorm};

/// The checkpoint families that can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM 1 and 2, and every other model with `model_type` llama.
    Llama,
    /// Rotary positions and a sliding window can be on or off in each layer (NoPE layers,
    /// arXiv:2501.18795).
    SmolLm3,
    /// A sliding window in every layer, or in none.
    Mistral,
    /// Qwen 2 and 2.5: biases of queries, keys and values.
    Qwen2,
    /// Norms of each head's queries and keys.
    Qwen3,
    /// Norms of all queries and keys together; norms after the blocks.
    Olmo2,
    /// OLMo 2 with windows, and scaled rotary positions in the full layers.
    Olmo3,
    /// Soft caps, norms before and after the blocks, every second layer with a window.
    Gemma2,
    /// Norms of each head, two rotary bases, five of six layers with a window. Text only.
    Gemma3,
    /// A mixture of experts in every layer, over OLMo's full-width norms.
    Olmoe,
    /// Qwen 3 with mixtures of experts.
    Qwen3Moe,
}

/// (family, `model_type`, architecture)
const FAMILIES: [(Family, &str, &str); 11] = [
    (Family::Llama, "llama", "LlamaForCausalLM"),
    (Family::SmolLm3, "smollm3", "SmolLM3ForCausalLM"),
    (Family::Mistral, "mistral", "MistralForCausalLM"),
    (Family::Qwen2, "qwen2", "Qwen2ForCausalLM"),
    (Family::Qwen3, "qwen3", "Qwen3ForCausalLM"),
    (Family::Olmo2, "olmo2", "Olmo2ForCausalLM"),
    (Family::Olmo3, "olmo3", "Olmo3ForCausalLM"),
    (Family::Gemma2, "gemma2", "Gemma2ForCausalLM"),
    (Family::Gemma3, "gemma3_text", "Gemma3ForCausalLM"),
    (Family::Olmoe, "olmoe", "OlmoeForCausalLM"),
    (Family::Qwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"),
];

/// What transformers assumes for keys that a `config.json` leaves out.
pub(super) struct Defaults {
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub tie_word_embeddings: bool,
    /// `None`: as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `None`: hidden_size / num_attention_heads.
    pub head_dim: Option<usize>,
    /// Multimodal Gemma 3 leaves these out of its `text_config`.
    pub num_attention_heads: Option<usize>,
    pub vocab_size: Option<usize>,
    pub activation_key: &'static str,
    pub activation: &'static str,
}

impl Family {
    pub(super) fn from_model_type(model_type: &str) -> Result<Self> {
        let found = FAMILIES.iter().find(|(_, name, _)| *name == model_type);
        let (family, ..) = found.with_context(|| {
            let supported = FAMILIES.map(|(_, name, _)| name).join(", ");
            format!(
                "config.json: model_type `{model_type}` is not supported; supported: {supported}, gemma3 \
                 (its text part)"
            )
        })?;
        Ok(*family)
    }

    fn names(self) -> (&'static str, &'static str) {
        let found = FAMILIES.iter().find(|(family, ..)| *family == self);
        found
            .map(|(_, model_type, architecture)| (*model_type, *architecture))
            .expect("every family is listed")
    }

    /// The `model_type` of its `config.json`.
    pub fn model_type(self) -> &'static str {
        self.names().0
    }

    pub(super) fn architecture(self) -> &'static str {
        self.names().1
    }

    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    pub(super) fn defaults(self) -> Defaults {
        let llama = Defaults {
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: false,
            num_key_value_heads: None,
            head_dim: None,
            num_attention_heads: None,
            vocab_size: None,
            activation_key: "hidden_act",
            activation: "silu",
        };
        let gemma = Defaults {
            tie_word_embeddings: true,
            num_key_value_heads: Some(4),
            head_dim: Some(256),
            activation_key: "hidden_activation",
            activation: "gelu_pytorch_tanh",
            ..llama
        };
        let qwen = Defaults { max_position_embeddings: 32768, num_key_value_heads: Some(32), ..llama };
        match self {
            Self::Llama => llama,
            Self::SmolLm3 => Defaults {
                max_position_embeddings: 32768,
                rope_theta: 2e6,
                tie_word_embeddings: true,
                num_key_value_heads: Some(4),
                ..llama
            },
            Self::Mistral => {
                Defaults { max_position_embeddings: 1 << 17, num_key_value_heads: Some(8), ..llama }
            }
            Self::Qwen2 => qwen,
            Self::Qwen3 => Defaults { head_dim: Some(128), ..qwen },
            Self::Qwen3Moe => Defaults { num_key_value_heads: Some(4), ..qwen },
            Self::Olmo2 => Defaults { rms_norm_eps: 1e-5, ..llama },
            Self::Olmo3 => Defaults { rms_norm_eps: 1e-5, rope_theta: 5e5, ..llama },
            Self::Olmoe => Defaults { rms_norm_eps: 1e-5, max_position_embeddings: 4096, ..llama },
            Self::Gemma2 => Defaults { max_position_embeddings: 8192, ..gemma },
            Self::Gemma3 => Defaults {
                max_position_embeddings: 1 << 17,
                rope_theta: 1e6,
                num_attention_heads: Some(8),
                vocab_size: Some(262_208),
                ..gemma
            },
        }
    }

    /// The flags that the family implies; keys of `config.json` set the others.
    pub(super) fn blocks(self) -> Blocks {
        let llama = Blocks::default();
        let post = Blocks { norms: NormPlacement::Post, qk_norm: QkNorm::Full, ..llama };
        let gemma = Blocks {
            norms: NormPlacement::Sandwich,
            norm_plus_one: true,
            activation: Activation::GeluTanh,
            scale_embeddings: true,
            ..llama
        };
        match self {
            Self::Llama | Self::SmolLm3 | Self::Mistral => llama,
            Self::Qwen2 => Blocks { attention_bias: AttentionBias::Qkv, ..llama },
            Self::Qwen3 | Self::Qwen3Moe => Blocks { qk_norm: QkNorm::Head, ..llama },
            Self::Olmo2 | Self::Olmo3 => post,
            Self::Olmoe => Blocks { qk_norm: QkNorm::Full, ..llama },
            Self::Gemma2 => gemma,
            Self::Gemma3 => Blocks { qk_norm: QkNorm::Head, ..gemma },
        }
    }
}
