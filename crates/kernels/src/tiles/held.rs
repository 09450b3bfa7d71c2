//! A weight held as the tiles that [`gemm_tiles`](super::gemm_tiles) reads: nothing is unpacked.

use std::ops::Range;

use rayon::prelude::*;

use super::{BLOCK, Operand, PANEL, Tile, TileSource, ZERO, steps};
use crate::aligned::Line;
use crate::simd::LANES;
use autodidact_domain::profile::{self, Operator};

/// A weight (out, in): tiles (out / 32, in / 32, part, half of the 32 outputs), padded with zeros.
#[derive(Clone, Debug)]
pub struct HeldTiles {
    out: usize,
    inp: usize,
    parts: usize,
    tiles: Vec<Tile>,
}

impl HeldTiles {
    /// Of the transpose of a product's right-hand side, by `wanted` parts.
    pub fn of(source: &impl TileSource, wanted: usize) -> Self {
        let (inp, out, parts) = (source.k(), source.n(), source.parts(wanted));
        let blocks = inp.div_ceil(BLOCK);
        let mut tiles = vec![ZERO; out.div_ceil(PANEL) * blocks * parts * 2];
        let panels = tiles.par_chunks_exact_mut((blocks * parts * 2).max(1)).enumerate();
        panels.for_each(|(panel, tiles)| {
            let _span = profile::span(Operator::Unpacking);
            source.fill(panel, 0..blocks, parts, tiles);
        });
        Self { out, inp, parts, tiles }
    }

    /// Of the bits of bf16 numbers in panels (out / 32, in, 32).
    pub fn new(bits: &[u16], out: usize, inp: usize) -> Self {
        let blocks = inp.div_ceil(BLOCK);
        let mut tiles = vec![ZERO; out.div_ceil(PANEL) * blocks * 2];
        for (panel, tiles) in
            bits.chunks_exact(PANEL * inp.max(1)).zip(tiles.chunks_exact_mut(2 * blocks.max(1)))
        {
            for (i, outputs) in panel.chunks_exact(PANEL).enumerate() {
                for (o, &bits) in outputs.iter().enumerate() {
                    tiles[i / BLOCK * 2 + o / LANES].0[i % BLOCK / 2][o % LANES * 2 + i % 2] = bits;
                }
            }
        }
        Self { out, inp, parts: 1, tiles }
    }

    /// What [`HeldTiles::new`] was given: of bf16 numbers, as all that reads single numbers.
    pub fn to_panels(&self) -> Vec<u16> {
        let numbers = (0..self.out.div_ceil(PANEL)).flat_map(|panel| (0..self.inp).map(move |i| (panel, i)));
        numbers.flat_map(|(panel, i)| (0..PANEL).map(move |o| self.bits(panel * PANEL + o, i))).collect()
    }

    fn bits(&self, output: usize, i: usize) -> u16 {
        checked!(self.parts == 1, "single numbers are read only of bf16");
        let (panel, o) = (output / PANEL, output % PANEL);
        let tile = &self.tiles[(panel * self.blocks() + i / BLOCK) * 2 + o / LANES];
        tile.0[i % BLOCK / 2][o % LANES * 2 + i % 2]
    }

    fn blocks(&self) -> usize {
        self.inp.div_ceil(BLOCK)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
    }

    /// Tiles (block, part, half) of a panel.
    pub fn of_panel(&self, panel: usize, blocks: Range<usize>) -> &[Tile] {
        let (first, each) = (panel * self.blocks(), 2 * self.parts);
        &self.tiles[(first + blocks.start) * each..(first + blocks.end) * each]
    }

    /// Writes tiles (block, half) of the transposed weight: its panels are of inputs, its blocks of outputs.
    pub fn transposed(&self, panel: usize, blocks: Range<usize>, tiles: &mut [Tile]) {
        checked!(self.parts == 1, "blocks of bf16 are turned round");
        for (block, to) in blocks.zip(tiles.as_chunks_mut::<2>().0) {
            let from = self.of_panel(block, panel..panel + 1);
            from.as_chunks::<2>().0.iter().for_each(|from| steps::transpose(from, to));
        }
    }

    /// Writes row `output` of the weight.
    pub fn row(&self, output: usize, row: &mut [f32]) {
        row.iter_mut().enumerate().for_each(|(i, x)| *x = widened(self.bits(output, i)));
    }

    /// Writes columns `inner` of a panel of 32 outputs, two lines each.
    pub fn unpack(&self, panel: usize, inner: Range<usize>, lines: &mut [Line]) {
        for (i, pair) in inner.zip(lines.chunks_exact_mut(2)) {
            for (o, x) in pair.iter_mut().flat_map(|line| &mut line.0).enumerate() {
                *x = widened(self.bits(panel * PANEL + o, i));
            }
        }
    }
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl Operand for HeldTiles {
    fn k(&self) -> usize {
        self.inp
    }

    fn n(&self) -> usize {
        self.out
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl TileSource for HeldTiles {
    fn parts(&self, _: usize) -> usize {
        self.parts
    }

    fn held(&self, panel: usize, blocks: Range<usize>) -> Option<&[Tile]> {
        Some(self.of_panel(panel, blocks))
    }

    fn fill(&self, panel: usize, blocks: Range<usize>, _: usize, tiles: &mut [Tile]) {
        tiles.copy_from_slice(self.of_panel(panel, blocks));
    }
}
