//! Rotation by position: rotary position embedding (Su et al. 2021), rotate-half layout.

use std::sync::OnceLock;

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::slots::Slots;

/// Positions whose angles are computed together, when one of them is first asked for.
const BLOCK: usize = 256;

/// Cosines and sines of every position, computed where they are needed: a model may promise a million positions.
#[derive(Clone, Debug)]
pub struct RopeTable {
    positions_max: usize,
    /// Angular frequencies in radians per position, (head_dim / 2)
    frequencies: Vec<f32>,
    /// Multiplies cosines and sines.
    scale: f32,
    /// Per [`BLOCK`] positions: (positions, 2, head_dim / 2), cosines before sines.
    blocks: Vec<OnceLock<Vec<f32>>>,
}

impl RopeTable {
    /// Angles `position * theta^(-2i/head_dim)`, with frequencies and angles rounded to f32 as Hugging Face
    /// does.
    pub fn new(head_dim: usize, theta: f64, positions_max: usize) -> Self {
        let exponents = (0..head_dim / 2).map(|i| -((2 * i) as f64) / head_dim as f64);
        let frequencies = exponents.map(|e| theta.powf(e) as f32).collect();
        Self::from_frequencies(frequencies, 1.0, positions_max)
    }

    /// From `head_dim / 2` angular frequencies, in radians per position; cosines and sines are multiplied by `scale`.
    pub fn from_frequencies(frequencies: Vec<f32>, scale: f32, positions_max: usize) -> Self {
        let blocks = (0..positions_max.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        Self { positions_max, frequencies, scale, blocks }
    }

    fn compute(&self, block: usize) -> Vec<f32> {
        let positions = block * BLOCK..self.positions_max.min((block + 1) * BLOCK);
        let mut values = Vec::with_capacity(positions.len() * self.head_dim());
        for p in positions {
            let angles = || self.frequencies.iter().map(|f| f64::from(p as f32 * f));
            values.extend(angles().map(|a| a.cos() as f32 * self.scale));
            values.extend(angles().map(|a| a.sin() as f32 * self.scale));
        }
        values
    }

    /// Elements per head.
    pub fn head_dim(&self) -> usize {
        self.frequencies.len() * 2
    }

    /// Positions the table holds.
    pub fn positions_max(&self) -> usize {
        self.positions_max
    }

    /// Cosines and sines at a position, (head_dim / 2) each.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        assert!(position < self.positions_max, "position {position} of {}", self.positions_max);
        let block = position / BLOCK;
        let values = self.blocks[block].get_or_init(|| self.compute(block));
        let d = self.head_dim();
        values[position % BLOCK * d..][..d].split_at(d / 2)
    }

    /// Rotates every head of a row (heads * head_dim) in place. Panics past `positions_max`.
    pub fn apply(&self, row: &mut [f32], position: usize) {
        assert!(row.len().is_multiple_of(self.head_dim()), "a row of heads of {} elements", self.head_dim());
        let (cos, sin) = self.at(position);
        dispatch(Isa::best(), Rotate { row, cos, sin });
    }

    /// Rotates rows of x into those of y, each at its position, or back if `direction` is -1.
    pub fn rotate(&self, x: &[f32], y: Slots<'_>, positions: &[u32], direction: f32) {
        let width = x.len() / positions.len().max(1);
        let whole = x.len() == width * positions.len() && width.is_multiple_of(self.head_dim());
        assert!(whole && y.len() == x.len(), "rows of heads of {} elements", self.head_dim());
        if x.is_empty() {
            return;
        }
        dispatch(Isa::best(), RotateRows { table: self, x, y, width, positions, direction });
    }
}

struct RotateRows<'a> {
    table: &'a RopeTable,
    x: &'a [f32],
    y: Slots<'a>,
    width: usize,
    positions: &'a [u32],
    direction: f32,
}

impl Kernel for RotateRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.x.chunks_exact(self.width).zip(self.y.rows(self.width));
        for ((x, mut y), &position) in rows.zip(self.positions) {
            let (cos, sin) = self.table.at(position as usize);
            let half = cos.len();
            let mut halves = y.rows(half);
            for head in x.chunks_exact(2 * half) {
                let (Some(mut first), Some(mut second)) = (halves.next(), halves.next()) else { break };
                for i in (0..half).step_by(LANES) {
                    let (a, b) = turn(s, head.split_at(half), (cos, sin), i, self.direction);
                    first.put(s, a, i);
                    second.put(s, b, i);
                }
            }
        }
    }
}

struct Rotate<'a> {
    row: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.cos.len();
        for head in self.row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in (0..half).step_by(LANES) {
                let (a, b) = turn(s, (first, second), (self.cos, self.sin), i, 1.0);
                s.put(a, first, i);
                s.put(b, second, i);
            }
        }
    }
}

/// Up to 16 elements of both halves of a head, turned.
#[inline(always)]
fn turn<S: Simd>(
    s: S,
    (first, second): (&[f32], &[f32]),
    (cos, sin): (&[f32], &[f32]),
    i: usize,
    direction: f32,
) -> (S::V, S::V) {
    let (a, b) = (s.get(first, i), s.get(second, i));
    let (cos, sin) = (s.get(cos, i), s.mul(s.get(sin, i), s.splat(direction)));
    (s.fma(a, cos, s.sub(s.splat(0.0), s.mul(b, sin))), s.fma(b, cos, s.mul(a, sin)))
}
