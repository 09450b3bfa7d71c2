//! Memory that starts on a cache line, so that no 16-lane load of whole rows crosses one.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::simd::LANES;

/// 16 elements on one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// The elements of lines.
pub(crate) fn numbers(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 f32 without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// Numbers that start on a 64-byte boundary, zero when made: f32, or others whose every bit pattern is one.
#[derive(Clone, Debug)]
pub struct AlignedVec<N = f32> {
    lines: Vec<Line>,
    length: usize,
    numbers: PhantomData<N>,
}

/// What an [`AlignedVec`] holds.
///
/// # Safety
/// Any bits are one, it divides a cache line, and zero is made of zeros.
pub unsafe trait Plain: Copy {}

// SAFETY: any bits are one.
unsafe impl Plain for f32 {}
// SAFETY: any bits are one.
unsafe impl Plain for u16 {}

impl<N: Plain> Default for AlignedVec<N> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<N: Plain> AlignedVec<N> {
    /// `length` zeros.
    pub fn new(length: usize) -> Self {
        let lines = length.div_ceil(size_of::<Line>() / size_of::<N>());
        Self { lines: vec![Line([0.0; LANES]); lines], length, numbers: PhantomData }
    }
}

impl<N: Plain> Deref for AlignedVec<N> {
    type Target = [N];

    fn deref(&self) -> &[N] {
        // SAFETY: there is memory for as many, written as f32, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<N: Plain> DerefMut for AlignedVec<N> {
    fn deref_mut(&mut self) -> &mut [N] {
        // SAFETY: as for `deref`; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
