//! Products with a right-hand side whose tiles stay in the second-level cache: rows of A are packed, multiplied by all of
//! it and stored, 32 at a time, so A and C pass by once and nothing else leaves the cache.

use std::ops::Range;

use super::{BLOCK, LEFT, Output, PANEL, Part, ROWS, Tile, TileSource, amx, room, steps, with_buffer};
use autodidact_domain::profile::{self, Operator};

/// Tiles of such a right-hand side: a quarter of a second-level cache of 2 MiB.
const TILES_MAX: usize = 512;

/// Whether a right-hand side is one of these.
pub(super) fn fits(b: &impl TileSource, wanted: usize) -> bool {
    2 * b.n().div_ceil(PANEL) * b.k().div_ceil(BLOCK) * b.parts(wanted) <= TILES_MAX
}

pub(super) struct Narrow<'a, B> {
    b: &'a B,
    wanted: usize,
    /// All panels' tiles, if they are not at hand.
    made: &'a [Tile],
}

impl<'a, B: TileSource> Narrow<'a, B> {
    /// Of a right-hand side that [`fits`].
    pub(super) fn of(b: &'a B, wanted: usize, buffer: &'a mut Vec<Tile>) -> Self {
        let (blocks, panels) = (b.k().div_ceil(BLOCK), b.n().div_ceil(PANEL));
        let parts = b.parts(wanted);
        let each = 2 * blocks * parts;
        if b.held(0, 0..blocks).is_some() {
            return Self { b, wanted, made: &[] };
        }
        let _span = profile::span(Operator::Unpacking);
        let made = room(buffer, panels * each);
        for (panel, tiles) in made.chunks_exact_mut(each).enumerate() {
            b.fill(panel, 0..blocks, parts, tiles);
        }
        Self { b, wanted, made }
    }

    fn panel(&self, panel: usize, blocks: usize) -> &[Tile] {
        let each = 2 * blocks * self.b.parts(self.wanted);
        self.b.held(panel, 0..blocks).unwrap_or_else(|| &self.made[panel * each..(panel + 1) * each])
    }

    /// Computes some rows of C; a has all rows of A.
    ///
    /// # Safety
    /// C has these rows, written before if they are added to, and nobody else reads or writes them meanwhile.
    pub(super) unsafe fn multiply(&self, a: &[f32], rows: Range<usize>, c: Output, accumulate: bool) {
        let registers = amx::Registers::take();
        assert!(registers.is_some(), "this processor has no tiles of bf16");
        let (k, n, wanted) = (self.b.k(), self.b.n(), self.wanted);
        let (blocks, parts) = (k.div_ceil(BLOCK), self.b.parts(wanted));
        let row_tiles = blocks * wanted;
        with_buffer(&LEFT, |left| {
            let left = room(left, 2 * row_tiles);
            for row in rows.clone().step_by(2 * ROWS) {
                let m = rows.end.min(row + 2 * ROWS) - row;
                let sixteens = a[row * k..(row + m) * k].chunks(ROWS * k);
                for (a, tiles) in sixteens.zip(left.chunks_exact_mut(row_tiles)) {
                    steps::pack_rows(a, k, 0..k, wanted, tiles);
                }
                let c = Output::from_start(c.at(row * n));
                let part = Part { left, m, blocks: 0..blocks, wanted, b: self.b, c, accumulate };
                for panel in 0..n.div_ceil(PANEL) {
                    part.square(0, panel, &(0..blocks), parts, (self.panel(panel, blocks), None));
                }
            }
        });
    }
}
