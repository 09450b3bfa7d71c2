//! Matrix products by tiles of bf16, where the processor has them: f32 numbers as sums of bf16 parts (Henry, Tang &
//! Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations").
//!
//! Contract: with d parts an element of C is the sum of the products of A's part i and B's part j with `i + j < d`,
//! added block by block of 32 inner positions, the smallest parts first, as [`amx`] adds them. Strips, slabs and threads
//! only decide who computes which element, so a row never depends on its batch. Three parts hold an f32 exactly; bf16
//! numbers are their own first part, and cost no more products than there are parts of A. The bits are not those of
//! [`gemm`](super::gemm).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod held;
#[cfg(target_arch = "x86_64")]
mod narrow;
mod steps;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::{self, Line};
use super::gemm::{Left, Output, PARALLEL};
use super::panels::PANEL;
use super::simd::{Isa, LANES};
use super::slots;
use super::unpacked::{Operand, Source};
use autodidact_domain::profile::{self, Operator, Unit, Work};
pub(crate) use held::HeldTiles;
use steps::Rows;

/// Rows of a tile of A and of C.
const ROWS: usize = 16;
/// Inner positions of a tile.
pub(super) const BLOCK: usize = 32;
/// Blocks of the inner dimension after which C is stored: a panel's share of them stays in the second-level cache.
const CHUNK: usize = 32;
/// Panels whose tiles are made at a time, for the strips of A to pass by.
const SLAB: usize = 8;
/// Tiles of A per strip of rows: half of a second-level cache of 1 MiB.
const STRIP: usize = 512;
/// Tiles of A at a time, 16 MiB, unless one block of all rows has more.
const LEFT_MAX: usize = 1 << 14;

/// 16 rows of 64 bytes. Of A: a row's 32 numbers. Of B: 16 columns' numbers of two inner positions, side by side.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Tile(pub(super) [[u16; 32]; ROWS]);

pub(super) const ZERO: Tile = Tile([[0; 32]; ROWS]);

/// Whether this machine multiplies tiles of bf16.
pub fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return amx::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Keeps the processor's tiles busy; gives how many floating-point operations that was. Panics where there are none.
pub(super) fn multiply_tiles(rounds: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    return amx::multiply(rounds);
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("this processor has no tiles of bf16, not even for {rounds} rounds");
}

/// The right-hand side of a product, (k, n), in panels of 32 columns and blocks of 32 rows, both padded with zeros.
pub trait TileSource: Operand {
    /// Parts that a number has here, if `wanted` are asked for.
    fn parts(&self, wanted: usize) -> usize;

    /// Tiles (block, part, half of the panel), if they are at hand.
    fn held(&self, _panel: usize, _blocks: Range<usize>) -> Option<&[Tile]> {
        None
    }

    /// Writes them.
    fn fill(&self, panel: usize, blocks: Range<usize>, parts: usize, tiles: &mut [Tile]);
}

/// Writes tiles (block, part, half) of what `source` unpacks.
pub(super) fn unpack_tiles(
    source: &impl Source,
    panel: usize,
    blocks: Range<usize>,
    parts: usize,
    tiles: &mut [Tile],
) {
    thread_local!(static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) });
    let rows = blocks.start * BLOCK..source.k().min(blocks.end * BLOCK);
    let mut lines = LINES.take();
    lines.resize(2 * rows.len(), Line([0.0; LANES]));
    source.unpack(Isa::best(), panel, rows.clone(), &mut lines);
    let numbers = aligned::numbers(&lines);
    steps::write_tiles(Rows { numbers, stride: PANEL, rows: rows.len(), columns: PANEL }, parts, tiles);
    LINES.set(lines);
}

/// Lends `f` a buffer of this thread. If `f` waits for other threads and is entered again meanwhile, that call gets
/// another one.
fn with_buffer<R>(
    which: &'static std::thread::LocalKey<Cell<Vec<Tile>>>,
    f: impl FnOnce(&mut Vec<Tile>) -> R,
) -> R {
    let mut buffer = which.take();
    let result = f(&mut buffer);
    which.set(buffer);
    result
}

