//! Countdown with three numbers: `3 5 7 make 56?`
//!
//! Two steps, each joining two numbers by `+ - * /`, reach the target; every number is used exactly once.
//! A solution has one step per line (`3+5=8`), then the whole expression (`A: (3+5)*7`). The expression is the
//! answer, and it is checked by evaluating it: any expression that is right counts, not only the gold one.
//! The level says how large the largest number is, so tasks of different levels never coincide.

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;

use super::draw::{below, between, choose, shuffle};
use super::relations::number;

/// The largest number of a task of level 1 is one more than this: levels 1 to 4 have one digit.
const LARGEST_AT_LEVEL_0: u32 = 5;

/// Largest target and largest intermediate result.
pub const TARGET_MAX: u32 = 99;

/// Largest level: all numbers have at most two digits.
pub const LEVEL_MAX: u32 = TARGET_MAX - LARGEST_AT_LEVEL_0;

/// Draws of one task, or of one corruption, before giving up.
const ATTEMPTS_MAX: u32 = 1000;

/// Longest expression that is read, in bytes.
const EXPRESSION_BYTES_MAX: usize = 64;

const OPERATORS: [u8; 4] = *b"+-*/";

/// An expression over non-negative whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expression {
    Number(u32),
    Join(u8, Box<Expression>, Box<Expression>),
}

/// A value on the way to a target, such as the 8/3 in `8/(3-8/3)`; not reduced.
#[derive(Clone, Copy, Debug)]
struct Fraction {
    over: i64,
    under: i64,
}

impl Fraction {
    fn join(self, operator: u8, right: Self) -> Option<Self> {
        let under = self.under.checked_mul(right.under)?;
        let (crossed, back) = (self.over.checked_mul(right.under)?, right.over.checked_mul(self.under)?);
        let (over, under) = match operator {
            b'+' => (crossed.checked_add(back)?, under),
            b'-' => (crossed.checked_sub(back)?, under),
            b'*' => (self.over.checked_mul(right.over)?, under),
            _ => (crossed, back),
        };
        (under != 0).then_some(Self { over, under })
    }

    fn equals(self, whole: u32) -> bool {
        i64::from(whole).checked_mul(self.under) == Some(self.over)
    }
}

/// `left operator right` as generated tasks have it; `None` for results that are not whole numbers from 1 to 99.
fn join(operator: u8, left: u32, right: u32) -> Option<u32> {
    let result = match operator {
        b'+' => left.checked_add(right)?,
        b'-' => left.checked_sub(right)?,
        b'*' => left.checked_mul(right)?,
        b'/' if right > 0 && left.is_multiple_of(right) => left / right,
        _ => return None,
    };
    (1..=TARGET_MAX).contains(&result).then_some(result)
}

impl Expression {
    /// The exact value; `None` for a division by zero and for numbers beyond 64 bits.
    fn value(&self) -> Option<Fraction> {
        match self {
            Self::Number(n) => Some(Fraction { over: i64::from(*n), under: 1 }),
            Self::Join(operator, left, right) => left.value()?.join(*operator, right.value()?),
        }
    }

    fn numbers(&self, found: &mut Vec<u32>) {
        match self {
            Self::Number(n) => found.push(*n),
            Self::Join(_, left, right) => {
                left.numbers(found);
                right.numbers(found);
            }
        }
    }

    /// The same expression with the operands of every sum and every product in ascending order.
    fn ordered(self) -> Self {
        let Self::Join(operator, left, right) = self else { return self };
        if !matches!(operator, b'+' | b'*') {
            return Self::Join(operator, Box::new(left.ordered()), Box::new(right.ordered()));
        }
        let mut operands = Vec::new();
        left.ordered().operands(operator, &mut operands);
        right.ordered().operands(operator, &mut operands);
        operands.sort();
        let joined = |left, right| Self::Join(operator, Box::new(left), Box::new(right));
        operands.into_iter().reduce(joined).expect("a join has two operands")
    }

    /// What a chain of one operator joins.
    fn operands(self, chain: u8, found: &mut Vec<Self>) {
        match self {
            Self::Join(operator, left, right) if operator == chain => {
                left.operands(chain, found);
                right.operands(chain, found);
            }
            other => found.push(other),
        }
    }

