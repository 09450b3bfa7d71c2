//! Memory that a kernel is the first to write: zeros there would be written for nothing.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::simd::{LANES, Simd};

/// Elements to be written, whatever they hold.
pub struct Slots<'a>(&'a mut [MaybeUninit<f32>]);

/// A vector of `count` elements.
///
/// # Safety
/// `write` writes every one of them.
pub unsafe fn vector(count: usize, write: impl FnOnce(Slots<'_>)) -> Vec<f32> {
    // SAFETY: as the caller promises.
    let [elements] = unsafe { vectors([count], |[slots]| write(slots)) };
    elements
}

/// Vectors of the given lengths, written together.
///
/// # Safety
/// As for [`vector`], of each.
pub unsafe fn vectors<const N: usize>(
    counts: [usize; N],
    write: impl FnOnce([Slots<'_>; N]),
) -> [Vec<f32>; N] {
    let mut all = counts.map(Vec::with_capacity);
    let mut rest = all.iter_mut().zip(counts);
    write(std::array::from_fn(|_| {
        let (elements, count) = rest.next().expect("as many vectors as counts");
        Slots(&mut elements.spare_capacity_mut()[..count])
    }));
    for (elements, count) in all.iter_mut().zip(counts) {
        // SAFETY: as the caller promises.
        unsafe { elements.set_len(count) };
    }
    all
}

impl<'a> From<&'a mut [f32]> for Slots<'a> {
    fn from(elements: &'a mut [f32]) -> Self {
        // SAFETY: the layout is the same, and nothing but numbers can be written through slots.
        Self(unsafe { &mut *(std::ptr::from_mut(elements) as *mut [MaybeUninit<f32>]) })
    }
}

impl<'a> Slots<'a> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes at `at`, at most 16 elements.
    #[inline(always)]
    pub fn put<S: Simd>(&mut self, s: S, v: S::V, at: usize) {
        let rest = &mut self.0[at..];
        let to = rest.as_mut_ptr().cast();
        if rest.len() >= LANES {
            // SAFETY: there are as many elements.
            unsafe { s.put_at(v, to) };
        } else {
            // SAFETY: as above.
            unsafe { s.write(v, to, rest.len()) };
        }
    }

    /// Row after row of `d` elements.
    #[inline(always)]
    pub fn rows(&mut self, d: usize) -> impl Iterator<Item = Slots<'_>> {
        self.0.chunks_exact_mut(d).map(Slots)
    }

    /// Pieces of `count` elements, for threads.
    pub fn pieces(self, count: usize) -> impl IndexedParallelIterator<Item = Slots<'a>> {
        self.0.par_chunks_mut(count).map(Slots)
    }

    /// Where the elements begin.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}
