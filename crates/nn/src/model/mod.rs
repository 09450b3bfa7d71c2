//! The decoder: a policy's weights and the two ways to run them.
//!
//! - [`Weights`] are trainable tensors under Hugging Face names. [`forward`] runs them over packed
//!   sequences and is differentiable.
//! - [`Packed`] is a read-only copy laid out for rollouts. [`decode`] runs it over a ragged batch
//!   with cached keys and values ([`cache::KvCache`]). Both use the same kernels, so their
//!   log-probabilities are equal bit for bit.
//! - [`Frozen`] weights are only read, in the precision they were stored in. [`Lora`] is a policy
//!   of frozen weights and an [`Adapter`]; [`forward`] then trains the adapter.
//! - [`Body`] is a policy's weights in any of these three forms.
//!
//! Checkpoint families differ in flags of [`ModelConfig`]: where norms stand and what they norm,
//! biases, windows, rotary scalings, soft caps, mixtures of experts. [`Family`] names the families
//! and their defaults; neither forward pass knows it.
//!
//! The model owns no cache. It knows token ids, no text and no sampling. It reads and writes no
//! files but checkpoint directories and the tensors of a GGUF file ([`gguf`]).

mod advance;
mod body;
pub mod cache;
mod config;
mod decode;
mod family;
mod forward;
mod frozen;
pub mod gguf;
mod init;
mod lora;
mod packed;
mod peft;
mod place;
mod read;
mod rope;
mod shards;
mod stored;
mod tensor_cache;
mod weights;
mod write;

pub use advance::{advance, last_rows, logits};
pub use body::Body;
pub use config::{
    Activation, AttentionBias, Blocks, Experts, LayerConfig, ModelConfig, NormPlacement, QkNorm,
};
pub use decode::{Scratch, Span, decode};
pub use family::Family;
pub use forward::{Adapted, Forward, Parameters, forward, logprobs, output_weight};
pub use frozen::{Frozen, Quantization};
pub use gguf::{GgufExport, GgufModel, GgufType};
pub use lora::{ALL_LINEAR, Adapter, Dropout, Lora, LoraSettings};
pub use packed::Packed;
pub use peft::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
pub use place::Place;
pub use rope::{RopeParameters, RopeScaling};
pub(crate) use shards::open as open_safetensors;
pub use shards::{files as checkpoint_files, value_head_tensors};
pub use stored::StoredLayout;
pub use tensor_cache::TensorCache;
pub use weights::{CONFIG_FILE, WEIGHTS_FILE, Weights};
pub(crate) use weights::{lazy, le_bytes};
pub(crate) use write::{Lazy, write_tensors};

#[cfg(test)]
mod family_tests;
#[cfg(test)]
mod golden_tests;
