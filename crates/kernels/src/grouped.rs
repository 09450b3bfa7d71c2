//! Quantised weights: small integers with a scale, and perhaps a minimum, for each group of 16 or 32 of them.
//!
//! The block formats of ggml are taken apart once and laid out as panels. A number is `scale * code - min` in f32,
//! with scale and minimum as ggml's dequantisation multiplies them out, so every number is the one that llama.cpp has.
//! Keeping them in f32 costs four-bit weights six bits instead of four and a half. Left out: formats of two and three
//! bits, and those by table.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use autodidact_gguf::Dtype;

use super::aligned::Line;
use super::panels::PANEL;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Bytes of a panel's row of four-bit codes: output c in the low half of byte c, output 16 + c in its high half.
const NIBBLES: usize = PANEL / 2;

/// A quantised weight (out, in), as panels of 32 outputs.
#[derive(Clone, Debug)]
pub(crate) struct Grouped {
    inp: usize,
    /// Inner elements that share a scale.
    group: usize,
    codes: Codes,
    /// What is taken from every code before it is scaled.
    offset: f32,
    /// (out / 32, in / group, 32)
    scales: Vec<f32>,
    /// As `scales`; empty if there are none.
    mins: Vec<f32>,
}

/// (out / 32, in, 32)
#[derive(Clone, Debug)]
enum Codes {
    Nibbles(Vec<u8>),
    Bytes(Vec<i8>),
}

/// One row's block, taken apart.
struct Block<'a> {
    scales: &'a mut [f32],
    mins: &'a mut [f32],
    codes: &'a mut [i8],
}

/// How a format's blocks are laid out.
struct Format {
    /// Elements and bytes of a block.
    elements: usize,
    bytes: usize,
    group: usize,
    has_mins: bool,
    four_bits: bool,
    offset: f32,
    take_apart: fn(&[u8], Block<'_>),
}

fn format(dtype: Dtype) -> Result<Format> {
    let format = |elements, bytes, group, has_mins, four_bits, take_apart| {
        // Not by a minimum, which would make a negative zero positive.
        let offset = if dtype == Dtype::Q4_0 { 8.0 } else { 0.0 };
        Ok(Format { elements, bytes, group, has_mins, four_bits, offset, take_apart })
    };
    match dtype {
        Dtype::Q4_0 => format(32, 18, 32, false, true, q4_0),
        Dtype::Q4_1 => format(32, 20, 32, true, true, q4_1),
        Dtype::Q5_0 => format(32, 22, 32, false, false, q5_0),
        Dtype::Q5_1 => format(32, 24, 32, true, false, q5_1),
        Dtype::Q8_0 => format(32, 34, 32, false, false, q8_0),
        Dtype::Q4K => format(256, 144, 32, true, true, q4_k),
        Dtype::Q5K => format(256, 176, 32, true, false, q5_k),
        Dtype::Q6K => format(256, 210, 16, false, false, q6_k),
        other => bail!(
            "{} is not supported; supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K",
            other.name()
        ),
    }
}

fn f16(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn q4_0(bytes: &[u8], block: Block) {
    block.scales[0] = f16(bytes);
    nibbles(&bytes[2..18], block.codes);
}

fn q4_1(bytes: &[u8], block: Block) {
    (block.scales[0], block.mins[0]) = (f16(bytes), -f16(&bytes[2..]));
    nibbles(&bytes[4..20], block.codes);
}

/// Low halves first, then high halves.
fn nibbles(bytes: &[u8], codes: &mut [i8]) {
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = (byte & 15) as i8;
        codes[i + bytes.len()] = (byte >> 4) as i8;
    }
}

/// The fifth bits of 32 codes.
fn fifth_bits(bytes: &[u8], codes: &mut [i8]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (((bits >> i) & 1) << 4) as i8;
    }
}

fn q5_0(bytes: &[u8], block: Block) {
    block.scales[0] = f16(bytes);
    nibbles(&bytes[6..22], block.codes);
    fifth_bits(&bytes[2..6], block.codes);
    block.codes.iter_mut().for_each(|code| *code -= 16);
}

