//! Files of every format, as they are published, broken and arbitrary.

mod overlap;
mod written;

use proptest::prelude::*;

use super::{read as read_files, *};
use crate::config::Config;
use crate::domain::TaskKind;

fn config(pairs: &[(&str, &str)]) -> TasksConfig {
    let file = [("tasks.kind", "file"), ("tasks.file", "x")];
    let pairs = file.iter().chain(pairs).map(|(key, value)| (key.to_string(), value.to_string()));
    Config::load(None, &pairs.collect::<Vec<_>>()).unwrap().tasks
}

fn file(name: &str, contents: impl Into<Vec<u8>>) -> SourceFile {
    SourceFile { name: name.into(), contents: contents.into(), heldout: false, rows: Vec::new() }
}

fn read(contents: &str, name: &str, seed: u64) -> Result<Vec<Task>> {
    let cfg = TasksConfig { seed, ..config(&[]) };
    read_files(&cfg, vec![file(name, contents)]).map(|(tasks, _)| tasks)
}

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
        r#"{"question": "i?", "split": "easy"}"#,
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
        "line 13: the level is -1",
        "line 14: it has neither an answer nor a split",
        "line 15: a row of split `heldout` needs an answer: \"{\\\"question\\\": \\\"h?",
        "line 16: a row of split `easy` needs an answer",
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

fn published(name: &str, contents: &str) -> (Vec<Task>, Report) {
    read_files(&config(&[]), vec![file(name, contents)]).unwrap_or_else(|error| panic!("{error:#}"))
}

/// `count` rows made by `row`, one per line.
fn rows(count: usize, row: impl Fn(usize) -> serde_json::Value) -> String {
    (0..count).map(|i| format!("{}\n", row(i))).collect()
}

/// The task whose question contains `part`.
fn asking<'t>(tasks: &'t [Task], part: &str) -> &'t Task {
    tasks.iter().find(|task| task.question.contains(part)).unwrap_or_else(|| panic!("no task asks {part:?}"))
}

#[test]
fn published_lines_are_recognised_and_read() {
    let cases = [
        (
            rows(
                60,
                |i| serde_json::json!({ "question": format!("q {i}?"), "answer": format!("{i} is <<{i}=1>>{i}.\n#### 1,{i:03}") }),
            ),
            (TaskFormat::Gsm8k, TaskKind::Number, "q 7?", "1,007"),
        ),
        (
            rows(60, |i| {
                serde_json::json!({ "problem": format!("p {i}?"), "level": "Level 5", "type": "Algebra",
                                             "solution": format!("so $\\boxed{{\\frac{{{i}}}{{2}}}}$.") })
            }),
            (TaskFormat::Math, TaskKind::Math, "p 7?", "\\frac{7}{2}"),
        ),
        (
            rows(
                60,
                |i| serde_json::json!({ "question": format!("q {i}?"), "choices": ["x", "y", "z"], "answer": i % 3, "subject": "s" }),
            ),
            (TaskFormat::Mmlu, TaskKind::Choice, "q 7?\n(A) x\n(B) y\n(C) z", "B"),
        ),
        (
            rows(60, |i| {
                serde_json::json!({ "id": "i", "answerKey": "2", "question": { "stem": format!("s {i}?"),
                "choices": [{ "label": "1", "text": "x" }, { "label": "2", "text": "y" }] } })
            }),
            (TaskFormat::Arc, TaskKind::Choice, "s 7?\n(A) x\n(B) y", "B"),
        ),
        (
            rows(60, |i| {
                serde_json::json!({ "question": format!("s {i}?"), "question_concept": "c", "answerKey": "A",
                "choices": { "label": ["A", "B"], "text": ["x", "y"] } })
            }),
            (TaskFormat::CommonsenseQa, TaskKind::Choice, "s 7?\n(A) x\n(B) y", "A"),
        ),
        (
            rows(60, |i| {
                serde_json::json!({ "task_id": "t", "prompt": format!("def f{i}():\n"), "entry_point": format!("f{i}"),
                "canonical_solution": "    pass\n", "test": "def check(f):\n    assert f()\n\n" })
            }),
            (
                TaskFormat::HumanEval,
                TaskKind::Code,
                "def f7()",
                "def check(f):\n    assert f()\n\ncheck(f7)\n",
            ),
        ),
    ];
    for (contents, (format, kind, question, answer)) in cases {
        let (tasks, report) = published("x.jsonl", &contents);
        assert_eq!((report.files[0].format, report.files[0].rows, tasks.len()), (format, 60, 60));
        assert!(report.files[0].recognised_by.is_some());
        let task = asking(&tasks, question);
        assert_eq!((task.kind, task.answer.as_deref()), (kind, Some(answer)), "{format:?}");
        assert_eq!(task.id, format!("{}/{}/000008", format.name(), task.split));
        assert!(tasks.iter().any(|task| task.split == Split::Easy), "{format:?}");
        // The same rows in one list, and packed.
        let list = format!("[{}]", contents.lines().collect::<Vec<_>>().join(",\n"));
        assert_eq!(published("x.json", &list).0, tasks);
    }
}

