//! A layer's weight as rollouts and frozen layers read it: packed once, in the bits it was stored in, shared.
//!
//! Contract: whatever the storage, products have the bits of the same numbers held as f32, or those that tiles of bf16
//! give of them, as [`PackedWeight::computing`] asks. bf16 and f16 are widened exactly; quantised numbers are those that
//! ggml's own dequantisation gives. One copy serves both directions: `x wᵀ` forward and `dy w` back.

use std::ops::Range;

use anyhow::{Result, ensure};
use autodidact_gguf::Dtype;
use rayon::prelude::*;

use super::aligned::Line;
use super::attention::KvPrecision;
use super::gemm::{Left, gemm};
use super::grouped::Grouped;
use super::panels::{PANEL, Packed};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::tiles::{HeldTiles, Tile, TileSource, gemm_tiles, has_tiles, unpack_tiles};
use super::unpacked::{Operand, Source, gemm_unpacked};
use autodidact_domain::profile::{self, Operator};

/// The number format of a [`PackedWeight`] that isn't quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    Bf16,
    F16,
}

/// A weight of shape (out, in), packed for [`linear`](super::linear).
#[derive(Clone, Debug)]
pub struct PackedWeight {
    out: usize,
    inp: usize,
    storage: Storage,
    arithmetic: Arithmetic,
    /// Of f32 numbers that are few, what products `x wᵀ` by `arithmetic` read.
    tiles: Option<HeldTiles>,
}

/// Elements of f32 that a weight has at most if it keeps tiles as well: 1.5 MiB of three parts. Larger ones are
/// taken apart at every product, which takes time instead of memory.
const TILES_BESIDE: usize = 1 << 18;

/// How products with a weight are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32: one chain of fused multiply-adds, the same bits on every processor.
    #[default]
    F32,
    /// Tiles of bf16, accumulated in f32; a number is the sum of up to `parts` bf16 numbers, 1 to 3. Three have f32's
    /// precision, one is bf16 itself.
    Tiles { parts: usize },
}

impl Arithmetic {
    /// What keys and values are rounded to where products are computed like this: factors of bf16 are read from bf16.
    pub fn kv(self) -> KvPrecision {
        match self {
            Self::Tiles { parts: 1 } => KvPrecision::Bf16,
            Self::F32 | Self::Tiles { .. } => KvPrecision::F32,
        }
    }
}

/// Panels (out / 32, in, 32).
#[derive(Clone, Debug)]
enum Storage {
    F32(Packed),
    /// The bits of bf16 or f16 numbers.
    Half(Half, Vec<u16>),
    /// bf16 numbers, as tiles want them.
    Tiles(HeldTiles),
    Grouped(Grouped),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Bf16,
    F16,
}

impl PackedWeight {
    /// Packs `w`, (out, in) row-major as checkpoints store it. Panics if its length isn't `out * inp`.
    pub fn new(w: &[f32], out: usize, inp: usize) -> Self {
        Self::of(out, inp, Storage::F32(Packed::from_columns(w, inp, out)))
    }

    /// Packs rows as they are read: `rows(range)` gives rows of w, 32 or fewer at a time, in order. Numbers must be
    /// ones that `precision` can hold.
    pub fn from_rows(
        precision: Precision,
        out: usize,
        inp: usize,
        mut rows: impl FnMut(Range<usize>) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let narrow: fn(f32) -> u16 = match precision {
            Precision::F32 => return Self::f32_from_rows(out, inp, rows),
            Precision::Bf16 => |x| (x.to_bits() >> 16) as u16,
            Precision::F16 => |x| half::f16::from_f32(x).to_bits(),
        };
        let mut bits = vec![0; out.div_ceil(PANEL) * inp * PANEL];
        for (panel, first) in (0..out).step_by(PANEL).enumerate() {
            let count = PANEL.min(out - first);
            let w = rows(first..first + count)?;
            ensure!(w.len() == count * inp, "{} elements for {count} rows of {inp}", w.len());
            let bits = &mut bits[panel * inp * PANEL..][..inp * PANEL];
            for (c, row) in w.chunks_exact(inp.max(1)).enumerate() {
                for (bits, &x) in bits[c..].iter_mut().step_by(PANEL).zip(row) {
                    *bits = narrow(x);
                }
            }
        }
        let half = if precision == Precision::Bf16 { Half::Bf16 } else { Half::F16 };
        Ok(Self::of(out, inp, Storage::Half(half, bits)))
    }

