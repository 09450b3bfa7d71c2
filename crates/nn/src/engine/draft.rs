//! Drafts by prompt lookup (Saxena 2023): the tokens that followed the last tokens where they stood
//! before.
//!
//! One pass reads the last token and a draft of the tokens after it. Every token is then sampled
//! from its own row with its own word of randomness, as it would be without a draft. The first
//! sampled token that differs from the draft makes the later rows useless. So drafts never change
//! what is sampled, at any temperature (unlike in Leviathan et al. 2023, nothing is resampled).
//! Drafts cost rows. They pay while a pass has so few rows that it waits for weights.

/// Most tokens of a draft.
const LONGEST: usize = 16;
/// Number of last tokens that must agree.
const AGREED: usize = 2;

/// Drafted tokens for each of `sequences` in one pass, if `rows` rows cost as much as one.
pub(super) fn room(rows: usize, sequences: usize) -> usize {
    (rows / sequences.max(1)).saturating_sub(1)
}

/// How long a sequence's drafts may be, learned from how many tokens of earlier drafts were
/// accepted.
#[derive(Debug)]
pub(super) struct AcceptanceRate(usize);

impl AcceptanceRate {
    /// Before the first draft.
    pub(super) fn new() -> Self {
        Self(2)
    }

    /// Tokens of the next draft, at most `room`.
    pub(super) fn most(&self, room: usize) -> usize {
        self.0.min(room)
    }

    /// Learns how many drafted tokens were accepted. All: the next draft is twice as long. None: it
    /// is half as long.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize) {
        match accepted {
            _ if drafted == 0 => {}
            0 => self.0 = (self.0 / 2).max(1),
            n if n == drafted => self.0 = (self.0 * 2).min(LONGEST),
            _ => {}
        }
    }
}

/// Appends at most `most` tokens to `to`. The text is `context`, then `sampled`. The tokens are
/// those that followed the text's last tokens at the last earlier place where they stood.
pub(super) fn draft(context: &[u32], sampled: &[u32], most: usize, to: &mut Vec<u32>) {
    let len = context.len() + sampled.len();
    let at = |i: usize| if i < context.len() { context[i] } else { sampled[i - context.len()] };
    if most == 0 || len <= AGREED {
        return;
    }
    let agrees = |end: &usize| (1..=AGREED).all(|back| at(end - back) == at(len - back));
    if let Some(end) = (AGREED..len).rev().find(agrees) {
        to.extend((end..len.min(end + most)).map(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(context: &[u32], sampled: &[u32], most: usize) -> Vec<u32> {
        let mut to = Vec::new();
        draft(context, sampled, most, &mut to);
        to
    }

    #[test]
    fn what_followed_before_is_drafted() {
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 9], &[2, 3], 2), [4, 5]);
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 9], &[2, 3], 9), [4, 5, 9, 2, 3]);
        assert_eq!(drafted(&[2, 3, 4, 2, 3, 5, 2], &[3], 1), [5], "the last place counts");
        assert!(drafted(&[1, 2], &[3, 4], 5).is_empty(), "nothing stood before");
        assert_eq!(drafted(&[7, 7], &[7], 3), [7], "a place may overlap the end");
        assert!(drafted(&[1], &[], 3).is_empty());
        assert!(drafted(&[1, 2, 1, 2], &[], 0).is_empty());
    }

    #[test]
    fn accepted_drafts_grow_and_refused_ones_shrink() {
        let mut rate = AcceptanceRate::new();
        rate.learn(0, 0);
        assert_eq!([rate.most(9), rate.most(1)], [2, 1]);
        for _ in 0..9 {
            rate.learn(2, 2);
        }
        assert_eq!(rate.most(99), LONGEST);
        rate.learn(5, 3);
        assert_eq!(rate.most(99), LONGEST);
        for _ in 0..9 {
            rate.learn(5, 0);
        }
        assert_eq!(rate.most(99), 1);
    }

    #[test]
    fn few_sequences_have_room() {
        assert_eq!([1, 2, 3, 4, 5, 100].map(|sequences| room(8, sequences)), [7, 3, 1, 1, 0, 0]);
        assert_eq!(room(0, 1), 0);
    }
}
