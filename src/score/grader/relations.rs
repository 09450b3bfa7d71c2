//! Relation chains: the question's grammar, and verdicts on every thought of a solution.
//!
//! A question is sentences `Paul minus 5 is Tina.`, `Ana twice is Cora.`, one `Paul has 16.` and
//! the person asked for, `Ana?`, in any order. A thought quotes one relation and appends the
//! running value.

use std::collections::HashSet;

use crate::answer::integer;
use crate::answer::relations::answer_line;
use crate::domain::Criteria;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add(i64),
    Multiply(i64),
}

impl Operation {
    /// `None` on overflow.
    fn apply(self, value: i64) -> Option<i64> {
        match self {
            Self::Add(n) => value.checked_add(n),
            Self::Multiply(n) => value.checked_mul(n),
        }
    }
}

/// `to` is what the operation makes of `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Relation<'a> {
    from: &'a str,
    operation: Operation,
    to: &'a str,
}

impl<'a> Relation<'a> {
    /// The relation that the words begin with, and the words after it.
    fn parse<'w>(words: &'w [&'a str]) -> Option<(Self, &'w [&'a str])> {
        let number = |word: &str| integer(word).filter(|n| *n >= 0);
        match words {
            [from, "plus", n, "is", to, rest @ ..] => {
                Some((Self { from, operation: Operation::Add(number(n)?), to }, rest))
            }
            [from, "minus", n, "is", to, rest @ ..] => {
                Some((Self { from, operation: Operation::Add(-number(n)?), to }, rest))
            }
            [from, "times", n, "is", to, rest @ ..] => {
                Some((Self { from, operation: Operation::Multiply(number(n)?), to }, rest))
            }
            [from, "twice" | "doubled", "is", to, rest @ ..]
            | ["twice" | "Twice", from, "is", to, rest @ ..] => {
                Some((Self { from, operation: Operation::Multiply(2), to }, rest))
            }
            _ => None,
        }
    }
}

/// What a question states.
#[derive(Debug)]
struct Question<'a> {
    relations: HashSet<Relation<'a>>,
    start: (&'a str, i64),
    asked: &'a str,
}

impl<'a> Question<'a> {
    /// `None` unless every sentence is understood and there is exactly one start and one person
    /// asked for.
    fn parse(question: &'a str) -> Option<Self> {
        let (mut relations, mut start, mut asked) = (HashSet::new(), None, None);
        for sentence in question.split_inclusive(['.', '?', '\n']).map(str::trim).filter(|s| !s.is_empty()) {
            let words: Vec<&str> = sentence.trim_end_matches(['.', '?']).split_whitespace().collect();
            match words[..] {
                [] => {}
                [person] if sentence.ends_with('?') && asked.is_none() => asked = Some(person),
                [person, "has", n] if start.is_none() => start = Some((person, integer(n)?)),
                _ => match Relation::parse(&words)? {
                    (relation, []) => drop(relations.insert(relation)),
                    _ => return None,
                },
            }
        }
        Some(Self { relations, start: start?, asked: asked? })
    }
}

/// One line of a chain of thought.
enum Line<'a> {
    Relation(Relation<'a>, i64),
    Answer(i64),
    Other,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        if let Some(n) = answer_line(text) {
            return Self::Answer(n);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match Relation::parse(&words) {
            Some((relation, [value])) => integer(value).map_or(Self::Other, |v| Self::Relation(relation, v)),
            _ => Self::Other,
        }
    }
}

/// See [`super::criteria`]; `None` if the question isn't understood.
pub(super) fn criteria(question: &str, thoughts: &[&str]) -> Option<Vec<Criteria>> {
    let question = Question::parse(question)?;
    let (mut person, mut value) = question.start;
    let mut visited = HashSet::from([person]);
    let (mut lines, mut answered) = (0, false);
    let judged = thoughts.iter().enumerate().map(|(i, thought)| match Line::parse(thought) {
        Line::Relation(relation, stated) => {
            let is_last = i + 1 == thoughts.len();
            let verdict = Criteria {
                coherence: !answered && relation.from == person && question.relations.contains(&relation),
                accuracy: relation.operation.apply(value) == Some(stated),
                completeness: !answered
                    && !is_last
                    && person != question.asked
                    && !visited.contains(relation.to),
            };
            // The next line continues from what is written, right or wrong: each verdict stays
            // local.
            (person, value) = (relation.to, stated);
            visited.insert(person);
            lines += 1;
            verdict
        }
        Line::Answer(stated) => {
            let verdict = Criteria {
                coherence: lines > 0 && !answered,
                accuracy: stated == value,
                completeness: !answered && person == question.asked,
            };
            answered = true;
            verdict
        }
        Line::Other => Criteria { coherence: false, accuracy: false, completeness: false },
    });
    Some(judged.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str =
        "Tina plus 2 is Cora. Paul minus 5 is Tina. Ana twice is Tom. Cora minus 5 is Ana. Paul has 16. Ana?";

    /// Verdicts as text, one word per thought: letters of the criteria that hold.
    fn verdicts(thoughts: &str) -> String {
        let thoughts: Vec<&str> = thoughts.split_inclusive('\n').collect();
        let judged = criteria(QUESTION, &thoughts).unwrap();
        let letter = |holds: bool, letter: &'static str| if holds { letter } else { "-" };
        judged
            .iter()
            .map(|c| {
                [letter(c.coherence, "c"), letter(c.accuracy, "a"), letter(c.completeness, "k")].concat()
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_right_chain_is_right_in_every_criterion() {
        let gold = "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nA: 8";
        assert_eq!(verdicts(gold), "cak cak cak cak");
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        // A wrong sum: the lines that continue from it are right.
        let wrong_sum = "Paul minus 5 is Tina 12\nTina plus 2 is Cora 14\nCora minus 5 is Ana 9\nA: 9";
        assert_eq!(verdicts(wrong_sum), "c-k cak cak cak");
        // A relation that isn't in the question.
        let misquoted = "Paul minus 5 is Tina 11\nTina plus 3 is Cora 14\nCora minus 5 is Ana 9\nA: 9";
        assert_eq!(verdicts(misquoted), "cak -ak cak cak");
        // A relation of somebody else.
        let jumped = "Paul minus 5 is Tina 11\nCora minus 5 is Ana 6\nA: 6";
        assert_eq!(verdicts(jumped), "cak -ak cak");
        // Stopped before the person asked for, by an answer or by an end.
        assert_eq!(verdicts("Paul minus 5 is Tina 11\nA: 11"), "cak ca-");
        assert_eq!(verdicts("Paul minus 5 is Tina 11\n"), "ca-");
        // Went on past the person asked for.
        let past = "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nAna twice is Tom 16\nA: 16";
        assert_eq!(verdicts(past), "cak cak cak ca- ca-");
        // Went on after the answer.
        assert_eq!(
            verdicts("Paul minus 5 is Tina 11\nA: 11\nTina plus 2 is Cora 13\nA: 13"),
            "cak ca- -a- -a-"
        );
        // Repeats itself.
        assert_eq!(
            verdicts("Paul minus 5 is Tina 11\nPaul minus 5 is Tina 6\nTina plus 2 is Cora 8\n"),
            "cak -a- ca-"
        );
        // An answer that isn't the value reached, an answer out of nothing, and lines that say
        // nothing.
        assert_eq!(verdicts("Paul minus 5 is Tina 11\nA: 12"), "cak c--");
        assert_eq!(verdicts("A: 16"), "-a-");
        assert_eq!(verdicts("hm\n\nPaul minus 5 is Tina\n"), "--- --- ---");
    }

    #[test]
    fn questions_that_are_not_understood_are_refused() {
        for question in [
            "",
            "Ana?",
            "Paul has 16.",
            "Paul has 16. Ana has 3. Ana?",
            "Paul has 16. Paul likes Ana. Ana?",
            "Paul has 16. Paul plus 2 is Ana 18. Ana?",
            "Paul has x. Ana?",
        ] {
            assert!(criteria(question, &["A: 1"]).is_none(), "{question}");
        }
    }

    #[test]
    fn overflow_is_inaccurate() {
        let question = "Paul times 9223372036854775807 is Ana. Paul has 16. Ana?";
        let judged = criteria(question, &["Paul times 9223372036854775807 is Ana 1"]).unwrap();
        assert!(!judged[0].accuracy && judged[0].coherence);
    }
}
