//! The `[model]` section's words for numbers, as the model's types: arithmetic of matrix products
//! and quantization.

use crate::config::{Config, Quantize};
use crate::model::Quantization;
use crate::ops::kernels::Arithmetic;

/// How products with the model's matrices are computed (`model.matmul`).
pub(super) fn arithmetic(config: &Config) -> Arithmetic {
    config.model.matmul.parts().map_or(Arithmetic::F32, |parts| Arithmetic::Tiles { parts })
}

/// How frozen matrices are stored in memory (`model.quantize`); `None` keeps them as they are.
pub(super) fn quantization(config: &Config) -> Option<Quantization> {
    match config.model.quantize {
        Quantize::None => None,
        Quantize::Q8_0 => Some(Quantization::Q8_0),
        Quantize::Q4K => Some(Quantization::Q4K),
    }
}
