//! Countdown: reach a target from given numbers, each used exactly once, with `+ - * /` and brackets.
//!
//! The claim is checked exactly, in rational numbers: text that says "= 24" proves nothing. A thought is a step
//! that joins two of the numbers at hand into one, such as `3+5=8`; the last is the whole expression.

use std::fmt;

use super::{integer, last_line};
use crate::domain::Criteria;

/// Deepest nesting of brackets that is read; no game needs more, and recursion stays bounded.
const DEPTH_MAX: usize = 32;

/// The final expression, in one fixed notation without blanks and needless brackets, the operands of every chain of
/// `+` or of `*` in rising order: `(5 + 1) * 3` and `3*(1+5) = 18` are both `3*(1+5)`.
pub(super) fn answer(completion: &str) -> Option<String> {
    let line = last_line(completion)?;
    let line = line.strip_prefix("A:").unwrap_or(line);
    let (expression, claim) = line.split_once('=').map_or((line, None), |(e, c)| (e, Some(c)));
    if claim.is_some_and(|claim| integer(claim.trim()).is_none()) {
        return None;
    }
    Some(Expression::parse(expression)?.ordered().to_string())
}

/// The expression that a completion in free words claims, in the same notation: signs may be LaTeX's, and what stands
/// behind `=` proves nothing.
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

/// Whether the expression uses exactly the question's numbers and gives its target; `None` if the question names
/// no numbers and target. The target follows "target", "make", "reach" or "get"; else it is the last number.
pub(super) fn is_right(question: &str, answer: Option<&str>) -> Option<bool> {
    let (given, target) = numbers_and_target(question)?;
    let Some(expression) = answer.and_then(Expression::parse) else { return Some(false) };
    Some(expression.uses_exactly(&given) && expression.value() == Some(Rational::from(target)))
}

fn numbers_and_target(question: &str) -> Option<(Vec<i64>, i64)> {
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

/// See [`super::criteria`]; `None` if the question names no numbers and target. An answer is accurate if it gives
/// the target, and complete if it uses the given numbers; it follows from steps that left one number.
pub(super) fn criteria(question: &str, thoughts: &[&str]) -> Option<Vec<Criteria>> {
    let (given, target) = numbers_and_target(question)?;
    let (mut at_hand, mut answered) = (given.clone(), false);
    let judged = thoughts.iter().enumerate().map(|(i, thought)| {
        let (left, right) = thought.split_once('=').unwrap_or((thought, ""));
        match (thought.trim().strip_prefix("A:"), Expression::parse(left), integer(right.trim())) {
            (Some(_), ..) => {
                let used = answer(thought).and_then(|a| Expression::parse(&a));
                let verdict = Criteria {
                    coherence: used.is_some() && !answered && at_hand.len() == 1,
                    accuracy: used.as_ref().and_then(Expression::value) == Some(Rational::from(target)),
                    completeness: used.is_some_and(|used| !answered && used.uses_exactly(&given)),
                };
                answered = true;
                verdict
            }
            (None, Some(step), Some(stated)) => {
                let mut used = Vec::new();
                step.numbers(&mut used);
                let present = used.iter().all(|n| taken(&mut at_hand, *n));
                at_hand.push(stated);
                Criteria {
                    coherence: !answered && present && used.len() == 2,
                    accuracy: step.value() == Some(Rational::from(stated)),
                    completeness: !answered && i + 1 < thoughts.len(),
                }
            }
            _ => Criteria { coherence: false, accuracy: false, completeness: false },
        }
    });
    Some(judged.collect())
}

/// Takes one `number` away from those at hand; whether there was one.
fn taken(at_hand: &mut Vec<i64>, number: i64) -> bool {
    let at = at_hand.iter().position(|n| *n == number);
    at.map(|at| at_hand.swap_remove(at)).is_some()
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expression {
    Number(i64),
    Binary(char, Box<Expression>, Box<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text.trim_start(), depth: 0 };
        let expression = parser.sum()?;
        parser.rest.is_empty().then_some(expression)
    }

    fn numbers(&self, into: &mut Vec<i64>) {
        match self {
            Self::Number(n) => into.push(*n),
            Self::Binary(_, left, right) => {
                left.numbers(into);
                right.numbers(into);
            }
        }
    }

    fn uses_exactly(&self, given: &[i64]) -> bool {
        let (mut used, mut given) = (Vec::new(), given.to_vec());
        self.numbers(&mut used);
        used.sort_unstable();
        given.sort_unstable();
        used == given
    }

    /// The same expression, the operands of every chain of `+` or of `*` in rising order.
    fn ordered(self) -> Self {
        let Self::Binary(operator, left, right) = self else { return self };
        let (left, right) = (left.ordered(), right.ordered());
        if !matches!(operator, '+' | '*') {
            return Self::Binary(operator, Box::new(left), Box::new(right));
        }
        let mut operands = Vec::new();
        left.operands(operator, &mut operands);
        right.operands(operator, &mut operands);
        operands.sort();
        let joined = |left, right| Self::Binary(operator, Box::new(left), Box::new(right));
        operands.into_iter().reduce(joined).expect("a binary expression has two operands")
    }

    /// What a chain of one operator joins.
    fn operands(self, chain: char, into: &mut Vec<Self>) {
        match self {
            Self::Binary(operator, left, right) if operator == chain => {
                left.operands(chain, into);
                right.operands(chain, into);
            }
            other => into.push(other),
        }
    }

    /// 1 for sums, 2 for products, 3 for numbers.
    fn precedence(&self) -> u8 {
        match self {
            Self::Binary('+' | '-', ..) => 1,
            Self::Binary(..) => 2,
            Self::Number(_) => 3,
        }
    }

    /// `None` for division by zero and overflow.
    fn value(&self) -> Option<Rational> {
        match self {
            Self::Number(n) => Some(Rational::from(*n)),
            Self::Binary(operator, left, right) => {
                let (l, r) = (left.value()?, right.value()?);
                match operator {
                    '+' => l.plus(r),
                    '-' => l.plus(Rational { numerator: r.numerator.checked_neg()?, ..r }),
                    '*' => l.times(r),
                    _ => l.times(r.inverse()?),
                }
            }
        }
    }
}

impl fmt::Display for Expression {
    /// With the fewest brackets that keep the tree readable back as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Binary(operator, left, right) = self else {
            let Self::Number(n) = self else { return Ok(()) };
            return write!(f, "{n}");
        };
        let bracketed = |side: &Self, bare: bool| if bare { format!("{side}") } else { format!("({side})") };
        let left = bracketed(left, left.precedence() >= self.precedence());
        let right = bracketed(right, right.precedence() > self.precedence());
        write!(f, "{left}{operator}{right}")
    }
}