    fn f32_from_rows(
        out: usize,
        inp: usize,
        mut rows: impl FnMut(Range<usize>) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut lines = vec![Line([0.0; LANES]); out.div_ceil(PANEL) * inp * 2];
        for (panel, first) in (0..out).step_by(PANEL).enumerate() {
            let count = PANEL.min(out - first);
            let w = rows(first..first + count)?;
            ensure!(w.len() == count * inp, "{} elements for {count} rows of {inp}", w.len());
            let lines = &mut lines[panel * inp * 2..][..inp * 2];
            for (c, row) in w.chunks_exact(inp.max(1)).enumerate() {
                for (pair, &x) in lines.chunks_exact_mut(2).zip(row) {
                    pair[c / LANES].0[c % LANES] = x;
                }
            }
        }
        Ok(Self::of(out, inp, Storage::F32(Packed::from_lines(inp, out, lines))))
    }

    /// Of quantised rows, in the blocks in which ggml's files hold them.
    pub fn from_ggml(dtype: Dtype, bytes: &[u8], out: usize, inp: usize) -> Result<Self> {
        let grouped = Grouped::from_ggml(dtype, bytes, out, inp)?;
        Ok(Self::of(out, inp, Storage::Grouped(grouped)))
    }

    fn of(out: usize, inp: usize, storage: Storage) -> Self {
        Self { out, inp, storage, arithmetic: Arithmetic::F32, tiles: None }
    }

    /// The same numbers, multiplied by `arithmetic` from now on. bf16 ones and few f32 ones are laid out for it.
    pub fn computing(mut self, arithmetic: Arithmetic) -> Result<Self> {
        if let Arithmetic::Tiles { parts } = arithmetic {
            ensure!(
                has_tiles(),
                "this processor doesn't multiply tiles of bf16 (Intel AMX, on Linux), which bf16 products need"
            );
            ensure!((1..=3).contains(&parts), "{parts} parts of bf16; a number has 1, 2 or 3");
        }
        self.storage = match (self.storage, arithmetic) {
            (Storage::Half(Half::Bf16, bits), Arithmetic::Tiles { .. }) => {
                Storage::Tiles(HeldTiles::new(&bits, self.out, self.inp))
            }
            (Storage::Tiles(tiles), Arithmetic::F32) => Storage::Half(Half::Bf16, tiles.to_panels()),
            (storage, _) => storage,
        };
        self.tiles = match (&self.storage, arithmetic) {
            (Storage::F32(_), Arithmetic::Tiles { parts }) if self.out * self.inp <= TILES_BESIDE => {
                Some(HeldTiles::of(&Forward(&self), parts))
            }
            _ => None,
        };
        Ok(Self { arithmetic, ..self })
    }

    /// Output features.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Input features.
    pub fn inp(&self) -> usize {
        self.inp
    }

    /// Its number format, if it isn't quantised.
    pub fn precision(&self) -> Option<Precision> {
        match &self.storage {
            Storage::F32(_) => Some(Precision::F32),
            Storage::Half(Half::Bf16, _) | Storage::Tiles(_) => Some(Precision::Bf16),
            Storage::Half(Half::F16, _) => Some(Precision::F16),
            Storage::Grouped(_) => None,
        }
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        self.storage_bytes() + self.tiles.as_ref().map_or(0, HeldTiles::bytes)
    }

    /// Bytes that tiles take in addition to an f32 weight of `elements` elements.
    pub fn bytes_beside(elements: usize, arithmetic: Arithmetic) -> usize {
        match arithmetic {
            Arithmetic::Tiles { parts } if elements <= TILES_BESIDE => 2 * parts * elements,
            _ => 0,
        }
    }

