//! Countdown: verdicts on every thought of a solution.
//!
//! A thought is a step that joins two of the numbers at hand into one, such as `3+5=8`; the last is
//! the whole expression.

use crate::answer::countdown::{answer, numbers_and_target};
use crate::answer::integer;
use crate::domain::Criteria;
use crate::domain::expression::Expression;

/// See [`super::criteria`]; `None` if the question names no numbers and target. An answer is
/// accurate if it gives the target, and complete if it uses the given numbers; it follows from
/// steps that left one number.
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
                    accuracy: used.as_ref().is_some_and(|used| used.equals(target)),
                    completeness: used.is_some_and(|used| !answered && used.uses_exactly(&given)),
                };
                answered = true;
                verdict
            }
            (None, Some(step), Some(stated)) => {
                let used = step.numbers();
                let present = used.iter().all(|n| taken(&mut at_hand, *n));
                at_hand.push(stated);
                Criteria {
                    coherence: !answered && present && used.len() == 2,
                    accuracy: step.equals(stated),
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
