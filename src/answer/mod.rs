//! Answers: what a completion claims, and when a claim equals the gold answer.
//!
//! Pure functions over text; knows nothing of tokens, policies, scores or the store. A completion is
//! read in three steps: where it claims something, which value of the task's kind that is, and the
//! one canonical text of this value. So equal answers are equal strings, which is what a vote
//! counts. What can't be decided is no answer, with the reason why.
//!
//! - relations: the last line is `A: n`, nothing else counts as an answer;
//! - countdown: the expression after `A:` (or on the last line), commutative operands in rising
//!   order; it is right when it uses exactly the given numbers and evaluates to the target;
//! - text: a number by its value, everything else without case, surrounding punctuation and
//!   repeated blanks;
//! - number, choice, math, exact and game24 (tasks from files): a number by its value, a letter, a
//!   formula, words, an expression that is worked out.
//!
//! All but the two built-in kinds read the last claim that names a value, outside of thinking
//! blocks; `docs/tasks.md` has the rules. Left out: conversion of units. Code is no answer that can
//! be compared: it has to be run.

mod choice;
mod claim;
mod conclusion;
pub(crate) mod countdown;
mod dress;
mod exact;
mod formula;
mod math;
mod number;
mod numeral;
pub(crate) mod relations;
#[cfg(test)]
mod tests;
mod text;
mod thinking;
mod tokens;

use std::fmt;

use crate::domain::{Task, TaskKind};
use crate::profile::{self, Operator};

/// Most bytes of a normalised answer: a longer text is no answer.
pub const ANSWER_BYTES_MAX: usize = 512;

/// Why no answer could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is claimed.
    NoClaim,
    /// A claim names nothing of the task's kind.
    NoneOfKind,
    /// A thinking block is not closed.
    Unclosed,
    /// The claim names several values; they are listed where they are known.
    Several(Vec<String>),
    /// The claim only denies something.
    Denied,
    /// The claimed value can't be worked out as a whole.
    NotWhole,
    /// The completion states that there is no answer.
    Undecided,
    /// The letter is beyond the options.
    Beyond(String),
    /// The answer has more than [`ANSWER_BYTES_MAX`] bytes.
    TooLong,
    /// Such tasks have no answer that can be compared.
    Unsupported,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClaim => f.write_str("no claim was found"),
            Self::NoneOfKind => f.write_str("the claim names no value of this kind"),
            Self::Unclosed => f.write_str("the thinking block is not closed"),
            Self::Several(values) if values.is_empty() => f.write_str("the claim names several values"),
            Self::Several(values) => write!(f, "the claim names several values: {}", values.join(", ")),
            Self::Denied => f.write_str("the claim only denies a value"),
            Self::NotWhole => f.write_str("the claimed value can't be worked out as a whole"),
            Self::Undecided => f.write_str("the text states that there is no answer"),
            Self::Beyond(letter) => write!(f, "{letter} is not one of the options"),
            Self::TooLong => write!(f, "the answer has more than {ANSWER_BYTES_MAX} bytes"),
            Self::Unsupported => f.write_str("code is not compared; it has to be run"),
        }
    }
}

/// The answer that a completion claims, normalised by `kind`; `None` if none can be read.
///
/// Whether the completion was cut off in the middle of the answer is not seen here: its finish
/// reason shows that.
pub fn read(kind: TaskKind, completion: &str) -> Option<String> {
    explain(kind, completion).ok()
}

/// As [`read`], with the reason why there is no answer.
///
/// # Errors
/// [`Why`] no answer could be read.
pub fn explain(kind: TaskKind, completion: &str) -> Result<String, Why> {
    let _span = profile::span(Operator::Grading);
    let shown = || thinking::outside(completion).ok_or(Why::Unclosed);
    let answer = match kind {
        TaskKind::Relations => relations::answer(completion).ok_or(Why::NoClaim)?.to_string(),
        TaskKind::Countdown => countdown::answer(completion).ok_or(Why::NoClaim)?,
        TaskKind::Text => text::answer(&shown()?)?,
        TaskKind::Number => number::answer(&shown()?)?,
        TaskKind::Choice => choice::answer(&shown()?)?,
        TaskKind::Math => formula::answer(&shown()?)?,
        TaskKind::Exact => exact::answer(&shown()?)?,
        TaskKind::Game24 => countdown::claimed(&shown()?)?,
        TaskKind::Code => return Err(Why::Unsupported),
    };
    if answer.len() <= ANSWER_BYTES_MAX { Ok(answer) } else { Err(Why::TooLong) }
}

/// The letter of the one option whose text a completion claims word for word; `options` in the
/// order of their letters.
pub fn option_named(completion: &str, options: &[String]) -> Option<String> {
    let claimed = read(TaskKind::Exact, completion)?;
    let mut named =
        ('A'..='Z').zip(options).filter(|(_, option)| exact::normalised(option).as_ref() == Some(&claimed));
    let (letter, _) = named.next()?;
    named.next().is_none().then(|| letter.to_string())
}

/// A gold answer in the form in which [`read`] returns equal answers; `None` if it can't be read as
/// its kind, so that no answer could ever be right.
pub fn gold(kind: TaskKind, gold: &str) -> Option<String> {
    let normalised = match kind {
        TaskKind::Relations => relations::normalised,
        TaskKind::Text => text::normalised_gold,
        TaskKind::Number => number::normalised,
        TaskKind::Choice => choice::normalised,
        TaskKind::Math => formula::normalised,
        TaskKind::Exact => exact::normalised,
        // Many expressions are right, and code is run.
        TaskKind::Countdown | TaskKind::Game24 | TaskKind::Code => return Some(gold.to_owned()),
    };
    normalised(gold)
}

/// Whether a normalised answer equals the task's gold one; `None` if the task has nothing to
/// compare with.
///
/// A missing answer is wrong: the attempt certainly didn't give the gold answer.
pub fn is_right(task: &Task, answer: Option<&str>) -> Option<bool> {
    let _span = profile::span(Operator::Grading);
    match task.kind {
        // The question is what checks the expression, not the one gold expression.
        TaskKind::Countdown | TaskKind::Game24 => return countdown::is_right(&task.question, answer),
        TaskKind::Code => return None,
        _ => {}
    }
    let gold = gold(task.kind, task.answer.as_deref()?)?;
    Some(answer.is_some_and(|answer| are_equal(task.kind, answer, &gold)))
}

/// The numbers and the target of a question such as `Use 4 4 6 8 to make 24.`
pub fn puzzle(question: &str) -> Option<(Vec<i64>, i64)> {
    countdown::numbers_and_target(question)
}

/// Whether two normalised answers are one value.
pub fn are_equal(kind: TaskKind, left: &str, right: &str) -> bool {
    left == right || (kind == TaskKind::Math && math::are_equal(left, right))
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
