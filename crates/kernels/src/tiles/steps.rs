//! The steps that need the processor's instructions; callers have checked that it has them.

use std::ops::Range;

use super::Tile;

/// Some rows of up to 32 numbers, one every `stride` numbers.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub numbers: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

macro_rules! steps {
    ($($name:ident($($argument:ident: $type:ty),+);)+) => {
        $(
            #[cfg(target_arch = "x86_64")]
            pub(super) fn $name($($argument: $type),+) {
                assert!(super::amx::available(), "this processor has no tiles of bf16");
                // SAFETY: just checked.
                unsafe { super::avx512::$name($($argument),+) };
            }

            #[cfg(not(target_arch = "x86_64"))]
            pub(super) fn $name($(_: $type),+) {
                unreachable!("this processor has no tiles of bf16");
            }
        )+
    };
}

steps! {
    pack_rows(rows: &[f32], k: usize, columns: Range<usize>, parts: usize, tiles: &mut [Tile]);
    write_tiles(rows: Rows<'_>, parts: usize, tiles: &mut [Tile]);
    transpose(from: &[Tile; 2], to: &mut [Tile; 2]);
    turn(from: &Tile, to: &mut Tile);
}
