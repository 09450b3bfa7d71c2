//! The operators of a decoder: kernels on plain slices, and differentiable operators built from them.
//!
//! Contract: an output row depends on its own inputs alone. Every reduction has a fixed order, so batch size,
//! tile shape, instruction set and thread count can't change a bit of it; the forward pass of an operator has
//! the bits of its kernel. Operators take f32 tensors on the CPU (strided ones are copied) and refuse others;
//! every floating-point argument gets its gradient. [`composed`] holds the same operators made of candle's.
//!
//! It knows nothing of layers, caches or losses.

mod attention;
pub mod composed;
mod embedding;
pub mod kernels;
mod linear;
mod logprob;
mod norm;
pub mod optimizer;
mod residual;
mod rope;
mod swiglu;
mod tensor;

pub use attention::attention;
pub use embedding::embedding;
pub use kernels::{AttentionShape, RopeTable};
pub use linear::linear;
pub use logprob::linear_logprob;
pub use norm::rms_norm;
pub use residual::add;
pub use rope::rope;
pub use swiglu::swiglu;

#[cfg(test)]
mod tests;
