//! Relation chains: the built-in task. `Paul minus 5 is Tina. Tina plus 2 is Cora. Paul has 16.
//! Cora?`
//!
//! A chain of k hops is k relations between k + 1 people, in any order, then the value of the first
//! person, then the question for the last one. A solution walks the chain: every line quotes the
//! relation that it uses and appends the running value. A policy that can copy a relation and add
//! small numbers can solve chains of any length. So easy chains teach all that long ones need,
//! except to make no mistake.

use std::fmt;

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;

use super::draw::{below, between, choose, shuffle};

/// All names. Each is one token of the seed tokenizer, with and without a space before it.
pub const NAMES: [&str; 20] = [
    "Ana", "Ben", "Cora", "Dan", "Eva", "Finn", "Gus", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Nora",
    "Otto", "Paul", "Rosa", "Sam", "Tina", "Uma",
];

/// Most hops a chain can have: one person less than there are names.
pub const LEVEL_MAX: u32 = NAMES.len() as u32 - 1;

/// The largest value of a person; the smallest is 1.
pub const VALUE_MAX: u32 = 19;

/// Largest number in `plus n` and `minus n`.
const OPERAND_MAX: u32 = 5;

/// Most draws of one hop. From every value at least 2 draws in 5 stay in range.
const ATTEMPTS_MAX: u32 = 1000;

/// What one hop does to the running value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Plus(u32),
    Minus(u32),
    Twice,
}

impl Op {
    /// Drawn from `+ + - - *`, with a number from 1 to 5.
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        match below(rng, 5) {
            0 | 1 => Self::Plus(between(rng, 1, OPERAND_MAX)),
            2 | 3 => Self::Minus(between(rng, 1, OPERAND_MAX)),
            _ => Self::Twice,
        }
    }

    /// The value after the hop; `None` if it is outside of 1..=19.
    pub fn apply(self, value: u32) -> Option<u32> {
        let after = match self {
            Self::Plus(n) => value.checked_add(n)?,
            Self::Minus(n) => value.checked_sub(n)?,
            Self::Twice => value.checked_mul(2)?,
        };
        (1..=VALUE_MAX).contains(&after).then_some(after)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plus(n) => write!(f, "plus {n}"),
            Self::Minus(n) => write!(f, "minus {n}"),
            Self::Twice => f.write_str("twice"),
        }
    }
}

/// `from op is to`: the value of `to` is `op` applied to the value of `from`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relation {
    pub from: String,
    pub op: Op,
    pub to: String,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is {}", self.from, self.op, self.to)
    }
}

impl Relation {
    /// Reads `Paul minus 5 is Tina`; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let (from, op, to) = match words[..] {
            [from, "twice", "is", to] => (from, Op::Twice, to),
            [from, "plus", n, "is", to] => (from, Op::Plus(number(n)?), to),
            [from, "minus", n, "is", to] => (from, Op::Minus(number(n)?), to),
            _ => return None,
        };
        Some(Self { from: name(from)?, op, to: name(to)? })
    }
}

/// Reads a line of a solution, `Paul minus 5 is Tina 11`: the relation it quotes and the value it
/// claims for the second person; `None` if it is anything else.
#[cfg(test)]
pub(super) fn parse_line(line: &str) -> Option<(Relation, u32)> {
    let (relation, value) = line.trim_end_matches('\n').rsplit_once(' ')?;
    Some((Relation::parse(relation)?, number(value)?))
}

/// A number as the task writes it: 1 to 3 digits, no sign, no leading zero. The bound keeps sums
/// far from overflow.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

fn name(text: &str) -> Option<String> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic())).then(|| text.to_owned())
}

/// A whole chain, in the order in which it is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `relations[i].to == relations[i + 1].from`; at least one.
    pub relations: Vec<Relation>,
    /// What the first person has.
    pub start: u32,
}

impl Chain {
    /// Draws a chain of `hops` hops whose values all lie in 1..=19.
    pub(super) fn draw(hops: u32, rng: &mut ChaCha8Rng) -> Result<Self> {
        if !(1..=LEVEL_MAX).contains(&hops) {
            bail!("relations have levels 1 to {LEVEL_MAX} (hops), not {hops}");
        }
        let mut names = NAMES;
        shuffle(rng, &mut names);
        let start = between(rng, 1, VALUE_MAX);
        let (mut value, mut relations) = (start, Vec::with_capacity(hops as usize));
        for pair in names.windows(2).take(hops as usize) {
            let (op, after) = draw_hop(value, rng)?;
            relations.push(Relation { from: pair[0].to_owned(), op, to: pair[1].to_owned() });
            value = after;
        }
        Ok(Self { relations, start })
    }

