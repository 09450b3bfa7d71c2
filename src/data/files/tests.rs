//! Files of every format, as they are published, broken and arbitrary.

use proptest::prelude::*;

use super::*;

const GOOD: &str = concat!(
    r#"{"question": "1 + 1?", "answer": "2", "split": "easy", "solution": "1 + 1 is 2\nA: 2", "level": 3}"#,
    "\r\n\n",
    r#"{"question": "2 + 2?", "answer": 4, "split": "gate"}"#,
    "\n",
    r#"{"question": "3 + 3?", "answer": "6", "split": "heldout", "solution": "hidden"}"#,
    "\n",
    r#"{"question": "Wie heißt du? 🙂", "split": "train"}"#,
);

fn problem(contents: &str) -> String {
    format!("{:#}", read(contents, "tasks.jsonl", 1).unwrap_err())
}

#[test]
fn rows_become_tasks_with_their_line_in_the_id() {
    for contents in [GOOD.to_owned(), format!("\u{feff}{GOOD}\n")] {
        let tasks = read(&contents, "tasks.jsonl", 1).unwrap();
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["text/easy/000001", "text/train/000005", "text/gate/000003", "text/heldout/000004"]);
        assert_eq!((tasks[0].level, tasks[0].answer.as_deref()), (3, Some("2")));
        assert_eq!((tasks[1].question.as_str(), &tasks[1].answer), ("Wie heißt du? 🙂", &None));
        assert_eq!((tasks[2].level, tasks[2].answer.as_deref()), (1, Some("4")));
        assert_eq!(tasks[3].solution, None, "only labelled easy tasks show their solution");
    }
}

#[test]
fn every_unusable_row_is_listed_with_line_value_and_reason() {
    let bad = [
        r#"{"answer": "2"}"#,
        r#"{"question": "a?", "answer": "2""#,
        r#"{"question": "  ", "answer": "2"}"#,
        r#"{"question": "b?", "answer": ""}"#,
        r#"{"question": "c?", "answer": ["2"]}"#,
        r#"{"question": "d?", "answer": "2", "split": "test"}"#,
        r#"{"question": "e?", "anwser": "2"}"#,
        r#"{"question": "f?", "answer": "2", "level": -1}"#,
        r#"{"question": "g?"}"#,
        r#"{"question": "h?", "split": "heldout"}"#,
        r#"{"question": "i?", "answer": "2", "split": "easy"}"#,
        r#"{"question": "j?", "answer": 123456789012345678901234}"#,
        r#"{"question": "2  +  2?", "answer": "2"}"#,
        "[1, 2]",
    ];
    let message = problem(&format!("{GOOD}\n{}", bad.join("\n")));
    let reasons = [
        "line 6: missing field `question`",
        "line 7: EOF",
        "line 8: the question is empty",
        "line 9: the answer is empty",
        "line 10: the answer is neither a text nor a number",
        "line 11: `test` is not one of easy, anchor, train, gate, heldout",
        "line 12: unknown field `anwser`",
        "line 13: invalid value: integer `-1`",
        "line 14: it has neither an answer nor a split",
        "line 15: a row of split `heldout` needs an answer: \"{\\\"question\\\": \\\"h?",
        "line 16: a row of split `easy` needs a solution",
        "line 17: the answer 1.2345678901234568e+23 is too large",
        "line 18: the same question as line 3",
        "line 19: not a JSON object: \"[1, 2]\"",
    ];
    for reason in reasons {
        assert!(message.contains(reason), "{reason} not in {message}");
    }
    assert!(message.contains("14 of its rows"), "{message}");
    let many = problem(&"nonsense\n".repeat(50));
    assert!(many.contains("and 30 more") && many.lines().count() == 22, "{many}");
}

#[test]
fn files_without_tasks_are_errors() {
    assert!(problem("").contains("is empty (0 bytes)"));
    assert!(problem(" \n\n").contains("only blank lines"));
    let no_gate = r#"{"question": "a?", "answer": "1", "split": "train"}"#;
    assert!(problem(no_gate).contains("none in split gate, heldout"), "{}", problem(no_gate));
    let error = utf8(b"{}\n{\"question\": \"\xff\"}", "tasks.jsonl").unwrap_err().to_string();
    assert!(error.contains("tasks.jsonl, line 2") && error.contains("0xff"), "{error}");
}

#[test]
fn rows_without_a_split_keep_theirs_whatever_stands_beside_them() {
    let row = |i: usize| format!("{{\"question\": \"question {i}?\", \"answer\": \"{i}\"}}\n");
    let all: String = (0..2000).map(row).collect();
    let half: String = (0..2000).filter(|i| i % 2 == 0).map(row).collect();
    let split_of = |contents: &str, seed| -> HashMap<String, Split> {
        let tasks = read(contents, "tasks.jsonl", seed).unwrap();
        tasks.into_iter().map(|task| (task.question, task.split)).collect()
    };
    let (of_all, of_half) = (split_of(&all, 1), split_of(&half, 1));
    assert!(of_half.iter().all(|(question, split)| of_all[question] == *split));
    assert_ne!(of_all, split_of(&all, 2));
    let count = |split| of_all.values().filter(|&&s| s == split).count();
    // 1200, 400 and 400 expected, standard deviations about 20.
    assert!((1100..1300).contains(&count(Split::Train)) && (320..480).contains(&count(Split::Gate)));
    assert!((320..480).contains(&count(Split::HeldOut)));
}

proptest! {
    #[test]
    fn any_contents_give_tasks_or_an_error(lines in prop::collection::vec(any::<String>(), 0..5), cut: usize) {
        let _ = read(&lines.join("\n"), "x", 1);
        let end = (0..=cut % (GOOD.len() + 1)).rev().find(|&i| GOOD.is_char_boundary(i)).unwrap_or(0);
        let _ = read(&GOOD[..end], "x", 1);
    }

    #[test]
    fn any_bytes_are_text_or_an_error(bytes: Vec<u8>) {
        prop_assert_eq!(utf8(&bytes, "x").is_ok(), std::str::from_utf8(&bytes).is_ok());
    }

    #[test]
    fn what_is_written_as_json_is_read_as_it_was(question in "\\PC{0,40}x", answer in "\\PC{0,20}y") {
        let row = |split: &str, question: &str| {
            let row = serde_json::json!({ "question": question, "answer": answer, "split": split });
            format!("{row}\n")
        };
        let contents = row("train", &question) + &row("gate", "g") + &row("heldout", "h");
        let tasks = read(&contents, "x", 1).unwrap();
        prop_assert_eq!((&tasks[0].question, tasks[0].answer.as_ref()), (&question, Some(&answer)));
    }
}
