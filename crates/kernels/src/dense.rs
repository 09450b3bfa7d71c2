//! Products with a right-hand side of f32 numbers as they lie in memory: a parameter that is trained, activations,
//! gradients.

use super::gemm::{Left, gemm, product};
use super::panels::Packed;
use super::simd::Isa;
use super::tiles::{HeldTiles, gemm_tiles, product_by_tiles};
use super::unpacked::Operand;
use super::weight::Arithmetic;

/// A matrix (k, n).
#[derive(Clone, Copy)]
pub struct Dense<'a> {
    pub(super) numbers: &'a [f32],
    k: usize,
    n: usize,
    pub(super) held: Held,
}

/// How a matrix (k, n) lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Row-major.
    Rows,
    /// Row-major (n, k): the transpose.
    Columns,
}

/// One that is multiplied by several times.
pub enum Prepared {
    F32(Packed),
    Tiles(HeldTiles, usize),
}

impl<'a> Dense<'a> {
    /// A row-major matrix (k, n).
    pub fn rows(numbers: &'a [f32], k: usize, n: usize) -> Self {
        Self::new(numbers, k, n, Held::Rows)
    }

    /// The transpose of a row-major matrix (n, k).
    pub fn columns(numbers: &'a [f32], k: usize, n: usize) -> Self {
        Self::new(numbers, k, n, Held::Columns)
    }

    fn new(numbers: &'a [f32], k: usize, n: usize, held: Held) -> Self {
        assert_eq!(numbers.len(), k * n, "a matrix of shape ({k}, {n})");
        Self { numbers, k, n, held }
    }

    /// `C = A B`, or `C += A B`: A (m, k), C row-major (m, n).
    pub fn multiply(&self, arithmetic: Arithmetic, a: Left<'_>, m: usize, c: &mut [f32], accumulate: bool) {
        match arithmetic {
            Arithmetic::F32 => gemm(Isa::best(), a, m, &self.packed(), c, accumulate),
            Arithmetic::Tiles { parts } => gemm_tiles(a, m, self, parts, c, accumulate),
        }
    }

    /// `A B`, (m, n), of A (m, k).
    pub fn product(&self, arithmetic: Arithmetic, a: Left<'_>, m: usize) -> Vec<f32> {
        match arithmetic {
            Arithmetic::F32 => product(Isa::best(), a, m, &self.packed()),
            Arithmetic::Tiles { parts } => product_by_tiles(a, m, self, parts),
        }
    }

    /// Laid out for many products.
    pub fn prepared(&self, arithmetic: Arithmetic) -> Prepared {
        match arithmetic {
            Arithmetic::F32 => Prepared::F32(self.packed()),
            Arithmetic::Tiles { parts } => Prepared::Tiles(HeldTiles::of(self, parts), parts),
        }
    }

    fn packed(&self) -> Packed {
        match self.held {
            Held::Rows => Packed::from_rows(self.numbers, self.k, self.n),
            Held::Columns => Packed::from_columns(self.numbers, self.k, self.n),
        }
    }
}

impl Prepared {
    /// As [`Dense::multiply`].
    pub fn multiply(&self, a: Left<'_>, m: usize, c: &mut [f32], accumulate: bool) {
        match self {
            Self::F32(packed) => gemm(Isa::best(), a, m, packed, c, accumulate),
            Self::Tiles(tiles, parts) => gemm_tiles(a, m, tiles, *parts, c, accumulate),
        }
    }

    /// As [`Dense::product`].
    pub fn product(&self, a: Left<'_>, m: usize) -> Vec<f32> {
        match self {
            Self::F32(packed) => product(Isa::best(), a, m, packed),
            Self::Tiles(tiles, parts) => product_by_tiles(a, m, tiles, *parts),
        }
    }
}

impl Operand for Dense<'_> {
    fn k(&self) -> usize {
        self.k
    }

    fn n(&self) -> usize {
        self.n
    }

    fn bytes(&self) -> usize {
        size_of_val(self.numbers)
    }
}
