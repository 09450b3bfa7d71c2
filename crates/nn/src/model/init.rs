//! Initial weights for a model that is pretrained, the same on every machine.
//!
//! Normal deviates come from Marsaglia's polar method (1964) over an address's ChaCha stream. It
//! needs a square root, which IEEE rounds correctly everywhere, and a logarithm, on which math
//! libraries differ. So the logarithm is computed here from plain arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::weights::var;
use super::{ModelConfig, Weights};
use crate::domain::Address;

/// Standard deviation of the embeddings.
const EMBEDDING_STD: f64 = 0.05;
/// Standard deviation of linear layers, times the square root of the hidden size.
const LINEAR_GAIN: f64 = 0.6;

impl Weights {
    /// Random weights: embeddings N(0, 0.05²); linear layers N(0, 0.36/d), where those that write
    /// to the residual stream (`o_proj`, `down_proj`) are narrower by √(2 layers); norms multiply
    /// by 1, biases are 0. The n-th tensor by name uses the random stream of `address.child(n)`.
    pub fn init(config: ModelConfig, address: &Address) -> Result<Self> {
        config.validate()?;
        let linear = LINEAR_GAIN / (config.hidden_size as f64).sqrt();
        let residual = linear / (2.0 * config.layers.len() as f64).sqrt();
        let norm = if config.blocks.norm_plus_one { 0.0 } else { 1.0 };
        let mut tensors = BTreeMap::new();
        for (n, (name, shape)) in config.parameters().into_iter().enumerate() {
            let count = shape.iter().product();
            let std = match name.trim_end_matches(".weight").rsplit('.').next() {
                Some("embed_tokens" | "lm_head") => EMBEDDING_STD,
                Some("o_proj" | "down_proj") => residual,
                _ => linear,
            };
            let data = match shape.len() {
                1 if name.ends_with(".bias") => vec![0.0; count],
                1 => vec![norm; count],
                _ => normal(&address.child(n as u32), count, std),
            };
            tensors.insert(name, var(data, &shape)?);
        }
        Self::from_tensors(Arc::new(config), tensors)
    }
}

/// `count` deviates of N(0, std²).
pub(super) fn normal(address: &Address, count: usize, std: f64) -> Vec<f32> {
    let mut stream = address.stream();
    let mut data = Vec::with_capacity(count + 1);
    while data.len() < count {
        let (x, y) = (uniform(&mut stream), uniform(&mut stream));
        let s = x * x + y * y;
        if s < 1.0 && s > 0.0 {
            let factor = std * (-2.0 * ln(s) / s).sqrt();
            data.push((x * factor) as f32);
            data.push((y * factor) as f32);
        }
    }
    data.truncate(count);
    data
}

/// Uniform on (-1, 1), from one word.
pub(super) fn uniform(stream: &mut ChaCha8Rng) -> f64 {
    (f64::from(stream.next_u32()) + 0.5) / f64::from(1u32 << 31) - 1.0
}

/// Natural logarithm of a positive, normal number: `ln m + e ln 2`, with `ln m = 2
/// artanh((m-1)/(m+1))` by its series. Relative error below 1e-12.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = (0..10).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    2.0 * t * series + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Purpose;

    #[test]
    fn logarithm_is_accurate() {
        for i in 1..5000 {
            let x = f64::from(i) / 4999.0;
            assert!((ln(x) - x.ln()).abs() <= 1e-12 * (1.0 + x.ln().abs()), "{x}: {} {}", ln(x), x.ln());
        }
        assert!((ln(1e-18) - 1e-18f64.ln()).abs() < 1e-10);
    }

    #[test]
    fn deviates_are_normal_and_repeat() {
        let address = Address::new(3, Purpose::Init, 0, "", &[]);
        let data = normal(&address, 100_001, 2.0);
        assert_eq!(data, normal(&address, 100_001, 2.0));
        let moment = |p: i32| data.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / data.len() as f64;
        assert!(moment(1).abs() < 0.03, "mean {}", moment(1));
        assert!((moment(2) - 4.0).abs() < 0.08, "variance {}", moment(2));
        assert!((moment(4) / moment(2).powi(2) - 3.0).abs() < 0.1, "kurtosis");
    }
}