fn q5_1(bytes: &[u8], block: Block) {
    (block.scales[0], block.mins[0]) = (f16(bytes), -f16(&bytes[2..]));
    nibbles(&bytes[8..24], block.codes);
    fifth_bits(&bytes[4..8], block.codes);
}

fn q8_0(bytes: &[u8], block: Block) {
    block.scales[0] = f16(bytes);
    block.codes.iter_mut().zip(&bytes[2..34]).for_each(|(code, &byte)| *code = byte as i8);
}

/// Scales and minimums of the eight groups of a block, six bits each, packed into twelve bytes.
fn six_bits(d: f32, dmin: f32, packed: &[u8], scales: &mut [f32], mins: &mut [f32]) {
    for j in 0..8 {
        let (scale, min) = match j {
            0..4 => (packed[j] & 63, packed[j + 4] & 63),
            _ => (
                (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4),
                (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4),
            ),
        };
        (scales[j], mins[j]) = (d * f32::from(scale), dmin * f32::from(min));
    }
}

fn q4_k(bytes: &[u8], block: Block) {
    six_bits(f16(bytes), f16(&bytes[2..]), &bytes[4..16], block.scales, block.mins);
    for (codes, bytes) in block.codes.chunks_exact_mut(64).zip(bytes[16..144].chunks_exact(32)) {
        nibbles(bytes, codes);
    }
}

fn q5_k(bytes: &[u8], block: Block) {
    six_bits(f16(bytes), f16(&bytes[2..]), &bytes[4..16], block.scales, block.mins);
    let high = &bytes[16..48];
    for (n, (codes, bytes)) in
        block.codes.chunks_exact_mut(64).zip(bytes[48..176].chunks_exact(32)).enumerate()
    {
        nibbles(bytes, codes);
        for (i, code) in codes.iter_mut().enumerate() {
            *code |= (((high[i % 32] >> (2 * n + i / 32)) & 1) << 4) as i8;
        }
    }
}

fn q6_k(bytes: &[u8], block: Block) {
    let (low, high, scales, d) = (&bytes[..128], &bytes[128..192], &bytes[192..208], f16(&bytes[208..]));
    for (scale, &byte) in block.scales.iter_mut().zip(scales) {
        *scale = d * f32::from(byte as i8);
    }
    for (i, code) in block.codes.iter_mut().enumerate() {
        let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        let low = low[half * 64 + quarter % 2 * 32 + at] >> (4 * (quarter / 2)) & 15;
        let high = high[half * 32 + at] >> (2 * quarter) & 3;
        *code = (low | high << 4) as i8 - 32;
    }
}

impl Grouped {
    /// Takes apart the blocks of rows (out, in) as GGUF files hold them.
    pub(crate) fn from_ggml(dtype: Dtype, bytes: &[u8], out: usize, inp: usize) -> Result<Self> {
        let Format { elements, bytes: block_bytes, group, has_mins, four_bits, offset, take_apart } =
            format(dtype)?;
        ensure!(
            inp.is_multiple_of(elements),
            "{dtype:?} holds blocks of {elements} elements; rows of {inp} can't be divided into them"
        );
        let row_bytes = inp / elements * block_bytes;
        ensure!(bytes.len() == out * row_bytes, "{} bytes for ({out}, {inp}) in {dtype:?}", bytes.len());
        let panels = out.div_ceil(PANEL);
        let groups = panels * (inp / group) * PANEL;
        let mut scales = vec![0.0; groups];
        let mut mins = vec![0.0; if has_mins { groups } else { 0 }];
        let mut codes = match four_bits {
            true => Codes::Nibbles(vec![0; panels * inp * NIBBLES]),
            false => Codes::Bytes(vec![0; panels * inp * PANEL]),
        };
        let (mut own_scales, mut own_mins) = (vec![0.0; elements / group], vec![0.0; elements / group]);
        let mut own_codes = vec![0; elements];
        for (row, bytes) in bytes.chunks_exact(row_bytes.max(1)).enumerate() {
            let (panel, column) = (row / PANEL, row % PANEL);
            for (b, bytes) in bytes.chunks_exact(block_bytes).enumerate() {
                let block = Block { scales: &mut own_scales, mins: &mut own_mins, codes: &mut own_codes };
                take_apart(bytes, block);
                let first = panel * (inp / group) + b * (elements / group);
                for (g, (&scale, &min)) in own_scales.iter().zip(&own_mins).enumerate() {
                    ensure!(
                        scale.is_finite() && min.is_finite(),
                        "row {row} holds a scale that is not finite"
                    );
                    scales[(first + g) * PANEL + column] = scale;
                    if has_mins {
                        mins[(first + g) * PANEL + column] = min;
                    }
                }
                for (i, &code) in own_codes.iter().enumerate() {
                    let line = panel * inp + b * elements + i;
                    match &mut codes {
                        Codes::Bytes(codes) => codes[line * PANEL + column] = code,
                        Codes::Nibbles(codes) => {
                            codes[line * NIBBLES + column % NIBBLES] |=
                                (code as u8) << (4 * (column / NIBBLES));
                        }
                    }
                }
            }
        }
        Ok(Self { inp, group, codes, offset, scales, mins })
    }