/// Recursive descent: sum = product {(+|-) product}, product = atom {(*|/) atom}, atom = number | ( sum ).
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Option<Expression> {
        self.chain(&[('+', '+'), ('-', '-'), ('−', '-')], Self::product)
    }

    fn product(&mut self) -> Option<Expression> {
        self.chain(&[('*', '*'), ('×', '*'), ('/', '/'), ('÷', '/')], Self::atom)
    }

    /// Operands joined by any of the `(written, meant)` operators, from the left.
    fn chain(
        &mut self,
        operators: &[(char, char)],
        operand: fn(&mut Self) -> Option<Expression>,
    ) -> Option<Expression> {
        let mut left = operand(self)?;
        // A chain nests to the left, so its length is bounded like the depth of brackets.
        for _ in 0..DEPTH_MAX {
            let Some(&(_, meant)) = operators.iter().find(|(written, _)| self.take(*written)) else { break };
            left = Expression::Binary(meant, Box::new(left), Box::new(operand(self)?));
        }
        Some(left)
    }

    fn atom(&mut self) -> Option<Expression> {
        if self.take('(') {
            self.depth += 1;
            let inner = if self.depth <= DEPTH_MAX { self.sum()? } else { return None };
            self.depth -= 1;
            return self.take(')').then_some(inner);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = integer(&self.rest[..end])?;
        self.rest = self.rest[end..].trim_start();
        Some(Expression::Number(number))
    }

    fn take(&mut self, wanted: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest.trim_start();
        true
    }
}

/// In lowest terms, the denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rational {
    numerator: i128,
    denominator: i128,
}

impl From<i64> for Rational {
    fn from(n: i64) -> Self {
        Self { numerator: n.into(), denominator: 1 }
    }
}

impl Rational {
    fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::reduced(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn times(self, other: Self) -> Option<Self> {
        Self::reduced(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    fn inverse(self) -> Option<Self> {
        match self.numerator {
            0 => None,
            n => Some(Self {
                numerator: self.denominator.checked_mul(n.signum())?,
                denominator: n.checked_abs()?,
            }),
        }
    }

    fn reduced(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut a, mut b) = (numerator.checked_abs()?, denominator);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Some(Self { numerator: numerator / a, denominator: denominator / a })
    }
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
    fn steps_are_judged_one_by_one() {
        let holds = |thoughts: &[&str]| -> Vec<(bool, bool, bool)> {
            let judged = criteria("3 5 7 make 56?", thoughts).unwrap();
            judged.iter().map(|c| (c.coherence, c.accuracy, c.completeness)).collect()
        };
        let good = (true, true, true);
        assert_eq!(holds(&["3+5=8\n", "8*7=56\n", "A: (3+5)*7"]), [good; 3]);
        // A false sum, a number that isn't there, an end that never comes, and words.
        assert_eq!(holds(&["3+5=9\n", "9*7=63\n"]), [(true, false, true), (true, true, false)]);
        assert_eq!(holds(&["3+5=8\n", "8*6=48\n"])[1], (false, true, false));
        assert_eq!(holds(&["3+5=8\n", "A: 3+5"])[1], (false, false, false));
        assert_eq!(holds(&["hm\n", "A: (3+5)*7"]), [(false, false, false), (false, true, true)]);
        assert!(criteria("?", &["3+5=8"]).is_none());
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
