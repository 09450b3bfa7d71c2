//! Drafts by prompt lookup (Saxena 2023): what followed the last tokens where they stood before.
//!
//! One pass reads a draft beside the last token. Every token is then drawn from its own row with its own word of
//! randomness, as it would have been without, and the first that isn't the draft's makes the rest of the rows worthless. So
//! drafts can't be seen in what is drawn, at any temperature (unlike in Leviathan et al. 2023, nothing is drawn anew). They
//! cost rows, and pay while a pass has so few that it waits for weights.

/// Tokens of a draft at most.
const LONGEST: usize = 16;
/// Tokens that have to agree.
const AGREED: usize = 2;

/// Rows of a pass over one token of each of `sequences` that each may spend on a draft, where `rows` cost as much as one.
pub fn room(rows: usize, sequences: usize) -> usize {
    (rows / sequences.max(1)).saturating_sub(1)
}

/// How long a sequence's drafts may be, by what became of those before.
#[derive(Debug)]
pub struct Trust(usize);

impl Trust {
    /// Before the first draft.
    pub fn new() -> Self {
        Self(2)
    }

    /// Tokens of the next draft, at most `room`.
    pub fn most(&self, room: usize) -> usize {
        self.0.min(room)
    }

    /// Learns how many tokens of a draft came true: all of them earn one twice as long, none one half as long.
    pub fn learn(&mut self, drafted: usize, came_true: usize) {
        match came_true {
            _ if drafted == 0 => {}
            0 => self.0 = (self.0 / 2).max(1),
            n if n == drafted => self.0 = (self.0 * 2).min(LONGEST),
            _ => {}
        }
    }
}

/// Appends at most `most` tokens to `to`: those that followed the last place in `context`, then `drawn`, where the last
/// tokens of all stood before.
pub fn draft(context: &[u32], drawn: &[u32], most: usize, to: &mut Vec<u32>) {
    let len = context.len() + drawn.len();
    let at = |i: usize| if i < context.len() { context[i] } else { drawn[i - context.len()] };
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

    fn drafted(context: &[u32], drawn: &[u32], most: usize) -> Vec<u32> {
        let mut to = Vec::new();
        draft(context, drawn, most, &mut to);
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
    fn trust_is_earned() {
        let mut trust = Trust::new();
        trust.learn(0, 0);
        assert_eq!([trust.most(9), trust.most(1)], [2, 1]);
        for _ in 0..9 {
            trust.learn(2, 2);
        }
        assert_eq!(trust.most(99), LONGEST);
        trust.learn(5, 3);
        assert_eq!(trust.most(99), LONGEST);
        for _ in 0..9 {
            trust.learn(5, 0);
        }
        assert_eq!(trust.most(99), 1);
    }

    #[test]
    fn few_sequences_have_room() {
        assert_eq!([1, 2, 3, 4, 5, 100].map(|sequences| room(8, sequences)), [7, 3, 1, 1, 0, 0]);
        assert_eq!(room(0, 1), 0);
    }
}