    fn storage_bytes(&self) -> usize {
        match &self.storage {
            Storage::F32(packed) => packed.k() * packed.n().next_multiple_of(PANEL) * 4,
            Storage::Half(_, bits) => bits.len() * 2,
            Storage::Tiles(tiles) => tiles.bytes(),
            Storage::Grouped(grouped) => grouped.bytes(),
        }
    }

    /// Writes row `index` of w, such as a token's embedding.
    pub fn row(&self, index: usize, row: &mut [f32]) {
        assert!(index < self.out && row.len() == self.inp, "row {index} of ({}, {})", self.out, self.inp);
        let (panel, column) = (index / PANEL, index % PANEL);
        match &self.storage {
            Storage::F32(packed) => {
                let lines = packed.panel(panel).iter().skip(column / LANES).step_by(2);
                row.iter_mut().zip(lines).for_each(|(x, line)| *x = line.0[column % LANES]);
            }
            Storage::Half(half, bits) => {
                let bits = bits[panel * self.inp * PANEL..][..self.inp * PANEL].iter();
                let bits = bits.skip(column).step_by(PANEL);
                row.iter_mut().zip(bits).for_each(|(x, &bits)| *x = half.widen(bits));
            }
            Storage::Tiles(tiles) => tiles.row(index, row),
            Storage::Grouped(grouped) => grouped.row(index, row),
        }
    }

    /// All of w, (out, in) row-major.
    pub fn to_rows(&self) -> Vec<f32> {
        let mut w = vec![0.0; self.out * self.inp];
        let rows = w.par_chunks_exact_mut(self.inp.max(1)).enumerate().with_min_len(64);
        rows.for_each(|(index, row)| self.row(index, row));
        w
    }

    /// `y = x wᵀ`, or `y += x wᵀ`: x (m, in), y (m, out).
    pub fn forward(&self, x: &[f32], m: usize, y: &mut [f32], accumulate: bool) {
        match (self.arithmetic, &self.storage) {
            (Arithmetic::Tiles { parts }, _) => {
                gemm_tiles(Left::Rows(x), m, &Forward(self), parts, y, accumulate)
            }
            (_, Storage::F32(packed)) => gemm(Isa::best(), Left::Rows(x), m, packed, y, accumulate),
            _ => gemm_unpacked(Isa::best(), Left::Rows(x), m, &Forward(self), y, accumulate),
        }
    }

    /// `dx = dy w`: dy (m, out), dx (m, in).
    pub fn backward(&self, dy: &[f32], m: usize, dx: &mut [f32]) {
        let _dx = profile::named(Operator::LinearBackwardInput);
        match self.arithmetic {
            Arithmetic::Tiles { parts } => gemm_tiles(Left::Rows(dy), m, &Transposed(self), parts, dx, false),
            Arithmetic::F32 => gemm_unpacked(Isa::best(), Left::Rows(dy), m, &Transposed(self), dx, false),
        }
    }

    /// bf16 parts that hold a number, if `wanted` are asked for.
    fn parts(&self, wanted: usize) -> usize {
        match self.storage {
            Storage::Tiles(_) | Storage::Half(Half::Bf16, _) => 1,
            // A significand of 11 bits; a part has 8.
            Storage::Half(Half::F16, _) => wanted.min(2),
            Storage::F32(_) | Storage::Grouped(_) => wanted,
        }
    }

    /// Writes columns `rows` (of the inner dimension) of a panel of 32 outputs, two lines each.
    fn unpack(&self, isa: Isa, panel: usize, inner: Range<usize>, lines: &mut [Line]) {
        match &self.storage {
            Storage::F32(packed) => {
                lines.copy_from_slice(&packed.panel(panel)[2 * inner.start..2 * inner.end]);
            }
            Storage::Half(half, bits) => {
                let from = panel * self.inp * PANEL;
                let bits = &bits[from + inner.start * PANEL..from + inner.end * PANEL];
                dispatch(isa, Widen { half: *half, bits, lines });
            }
            Storage::Tiles(tiles) => tiles.unpack(panel, inner, lines),
            Storage::Grouped(grouped) => grouped.unpack(isa, panel, inner, lines),
        }
    }
}