    /// Reads a question back; `None` if it is not one whole chain.
    pub fn parse(question: &str) -> Option<(Self, Vec<usize>)> {
        let mut sentences: Vec<&str> = question.strip_suffix('?')?.split(". ").collect();
        let asked = sentences.pop()?;
        let [first, "has", start] = sentences.pop()?.split(' ').collect::<Vec<_>>()[..] else { return None };
        if sentences.len() > LEVEL_MAX as usize {
            return None;
        }
        let shown = sentences.into_iter().map(Relation::parse).collect::<Option<Vec<_>>>()?;
        let (mut person, mut order) = (first, Vec::with_capacity(shown.len()));
        while order.len() < shown.len() {
            let next = shown.iter().position(|r| r.from == person)?;
            if order.contains(&next) {
                return None;
            }
            order.push(next);
            person = &shown[next].to;
        }
        let whole = person == asked && !order.is_empty();
        let relations = order.iter().map(|&i| shown[i].clone()).collect();
        whole.then_some((Self { relations, start: number(start)? }, order))
    }

    /// The value after each hop; `None` if one leaves 1..=19.
    pub fn values(&self) -> Option<Vec<u32>> {
        let mut value = self.start;
        self.relations.iter().map(|r| r.op.apply(value).inspect(|&after| value = after)).collect()
    }

    /// The question, with relation `order[0]` shown first.
    pub fn question(&self, order: &[usize]) -> String {
        let shown: String = order.iter().map(|&i| format!("{}. ", self.relations[i])).collect();
        let last = &self.relations[self.relations.len() - 1];
        format!("{shown}{} has {}. {}?", self.relations[0].from, self.start, last.to)
    }

    /// The gold answer: what the last person has.
    pub fn answer(&self) -> Option<String> {
        Some(self.values()?.last()?.to_string())
    }

    /// The gold chain of thought: a line per hop, then the answer.
    pub fn solution(&self) -> Option<String> {
        let values = self.values()?;
        let lines: String = self.relations.iter().zip(&values).map(|(r, v)| format!("{r} {v}\n")).collect();
        Some(format!("{lines}A: {}", values.last()?))
    }

    /// All names: the people of the chain in its order, then the others.
    fn cast(&self) -> Vec<&'static str> {
        let place = |name: &str| {
            let starts = std::iter::once(&self.relations[0].from);
            starts.chain(self.relations.iter().map(|r| &r.to)).position(|n| n == name)
        };
        let mut cast = NAMES.to_vec();
        cast.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
        cast
    }

    /// What makes two chains the same one under other names and in another order.
    pub(super) fn identity(&self) -> String {
        let ops: String = self.relations.iter().map(|r| format!("{};", r.op)).collect();
        format!("{ops}{}", self.start)
    }
}

fn draw_hop(value: u32, rng: &mut ChaCha8Rng) -> Result<(Op, u32)> {
    for _ in 0..ATTEMPTS_MAX {
        let op = Op::draw(rng);
        if let Some(after) = op.apply(value) {
            return Ok((op, after));
        }
    }
    bail!("no operation keeps {value} within 1 to {VALUE_MAX} in {ATTEMPTS_MAX} draws")
}

/// A question and its chain, relations in random order.
pub(super) fn draw(hops: u32, rng: &mut ChaCha8Rng) -> Result<(String, Chain)> {
    let chain = Chain::draw(hops, rng)?;
    let question = chain.question(&shuffled(chain.relations.len(), rng));
    Ok((question, chain))
}

fn shuffled(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    shuffle(rng, &mut order);
    order
}

/// The same question with its relations in another random order and its people renamed by a random
/// bijection.
pub(super) fn variant(question: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    let (mut chain, _) = Chain::parse(question)?;
    let mut names = NAMES;
    shuffle(rng, &mut names);
    for (i, relation) in chain.relations.iter_mut().enumerate() {
        relation.from = names[i].to_owned();
        relation.to = names[i + 1].to_owned();
    }
    Some(chain.question(&shuffled(chain.relations.len(), rng)))
}

/// Who of one question is who in its variant: whoever stands at one place of the chain becomes who
/// stands there in the other, and strangers become strangers.
#[derive(Clone, Debug)]
pub struct Renaming {
    from: Vec<&'static str>,
    to: Vec<&'static str>,
}

