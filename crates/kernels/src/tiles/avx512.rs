//! What tiles are filled by: numbers taken apart, and blocks turned round. A processor with tiles has AVX-512 too, with
//! its conversions to bf16; subnormal numbers count as 0 there as they do in tiles.

use std::arch::x86_64::*;
use std::ops::Range;

use super::steps::Rows;
use super::{BLOCK, ROWS, Tile};

/// Writes blocks of up to 16 rows of A, (rows, k), as tiles (block, part). `columns` are those of the blocks.
///
/// # Safety
/// Tiles are [available](super::amx::available).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vl")]
pub(super) unsafe fn pack_rows(
    rows: &[f32],
    k: usize,
    columns: Range<usize>,
    parts: usize,
    tiles: &mut [Tile],
) {
    assert!(columns.end <= k && rows.len().is_multiple_of(k) && rows.len() <= ROWS * k, "{columns:?} of {k}");
    assert!(tiles.len() == columns.len().div_ceil(BLOCK) * parts, "tiles of {columns:?}");
    for (r, row) in rows.chunks_exact(k).enumerate() {
        let row = &row[columns.clone()];
        for (x, tiles) in row.chunks(BLOCK).zip(tiles.chunks_exact_mut(parts)) {
            fetch_line_pair(x.as_ptr().wrapping_add(AHEAD));
            // SAFETY: lanes that are masked out are not touched.
            let (mut low, mut high) = unsafe {
                (
                    _mm512_maskz_loadu_ps(mask(x.len()), x.as_ptr()),
                    _mm512_maskz_loadu_ps(mask(x.len().saturating_sub(16)), x.as_ptr().wrapping_add(16)),
                )
            };
            for tile in tiles {
                let (low_part, high_part) = (_mm512_cvtneps_pbh(low), _mm512_cvtneps_pbh(high));
                low = _mm512_sub_ps(low, _mm512_cvtpbh_ps(low_part));
                high = _mm512_sub_ps(high, _mm512_cvtpbh_ps(high_part));
                let to = tile.0[r].as_mut_ptr();
                // SAFETY: a row of a tile has 32 numbers, and `__m256bh` is 16 of them.
                unsafe {
                    to.cast::<__m256bh>().write_unaligned(low_part);
                    to.add(16).cast::<__m256bh>().write_unaligned(high_part);
                }
            }
        }
    }
    for r in rows.len() / k..ROWS {
        tiles.iter_mut().for_each(|tile| tile.0[r] = [0; BLOCK]);
    }
}

/// Numbers before which they are asked for from memory, where they are read one after another.
const AHEAD: usize = 1024;
/// Rows before which they are asked for, where they are read a panel at a time.
const ROWS_AHEAD: usize = 16;

/// Asks for 128 bytes at any address.
fn fetch_line_pair(at: *const f32) {
    // SAFETY: hints, which read nothing and never fault.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(16).cast());
    }
}

/// The lowest `n` of 16 bits, all of them from 16 on.
fn mask(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// A block of B, 32 rows by 32 columns, as both its tiles: what was at (row, column) comes to (column, row).
///
/// # Safety
/// As for [`pack_rows`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn transpose(from: &[Tile; 2], to: &mut [Tile; 2]) {
    // Within four numbers: rows 0 and 1 of columns 0 and 1 become rows of columns.
    let swap = _mm512_broadcast_i32x4(_mm_set_epi8(15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0));
    for (half, from) in from.iter().enumerate() {
        for (g, to) in to.iter_mut().enumerate() {
            let mut rows = [_mm512_setzero_si512(); 8];
            for (row, source) in rows.iter_mut().zip(&from.0[8 * g..]) {
                // SAFETY: a row of a tile has 64 bytes.
                *row = _mm512_shuffle_epi8(unsafe { _mm512_loadu_si512(source.as_ptr().cast()) }, swap);
            }
            for (row, target) in transpose_8x8(rows).iter().zip(&mut to.0[8 * half..]) {
                // SAFETY: as above.
                unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), *row) };
            }
        }
    }
}

