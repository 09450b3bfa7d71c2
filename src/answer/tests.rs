//! Answers of every kind, as people's models write them.

mod choices;
mod formulas;
mod numbers;
mod properties;
mod words;

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

/// Every text is read as the value; an empty value stands for no answer.
fn reads(kind: TaskKind, rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(text, value)| {
            let read = explain(kind, text);
            let right = read.as_deref().unwrap_or_default() == *value;
            (!right).then(|| format!("{text:?} is read as {read:?}, not {value:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} {kind} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn a_missing_answer_is_wrong_and_a_missing_gold_is_no_verdict() {
    for kind in [TaskKind::Relations, TaskKind::Text, TaskKind::Number] {
        assert_eq!(is_right(&task(kind, "?", Some("8")), Some("8")), Some(true));
        assert_eq!(is_right(&task(kind, "?", Some(" 08 ")), Some("8")), Some(true));
        assert_eq!(is_right(&task(kind, "?", Some("8")), Some("18")), Some(false));
        assert_eq!(is_right(&task(kind, "?", Some("8")), None), Some(false));
        assert_eq!(is_right(&task(kind, "?", None), Some("8")), None);
    }
}

#[test]
fn code_has_no_answer_and_no_verdict() {
    assert_eq!(read(TaskKind::Code, "return 1"), None);
    assert_eq!(is_right(&task(TaskKind::Code, "?", Some("check(f)")), None), None);
}

#[test]
fn an_endless_answer_is_none() {
    assert_eq!(read(TaskKind::Text, &"x".repeat(ANSWER_BYTES_MAX + 1)), None);
}

/// Text near the formats, so that the interesting branches are reached.
fn near_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("A:".to_string()),
        Just("A: 12".to_string()),
        Just("#### ".to_string()),
        Just("\\boxed{".to_string()),
        Just("\\frac{1}{".to_string()),
        Just("}".to_string()),
        Just("Paul plus 3 is Ana".to_string()),
        Just(" 99999999999999999999 ".to_string()),
        Just("(".to_string()),
        Just("3*5/0".to_string()),
        Just("\n".to_string()),
        Just("The answer is ".to_string()),
        Just("\\text{".to_string()),
        Just("\\sqrt".to_string()),
        Just("-$1,234.5".to_string()),
        Just("(B)".to_string()),
        Just("**".to_string()),
        Just("= ".to_string()),
        ".{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in near_text(), question in near_text(), wild in any::<String>()) {
        for &kind in TaskKind::ALL {
            for text in [&text, &wild] {
                let read = super::read(kind, text);
                is_right(&task(kind, &question, Some(text)), read.as_deref());
            }
        }
    }

    #[test]
    fn reading_an_answer_again_changes_nothing(text in near_text()) {
        for kind in [TaskKind::Relations, TaskKind::Countdown] {
            if let Some(read) = super::read(kind, &text) {
                prop_assert_eq!(super::read(kind, &format!("A: {read}")), Some(read));
            }
        }
        for kind in [TaskKind::Number, TaskKind::Choice, TaskKind::Game24] {
            if let Some(read) = super::read(kind, &text) {
                prop_assert_eq!(super::read(kind, &format!("The answer is {read}")), Some(read));
            }
        }
        if let Ok(read) = text::answer(&text) {
            prop_assert_eq!(text::normalised(&read), Some(read));
        }
    }
}
