//! Numbers as sums of bf16 parts, written where tiles want them.

use std::ops::Range;

use super::{BLOCK, ROWS, Tile, ZERO};
use crate::ops::kernels::aligned::Line;
use crate::ops::kernels::simd::{Kernel, LANES, Simd};

/// Rounds to bf16, to nearest, ties to even; NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    // A NaN may have all its bits where they are cut off.
    f32::from_bits(if x.is_nan() { 0x7fc0_0000 } else { up })
}

#[inline(always)]
fn high(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

/// Blocks of up to 16 rows of A, (rows, k), as tiles (block, part).
pub(super) struct PackRows<'a> {
    pub rows: &'a [f32],
    pub k: usize,
    /// Columns of the blocks.
    pub columns: Range<usize>,
    pub parts: usize,
    pub tiles: &'a mut [Tile],
}

impl Kernel for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut rows = self.rows.chunks_exact(self.k);
        for r in 0..ROWS {
            let Some(row) = rows.next() else {
                self.tiles.iter_mut().for_each(|tile| tile.0[r] = [0; BLOCK]);
                continue;
            };
            for (x, tiles) in
                row[self.columns.clone()].chunks(BLOCK).zip(self.tiles.chunks_exact_mut(self.parts))
            {
                let mut rest = [0.0; BLOCK];
                match x.first_chunk::<BLOCK>() {
                    Some(x) => rest = *x,
                    None => rest[..x.len()].copy_from_slice(x),
                }
                for tile in tiles {
                    for (x, bits) in rest.iter_mut().zip(&mut tile.0[r]) {
                        let part = rounded(*x);
                        *bits = high(part);
                        *x -= part;
                    }
                }
            }
        }
    }
}

/// Rows of a panel of B, two lines of 16 columns each, as tiles (block, part, half).
pub(super) struct WriteTiles<'a> {
    pub lines: &'a [Line],
    pub parts: usize,
    pub tiles: &'a mut [Tile],
}

impl Kernel for WriteTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let blocks = self.lines.chunks(2 * BLOCK);
        for (lines, tiles) in blocks.zip(self.tiles.chunks_exact_mut(2 * self.parts)) {
            if lines.len() < 2 * BLOCK {
                tiles.fill(ZERO);
            }
            for half in 0..2 {
                // A pair of rows: its even one's line and its odd one's.
                for (pair, lines) in lines.chunks(4).enumerate() {
                    let mut even = lines[half].0;
                    let mut odd = lines.get(2 + half).map_or([0.0; LANES], |line| line.0);
                    for part in 0..self.parts {
                        let row = &mut tiles[2 * part + half].0[pair];
                        for (c, (even, odd)) in even.iter_mut().zip(&mut odd).enumerate() {
                            let (e, o) = (rounded(*even), rounded(*odd));
                            (row[2 * c], row[2 * c + 1]) = (high(e), high(o));
                            (*even, *odd) = (*even - e, *odd - o);
                        }
                    }
                }
            }
        }
    }
}

/// A block of B, 32 rows by 32 columns, as both its tiles: what was at (row, column) comes to (column, row).
pub(super) struct Transpose<'a> {
    pub from: &'a [Tile],
    pub to: &'a mut [Tile],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        assert!(self.from.len() == 2 && self.to.len() == 2, "a block is two tiles");
        for (half, tile) in self.from.iter().enumerate() {
            for (pair, row) in tile.0.iter().enumerate() {
                for (q, four) in row.as_chunks::<4>().0.iter().enumerate() {
                    // Rows 2 pair and 2 pair + 1 of columns 16 half + 2 q and the next.
                    let to = &mut self.to[pair / 8].0[8 * half + q];
                    let to = &mut to[4 * (pair % 8)..][..4];
                    to.copy_from_slice(&[four[0], four[2], four[1], four[3]]);
                }
            }
        }
    }
}
