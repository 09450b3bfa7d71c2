//! Forward kernels on f32 slices, and the backward ones the operators need.
//!
//! Contract: every output element of [`linear`] is one chain `acc = fma(a, b, acc)` from 0 over the inner
//! dimension; every other reduction runs in 16 lanes and a fixed tree. A row never depends on its batch, and
//! AVX-512, AVX2 and portable code give the same bits. Threads come from rayon's pool, and only for work that
//! is worth them. Wrong lengths panic: callers check shapes.

mod aligned;
pub(super) mod attention;
pub(super) mod attention_packed;
pub(super) mod gelu;
pub(super) mod gemm;
pub(super) mod pointwise;
mod rope;
pub(super) mod route;
pub(super) mod simd;
pub(super) mod softcap;

pub use aligned::AlignedVec;
pub use attention::{AttentionShape, KV_BLOCK, attend_row, write_kv};
pub use gelu::geglu;
pub use pointwise::{add_bias, exp, log_sum_exp, logprob, rms_norm, scale, swiglu};
pub use rope::RopeTable;
pub use route::{Routing, add_weighted, rows_of_experts};
pub use softcap::softcap;

use gemm::{Left, Packed, gemm};
use simd::Isa;

/// A weight of shape (out, in), packed for [`linear`].
#[derive(Clone, Debug)]
pub struct PackedWeight(Packed);

impl PackedWeight {
    /// Packs `w`, (out, in) row-major as checkpoints store it. Panics if its length isn't `out * inp`.
    pub fn new(w: &[f32], out: usize, inp: usize) -> Self {
        Self(Packed::from_columns(w, inp, out))
    }

    /// Output features.
    pub fn out(&self) -> usize {
        self.0.n()
    }

    /// Input features.
    pub fn inp(&self) -> usize {
        self.0.k()
    }
}

/// `y = x wᵀ`: x (m, in), y (m, out).
pub fn linear(x: &[f32], m: usize, w: &PackedWeight, y: &mut [f32]) {
    gemm(Isa::best(), Left::Rows(x), m, &w.0, y, false);
}

/// The instruction set that the kernels use on this machine, detected at run time.
pub fn instruction_set() -> &'static str {
    match simd::Isa::best() {
        simd::Isa::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        simd::Isa::Avx2 => "AVX2 with FMA",
        #[cfg(target_arch = "x86_64")]
        simd::Isa::Avx512 => "AVX-512",
    }
}