    /// Written with the fewest parentheses that keep the tree readable back as it is.
    fn text(&self) -> String {
        let Self::Join(operator, left, right) = self else {
            let Self::Number(n) = self else { return String::new() };
            return n.to_string();
        };
        let own = precedence(*operator);
        let side = |side: &Self, bracket_from: u8| match side {
            Self::Join(inner, ..) if precedence(*inner) <= bracket_from => format!("({})", side.text()),
            _ => side.text(),
        };
        format!("{}{}{}", side(left, own - 1), char::from(*operator), side(right, own))
    }
}

fn precedence(operator: u8) -> u8 {
    if matches!(operator, b'+' | b'-') { 1 } else { 2 }
}

/// Reads an expression by recursive descent; blanks are ignored. `None` if it is none, or too long.
fn parse(text: &str) -> Option<Expression> {
    let bytes: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if bytes.len() > EXPRESSION_BYTES_MAX {
        return None;
    }
    let mut at = 0;
    let expression = parse_level(&bytes, &mut at, 1)?;
    (at == bytes.len()).then_some(expression)
}

/// One level of precedence: 1 for sums, 2 for products, 3 for numbers and parentheses. Left-associative.
fn parse_level(bytes: &[u8], at: &mut usize, level: u8) -> Option<Expression> {
    if level == 3 {
        return parse_atom(bytes, at);
    }
    let mut left = parse_level(bytes, at, level + 1)?;
    while let Some(&operator) = bytes.get(*at) {
        if !OPERATORS.contains(&operator) || precedence(operator) != level {
            break;
        }
        *at += 1;
        let right = parse_level(bytes, at, level + 1)?;
        left = Expression::Join(operator, Box::new(left), Box::new(right));
    }
    Some(left)
}

fn parse_atom(bytes: &[u8], at: &mut usize) -> Option<Expression> {
    if bytes.get(*at) == Some(&b'(') {
        *at += 1;
        let inner = parse_level(bytes, at, 1)?;
        (bytes.get(*at) == Some(&b')')).then(|| *at += 1)?;
        return Some(inner);
    }
    let digits = bytes[*at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let text = std::str::from_utf8(&bytes[*at..*at + digits]).ok()?;
    *at += digits;
    number(text).map(Expression::Number)
}

/// The answer in a form in which equal expressions are equal texts: no blanks, no needless parentheses, operands
/// of `+` and `*` in one order. `None` if it is no expression.
pub fn normalised(expression: &str) -> Option<String> {
    Some(parse(expression)?.ordered().text())
}

/// Whether `expression` reaches the target of `question` using each of its numbers exactly once.
pub fn solves(question: &str, expression: &str) -> bool {
    let Some((mut given, target)) = parse_question(question) else { return false };
    let Some(expression) = parse(expression) else { return false };
    let mut used = Vec::new();
    expression.numbers(&mut used);
    given.sort_unstable();
    used.sort_unstable();
    given == used && expression.value().is_some_and(|value| value.equals(target))
}

/// One line of a solution, `3+5=8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The numbers left of the equals sign, in order of appearance.
    pub uses: Vec<u32>,
    /// The number right of it.
    pub claims: u32,
    /// Whether the claim is true.
    pub holds: bool,
}

impl Step {
    /// Reads a line; `None` if it is no step.
    pub fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once('=')?;
        let (expression, claims) = (parse(left)?, number(right.trim())?);
        let mut uses = Vec::new();
        expression.numbers(&mut uses);
        Some(Self { uses, claims, holds: expression.value().is_some_and(|value| value.equals(claims)) })
    }
}

/// Reads `3 5 7 make 56?` as the numbers and the target; `None` if it is anything else.
pub fn parse_question(question: &str) -> Option<(Vec<u32>, u32)> {
    let (numbers, target) = question.strip_suffix('?')?.split_once(" make ")?;
    let numbers = numbers.split(' ').map(number).collect::<Option<Vec<_>>>()?;
    (numbers.len() == 3).then_some((numbers, number(target)?))
}

fn question(numbers: &[u32], target: u32) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("{} make {target}?", numbers.join(" "))
}

