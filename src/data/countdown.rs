//! Countdown with three numbers: `3 5 7 make 56?`
//!
//! Two steps, each joining two numbers by `+ - * /`, reach the target; every number is used exactly
//! once. A solution has one step per line (`3+5=8`), then the whole expression (`A: (3+5)*7`). The
//! expression is the answer, and it is checked by evaluating it: any expression that is right
//! counts, not only the gold one. The level determines the largest number, so tasks of different
//! levels never coincide.

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;

use super::draw::{below, between, choose, shuffle};
use super::relations::number;
use crate::domain::expression::{Expression, Operator};

/// The largest number of a task of level 1 is one more than this: levels 1 to 4 have one digit.
const LARGEST_AT_LEVEL_0: u32 = 5;

/// Largest target and largest intermediate result.
pub const TARGET_MAX: u32 = 99;

/// Largest level: all numbers have at most two digits.
pub const LEVEL_MAX: u32 = TARGET_MAX - LARGEST_AT_LEVEL_0;

/// Draws of one task, or of one corruption, before giving up.
const ATTEMPTS_MAX: u32 = 1000;

const OPERATORS: [Operator; 4] = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];

/// `left operator right` as generated tasks have it; `None` for results that are not whole numbers
/// from 1 to 99.
fn join(operator: Operator, left: u32, right: u32) -> Option<u32> {
    let result = match operator {
        Operator::Add => left.checked_add(right)?,
        Operator::Subtract => left.checked_sub(right)?,
        Operator::Multiply => left.checked_mul(right)?,
        Operator::Divide if right > 0 && left.is_multiple_of(right) => left / right,
        Operator::Divide => return None,
    };
    (1..=TARGET_MAX).contains(&result).then_some(result)
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
    first: Operator,
    second: Operator,
    /// Whether the third number stands left of the second operator.
    third_left: bool,
}

impl Plan {
    fn expression(&self) -> Expression {
        let [a, b, c] = self.numbers.map(|n| Expression::Number(n.into()));
        let inner = Expression::binary(self.first, a, b);
        let (left, right) = if self.third_left { (c, inner) } else { (inner, c) };
        Expression::binary(self.second, left, right)
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
            self.first.sign(),
            self.second.sign(),
            self.expression()
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
            answer: plan.expression().ordered().to_string(),
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

/// A wrong solution: right arithmetic that misses the target, a result that is claimed and false,
/// or no second step. `None` if none was found.
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