thread_local! {
    static LEFT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
}

/// `C = A B`, or `C += A B`, by `wanted` parts; A (m, k), C row-major (m, n). Panics where there are no tiles.
pub(crate) fn gemm_tiles(
    a: Left<'_>,
    m: usize,
    b: &impl TileSource,
    wanted: usize,
    c: &mut [f32],
    accumulate: bool,
) {
    assert_eq!(c.len(), m * b.n(), "C is ({m}, {})", b.n());
    // SAFETY: C has as many elements, all of them written.
    unsafe { gemm_to(a, m, b, wanted, Output::of(c), accumulate) };
}

/// `A B`, (m, n), in memory that nothing was written to before.
pub(crate) fn product_by_tiles(a: Left<'_>, m: usize, b: &impl TileSource, wanted: usize) -> Vec<f32> {
    let count = m.checked_mul(b.n()).expect("C fits in memory");
    // SAFETY: C has as many elements; a product that doesn't accumulate reads none and writes every one.
    unsafe {
        slots::vector(count, |mut c| gemm_to(a, m, b, wanted, Output::from_start(c.as_mut_ptr()), false))
    }
}

/// # Safety
/// C has m * n elements, written before if it accumulates, which nobody else reads or writes meanwhile.
unsafe fn gemm_to(a: Left<'_>, m: usize, b: &impl TileSource, wanted: usize, c: Output, accumulate: bool) {
    let (k, n) = (b.k(), b.n());
    let (Left::Rows(elements) | Left::Columns(elements)) = a;
    assert_eq!(elements.len(), m * k, "A is ({m}, {k})");
    if m == 0 || n == 0 || k == 0 {
        if !accumulate {
            // SAFETY: as the caller promises.
            unsafe { std::ptr::write_bytes(c.at(0), 0, m * n) };
        }
        return;
    }
    let (threads, panels) = (rayon::current_num_threads(), n.div_ceil(PANEL));
    let is_parallel = threads > 1 && m * n * k >= 2 * PARALLEL;
    let (blocks, row_tiles) = (k.div_ceil(BLOCK), m.div_ceil(ROWS) * wanted);
    // Where C is stored and read again changes no bit.
    let step = match LEFT_MAX / row_tiles {
        few @ 0..CHUNK => few.max(1),
        many => many / CHUNK * CHUNK,
    };
    let products: usize = (0..b.parts(wanted)).map(|j| wanted - j).sum();
    let product = profile::product(|| Work::product(Unit::Bf16Tiles, [m, n, k * products], b.bytes()));
    let pieces = product.pieces();
    let compute = |part: &Part<'_, _>, panels| {
        let _span = pieces.span();
        part.compute(panels);
    };
    // Of few rows threads share the columns.
    #[cfg(target_arch = "x86_64")]
    if let Left::Rows(a) = a
        && narrow::fits(b, wanted)
        && (!is_parallel || m >= 4 * ROWS * threads)
    {
        let compute = |narrow: &narrow::Narrow<'_, _>, rows| {
            let _span = pieces.span();
            // SAFETY: these rows lie within C, and nobody else computes them.
            unsafe { narrow.multiply(a, rows, c, accumulate) };
        };
        return with_buffer(&RIGHT, |made| {
            let narrow = narrow::Narrow::of(b, wanted, made);
            if is_parallel {
                let share = m.div_ceil(2 * threads).next_multiple_of(2 * ROWS);
                let starts = (0..m.div_ceil(share)).into_par_iter().map(|i| i * share);
                starts.for_each(|first| compute(&narrow, first..m.min(first + share)));
            } else {
                compute(&narrow, 0..m);
            }
        });
    }
    with_buffer(&LEFT, |left| {
        for start in (0..blocks).step_by(step) {
            let blocks = start..blocks.min(start + step);
            let left = pack(a, (m, k), &blocks, wanted, left, is_parallel);
            let accumulate = accumulate || start > 0;
            let part = Part { left, m, blocks, wanted, b, c, accumulate };
            if is_parallel {
                let wide = panels.div_ceil(2 * threads).clamp(1, SLAB);
                let starts = (0..panels.div_ceil(wide)).into_par_iter().map(|i| i * wide);
                starts.for_each(|first| compute(&part, first..panels.min(first + wide)));
            } else {
                compute(&part, 0..panels);
            }
        }
    });
}

