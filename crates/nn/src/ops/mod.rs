//! The operators of a decoder: kernels on plain slices, and differentiable operators built from them.
//!
//! Contract: an output row depends only on its own inputs. Every reduction has a fixed order, so batch size,
//! tile shape, instruction set and thread count can't change a bit of it; only [`kernels::Arithmetic`] is another choice
//! of bits. The forward pass of an operator has the bits of its kernel. Operators take f32 tensors (strided ones are
//! copied) and refuse others; every floating-point argument gets its gradient, by candle's graph or, in a pass that is
//! [`record`]ed, by a tape of this room's own. On other devices than the CPU they are
//! [`composed`] of candle's, and promise no bits.
//!
//! It knows nothing of layers, caches or losses.

mod attention;
mod bias;
pub mod composed;
mod embedding;
mod experts;
mod linear;
mod logprob;
mod lora;
mod norm;
pub mod optimizer;
mod residual;
mod rope;
mod scale;
mod swiglu;
mod tape;
mod tensor;

pub use attention::attention;
pub use autodidact_kernels as kernels;
pub use bias::add_bias;
pub use embedding::embedding;
pub use experts::{mix, route};
pub use kernels::{AttentionShape, RopeTable, Routing};
pub use linear::{SharedPacking, linear, linear_by, linear_with};
pub use logprob::{capped_linear_logprob, frozen_logprob, linear_logprob};
pub use lora::{FrozenMatrix, frozen_linear, lora_delta, lora_linear};
pub use norm::{rms_norm, rms_norm_plus_one};
pub use residual::add;
pub use rope::rope;
pub use scale::scale;
pub use swiglu::{geglu, swiglu};
pub use tape::{Backward, Gradients, record, reshape, stack, without_record};
pub use tensor::{compose_everywhere, with_values};

#[cfg(test)]
mod tests;
