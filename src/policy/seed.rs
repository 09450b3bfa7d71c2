//! The seed model that is part of the binary: a Hugging Face checkpoint.

use anyhow::Result;

use crate::config::Config;
use crate::model::{Frozen, Quantization, StoredLayout, Weights};

/// The name that `model.path` has for it.
pub(super) const NAME: &str = "embedded";

const CONFIG: &str = include_str!("../../assets/seed/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../assets/seed/model.safetensors");

/// Whether it is the configured model.
pub(super) fn is_configured(config: &Config) -> bool {
    config.model.path == NAME
}

/// Its weights, to be trained.
pub(super) fn weights() -> Result<Weights> {
    Weights::from_bytes(CONFIG, WEIGHTS)
}

/// Its weights, only to be read.
pub(super) fn frozen(quantization: Option<Quantization>) -> Result<Frozen> {
    Frozen::from_bytes(CONFIG, WEIGHTS, quantization)
}

/// The types in which it stores its tensors.
pub(super) fn stored_layout() -> Result<StoredLayout> {
    StoredLayout::of_bytes(CONFIG, WEIGHTS)
}