/// Blocks of A (m, k) as tiles (rows / 16, block, part).
fn pack<'t>(
    a: Left<'_>,
    (m, k): (usize, usize),
    blocks: &Range<usize>,
    parts: usize,
    buffer: &'t mut Vec<Tile>,
    is_parallel: bool,
) -> &'t [Tile] {
    let row_tiles = blocks.len() * parts;
    let tiles = room(buffer, m.div_ceil(ROWS) * row_tiles);
    let inner = blocks.start * BLOCK..k.min(blocks.end * BLOCK);
    // Two tiles of rows at a time: a panel of columns, where A is held in columns.
    let pack = |(i, tiles): (usize, &mut [Tile])| {
        let _span = profile::span(Operator::Packing);
        let rows = i * PANEL..m.min((i + 1) * PANEL);
        match a {
            Left::Rows(a) => {
                let sixteens = a[rows.start * k..rows.end * k].chunks(ROWS * k);
                for (a, tiles) in sixteens.zip(tiles.chunks_exact_mut(row_tiles)) {
                    steps::pack_rows(a, k, inner.clone(), parts, tiles);
                }
            }
            Left::Columns(a) => pack_columns(a, m, rows, inner.clone(), parts, tiles),
        }
    };
    if is_parallel {
        tiles.par_chunks_mut(2 * row_tiles).enumerate().for_each(pack);
    } else {
        tiles.chunks_mut(2 * row_tiles).enumerate().for_each(pack);
    }
    tiles
}

/// As [`pack`], for up to 32 rows of an A that is held as (k, m).
fn pack_columns(
    a: &[f32],
    m: usize,
    rows: Range<usize>,
    inner: Range<usize>,
    parts: usize,
    tiles: &mut [Tile],
) {
    let blocks = inner.len().div_ceil(BLOCK);
    let mut panel = [ZERO; 2 * 3];
    let panel = &mut panel[..2 * parts];
    for block in 0..blocks {
        let first = inner.start + block * BLOCK;
        let count = BLOCK.min(inner.end - first);
        let numbers = &a[first * m + rows.start..];
        steps::write_tiles(Rows { numbers, stride: m, rows: count, columns: rows.len() }, parts, panel);
        for (half, tiles) in tiles.chunks_exact_mut(blocks * parts).enumerate() {
            for (part, tile) in tiles[block * parts..(block + 1) * parts].iter_mut().enumerate() {
                steps::turn(&panel[2 * part + half], tile);
            }
        }
    }
}

/// The first `count` tiles of a buffer, which grows if it must; they hold anything.
fn room(buffer: &mut Vec<Tile>, count: usize) -> &mut [Tile] {
    if buffer.len() < count {
        buffer.resize(count, ZERO);
    }
    &mut buffer[..count]
}

/// A product over some blocks, whose columns are shared among threads.
struct Part<'a, B> {
    left: &'a [Tile],
    m: usize,
    blocks: Range<usize>,
    wanted: usize,
    b: &'a B,
    c: Output,
    accumulate: bool,
}

