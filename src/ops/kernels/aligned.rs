//! Memory that starts on a cache line, so that no 16-lane load of whole rows crosses one.

use std::ops::{Deref, DerefMut};

use super::simd::LANES;

/// 16 elements on one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

/// The elements of lines.
pub(crate) fn numbers(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 f32 without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// f32 elements that start on a 64-byte boundary; zero when made.
#[derive(Clone, Debug, Default)]
pub struct AlignedVec {
    lines: Vec<Line>,
    length: usize,
}

impl AlignedVec {
    /// `length` zeros.
    pub fn new(length: usize) -> Self {
        Self { lines: vec![Line([0.0; LANES]); length.div_ceil(LANES)], length }
    }
}

impl Deref for AlignedVec {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &numbers(&self.lines)[..self.length]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
