//! Packing: a step's groups, cut into chunks and laid end to end without padding.
//!
//! Chunk borders depend only on the groups' lengths, never on threads or machine, because gradients are
//! summed chunk by chunk and f32 addition is not associative.

use std::ops::Range;
use std::sync::Arc;

use super::Example;

/// Tokens a chunk aims for by default: enough rows for the matrix kernels to amortise the weights' traffic, few
/// enough for a chunk's activations to stay near the core that made them.
pub const CHUNK_TOKENS: usize = 1024;

/// Several examples laid end to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    /// Input tokens of all sequences, (T).
    pub ids: Vec<u32>,
    /// Where each sequence starts within `ids`, and their end: `sequences + 1` offsets.
    pub starts: Arc<Vec<usize>>,
    /// Rows whose hidden state predicts a target, (N).
    pub rows: Vec<u32>,
    /// The token that each of `rows` should predict, (N).
    pub targets: Arc<Vec<u32>>,
}

/// Cuts consecutive groups of the given lengths (in tokens) into chunks of about `tokens`.
///
/// The whole is divided into equal windows of at most that many tokens, and a group belongs to the window
/// that holds its middle: equal work is what lets threads finish together.
pub fn chunks(lengths: &[usize], tokens: usize) -> Vec<Range<usize>> {
    let total = lengths.iter().sum::<usize>().max(1);
    let windows = total.div_ceil(tokens);
    let mut chunks: Vec<Range<usize>> = Vec::with_capacity(windows);
    let (mut passed, mut current) = (0, None);
    for (i, length) in lengths.iter().enumerate() {
        let window = (2 * passed + length) * windows / (2 * total);
        match chunks.last_mut() {
            Some(chunk) if current == Some(window) => chunk.end = i + 1,
            _ => chunks.push(i..i + 1),
        }
        (passed, current) = (passed + length, Some(window));
    }
    chunks
}

/// Lays `examples` end to end. Of each, only what the last target needs is read: what follows predicts
/// nothing that counts. Examples without a target contribute nothing.
pub fn pack(examples: &[&Example]) -> Pack {
    let mut pack =
        Pack { ids: Vec::new(), starts: Arc::default(), rows: Vec::new(), targets: Arc::default() };
    let (mut starts, mut targets) = (vec![0], Vec::new());
    for example in examples {
        let Some(last) = example.trains.iter().rposition(|&t| t) else { continue };
        let offset = pack.ids.len();
        pack.ids.extend_from_slice(&example.ids[..last]);
        starts.push(pack.ids.len());
        for position in (1..=last).filter(|&p| example.trains[p]) {
            pack.rows.push((offset + position - 1) as u32);
            targets.push(example.ids[position]);
        }
    }
    (pack.starts, pack.targets) = (Arc::new(starts), Arc::new(targets));
    pack
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::train::example_from_solution;

    #[test]
    fn rows_predict_their_targets_and_nothing_is_padded() {
        let a = example_from_solution(&[1, 5, 6], &[7, 2], "a");
        let mut b = example_from_solution(&[1, 8], &[9, 10, 11, 2], "b");
        b.trains[3] = false;
        let mut untrained = a.clone();
        untrained.trains.fill(false);
        let pack = pack(&[&a, &untrained, &b]);
        assert_eq!(pack.ids, [1, 5, 6, 7, 1, 8, 9, 10, 11]);
        assert_eq!(*pack.starts, [0, 4, 9]);
        assert_eq!(pack.rows, [2, 3, 5, 7, 8]);
        assert_eq!(*pack.targets, [7, 2, 9, 11, 2]);
    }

    #[test]
    fn an_example_longer_than_a_chunk_stands_alone() {
        assert_eq!(chunks(&[10 * CHUNK_TOKENS, 5, 5], CHUNK_TOKENS), [0..1, 1..3]);
        assert_eq!(chunks(&[5, 5], CHUNK_TOKENS), vec![Range { start: 0, end: 2 }]);
        assert!(chunks(&[], CHUNK_TOKENS).is_empty());
    }

    proptest! {
        #[test]
        fn chunks_cover_every_example_once_in_order(lengths in prop::collection::vec(1usize..900, 1..60)) {
            let chunks = chunks(&lengths, CHUNK_TOKENS);
            let flat: Vec<_> = chunks.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..lengths.len()).collect::<Vec<_>>());
            let longest = lengths.iter().copied().max().unwrap_or(0);
            for chunk in chunks {
                prop_assert!(lengths[chunk].iter().sum::<usize>() <= CHUNK_TOKENS + longest);
            }
        }
    }
}
