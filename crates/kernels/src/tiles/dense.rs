//! A right-hand side of plain f32 numbers, whose tiles are made as they are needed.

use std::cell::Cell;
use std::ops::Range;

use super::steps::{self, Rows};
use super::{BLOCK, Operand, PANEL, ROWS, Tile, TileSource, ZERO, with_buffer};
use crate::dense::{Dense, Held};

thread_local! {
    static TURNED: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
}

impl TileSource for Dense<'_> {
    fn parts(&self, wanted: usize) -> usize {
        wanted
    }

    fn fill(&self, panel: usize, blocks: Range<usize>, parts: usize, tiles: &mut [Tile]) {
        let columns = panel * PANEL..self.n().min((panel + 1) * PANEL);
        let inner = blocks.start * BLOCK..self.k().min(blocks.end * BLOCK);
        match self.held {
            Held::Rows => {
                let numbers = &self.numbers[inner.start * self.n() + columns.start..];
                let rows = Rows { numbers, stride: self.n(), rows: inner.len(), columns: columns.len() };
                steps::write_tiles(rows, parts, tiles);
            }
            Held::Columns => {
                let columns = &self.numbers[columns.start * self.k()..columns.end * self.k()];
                self.turned(columns, inner, parts, tiles);
            }
        }
    }
}

impl Dense<'_> {
    /// Columns of B are rows of its transpose: they are packed as A's are, and turned.
    fn turned(&self, columns: &[f32], inner: Range<usize>, parts: usize, tiles: &mut [Tile]) {
        let mut sixteens = columns.chunks(ROWS * self.k());
        with_buffer(&TURNED, |buffer| {
            buffer.resize(tiles.len() / 2, ZERO);
            for half in 0..2 {
                match sixteens.next() {
                    Some(columns) => steps::pack_rows(columns, self.k(), inner.clone(), parts, buffer),
                    None => buffer.fill(ZERO),
                }
                for (from, to) in buffer.iter().zip(tiles[half..].iter_mut().step_by(2)) {
                    steps::turn(from, to);
                }
            }
        });
    }
}
