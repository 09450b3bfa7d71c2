//! Attention over packed sequences, for training; the backward pass recomputes the weights (Dao et al. 2022 keep none
//! either).
//!
//! Contract: the forward pass of a row has the bits of [`attend_row_on`](super::attention::attend_row_on), because products
//! are single chains and unseen keys weigh exactly nothing. Gradients of keys and values are sums in the order of query
//! heads, then queries. A sequence's results depend only on that sequence.

mod rows;
mod tiles;
mod window;

use std::ops::Range;

use rayon::prelude::*;

use super::attention::AttentionShape;
use super::gemm::Output;
use super::simd::Isa;
use super::slots;
use autodidact_domain::profile::{self, Operator, Work};

/// One sequence and one key/value head with its group of query heads.
struct Unit<'a> {
    isa: Isa,
    start: usize,
    count: usize,
    kv_head: usize,
    shape: &'a AttentionShape,
}

/// Causal attention within each sequence: q and the result (N, heads * head_dim), k and v (N, kv_heads *
/// head_dim); sequence `s` is rows `starts[s]..starts[s + 1]`.
pub fn attend(isa: Isa, [q, k, v]: [&[f32]; 3], shape: &AttentionShape, starts: &[usize]) -> Vec<f32> {
    let units = units(isa, shape, starts, [q, k, v]);
    profile::work(Operator::AttentionForward, || work(2, shape, starts));
    // SAFETY: every row is one of a sequence, and all its heads are some unit's.
    unsafe {
        slots::vector(q.len(), |mut out| {
            let out = Output::from_start(out.as_mut_ptr());
            units.par_iter().for_each(|unit| {
                let _span = profile::span(Operator::AttentionForward);
                unit.forward(q, k, v, out);
            });
        })
    }
}

/// Gradients of [`attend`] by q, k and v, given `dout` like its result.
pub fn attend_backward(
    isa: Isa,
    [q, k, v, dout]: [&[f32]; 4],
    shape: &AttentionShape,
    starts: &[usize],
) -> [Vec<f32>; 3] {
    let units = units(isa, shape, starts, [q, k, v]);
    assert_eq!(dout.len(), q.len(), "as many gradients as results");
    profile::work(Operator::AttentionBackward, || work(5, shape, starts));
    // SAFETY: as in `attend`; a row's key and value head belong to one unit, too.
    unsafe {
        slots::vectors([q.len(), k.len(), v.len()], |gradients| {
            let gradients = gradients.map(|mut slots| Output::from_start(slots.as_mut_ptr()));
            units.par_iter().for_each(|unit| {
                let _span = profile::span(Operator::AttentionBackward);
                unit.backward([q, k, v, dout], gradients);
            });
        })
    }
}

/// The work of `products` products over the keys that every row of every sequence sees.
fn work(products: usize, shape: &AttentionShape, starts: &[usize]) -> Work {
    let seen = |count: usize| (0..count).map(|row| row + 1 - shape.first_seen(row)).sum::<usize>();
    let seen = starts.windows(2).map(|s| seen(s[1] - s[0])).sum();
    Work::attention(products, [shape.heads, shape.kv_heads, shape.head_dim], seen, size_of::<f32>())
}

/// One for each sequence and key/value head: together they have every row and head of q.
fn units<'a>(isa: Isa, shape: &'a AttentionShape, starts: &[usize], [q, k, v]: [&[f32]; 3]) -> Vec<Unit<'a>> {
    let width = shape.heads * shape.head_dim;
    assert!(
        shape.heads.is_multiple_of(shape.kv_heads) && q.len().is_multiple_of(width),
        "{} elements of rows of {shape:?}",
        q.len()
    );
    let rows = q.len() / width;
    let kept = rows * shape.kv_heads * shape.head_dim;
    assert!(k.len() == kept && v.len() == kept, "keys and values of {rows} rows");
    assert!(
        starts.first() == Some(&0) && starts.last() == Some(&rows) && starts.is_sorted(),
        "sequences cut {rows} rows at {starts:?}"
    );
    let sequences = starts.windows(2).filter(|s| s[0] < s[1]);
    let heads = |s: &[usize]| {
        let (start, count) = (s[0], s[1] - s[0]);
        (0..shape.kv_heads).map(move |kv_head| Unit { isa, start, count, kv_head, shape })
    };
    sequences.flat_map(heads).collect()
}

impl Unit<'_> {
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    fn query_heads(&self) -> Range<usize> {
        self.kv_head * self.group()..(self.kv_head + 1) * self.group()
    }

    /// Writes this unit's heads and rows of (N, heads, d).
    ///
    /// # Safety
    /// `out` has them, and nobody else reads or writes them meanwhile.
    unsafe fn forward(&self, q: &[f32], k: &[f32], v: &[f32], out: Output) {
        // SAFETY: as the caller promises.
        unsafe {
            match window::fits(self.shape) {
                true => self.forward_in_window(q, k, v, out),
                false => self.forward_by_tiles(q, k, v, out),
            }
        }
    }

    /// Writes this unit's rows and heads of the gradients by q, k and v. With P the weights and O the output:
    /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P (dP - Σ P dP), dQ = dS K, dK = dSᵀ Q.
    ///
    /// # Safety
    /// As for [`Unit::forward`], of each gradient.
    unsafe fn backward(&self, inputs: [&[f32]; 4], gradients: [Output; 3]) {
        // SAFETY: as the caller promises.
        unsafe {
            match window::fits(self.shape) {
                true => self.backward_in_window(inputs, gradients),
                false => self.backward_by_tiles(inputs, gradients),
            }
        }
    }
}