#[test]
fn tables_and_lists_of_examples_are_read() {
    let csv: String = (0..60)
        .map(|i| format!("\"q {i}, with \"\"quotes\"\"?\",x,\"y\nz\",w,v,{}\n", ["A", "D"][i % 2]))
        .collect();
    let (tasks, report) = published("abstract_algebra_test.csv", &csv);
    assert_eq!((report.files[0].format, tasks.len()), (TaskFormat::Mmlu, 60));
    let task = asking(&tasks, "q 7, with \"quotes\"?\n(A) x\n(B) y\nz\n(C) w\n(D) v");
    assert_eq!((task.answer.as_deref(), task.id.rsplit('/').next()), (Some("D"), Some("000015")));
    let (headed, _) = published(
        "x.csv",
        &format!(
            "id,prompt,A,B,answer\n{}",
            (0..60).map(|i| format!("{i},p {i}?,x,y,B\n")).collect::<String>()
        ),
    );
    assert_eq!(asking(&headed, "p 7?\n(A) x\n(B) y").answer.as_deref(), Some("B"));

    let header = "Rank,Puzzles,AMT (s)\n";
    let (tasks, report) = published(
        "24.csv",
        &(header.to_owned() + &(1..200).map(|i| format!("{i},1 1 4 {i},4.4\n")).collect::<String>()),
    );
    assert_eq!((report.files[0].format, tasks.len()), (TaskFormat::Game24, 199));
    let task = asking(&tasks, "Use 1 1 4 107 to make 24.");
    assert_eq!((task.kind, task.level, task.answer.as_deref()), (TaskKind::Game24, 2, Some("24")));

    for (targets, kind, answer) in [
        (["(A)", "(B)"], TaskKind::Choice, "B"),
        (["-12", "7"], TaskKind::Number, "7"),
        (["True", "not (B)"], TaskKind::Exact, "not (B)"),
    ] {
        let examples: Vec<_> = (0..60)
            .map(|i| serde_json::json!({ "input": format!("i {i}?"), "target": targets[i % 2] }))
            .collect();
        let contents =
            serde_json::to_string_pretty(&serde_json::json!({ "canary": "c", "examples": examples }))
                .unwrap();
        let (tasks, report) = published("some_task.json", &contents);
        assert_eq!((report.files[0].format, tasks.len()), (TaskFormat::Bbh, 60));
        let task = asking(&tasks, "i 7?");
        assert_eq!((task.kind, task.answer.as_deref()), (kind, Some(answer)));
    }
}

#[test]
fn solutions_of_gsm8k_are_told_as_the_prompts_ask() {
    let row = |i: usize| serde_json::json!({ "question": format!("q {i}?"), "answer": "2*3=<<2*3=6>>6\n4+6=<<4+6=10>>10\n#### 10" });
    let (tasks, _) = published("x.jsonl", &rows(60, row));
    let solution = tasks.iter().find_map(|task| task.solution.clone()).unwrap();
    assert_eq!(solution, "2*3=6\n4+6=10\nThe answer is 10.");
    assert!(tasks.iter().all(|t| t.solution.is_some() == matches!(t.split, Split::Easy | Split::Anchor)));
}

