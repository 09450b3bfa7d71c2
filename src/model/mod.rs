//! The decoder: a policy's weights and the two ways to run them.
//!
//! - [`Weights`] are trainable tensors under Hugging Face names; [`forward`] runs them over packed sequences and
//!   is differentiable.
//! - [`Packed`] is a read-only copy laid out for rollouts; [`decode`] runs it over a ragged batch with cached keys
//!   and values ([`cache::KvCache`]). Both use the same kernels: their log-probabilities are equal bit for bit.
//!
//! The model owns no cache and knows no tokens beyond ids: no text, no sampling, no files except a checkpoint
//! directory.

pub mod cache;
mod config;
mod decode;
mod forward;
mod init;
mod packed;
mod weights;

pub use config::{Family, LayerConfig, ModelConfig};
pub use decode::{Scratch, Span, decode};
pub use forward::{forward, output_weight};
pub use packed::Packed;
pub use weights::{CONFIG_FILE, WEIGHTS_FILE, Weights};

#[cfg(test)]
mod golden_tests;