impl Half {
    fn widen(self, bits: u16) -> f32 {
        match self {
            Self::Bf16 => f32::from_bits(u32::from(bits) << 16),
            Self::F16 => half::f16::from_bits(bits).to_f32(),
        }
    }
}

/// Widens 16-bit numbers.
struct Widen<'a> {
    half: Half,
    bits: &'a [u16],
    lines: &'a mut [Line],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pairs = self.lines.iter_mut().zip(self.bits.as_chunks::<LANES>().0);
        match self.half {
            Half::Bf16 => pairs.for_each(|(line, bits)| s.store(s.bf16(bits), &mut line.0)),
            Half::F16 => pairs.for_each(|(line, bits)| s.store(s.f16(bits), &mut line.0)),
        }
    }
}

/// wᵀ (in, out).
struct Forward<'a>(&'a PackedWeight);

impl Operand for Forward<'_> {
    fn k(&self) -> usize {
        self.0.inp
    }

    fn n(&self) -> usize {
        self.0.out
    }

    fn bytes(&self) -> usize {
        self.0.tiles.as_ref().map_or_else(|| self.0.storage_bytes(), HeldTiles::bytes)
    }
}

impl Source for Forward<'_> {
    fn unpack(&self, isa: Isa, panel: usize, rows: Range<usize>, lines: &mut [Line]) {
        self.0.unpack(isa, panel, rows, lines);
    }
}

/// w (out, in).
struct Transposed<'a>(&'a PackedWeight);

impl Operand for Transposed<'_> {
    fn k(&self) -> usize {
        self.0.out
    }

    fn n(&self) -> usize {
        self.0.inp
    }

    fn bytes(&self) -> usize {
        self.0.storage_bytes()
    }
}

impl Source for Transposed<'_> {
    fn unpack(&self, isa: Isa, panel: usize, rows: Range<usize>, lines: &mut [Line]) {
        let inner = panel * PANEL..self.0.inp.min((panel + 1) * PANEL);
        let mut tile = [Line([0.0; LANES]); 2 * PANEL];
        for first in rows.clone().step_by(PANEL) {
            self.0.unpack(isa, first / PANEL, inner.clone(), &mut tile[..2 * inner.len()]);
            let lines = &mut lines[2 * (first - rows.start)..2 * (rows.end.min(first + PANEL) - rows.start)];
            dispatch(isa, Transpose { tile: &tile, lines });
        }
    }
}

impl TileSource for Forward<'_> {
    fn parts(&self, wanted: usize) -> usize {
        self.0.parts(wanted)
    }

    fn held(&self, panel: usize, blocks: Range<usize>) -> Option<&[Tile]> {
        match &self.0.storage {
            Storage::Tiles(tiles) => Some(tiles.of_panel(panel, blocks)),
            _ => self.0.tiles.as_ref().map(|tiles| tiles.of_panel(panel, blocks)),
        }
    }

    fn fill(&self, panel: usize, blocks: Range<usize>, parts: usize, tiles: &mut [Tile]) {
        unpack_tiles(self, panel, blocks, parts, tiles);
    }
}

/// Of weights that are held as tiles, blocks are turned round; of others, unpacked.
impl TileSource for Transposed<'_> {
    fn parts(&self, wanted: usize) -> usize {
        self.0.parts(wanted)
    }

    fn fill(&self, panel: usize, blocks: Range<usize>, parts: usize, tiles: &mut [Tile]) {
        match &self.0.storage {
            Storage::Tiles(held) => held.transposed(panel, blocks, tiles),
            _ => unpack_tiles(self, panel, blocks, parts, tiles),
        }
    }
}

/// Rows of 32 become columns: `lines[2 r + c / 16][c % 16] = tile[2 c + r / 16][r % 16]`.
struct Transpose<'a> {
    tile: &'a [Line; 2 * PANEL],
    lines: &'a mut [Line],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (r, pair) in self.lines.chunks_exact_mut(2).enumerate() {
            for (half, line) in pair.iter_mut().enumerate() {
                for (c, x) in line.0.iter_mut().enumerate() {
                    *x = self.tile[2 * (half * LANES + c) + r / LANES].0[r % LANES];
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "weight_tests.rs"]
mod tests;