/// Eight rows of eight numbers of 64 bits become columns.
#[target_feature(enable = "avx512f")]
fn transpose_8x8(r: [__m512i; 8]) -> [__m512i; 8] {
    let pairs: [__m512i; 8] = [
        _mm512_unpacklo_epi64(r[0], r[1]),
        _mm512_unpackhi_epi64(r[0], r[1]),
        _mm512_unpacklo_epi64(r[2], r[3]),
        _mm512_unpackhi_epi64(r[2], r[3]),
        _mm512_unpacklo_epi64(r[4], r[5]),
        _mm512_unpackhi_epi64(r[4], r[5]),
        _mm512_unpacklo_epi64(r[6], r[7]),
        _mm512_unpackhi_epi64(r[6], r[7]),
    ];
    // Quarters of 128 bits: those of rows 0, 2, 4, 6 of a column pair come together in two steps.
    let mut columns = [_mm512_setzero_si512(); 8];
    for odd in 0..2 {
        let even = _mm512_shuffle_i64x2::<0b10_00_10_00>(pairs[odd], pairs[2 + odd]);
        let even_next = _mm512_shuffle_i64x2::<0b10_00_10_00>(pairs[4 + odd], pairs[6 + odd]);
        let other = _mm512_shuffle_i64x2::<0b11_01_11_01>(pairs[odd], pairs[2 + odd]);
        let other_next = _mm512_shuffle_i64x2::<0b11_01_11_01>(pairs[4 + odd], pairs[6 + odd]);
        columns[odd] = _mm512_shuffle_i64x2::<0b10_00_10_00>(even, even_next);
        columns[2 + odd] = _mm512_shuffle_i64x2::<0b10_00_10_00>(other, other_next);
        columns[4 + odd] = _mm512_shuffle_i64x2::<0b11_01_11_01>(even, even_next);
        columns[6 + odd] = _mm512_shuffle_i64x2::<0b11_01_11_01>(other, other_next);
    }
    columns
}

/// A tile of B, whose rows are pairs of inner positions, as a tile of A with the same numbers, or the other way round:
/// 16 rows of 16 pairs become columns.
///
/// # Safety
/// As for [`pack_rows`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn turn(from: &Tile, to: &mut Tile) {
    // Of each four columns the first two, and the others.
    let (mut first, mut others) = ([_mm512_setzero_si512(); 8], [_mm512_setzero_si512(); 8]);
    let targets = first.iter_mut().zip(&mut others);
    for ([even, odd], (first, others)) in from.0.as_chunks::<2>().0.iter().zip(targets) {
        // SAFETY: a row of a tile has 64 bytes.
        let (even, odd) =
            unsafe { (_mm512_loadu_si512(even.as_ptr().cast()), _mm512_loadu_si512(odd.as_ptr().cast())) };
        *first = _mm512_unpacklo_epi32(even, odd);
        *others = _mm512_unpackhi_epi32(even, odd);
    }
    for (which, rows) in [first, others].into_iter().enumerate() {
        for (c, column) in transpose_8x8(rows).iter().enumerate() {
            let target = &mut to.0[c / 2 * 4 + 2 * which + c % 2];
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), *column) };
        }
    }
}

/// Both halves of row `index`, zeros where there is none.
#[target_feature(enable = "avx512f")]
fn halves(rows: &Rows<'_>, index: usize) -> [__m512; 2] {
    if index >= rows.rows {
        return [_mm512_setzero_ps(); 2];
    }
    let row = &rows.numbers[index * rows.stride..][..rows.columns];
    // SAFETY: lanes that are masked out are not touched.
    unsafe {
        [
            _mm512_maskz_loadu_ps(mask(row.len()), row.as_ptr()),
            _mm512_maskz_loadu_ps(mask(row.len().saturating_sub(16)), row.as_ptr().wrapping_add(16)),
        ]
    }
}

/// Writes rows of a panel of B as tiles (block, part, half).
///
/// # Safety
/// As for [`pack_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vl")]
pub(super) unsafe fn write_tiles(rows: Rows<'_>, parts: usize, tiles: &mut [Tile]) {
    assert!(tiles.len() == rows.rows.div_ceil(BLOCK) * parts * 2, "tiles of {} rows", rows.rows);
    assert!(rows.columns <= BLOCK, "a panel of {} columns", rows.columns);
    let odd_lanes: __mmask32 = 0xaaaa_aaaa;
    for (block, tiles) in tiles.chunks_exact_mut(2 * parts).enumerate() {
        for pair in 0..ROWS {
            let first = block * BLOCK + 2 * pair;
            for ahead in [first + ROWS_AHEAD, first + 1 + ROWS_AHEAD] {
                fetch_line_pair(rows.numbers.as_ptr().wrapping_add(ahead * rows.stride));
            }
            let (evens, odds) = (halves(&rows, first), halves(&rows, first + 1));
            for (half, (mut even, mut odd)) in evens.into_iter().zip(odds).enumerate() {
                for part in 0..parts {
                    let (e, o) = (widened(_mm512_cvtneps_pbh(even)), widened(_mm512_cvtneps_pbh(odd)));
                    let both = _mm512_mask_blend_epi16(odd_lanes, _mm512_srli_epi32::<16>(e), o);
                    even = _mm512_sub_ps(even, _mm512_castsi512_ps(e));
                    odd = _mm512_sub_ps(odd, _mm512_castsi512_ps(o));
                    let to = tiles[2 * part + half].0[pair].as_mut_ptr();
                    // SAFETY: a row of a tile has 64 bytes.
                    unsafe { _mm512_storeu_si512(to.cast(), both) };
                }
            }
        }
    }
}

/// bf16 numbers as f32.
#[target_feature(enable = "avx512f,avx512bf16")]
fn widened(x: __m256bh) -> __m512i {
    _mm512_castps_si512(_mm512_cvtpbh_ps(x))
}
