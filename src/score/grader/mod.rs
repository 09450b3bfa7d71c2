//! Graders: verdicts on answers and on single thoughts of tasks whose gold answer or solution is
//! known.
//!
//! Pure functions; what an answer is and when two are equal is [`crate::answer`]'s business. Left
//! out: execution of model output, so code has no verdict.

mod countdown;
mod relations;

use crate::answer;
use crate::domain::{Criteria, Grade, ScoreError, Task, TaskKind};
use crate::profile::{self, Operator};

/// Compares a normalised answer with the task's gold one: 1 if they are equal, else 0. A missing
/// answer is wrong.
///
/// # Errors
/// [`ScoreError::MissingInput`] if the task has nothing to compare with,
/// [`ScoreError::Unsupported`] for code.
pub fn grade(task: &Task, answer: Option<&str>) -> Grade {
    let value = match answer::is_right(task, answer) {
        Some(right) => Ok(f64::from(u8::from(right))),
        None if task.kind == TaskKind::Code => Err(ScoreError::Unsupported),
        None => Err(ScoreError::MissingInput),
    };
    Grade { value }
}

/// Judges every thought of a trajectory by what the question itself states, in order. For
/// relations:
///
/// - coherence: the line quotes a relation that is in the question and continues from the person of
///   the line before; an answer follows from at least one line and comes once;
/// - accuracy: the stated value is what the quoted relation makes of the value before; an answer
///   repeats the value before;
/// - completeness: the line reaches a person the chain hasn't been at; an answer stands where the
///   chain has reached the person asked for; a last line that isn't an answer is incomplete.
///
/// Countdown has the same three: the step joins two of the numbers at hand, its arithmetic is
/// right, and it isn't the end.
///
/// `None` for tasks without a gold solution (only labelled easy tasks have one), for questions that
/// aren't understood, and for free text. For a trajectory under a variant, pass the task with the
/// variant's question.
pub fn criteria(task: &Task, thoughts: &[&str]) -> Option<Vec<Criteria>> {
    let _span = profile::span(Operator::Grading);
    task.solution.as_ref()?;
    match task.kind {
        TaskKind::Relations => relations::criteria(&task.question, thoughts),
        TaskKind::Countdown => countdown::criteria(&task.question, thoughts),
        _ => None,
    }
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
    fn a_grade_is_one_zero_or_an_error_class() {
        let number = |gold| task(TaskKind::Number, "?", gold);
        assert_eq!(grade(&number(Some("8")), Some("8")).value, Ok(1.0));
        assert_eq!(grade(&number(Some("8")), Some("18")).value, Ok(0.0));
        assert_eq!(grade(&number(Some("8")), None).value, Ok(0.0));
        assert_eq!(grade(&number(None), Some("8")).value, Err(ScoreError::MissingInput));
        let code = task(TaskKind::Code, "?", Some("check(f)"));
        assert_eq!(grade(&code, None).value, Err(ScoreError::Unsupported));
        assert_eq!(grade(&code, None).correct(), None);
        assert_eq!(grade(&number(Some("8")), None).correct(), Some(false));
        assert!(grade(&number(Some("8")), Some("8")).is_right());
    }

    #[test]
    fn criteria_are_refused_without_a_solution() {
        let question = "Paul minus 5 is Tina. Paul has 16. Tina?";
        let mut task = task(TaskKind::Relations, question, Some("11"));
        assert_eq!(criteria(&task, &["Paul minus 5 is Tina 11\n", "A: 11"]), None);
        task.solution = Some("Paul minus 5 is Tina 11\nA: 11".into());
        let good = Criteria { coherence: true, accuracy: true, completeness: true };
        assert_eq!(criteria(&task, &["Paul minus 5 is Tina 11\n", "A: 11"]), Some(vec![good; 2]));
        task.kind = TaskKind::Text;
        assert_eq!(criteria(&task, &["A: 11"]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_thoughts_never_panic(
            question in "[A-Za-z0-9 .?+*/()=:-]{0,60}", text in "[A-Za-z0-9 .?+*/()=:\n-]{0,80}", wild in any::<String>(),
        ) {
            for &kind in TaskKind::ALL {
                for text in [&text, &wild] {
                    let mut task = task(kind, &question, Some(text));
                    task.solution = Some(String::new());
                    criteria(&task, &text.split_inclusive('\n').collect::<Vec<_>>());
                }
            }
        }
    }
}
