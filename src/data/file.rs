//! Tasks from a JSONL file: `{"question", "answer", "level", "split", "solution"}`, one object per line.
//!
//! Nothing is dropped silently: every unusable row is reported, with its line, its value and the reason. Rows
//! without a split get one from a hash of their question, so adding rows moves no other row.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::normalised_question;
use crate::domain::{Split, Task, TaskKind};

/// Most problems that are spelled out; the rest is counted.
const PROBLEMS_SHOWN: usize = 20;

/// Longest question, answer or solution, in bytes.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// Most of a value that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// Whole numbers below this one are exact as 64-bit floats.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A line as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    question: String,
    answer: Option<serde_json::Value>,
    #[serde(default = "one")]
    level: u32,
    split: Option<Split>,
    solution: Option<String>,
}

/// A line that can be used.
struct Row {
    question: String,
    answer: Option<String>,
    level: u32,
    split: Option<Split>,
    solution: Option<String>,
}

fn one() -> u32 {
    1
}

/// The text of a file, or an error that names the line with the first byte that isn't UTF-8.
pub fn utf8<'a>(contents: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(contents).map_err(|error| {
        let good = &contents[..error.valid_up_to()];
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = contents[error.valid_up_to()];
        anyhow!("{name}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")
    })
}

/// Reads the tasks of file `name`, of which `contents` is the text.
pub(super) fn read(contents: &str, name: &str, seed: u64) -> Result<Vec<Task>> {
    let text = contents.strip_prefix('\u{feff}').unwrap_or(contents);
    ensure!(!text.is_empty(), "{name} is empty (0 bytes); write one JSON object per line");
    let (mut tasks, mut problems) = (Vec::new(), Vec::new());
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let row = parse_row(line).and_then(|row| {
            let first = *seen.entry(normalised_question(&row.question)).or_insert(number);
            ensure!(first == number, "the same question as line {first}");
            Ok(row)
        });
        match row {
            Ok(row) => tasks.push(task(row, number, seed)),
            Err(problem) => problems.push(format!("line {number}: {problem:#}: {}", quoted(line))),
        }
    }
    if !problems.is_empty() {
        bail!("{name}: {} of its rows can't be used:{}", problems.len(), listed(&problems));
    }
    ensure!(!tasks.is_empty(), "{name} has only blank lines; write one JSON object per line");
    check_splits(&tasks, name)?;
    tasks.sort_by_key(|task: &Task| task.split);
    Ok(tasks)
}

fn listed(problems: &[String]) -> String {
    let mut text: String = problems.iter().take(PROBLEMS_SHOWN).map(|p| format!("\n  - {p}")).collect();
    if problems.len() > PROBLEMS_SHOWN {
        let _ = write!(text, "\n  - and {} more", problems.len() - PROBLEMS_SHOWN);
    }
    text
}

fn quoted(value: &str) -> String {
    let short: String = value.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if short.len() < value.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

fn parse_row(line: &str) -> Result<Row> {
    ensure!(line.trim_start().starts_with('{'), "not a JSON object");
    // Within a line, serde_json's line number is always 1 and would mislead.
    let raw: RawRow = serde_json::from_str(line)
        .map_err(|error| anyhow!("{}", error.to_string().replace(" at line 1 column", " at column")))?;
    let RawRow { question, answer, level, split, solution } = raw;
    let row = Row { question, answer: answer.map(answer_text).transpose()?, level, split, solution };
    let fields = [
        ("question", Some(&row.question)),
        ("answer", row.answer.as_ref()),
        ("solution", row.solution.as_ref()),
    ];
    for (field, value) in fields.into_iter().filter_map(|(field, value)| Some((field, value?))) {
        let bytes = value.len();
        ensure!(!value.trim().is_empty(), "the {field} is empty");
        ensure!(bytes <= FIELD_BYTES_MAX, "the {field} has {bytes} bytes; at most {FIELD_BYTES_MAX}");
    }
    check_labels(&row)?;
    Ok(row)
}

/// Answers are texts; numbers are welcome as long as reading them loses no digit.
fn answer_text(answer: serde_json::Value) -> Result<String> {
    use serde_json::Value;
    let exact = |number: &serde_json::Number| {
        number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|f| f.abs() < EXACT_BELOW)
    };
    match answer {
        Value::String(text) => Ok(text),
        Value::Number(number) if exact(&number) => Ok(number.to_string()),
        Value::Number(number) => bail!("the answer {number} is too large for a number; write it as a text"),
        _ => bail!("the answer is neither a text nor a number"),
    }
}

/// What each split needs: labels where it measures or teaches.
fn check_labels(row: &Row) -> Result<()> {
    let Some(split) = row.split else {
        ensure!(
            row.answer.is_some(),
            "it has neither an answer nor a split; only `train` rows can do without"
        );
        return Ok(());
    };
    ensure!(row.answer.is_some() || split == Split::Train, "a row of split `{split}` needs an answer");
    ensure!(
        row.solution.is_some() || split != Split::Easy,
        "a row of split `easy` needs a solution to learn from"
    );
    Ok(())
}

fn task(row: Row, line: usize, seed: u64) -> Task {
    let split = row.split.unwrap_or_else(|| assigned(&row.question, seed));
    Task {
        id: format!("text/{split}/{line:06}"),
        kind: TaskKind::Text,
        split,
        level: row.level,
        question: row.question,
        answer: row.answer,
        // Only labelled easy tasks may show how they are solved.
        solution: row.solution.filter(|_| matches!(split, Split::Easy | Split::Anchor)),
    }
}

/// Train, gate or held-out, in proportions 6 : 2 : 2, by a hash of the question.
fn assigned(question: &str, seed: u64) -> Split {
    let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 split of a task v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(normalised_question(question).as_bytes());
    match hasher.finalize().as_bytes()[0] % 10 {
        0..6 => Split::Train,
        6..8 => Split::Gate,
        _ => Split::HeldOut,
    }
}

/// The loop can't run without tasks to practise on and tasks to measure with.
fn check_splits(tasks: &[Task], name: &str) -> Result<()> {
    let missing: Vec<&str> = [Split::Train, Split::Gate, Split::HeldOut]
        .into_iter()
        .filter(|&split| !tasks.iter().any(|task| task.split == split))
        .map(Split::name)
        .collect();
    if !missing.is_empty() {
        bail!(
            "{name} has {} usable rows and none in split {}; add rows, or give them \"split\"",
            tasks.len(),
            missing.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                ids,
                ["text/easy/000001", "text/train/000005", "text/gate/000003", "text/heldout/000004"]
            );
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
            "line 17: the answer 1.2345678901234569e+23 is too large",
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
}