    pub(crate) fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Nibbles(codes) => codes.len(),
            Codes::Bytes(codes) => codes.len(),
        };
        codes + 4 * (self.scales.len() + self.mins.len())
    }

    /// Writes row `index`.
    pub(crate) fn row(&self, index: usize, row: &mut [f32]) {
        let (panel, column) = (index / PANEL, index % PANEL);
        for (i, x) in row.iter_mut().enumerate() {
            let line = panel * self.inp + i;
            let code = match &self.codes {
                Codes::Bytes(codes) => f32::from(codes[line * PANEL + column]),
                Codes::Nibbles(codes) => {
                    let byte = codes[line * NIBBLES + column % NIBBLES];
                    f32::from(byte >> (4 * (column / NIBBLES)) & 15)
                }
            };
            let group = (panel * (self.inp / self.group) + i / self.group) * PANEL + column;
            *x = self.scales[group] * (code - self.offset);
            if let Some(min) = self.mins.get(group) {
                *x -= min;
            }
        }
    }

    /// Writes rows `inner` of a panel, two lines each.
    pub(crate) fn unpack(&self, isa: Isa, panel: usize, inner: Range<usize>, lines: &mut [Line]) {
        dispatch(isa, Unpack { whole: self, panel, inner, lines });
    }
}

struct Unpack<'a> {
    whole: &'a Grouped,
    panel: usize,
    inner: Range<usize>,
    lines: &'a mut [Line],
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Grouped { inp, group, codes, offset, scales, mins } = self.whole;
        assert!(self.inner.start.is_multiple_of(*group), "rows from {} on", self.inner.start);
        let (first, line) = (self.inner.start / group, self.panel * inp + self.inner.start);
        let offset = s.splat(*offset);
        for (g, lines) in self.lines.chunks_mut(2 * group).enumerate() {
            let at = (self.panel * (inp / group) + first + g) * PANEL;
            let scales = [s.get(scales, at), s.get(scales, at + LANES)];
            // What isn't there takes nothing away: x - 0 is x, whatever its sign.
            let mins = match mins.is_empty() {
                true => [s.splat(0.0); 2],
                false => [s.get(mins, at), s.get(mins, at + LANES)],
            };
            let value = |half: usize, code| s.sub(s.mul(scales[half], s.sub(code, offset)), mins[half]);
            let pairs = lines.as_chunks_mut::<2>().0.iter_mut();
            match codes {
                Codes::Bytes(codes) => {
                    let codes = codes[(line + g * group) * PANEL..].as_chunks::<LANES>().0;
                    for (pair, codes) in pairs.zip(codes.as_chunks::<2>().0) {
                        for half in 0..2 {
                            s.store(value(half, s.signed(&codes[half])), &mut pair[half].0);
                        }
                    }
                }
                Codes::Nibbles(codes) => {
                    let codes = codes[(line + g * group) * NIBBLES..].as_chunks::<NIBBLES>().0;
                    for (pair, codes) in pairs.zip(codes) {
                        let (low, high) = s.nibbles(codes);
                        s.store(value(0, low), &mut pair[0].0);
                        s.store(value(1, high), &mut pair[1].0);
                    }
                }
            }
        }
    }
}
