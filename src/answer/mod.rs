//! Answers: what a completion claims, and when a claim equals the gold answer.
//!
//! Pure functions over text; knows nothing of tokens, policies, scores or the store. An answer is
//! normalised by the task's kind when it is read, so equal answers are equal strings, which is what
//! a vote counts:
//!
//! - relations: the last line is `A: n`, nothing else counts as an answer;
//! - countdown: the expression after `A:` (or on the last line), commutative operands in rising
//!   order; it is right when it uses exactly the given numbers and evaluates to the target;
//! - text: what follows the last `A:`, `####`, `\boxed{}` or "answer is", else the last line;
//!   numbers are compared as numbers, everything else without case, surrounding punctuation and
//!   repeated spaces;
//! - number, choice, math, exact and game24 (tasks from files): what is claimed last, read as what
//!   it must be: a number by value, a letter, a formula in one spelling, words, an expression that
//!   is worked out.
//!
//! Left out: algebra on formulas and conversion of units. Code is no answer that can be compared:
//! it has to be run.

mod choice;
mod claim;
pub(crate) mod countdown;
mod exact;
mod math;
mod number;
pub(crate) mod relations;
mod text;

use crate::domain::{Task, TaskKind};
use crate::profile::{self, Operator};

/// Most bytes of a normalised answer: a longer text is no answer.
pub const ANSWER_BYTES_MAX: usize = 512;

/// The answer that a completion claims, normalised by `kind`; `None` if none can be read.
///
/// Whether the completion was cut off in the middle of the answer is not seen here: its finish
/// reason shows that.
pub fn read(kind: TaskKind, completion: &str) -> Option<String> {
    let _span = profile::span(Operator::Grading);
    let answer = match kind {
        TaskKind::Relations => relations::answer(completion)?.to_string(),
        TaskKind::Countdown => countdown::answer(completion)?,
        TaskKind::Text => text::answer(completion)?,
        TaskKind::Number => number::answer(completion)?,
        TaskKind::Choice => choice::answer(completion)?,
        TaskKind::Math => math::answer(completion)?,
        TaskKind::Exact => exact::answer(completion)?,
        TaskKind::Game24 => countdown::claimed(completion)?,
        TaskKind::Code => return None,
    };
    (answer.len() <= ANSWER_BYTES_MAX).then_some(answer)
}

/// Whether a normalised answer equals the task's gold one; `None` if the task has nothing to
/// compare with.
///
/// A missing answer is wrong: the attempt certainly didn't give the gold answer.
pub fn is_right(task: &Task, answer: Option<&str>) -> Option<bool> {
    let _span = profile::span(Operator::Grading);
    let normalised = match task.kind {
        // Many expressions are right, so the question is what checks them, not the one gold
        // expression.
        TaskKind::Countdown | TaskKind::Game24 => return countdown::is_right(&task.question, answer),
        TaskKind::Code => return None,
        TaskKind::Relations => relations::normalised,
        TaskKind::Text => text::normalised_gold,
        TaskKind::Number => number::normalised,
        TaskKind::Choice => choice::normalised,
        TaskKind::Math => math::normalised,
        TaskKind::Exact => exact::normalised,
    };
    let gold = task.answer.as_deref().and_then(normalised)?;
    Some(answer == Some(gold.as_str()))
}

/// The last line that isn't blank, trimmed.
fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// A decimal integer: digits with at most a leading minus, nothing else.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Split;

    fn task(kind: TaskKind, question: &str, answer: Option<&str>) -> Task {
        Task {
            id: "t/1".into(),
            kind,
            split: Split::Gate,
            level: 1,
            question: question.into(),
            answer: answer.map(str::to_owned),
            solution: None,
        }
    }

    #[test]
    fn a_missing_answer_is_wrong_and_a_missing_gold_is_no_verdict() {
        for kind in [TaskKind::Relations, TaskKind::Text, TaskKind::Number] {
            assert_eq!(is_right(&task(kind, "?", Some("8")), Some("8")), Some(true));
            assert_eq!(is_right(&task(kind, "?", Some(" 08 ")), Some("8")), Some(true));
            assert_eq!(is_right(&task(kind, "?", Some("8")), Some("18")), Some(false));
            assert_eq!(is_right(&task(kind, "?", Some("8")), None), Some(false));
            assert_eq!(is_right(&task(kind, "?", None), Some("8")), None);
        }
    }

    #[test]
    fn code_has_no_answer_and_no_verdict() {
        assert_eq!(read(TaskKind::Code, "return 1"), None);
        assert_eq!(is_right(&task(TaskKind::Code, "?", Some("check(f)")), None), None);
    }

    #[test]
    fn an_endless_answer_is_none() {
        assert_eq!(read(TaskKind::Text, &"x".repeat(ANSWER_BYTES_MAX + 1)), None);
    }

    /// Text near the formats, so that the interesting branches are reached.
    fn near_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("A:".to_string()),
            Just("A: 12".to_string()),
            Just("#### ".to_string()),
            Just("\\boxed{".to_string()),
            Just("\\frac{1}{".to_string()),
            Just("}".to_string()),
            Just("Paul plus 3 is Ana".to_string()),
            Just(" 99999999999999999999 ".to_string()),
            Just("(".to_string()),
            Just("3*5/0".to_string()),
            Just("\n".to_string()),
            Just("The answer is ".to_string()),
            Just("\\text{".to_string()),
            Just("\\sqrt".to_string()),
            Just("-$1,234.5".to_string()),
            Just("(B)".to_string()),
            Just("**".to_string()),
            Just("= ".to_string()),
            ".{0,6}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in near_text(), question in near_text(), wild in any::<String>()) {
            for &kind in TaskKind::ALL {
                for text in [&text, &wild] {
                    let read = super::read(kind, text);
                    is_right(&task(kind, &question, Some(text)), read.as_deref());
                }
            }
        }

        #[test]
        fn reading_an_answer_again_changes_nothing(text in near_text()) {
            for kind in [TaskKind::Relations, TaskKind::Countdown] {
                if let Some(read) = super::read(kind, &text) {
                    prop_assert_eq!(super::read(kind, &format!("A: {read}")), Some(read));
                }
            }
            for kind in [TaskKind::Number, TaskKind::Choice, TaskKind::Game24] {
                if let Some(read) = super::read(kind, &text) {
                    prop_assert_eq!(super::read(kind, &format!("The answer is {read}")), Some(read));
                }
            }
            if let Some(read) = text::answer(&text) {
                prop_assert_eq!(text::normalised(&read), Some(read));
            }
        }
    }
}
