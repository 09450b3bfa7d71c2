//! Stored elements to numbers and back. candle widens quantised blocks, as ggml does. The types
//! that need no calibration can be written: F32, F16, BF16, and Q8_0 as ggml's reference rounds it.

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};

use crate::gguf::Dtype;

/// Elements that share a scale in Q8_0.
pub(super) const Q8_0_BLOCK: usize = 32;

/// candle's name of a quantized type.
pub(in crate::model) fn ggml(dtype: Dtype) -> Option<GgmlDType> {
    Some(match dtype {
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q4K => GgmlDType::Q4K,
        Dtype::Q5K => GgmlDType::Q5K,
        Dtype::Q6K => GgmlDType::Q6K,
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::Other(_) => return None,
    })
}

/// The numbers that whole blocks encode.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    match dtype {
        Dtype::F32 => return Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => {
            return Ok(bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect());
        }
        Dtype::Bf16 => {
            return Ok(bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect());
        }
        _ => (),
    }
    let Some(quantized) = ggml(dtype) else { bail!("{} can't be read", dtype.name()) };
    let (elements, block) = dtype.block()?;
    ensure!(bytes.len().is_multiple_of(block), "{} bytes aren't whole {} blocks", bytes.len(), dtype.name());
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let count = bytes.len() / block * elements;
    let tensor = qtensor_from_ggml(quantized, bytes, vec![count], &Device::Cpu)?.dequantize(&Device::Cpu)?;
    Ok(tensor.to_vec1()?)
}

/// The blocks that encode `numbers`.
pub(super) fn from_f32(dtype: Dtype, numbers: &[f32]) -> Result<Vec<u8>> {
    Ok(match dtype {
        Dtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::Bf16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F16 => {
            let mut halves = Vec::with_capacity(numbers.len() * 2);
            for &x in numbers {
                let half = half::f16::from_f32(x);
                ensure!(half.is_finite(), "{x} is too large for F16; export as bf16 or f32");
                halves.extend(half.to_le_bytes());
            }
            halves
        }
        Dtype::Q8_0 => {
            let (blocks, rest) = numbers.as_chunks::<Q8_0_BLOCK>();
            ensure!(rest.is_empty(), "{} numbers aren't whole blocks of {Q8_0_BLOCK}", numbers.len());
            let mut bytes = Vec::with_capacity(blocks.len() * (Q8_0_BLOCK + 2));
            for block in blocks {
                let largest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
                let scale = largest / 127.0;
                let stored = half::f16::from_f32(scale);
                ensure!(stored.is_finite(), "{largest} is too large for Q8_0; export as bf16 or f32");
                let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
                bytes.extend(stored.to_le_bytes());
                // As in ggml: divided by the exact scale, not by the rounded one that is stored.
                bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
            }
            bytes
        }
        other => {
            return Err(anyhow::anyhow!("{} is not written", other.name())).context("unknown export type");
        }
    })
}
