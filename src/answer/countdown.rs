//! Countdown: reach a target from given numbers, each used exactly once, with `+ - * /` and
//! brackets.
//!
//! The claimed expression is evaluated exactly, in rational numbers: a claim such as "= 24" proves
//! nothing.

use super::{integer, last_line};
use crate::domain::expression::Expression;

/// The final expression in the notation of [`Expression::ordered`]: `(5 + 1) * 3` and `3*(1+5) =
/// 18` are both `3*(1+5)`.
pub(crate) fn answer(completion: &str) -> Option<String> {
    let line = last_line(completion)?;
    let line = line.strip_prefix("A:").unwrap_or(line);
    let (expression, claim) = line.split_once('=').map_or((line, None), |(e, c)| (e, Some(c)));
    if claim.is_some_and(|claim| integer(claim.trim()).is_none()) {
        return None;
    }
    Some(Expression::parse(expression)?.ordered().to_string())
}

/// The expression that a completion in free words claims, in the same notation: signs may be
/// LaTeX's, and what follows `=` proves nothing.
pub(super) fn claimed(completion: &str) -> Option<String> {
    let text = super::claim::plain(completion);
    let claim = super::claim::claimed(&text).or_else(|| last_line(&text))?;
    // Longer texts are no expression of a game.
    let claim = claim.split('=').next().filter(|claim| claim.len() <= super::ANSWER_BYTES_MAX)?;
    let mut claim = claim.trim_matches(['$', '`', ' ', '.']).to_owned();
    for (from, to) in [
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\\div", "/"),
        ("\\left", ""),
        ("\\right", ""),
        ("\\(", ""),
        ("\\)", ""),
    ] {
        claim = claim.replace(from, to);
    }
    Some(Expression::parse(&claim)?.ordered().to_string())
}

/// Whether the expression uses exactly the question's numbers and reaches its target; `None` if the
/// question names no numbers and target. The target follows "target", "make", "reach" or "get";
/// else it is the last number.
pub(super) fn is_right(question: &str, answer: Option<&str>) -> Option<bool> {
    let (given, target) = numbers_and_target(question)?;
    let Some(expression) = answer.and_then(Expression::parse) else { return Some(false) };
    Some(expression.uses_exactly(&given) && expression.equals(target))
}

/// The numbers of a question, and the target that it asks for.
pub(crate) fn numbers_and_target(question: &str) -> Option<(Vec<i64>, i64)> {
    let words: Vec<&str> = question
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| !word.is_empty())
        .collect();
    let mut numbers: Vec<i64> = Vec::new();
    let mut target_at = None;
    let mut announced = false;
    for word in words {
        match integer(word) {
            Some(number) => {
                if announced && target_at.is_none() {
                    target_at = Some(numbers.len());
                }
                numbers.push(number);
            }
            None => {
                announced |= matches!(word.to_ascii_lowercase().as_str(), "target" | "make" | "reach" | "get")
            }
        }
    }
    let target = numbers.remove(target_at.or(numbers.len().checked_sub(1))?);
    (!numbers.is_empty()).then_some((numbers, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "Use 8 3 8 3 to make 24.";

    #[test]
    fn an_answer_is_checked_exactly() {
        let right = |text: &str| is_right(QUESTION, answer(text).as_deref());
        assert_eq!(right("A: 8 / (3 - 8 / 3)"), Some(true));
        assert_eq!(right("first\nA: 8/(3-8/3) = 24"), Some(true));
        assert_eq!(right("8 ÷ (3 − 8 ÷ 3)"), Some(true));
        // True arithmetic with other numbers, false claims, and a division by zero.
        assert_eq!(right("A: 8 * 3"), Some(false));
        assert_eq!(right("A: 8 * 3 + 3 - 8 = 24"), Some(false));
        assert_eq!(right("A: 8 / (3 - 3) + 8"), Some(false));
        assert_eq!(right("A: 24"), Some(false));
        assert_eq!(right("no idea"), Some(false));
        assert_eq!(is_right("Make something", Some("1")), None);
    }

    #[test]
    fn expressions_are_found_in_free_words() {
        for text in [
            "The answer is (4 + 8) * (6 - 4) = 24.",
            "**Answer:** $(4 + 8) \\times (6 - 4)$",
            "so \\boxed{(4+8) \\cdot (6-4)}",
            "thus\n(6 - 4) × (8 + 4) = 24",
        ] {
            let answer = claimed(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(is_right("Use 4 4 6 8 to make 24.", Some(&answer)), Some(true), "{text}");
        }
        assert_eq!(claimed("The answer is impossible."), None);
        assert_eq!(
            is_right("Use 4 4 6 8 to make 24.", claimed("The answer is 4 * 6 = 24").as_deref()),
            Some(false)
        );
    }

    #[test]
    fn the_target_is_the_announced_number_or_the_last() {
        assert_eq!(numbers_and_target("Numbers 3 5 7, target 22"), Some((vec![3, 5, 7], 22)));
        assert_eq!(numbers_and_target("Target 22: 3 5 7?"), Some((vec![3, 5, 7], 22)));
        assert_eq!(numbers_and_target("3 5 7 = 22"), Some((vec![3, 5, 7], 22)));
        assert_eq!(numbers_and_target("Make 22 from 3, 5 and 7."), Some((vec![3, 5, 7], 22)));
        assert_eq!(numbers_and_target("7"), None);
        assert_eq!(numbers_and_target(""), None);
    }

    #[test]
    fn equal_answers_are_equal_strings() {
        let same = ["A: (1+5)*3", "A: 3 * (5 + 1)", "3*((1 + 5)) = 18"];
        for text in same {
            assert_eq!(answer(text).unwrap(), "3*(1+5)");
        }
        assert_eq!(answer("A: 9*(5*2)").unwrap(), "2*5*9");
        assert_eq!(answer("A: 5 - (2 - 1)").unwrap(), "5-(2-1)");
        assert_eq!(answer("A: (5 - 2) - 10").unwrap(), "5-2-10");
        assert_ne!(answer("A: 5 - 1"), answer("A: 1 - 5"));
    }

    #[test]
    fn what_is_no_expression_is_no_answer() {
        for none in
            ["A:", "A: 3 +", "A: (3", "A: 3)", "A: 3 3", "A: x + 1", "A: 3 = x", "A: -3", "A: 3 = 3 = 3"]
        {
            assert_eq!(answer(none), None, "{none}");
        }
        let deep = format!("A: {}1{}", "(".repeat(40_000), ")".repeat(40_000));
        assert_eq!(answer(&deep), None);
        assert_eq!(answer(&format!("A: 1{}", "+1".repeat(40_000))), None);
    }
}