#[cfg(target_arch = "x86_64")]
impl<B: TileSource> Part<'_, B> {
    /// Computes the columns of `panels`, which nobody else writes.
    fn compute(&self, panels: Range<usize>) {
        let registers = amx::Registers::take();
        assert!(registers.is_some(), "this processor has no tiles of bf16");
        let parts = self.b.parts(self.wanted);
        with_buffer(&RIGHT, |made| {
            for start in self.blocks.clone().step_by(CHUNK) {
                let chunk = start..self.blocks.end.min(start + CHUNK);
                for first in panels.clone().step_by(SLAB) {
                    self.slab(first..panels.end.min(first + SLAB), chunk.clone(), parts, made);
                }
            }
        });
    }

    /// A few panels and blocks: their tiles stay in the second-level cache while A passes by.
    fn slab(&self, panels: Range<usize>, chunk: Range<usize>, parts: usize, made: &mut Vec<Tile>) {
        let length = chunk.len() * parts * 2;
        let made = room(made, SLAB * length);
        let mut tiles: [&[Tile]; SLAB] = [&[]; SLAB];
        for ((panel, made), tiles) in panels.clone().zip(made.chunks_exact_mut(length)).zip(&mut tiles) {
            *tiles = match self.b.held(panel, chunk.clone()) {
                Some(held) => held,
                None => {
                    let _span = profile::span(Operator::Unpacking);
                    self.b.fill(panel, chunk.clone(), parts, made);
                    made
                }
            };
        }
        let step = (STRIP / (chunk.len() * self.wanted)).max(2).next_multiple_of(2) * ROWS;
        for strip in (0..self.m).step_by(step) {
            for (i, panel) in panels.clone().enumerate() {
                let next = tiles.get(i + 1).filter(|next| !next.is_empty()).unwrap_or(&tiles[i]);
                for row in (strip..self.m.min(strip + step)).step_by(2 * ROWS) {
                    self.square(row, panel, &chunk, parts, (tiles[i], Some(next)));
                }
            }
        }
    }

    /// Up to 32 rows and 32 columns of C, by the panel's tiles and, if they are to be asked for, those that come next.
    fn square(
        &self,
        row: usize,
        panel: usize,
        chunk: &Range<usize>,
        parts: usize,
        (tiles, next): (&[Tile], Option<&[Tile]>),
    ) {
        let (n, column) = (self.b.n(), panel * PANEL);
        let (rows, columns) = ((self.m - row).min(2 * ROWS), (n - column).min(PANEL));
        let row_tiles = self.blocks.len() * self.wanted;
        let before = (chunk.start - self.blocks.start) * self.wanted;
        let a = &self.left[row / ROWS * row_tiles + before..];
        let has_next = rows > ROWS;
        let a_next = if has_next { &a[row_tiles..] } else { a };
        let length = chunk.len() * self.wanted;
        assert!(a.len() >= length && a_next.len() >= length, "tiles of row {row}");
        assert_eq!(tiles.len(), 2 * chunk.len() * parts, "tiles of panel {panel}");
        let (one, two) = amx::compute(self.wanted, parts, next.is_some());
        let compute = if has_next { two } else { one };
        let accumulate = self.accumulate || chunk.start > self.blocks.start;
        let c = self.c.at(row * n + column);
        let product = amx::Product {
            a: a.as_ptr(),
            a_next: a_next.as_ptr(),
            b: tiles.as_ptr(),
            next: next.unwrap_or(tiles).as_ptr(),
            blocks: chunk.len(),
            c,
            c_stride: n,
            accumulate,
        };
        if columns == PANEL && rows.is_multiple_of(ROWS) {
            // SAFETY: the registers are taken; A and B have these tiles, as asserted; the square lies within C.
            return unsafe { compute(product) };
        }
        let mut whole = MaybeUninit::<Square>::uninit();
        let whole = whole.as_mut_ptr().cast::<f32>();
        // SAFETY: the square's rows and columns lie within C, and nobody else writes them; tiles as above. What isn't a
        // row and column of C may be anything: no other element depends on it, and nobody reads it.
        unsafe {
            if accumulate {
                for r in 0..rows {
                    std::ptr::copy_nonoverlapping(c.wrapping_add(r * n), whole.add(r * PANEL), columns);
                }
            }
            compute(amx::Product { c: whole, c_stride: PANEL, ..product });
            for r in 0..rows {
                std::ptr::copy_nonoverlapping(whole.add(r * PANEL), c.wrapping_add(r * n), columns);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl<B: TileSource> Part<'_, B> {
    fn compute(&self, _: Range<usize>) {
        unreachable!("this processor has no tiles of bf16");
    }
}

/// A whole square of C, where C itself has less.
#[repr(C, align(64))]
struct Square([f32; 2 * ROWS * PANEL]);