#[test]
fn broken_published_rows_are_listed_too() {
    let problem = |contents: &str| format!("{:#}", read(contents, "x", 1).unwrap_err());
    let good =
        rows(3, |i| serde_json::json!({ "question": format!("q {i}?"), "choices": ["x", "y"], "answer": 0 }));
    let bad = [
        r#"{"question": "a?", "choices": ["x"], "answer": 0}"#,
        r#"{"question": "b?", "choices": ["x", "y"], "answer": 2}"#,
        r#"{"question": "c?", "choices": ["x", "y"], "answer": "Z"}"#,
        r#"{"question": "d?", "choices": "xy", "answer": 0}"#,
        r#"{"choices": ["x", "y"], "answer": 0}"#,
    ];
    let message = problem(&(good + &bad.join("\n")));
    for part in [
        "read as mmlu, because it has a list of `choices`",
        "line 4: it has 1 choices",
        "line 5: the answer 2 is none of its 2 choices (answers are indexes from 0)",
        "line 6: the answer \"Z\" is none of its 2",
        "line 7: the choices are not a list",
        "line 8: there is no question",
    ] {
        assert!(message.contains(part), "{part} not in {message}");
    }
    let cfg = config(&[("tasks.format", "bbh")]);
    let error = format!("{:#}", read_files(&cfg, vec![file("x", "{}")]).unwrap_err());
    assert!(error.contains("x is not a bbh file") && error.contains("examples"), "{error}");
    let puzzles = problem("Rank,Puzzles\n1,4 x 4\n2,\n");
    assert!(puzzles.contains("line 2: the puzzle \"4 x 4\"") && puzzles.contains("line 3"), "{puzzles}");
}

