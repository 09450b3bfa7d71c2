//! Forward kernels on f32 slices, and the backward ones the operators need.
//!
//! Contract: every output element of [`linear`] is one chain `acc = fma(a, b, acc)` from 0 over the inner
//! dimension; every other reduction runs in 16 lanes and a fixed tree. A row never depends on its batch, and
//! AVX-512, AVX2 and portable code give the same bits; products by tiles of bf16 ([`Arithmetic::Tiles`]) have bits of
//! their own, and one part of them goes with keys and values that are rounded to bf16 ([`KvPrecision`]). Threads come
//! from rayon's pool, and only for work that is worth them. Wrong lengths panic: callers check shapes.

#![allow(unsafe_code, reason = "vector intrinsics, unaligned loads and rows that threads write apart")]

/// An assertion on the hot path: made in this crate's tests, whatever their profile, and in builds with debug
/// assertions.
macro_rules! checked {
    ($($assertion:tt)*) => {
        if cfg!(any(test, debug_assertions)) {
            assert!($($assertion)*);
        }
    };
}

mod aligned;
pub mod attention;
pub mod attention_packed;
mod attention_rows;
pub mod dense;
pub mod gated;
pub mod gemm;
mod grouped;
mod outer;
pub mod panels;
mod peak;
pub mod pointwise;
mod rope;
pub mod route;
pub mod simd;
pub mod slots;
pub mod softcap;
mod tiles;
mod unpacked;
pub mod weight;

pub use aligned::AlignedVec;
pub use attention::{AttentionShape, KV_BLOCK, KvPrecision};
pub use attention::{KvBlock, KvNumber, write_kv};
pub use attention_rows::{RowReads, attend_rows};
pub use gated::{geglu, swiglu};
pub use outer::{add_outer, add_rows};
pub use peak::measure as measure_machine;
pub use pointwise::{add, add_bias, exp, exp_scaled, largest, log_sum_exp, logprob, rms_norm, scale, sum};
pub use rope::RopeTable;
pub use route::{Routing, add_weighted, rows_of_experts};
pub use softcap::{softcap, tanh};
pub use tiles::has_tiles;
pub use weight::{Arithmetic, PackedWeight, Precision};

/// `y = x wᵀ`: x (m, in), y (m, out).
pub fn linear(x: &[f32], m: usize, w: &PackedWeight, y: &mut [f32]) {
    w.forward(x, m, y, false);
}

/// The instruction set that the kernels use on this machine, detected at run time.
pub fn instruction_set() -> &'static str {
    match simd::Isa::best() {
        simd::Isa::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        simd::Isa::Avx2 => "AVX2 with FMA",
        #[cfg(target_arch = "x86_64")]
        simd::Isa::Avx512 if has_tiles() => "AVX-512, tiles of bf16",
        #[cfg(target_arch = "x86_64")]
        simd::Isa::Avx512 => "AVX-512",
    }
}

#[cfg(test)]
mod tests;