impl Renaming {
    /// `None` if the questions' chains differ.
    pub(super) fn between(from: &str, to: &str) -> Option<Self> {
        let (from, to) = (Chain::parse(from)?.0, Chain::parse(to)?.0);
        (from.identity() == to.identity()).then(|| Self { from: from.cast(), to: to.cast() })
    }

    /// `text` with the people of the one question replaced by those of the other.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut renamed = String::with_capacity(text.len());
        for piece in text.split_inclusive(|c: char| !c.is_ascii_alphabetic()) {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
            let name = self.from.iter().position(|&name| name == word).map_or(word, |i| self.to[i]);
            renamed.push_str(name);
            renamed.push_str(&piece[word.len()..]);
        }
        renamed
    }
}

/// Most attempts at a corruption.
const CORRUPTIONS_MAX: u32 = 200;

/// The ways in which a solution is made wrong; models make the same mistakes.
#[derive(Clone, Copy, Debug)]
enum Corruption {
    /// Quotes a relation with another operation or number.
    Misquote,
    /// Quotes a relation from elsewhere in the chain, and continues from there.
    Jump,
    /// Quotes the right relation and computes it wrongly.
    WrongSum,
    /// Answers before it reaches the person asked for.
    StopEarly,
    /// Reaches the person asked for and continues.
    GoOn,
}

/// A wrong solution of `question`: one thought is wrong, the next ones continue from it as if it
/// were right, and the answer differs from the gold one. `None` if no such text was found.
pub(super) fn corrupted(question: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    use Corruption::*;
    let (chain, _) = Chain::parse(question)?;
    let gold = *chain.values()?.last()?;
    (0..CORRUPTIONS_MAX).find_map(|_| {
        let kind = choose(rng, &[Misquote, Jump, WrongSum, StopEarly, GoOn]);
        let (lines, answer) = corrupt(&chain, kind, rng)?;
        (answer != gold).then(|| format!("{lines}A: {answer}"))
    })
}

/// The lines of one attempt at a corruption, and their last value; `None` if a value leaves 1..=19.
fn corrupt(chain: &Chain, kind: Corruption, rng: &mut ChaCha8Rng) -> Option<(String, u32)> {
    let hops = chain.relations.len();
    let at = below(rng, hops as u32) as usize;
    let mut walk = Walk { lines: String::new(), value: chain.start };
    match kind {
        Corruption::Misquote => {
            walk.follow(&chain.relations[..at])?;
            let misquoted =
                Relation { op: other_op(chain.relations[at].op, rng), ..chain.relations[at].clone() };
            walk.follow(&[misquoted])?;
            walk.follow(&chain.relations[at + 1..])?;
        }
        Corruption::Jump => {
            let elsewhere = below(rng, hops as u32) as usize;
            if elsewhere == at {
                return None;
            }
            walk.follow(&chain.relations[..at])?;
            walk.follow(&chain.relations[elsewhere..])?;
        }
        Corruption::WrongSum => {
            walk.follow(&chain.relations[..at])?;
            let right = chain.relations[at].op.apply(walk.value)?;
            let wrong = between(rng, right.saturating_sub(3).max(1), (right + 3).min(VALUE_MAX));
            if wrong == right {
                return None;
            }
            walk.add(&chain.relations[at], wrong);
            walk.follow(&chain.relations[at + 1..])?;
        }
        // A chain of one hop can only stop before its first thought.
        Corruption::StopEarly => walk.follow(&chain.relations[..at.max(1).min(hops - 1)])?,
        Corruption::GoOn => {
            walk.follow(&chain.relations)?;
            let again = between(rng, 1, (hops as u32).min(3)) as usize;
            let from = below(rng, (hops - again) as u32 + 1) as usize;
            walk.follow(&chain.relations[from..from + again])?;
        }
    }
    Some((walk.lines, walk.value))
}

/// The lines of a solution so far, and the running value.
struct Walk {
    lines: String,
    value: u32,
}

impl Walk {
    fn add(&mut self, relation: &Relation, value: u32) {
        self.lines.push_str(&format!("{relation} {value}\n"));
        self.value = value;
    }

    fn follow(&mut self, relations: &[Relation]) -> Option<()> {
        for relation in relations {
            self.add(relation, relation.op.apply(self.value)?);
        }
        Some(())
    }
}

fn other_op(op: Op, rng: &mut ChaCha8Rng) -> Op {
    loop {
        let other = Op::draw(rng);
        if other != op {
            return other;
        }
    }
}