#[test]
fn other_peoples_fields_are_read_by_name() {
    let fields = [
        ("tasks.fields.question", "item.stem"),
        ("tasks.fields.choices", "options"),
        ("tasks.fields.answer", "gold"),
        ("tasks.fields.level", "grade"),
        ("tasks.fields.split", "set"),
    ];
    let row = |i: usize| {
        let set = ["train", "validation", "test", "easy"][i % 4];
        serde_json::json!({ "item": { "stem": format!("s {i}?") }, "options": ["x", "y"], "gold": "y", "grade": "Level 3", "set": set, "more": [1] })
    };
    let (tasks, report) = read_files(&config(&fields), vec![file("x", rows(8, row))]).unwrap();
    let task = asking(&tasks, "s 2?\n(A) x\n(B) y");
    assert_eq!(
        (task.kind, task.answer.as_deref(), task.level, task.split),
        (TaskKind::Choice, Some("B"), 3, Split::HeldOut)
    );
    assert_eq!((task.id.as_str(), report.files[0].format), ("text/heldout/000003", TaskFormat::Jsonl));
    let numbers = [("tasks.fields.question", "q"), ("tasks.fields.answer", "a"), ("tasks.answer", "number")];
    let row = |i: usize| serde_json::json!({ "q": format!("q {i}?"), "a": i, "x": null });
    let (tasks, _) = read_files(&config(&numbers), vec![file("x", rows(60, row))]).unwrap();
    assert_eq!(
        (asking(&tasks, "q 7?").kind, asking(&tasks, "q 7?").answer.as_deref()),
        (TaskKind::Number, Some("7"))
    );
    let error = format!(
        "{:#}",
        read_files(&config(&numbers), vec![file("x", r#"{"question": "a?", "a": 1}"#)]).unwrap_err()
    );
    assert!(error.contains("line 1: there is no q"), "{error}");
}

#[test]
fn golds_that_no_answer_equals_are_listed() {
    for (form, gold, reason) in [
        ("number", "unknown", "the answer \"unknown\" can't be read as a number"),
        ("choice", "Paris", "the answer \"Paris\" can't be read as the letter of a choice"),
        ("exact", "...", "the answer \"...\" can't be read as words"),
    ] {
        let good = if form == "choice" { "B" } else { "5" };
        let row = |answer: &str| serde_json::json!({ "question": format!("{answer}?"), "answer": answer });
        let contents = format!("{}\n{}\n", row(good), row(gold));
        let error = format!(
            "{:#}",
            read_files(&config(&[("tasks.answer", form)]), vec![file("x", contents)]).unwrap_err()
        );
        assert!(error.contains(&format!("line 2: {reason}")), "{error}");
    }
}

#[test]
fn files_of_their_own_are_held_out_and_packed_ones_unpacked() {
    use std::io::Write;
    let gsm8k = |from: usize| {
        rows(
            60,
            move |i| serde_json::json!({ "question": format!("q {}?", from + i), "answer": "x\n#### 1" }),
        )
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(gsm8k(1000).as_bytes()).unwrap();
    let zstd =
        ruzstd::encoding::compress_to_vec(gsm8k(0).as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
    let heldout = SourceFile { heldout: true, ..file("b/data.jsonl.gz", gzip.finish().unwrap()) };
    let (tasks, report) = read_files(&config(&[]), vec![file("a/data.jsonl.zst", zstd), heldout]).unwrap();
    assert_eq!(report.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [60, 60]);
    let held: Vec<&Task> = tasks.iter().filter(|task| task.split == Split::HeldOut).collect();
    assert_eq!(held.len(), 60);
    assert!(
        held.iter()
            .all(|task| task.question.starts_with("q 10") && task.id.starts_with("gsm8k/data-2/heldout/"))
    );
    assert!(tasks.iter().any(|task| task.id.starts_with("gsm8k/data/train/")));
    for broken in [&[0x1f, 0x8b, 1][..], &[0x28, 0xb5, 0x2f, 0xfd, 9, 9][..]] {
        let error = format!("{:#}", read_files(&config(&[]), vec![file("x.gz", broken)]).unwrap_err());
        assert!(error.contains("x.gz can't be unpacked"), "{error}");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_is_refused_with_a_way_out() {
    let error = format!("{:#}", read_files(&config(&[]), vec![file("x.parquet", "PAR1")]).unwrap_err());
    assert!(error.contains("x.parquet is a Parquet file") && error.contains("--features parquet"), "{error}");
}

#[test]
fn a_limit_per_split_takes_the_same_rows_whatever_stands_beside_them() {
    let row = |i: usize| serde_json::json!({ "question": format!("q {i}?"), "answer": "x\n#### 1" });
    let read =
        |count| read_files(&config(&[("tasks.split_max", "5")]), vec![file("x", rows(count, row))]).unwrap();
    let (tasks, report) = read(400);
    assert_eq!((tasks.len(), report.beyond_max), (25, 375));
    assert_eq!(tasks, read(400).0);
}

#[test]
fn questions_asked_twice_in_a_published_file_are_reported() {
    let row = |i: usize| serde_json::json!({ "question": format!("q {}?", i % 60), "answer": "x\n#### 1" });
    let (tasks, report) = published("x.jsonl", &rows(61, row));
    assert_eq!(
        (tasks.len(), report.repeated.as_slice()),
        (60, &["x.jsonl, line 61: asks what line 1 asks".to_owned()][..])
    );
}

proptest! {
    #[test]
    fn any_contents_give_tasks_or_an_error(lines in prop::collection::vec(any::<String>(), 0..5), cut: usize) {
        let _ = read(&lines.join("\n"), "x", 1);
        let end = (0..=cut % (GOOD.len() + 1)).rev().find(|&i| GOOD.is_char_boundary(i)).unwrap_or(0);
        let _ = read(&GOOD[..end], "x", 1);
    }

    #[test]
    fn any_bytes_of_any_format_are_tasks_or_an_error(
        bytes: Vec<u8>, text: String, format in prop::sample::select(vec!["auto", "jsonl", "gsm8k", "math", "mmlu",
        "commonsenseqa", "arc", "bbh", "humaneval", "game24"]), magic in prop::sample::select(vec![0, 1, 2]),
    ) {
        let cfg = config(&[("tasks.format", format)]);
        let packed = [&[][..], &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd]][magic];
        let _ = read_files(&cfg, vec![file("x.csv", [packed, &bytes].concat())]);
        let _ = read_files(&cfg, vec![file("x.csv", text.as_str())]);
        for near in [
            r#"{"question": "q", "answer": "T", "choices": ["T", 1], "answerKey": "T", "problem": "T", "solution": "\\boxed{T", "target": []}"#,
            r#"{"examples": [{"input": "T", "target": "T"}]}"#, "Rank,Puzzles\nT,T\n", "T,T,T,A\nT,\"T,A\n",
        ] {
            let escaped = serde_json::to_string(&text).unwrap();
            let _ = read_files(&cfg, vec![file("x.csv", near.replace('T', &escaped[1..escaped.len() - 1]))]);
        }
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
