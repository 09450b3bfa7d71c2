//! Countdown: reach a target from given numbers, each used exactly once, with `+ - * /` and
//! brackets.
//!
//! The claimed expression is evaluated exactly, in rational numbers: a claim such as "= 24" proves
//! nothing.

use super::claim::{Reading, claims};
use super::dress::{bare, plain};
use super::math::closing;
use super::{ANSWER_BYTES_MAX, Why, integer, last_line};
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

/// The expression that a completion in free words claims, in the same notation: signs and brackets
/// may be LaTeX's, and what an equation adds proves nothing.
pub(super) fn claimed(completion: &str) -> Result<String, Why> {
    let text = plain(completion);
    let found = claims(&text);
    for claim in found.iter().rev() {
        if claim.denied {
            return Err(Why::Denied);
        }
        match expression(claim.text) {
            Reading::Value(expression) => return Ok(expression),
            Reading::Refused(why) => return Err(why),
            Reading::Nothing => {}
        }
    }
    match (last_line(&text).map(expression), found.is_empty()) {
        (Some(Reading::Value(expression)), true) => Ok(expression),
        (Some(Reading::Refused(why)), true) => Err(why),
        (_, true) => Err(Why::NoClaim),
        (_, false) => Err(Why::NoneOfKind),
    }
}

/// The expression that a claim begins with, or the side of its equation that computes.
fn expression(claim: &str) -> Reading<String> {
    // Longer texts are no expression of a game.
    if claim.len() > ANSWER_BYTES_MAX {
        return Reading::Nothing;
    }
    let written = arithmetic(&bare(claim).replace(['\n', '\r'], " "));
    let end = written.find(|c: char| !is_arithmetic(c)).unwrap_or(written.len());
    let (formula, rest) = written.split_at(end);
    let after = rest.trim_start().to_ascii_lowercase();
    if let Some(more) = after.strip_prefix("or ")
        && more.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '(')
    {
        return Reading::Refused(Why::Several(Vec::new()));
    }
    let sides =
        formula.split('=').filter_map(|side| Expression::parse(side.trim().trim_end_matches(['.', ','])));
    let mut sides: Vec<Expression> = sides.collect();
    let computes = sides.iter().position(|side| side.numbers().len() > 1);
    match computes.or_else(|| (!sides.is_empty()).then_some(0)) {
        Some(at) => Reading::Value(sides.swap_remove(at).ordered().to_string()),
        None => Reading::Nothing,
    }
}

fn is_arithmetic(c: char) -> bool {
    c.is_ascii_digit() || c.is_whitespace() || "+-−*/×÷()=.,".contains(c)
}

/// In the signs that [`Expression::parse`] reads: one for each operation, round brackets, and a
/// sign between factors that stand side by side.
fn arithmetic(text: &str) -> String {
    let mut text = fractions(text);
    for (from, to) in [("\\times", "*"), ("\\cdot", "*"), ("\\ast", "*"), ("\\div", "/")] {
        text = text.replace(from, to);
    }
    let mut out = String::new();
    let characters: Vec<char> = text.chars().collect();
    for (at, c) in characters.iter().enumerate() {
        let touches = |c: Option<&char>| c.is_none_or(|c| !c.is_alphabetic());
        let times = matches!(c, 'x' | 'X')
            && touches(at.checked_sub(1).and_then(|at| characters.get(at)))
            && touches(characters.get(at + 1));
        let c = match c {
            _ if times => '*',
            '[' | '{' => '(',
            ']' | '}' => ')',
            '·' | '⋅' | '∗' | '•' => '*',
            '–' | '—' => '-',
            '∕' | '⁄' => '/',
            c => *c,
        };
        // `(4+8)(6-4)`, `4(6)`, `(6)4`
        let last = out.trim_end().chars().next_back();
        let closes = last == Some(')') || (c == '(' && last.is_some_and(|c| c.is_ascii_digit()));
        if closes && (c == '(' || c.is_ascii_digit()) {
            out.push('*');
        }
        out.push(c);
    }
    out
}

/// `\frac{a}{b}` as `((a)/(b))`.
fn fractions(text: &str) -> String {
    let mut text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac");
    // As many as an expression can hold; each round takes the innermost-last.
    for _ in 0..16 {
        let Some(at) = text.rfind("\\frac{") else { break };
        let top = at + "\\frac".len();
        let Some(top_end) = closing(&text[top..]).map(|end| top + end) else { break };
        let rest = &text[top_end + 1..];
        let Some(bottom_end) = closing(rest).filter(|_| rest.starts_with('{')) else { break };
        let joined = format!("(({})/({}))", &text[top + 1..top_end], &rest[1..bottom_end]);
        text.replace_range(at..top_end + 1 + bottom_end + 1, &joined);
    }
    text
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
            let answer = claimed(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(is_right("Use 4 4 6 8 to make 24.", Some(&answer)), Some(true), "{text}");
        }
        for text in [
            "The answer is (4 + 8) x (6 - 4)",
            "The answer is [4 + 8] * {6 - 4}",
            "The answer is 24 = (4 + 8)(6 - 4)",
            "(4+8)(6-4)",
            "\\boxed{\\left(4+8\\right) \\times (6-4) = 24}",
            "The answer is (4+8)*(6-4), which is 24.",
        ] {
            assert_eq!(claimed(text).as_deref(), Ok("(4+8)*(6-4)"), "{text}");
        }
        assert_eq!(claimed("\\boxed{\\frac{8}{3 - \\frac{8}{3}}}").as_deref(), Ok("8/(3-8/3)"));
        assert!(claimed("The answer is 4*6 or 6*4").is_err());
        assert!(claimed("The answer is impossible.").is_err());
        assert_eq!(
            is_right("Use 4 4 6 8 to make 24.", claimed("The answer is 4 * 6 = 24").ok().as_deref()),
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
