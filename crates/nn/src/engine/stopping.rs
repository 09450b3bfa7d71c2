//! When a completion ends: the [`Stops`] as tables, and the last bytes, in which a stop string may
//! have begun.
//!
//! If several reasons hold at once, the order is: end of sequence, stop string, boundary, then the
//! limits. A token is never cut: the token that completes a stop string stays whole.

use anyhow::{Result, ensure};

use crate::domain::{FinishReason, Request, Stops};

const EOS: u8 = 1;
const BOUNDARY: u8 = 2;

/// [`Stops`], checked and indexed by token id.
#[derive(Debug)]
pub(super) struct StopTable<'a> {
    /// Flags of each token of the vocabulary.
    flags: Vec<u8>,
    strings: &'a [Vec<u8>],
    token_bytes: &'a [Vec<u8>],
    /// Most bytes before a token that can belong to a stop string that ends in it.
    tail_max: usize,
}

impl<'a> StopTable<'a> {
    /// For a policy of `vocab_size` tokens. Ids outside of the vocabulary are ignored.
    ///
    /// # Errors
    /// An empty stop string, or stop strings without the bytes of all tokens.
    pub(super) fn new(stops: &'a Stops, vocab_size: usize) -> Result<Self> {
        let mut flags = vec![0; vocab_size];
        for (ids, flag) in [(&stops.eos_ids, EOS), (&stops.boundary_ids, BOUNDARY)] {
            for &id in ids {
                if let Some(flags) = flags.get_mut(id as usize) {
                    *flags |= flag;
                }
            }
        }
        ensure!(
            stops.strings.iter().all(|s| !s.is_empty()),
            "a stop string is empty; it would stop everything"
        );
        let known = stops.token_bytes.len();
        ensure!(
            stops.strings.is_empty() || known >= vocab_size,
            "stop strings need the bytes of all {vocab_size} tokens; {known} were given"
        );
        let tail_max = stops.strings.iter().map(|s| s.len() - 1).max().unwrap_or(0);
        Ok(Self { flags, strings: &stops.strings, token_bytes: &stops.token_bytes, tail_max })
    }

    /// Whether the token closes a thought by itself.
    pub(super) fn is_boundary(&self, id: u32) -> bool {
        self.flags[id as usize] & (BOUNDARY | EOS) != 0
    }

    /// Why the completion ends with token `id`, if it does. `id` is its `sampled`-th token, counted
    /// from 1. `tail` belongs to the completion and begins empty.
    pub(super) fn finish(
        &self,
        request: &Request,
        id: u32,
        sampled: usize,
        context_max: usize,
        tail: &mut Vec<u8>,
    ) -> Option<FinishReason> {
        let flags = self.flags[id as usize];
        if flags & EOS != 0 {
            Some(FinishReason::Eos)
        } else if self.completes_a_string(id, tail) {
            Some(FinishReason::StopString)
        } else if flags & BOUNDARY != 0 && request.stop_at_boundary {
            Some(FinishReason::Boundary)
        } else if sampled >= request.tokens_max {
            Some(FinishReason::TokensMax)
        } else if request.context_ids.len() + sampled >= context_max {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }

    fn completes_a_string(&self, id: u32, tail: &mut Vec<u8>) -> bool {
        if self.strings.is_empty() {
            return false;
        }
        tail.extend_from_slice(&self.token_bytes[id as usize]);
        let found = self.strings.iter().any(|s| tail.windows(s.len()).any(|window| window == s.as_slice()));
        tail.drain(..tail.len().saturating_sub(self.tail_max));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use autodidact_testing::assert_refused;

    use super::*;
    use crate::domain::{Address, Purpose, Sampling};

    fn request(tokens_max: usize, stop_at_boundary: bool) -> Request {
        let address = Address::new(0, Purpose::Rollout, 0, "t", &[]);
        Request {
            context_ids: vec![1; 10],
            address,
            sampling: Sampling::GREEDY,
            tokens_max,
            stop_at_boundary,
        }
    }

    fn stops() -> Stops {
        let bytes: Vec<Vec<u8>> = ["", "<s>", "</s>", "\n", "a", "ab", "bc", "é"].map(|s| s.into()).into();
        Stops {
            eos_ids: vec![2, 900],
            boundary_ids: vec![3],
            strings: vec![b"abc".to_vec(), vec![0xa9, b'a']],
            token_bytes: Arc::new(bytes),
        }
    }

    /// The reason and the number of tokens after which `ids` end.
    fn run(ids: &[u32], request: &Request, context_max: usize) -> Option<(FinishReason, usize)> {
        let stops = stops();
        let table = StopTable::new(&stops, 8).unwrap();
        let mut tail = Vec::new();
        ids.iter().enumerate().find_map(|(i, &id)| {
            table.finish(request, id, i + 1, context_max, &mut tail).map(|reason| (reason, i + 1))
        })
    }

    #[test]
    fn strings_are_found_across_tokens_and_characters() {
        let free = request(100, false);
        assert_eq!(run(&[4, 4, 6, 4], &free, 999), Some((FinishReason::StopString, 3)));
        assert_eq!(run(&[5, 4, 5, 5], &free, 999), None);
        assert_eq!(run(&[7, 5], &free, 999), Some((FinishReason::StopString, 2)));
    }

    #[test]
    fn reasons_have_an_order() {
        assert_eq!(run(&[4, 2], &request(2, true), 12), Some((FinishReason::Eos, 2)));
        assert_eq!(run(&[4, 3], &request(2, true), 12), Some((FinishReason::Boundary, 2)));
        assert_eq!(run(&[4, 3], &request(2, false), 12), Some((FinishReason::TokensMax, 2)));
        assert_eq!(run(&[4, 3], &request(9, false), 12), Some((FinishReason::ContextFull, 2)));
    }

    #[test]
    fn refuses_what_it_cannot_match() {
        let empty = Stops { strings: vec![Vec::new()], ..stops() };
        assert_refused(StopTable::new(&empty, 8), "a stop string is empty");
        assert!(StopTable::new(&stops(), 9).unwrap_err().to_string().contains("9 tokens; 8"));
    }
}
