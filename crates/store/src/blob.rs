//! Numbers as bytes and back: little-endian, no header. Knows nothing about tables.

use anyhow::{Result, ensure};

pub(super) fn from_u32(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(super) fn from_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(super) fn from_u16(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(super) fn to_u32(bytes: &[u8]) -> Result<Vec<u32>> {
    chunks(bytes).map(|c| c.map(u32::from_le_bytes).collect())
}

pub(super) fn to_f32(bytes: &[u8]) -> Result<Vec<f32>> {
    chunks(bytes).map(|c| c.map(f32::from_le_bytes).collect())
}

pub(super) fn to_u16(bytes: &[u8]) -> Result<Vec<u16>> {
    chunks(bytes).map(|c| c.map(u16::from_le_bytes).collect())
}

fn chunks<const N: usize>(bytes: &[u8]) -> Result<impl Iterator<Item = [u8; N]>> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    ensure!(rest.is_empty(), "a blob of {} bytes is not a whole number of {N}-byte values", bytes.len());
    Ok(chunks.iter().copied())
}
