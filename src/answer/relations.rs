//! Relation chains: the number on the answer line.

use super::{integer, last_line};

/// The number on the answer line `A: n`, which must be the last.
pub(super) fn answer(completion: &str) -> Option<i64> {
    answer_line(last_line(completion)?)
}

/// A gold answer as [`answer`] would give it.
pub(super) fn normalised(gold: &str) -> Option<String> {
    integer(gold.trim()).map(|n| n.to_string())
}

/// The number of a line `A: n`.
pub(crate) fn answer_line(line: &str) -> Option<i64> {
    integer(line.trim().strip_prefix("A:")?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_last_line_and_complete() {
        assert_eq!(answer("Paul minus 5 is Tina 11\nA: 11"), Some(11));
        assert_eq!(answer("A: 11\n\n"), Some(11));
        assert_eq!(answer("A: -3"), Some(-3));
        for none in ["A: 11\nPaul", "A: ", "A: 1 1", "A: +1", "B: 11", "11", "", "A: 9999999999999999999999"]
        {
            assert_eq!(answer(none), None, "{none}");
        }
    }
}