/// Two joins: `first` makes one number of two, `second` joins it with the third.
#[derive(Clone, Copy, Debug)]
struct Plan {
    numbers: [u32; 3],
    first: u8,
    second: u8,
    /// Whether the third number stands left of the second operator.
    third_left: bool,
}

impl Plan {
    fn expression(&self) -> Expression {
        let [a, b, c] = self.numbers.map(|n| Box::new(Expression::Number(n)));
        let inner = Box::new(Expression::Join(self.first, a, b));
        let (left, right) = if self.third_left { (c, inner) } else { (inner, c) };
        Expression::Join(self.second, left, right)
    }

    /// The results of both steps.
    fn results(&self) -> Option<(u32, u32)> {
        let first = join(self.first, self.numbers[0], self.numbers[1])?;
        let (left, right) = if self.third_left { (self.numbers[2], first) } else { (first, self.numbers[2]) };
        Some((first, join(self.second, left, right)?))
    }

    /// The solution as text, claiming `first` and `second` for the results of the steps.
    fn solution(&self, first: u32, second: u32) -> String {
        let [a, b, c] = self.numbers;
        let (left, right) = if self.third_left { (c, first) } else { (first, c) };
        format!(
            "{a}{}{b}={first}\n{left}{}{right}={second}\nA: {}",
            char::from(self.first),
            char::from(self.second),
            self.expression().text()
        )
    }

    fn draw(numbers: &[u32; 3], rng: &mut ChaCha8Rng) -> Self {
        let mut numbers = *numbers;
        shuffle(rng, &mut numbers);
        let (first, second) = (choose(rng, &OPERATORS), choose(rng, &OPERATORS));
        Self { numbers, first, second, third_left: below(rng, 2) == 1 }
    }
}

/// A drawn task.
pub(super) struct Drawn {
    pub question: String,
    pub answer: String,
    pub solution: String,
}

/// Draws three numbers, the largest of which is `level + 5`, and a target that two steps reach.
pub(super) fn draw(level: u32, rng: &mut ChaCha8Rng) -> Result<Drawn> {
    if !(1..=LEVEL_MAX).contains(&level) {
        bail!("countdown has levels 1 to {LEVEL_MAX}, not {level}");
    }
    let largest = level + LARGEST_AT_LEVEL_0;
    for _ in 0..ATTEMPTS_MAX {
        let numbers = [between(rng, 1, largest), between(rng, 1, largest), largest];
        let plan = Plan::draw(&numbers, rng);
        let Some((first, target)) = plan.results() else { continue };
        let mut shown = numbers;
        shuffle(rng, &mut shown);
        return Ok(Drawn {
            question: question(&shown, target),
            answer: plan.expression().ordered().text(),
            solution: plan.solution(first, target),
        });
    }
    bail!("no target of level {level} within {ATTEMPTS_MAX} draws")
}

/// The same numbers in another random order.
pub(super) fn variant(text: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    let (mut numbers, target) = parse_question(text)?;
    shuffle(rng, &mut numbers);
    Some(question(&numbers, target))
}

/// A wrong solution: right arithmetic that misses the target, a result that is claimed and false, or no second
/// step. `None` if none was found.
pub(super) fn corrupted(text: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    let (numbers, target) = parse_question(text)?;
    let numbers: [u32; 3] = numbers.try_into().ok()?;
    (0..ATTEMPTS_MAX).find_map(|_| {
        let plan = Plan::draw(&numbers, rng);
        let (first, second) = plan.results()?;
        if second == target {
            return None;
        }
        Some(match below(rng, 4) {
            0 => plan.solution(first, second),
            // What models mostly do: claim to have arrived.
            1 | 2 => plan.solution(first, target),
            _ => {
                let steps = plan.solution(first, second);
                let line = steps.lines().next()?;
                format!("{line}\nA: {}", line.split('=').next()?)
            }
        })
    })
}

/// What makes two tasks the same one in another order.
pub(super) fn identity(text: &str) -> Option<String> {
    let (mut numbers, target) = parse_question(text)?;
    numbers.sort_unstable();
    Some(question(&numbers, target))
}
