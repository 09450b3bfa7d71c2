//! Tests of the operators: what every one must satisfy, on shapes odd enough to reach every tail.

mod operators;
mod tape;

use candle_core::{Device, Tensor, Var};

use super::AttentionShape;
use super::kernels::KvPrecision;

/// Numbers in [-1, 1) from a multiplicative congruential sequence.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(super) fn var(seed: u64, shape: &[usize]) -> Var {
    let data = numbers(seed, shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu).unwrap()).unwrap()
}

pub(super) fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub(super) const fn shape(
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 0.3, window, softcap: None, kv: KvPrecision::F32 }
}
