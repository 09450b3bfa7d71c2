//! `autodidact grade` through the program: verdicts as JSON lines, and errors that name their line.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{Outcome, Sandbox};

/// The program's verdicts on lines from standard input.
fn graded(kind: &str, lines: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let text = piped(kind, input.as_bytes()).success();
    text.lines().map(|line| serde_json::from_str(line).expect("a verdict")).collect()
}

fn piped(kind: &str, input: &[u8]) -> Outcome {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["grade", "--kind", kind]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // The program may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("all is written");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn every_kind_is_graded() {
    for (kind, text, answer, claimed, correct) in [
        ("number", "The answer is $2{,}500$.", "2500", Some("2500"), true),
        ("number", "The answer is 7, or 3 or 9.", "7", None, false),
        ("number", "The answer is 6.02e23", "6.02e23", Some("602000000000000000000000"), true),
        ("choice", "The answer is B, since (A) is too small.", "B", Some("B"), true),
        ("choice", "A bus is long (b) and wide.", "B", None, false),
        ("math", "\\boxed{x \\in (-\\infty, 6]}", "(-\\infty,6]", Some("(-\\infty,6]"), true),
        ("math", "\\boxed{n >= 8}", "n <= 8", Some("[8,\\infty)"), false),
        ("exact", "The answer is \"No\".", "No", Some("no"), true),
        ("auto", "**Final Answer:** 42 apples", "42", Some("42"), true),
        ("game24", "24 = (4 + 8) x [6 - 4]", "4 4 6 8", Some("(4+8)*(6-4)"), true),
    ] {
        let verdicts = graded(kind, &[serde_json::json!({ "text": text, "answer": answer })]);
        let [verdict] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(verdict["claimed"].as_str(), claimed, "{text}: {verdict}");
        assert_eq!(verdict["correct"].as_bool(), Some(correct), "{text}: {verdict}");
        assert!(verdict["why"].as_str().is_some_and(|why| !why.is_empty()), "{verdict}");
    }
}

#[test]
fn without_an_answer_the_claim_is_read() {
    let lines = [
        serde_json::json!({ "text": "The answer is 5." }),
        serde_json::json!({ "text": "<think>The answer is 5." }),
        serde_json::json!({ "text": "The answer is 5.", "answer": null, "id": 3 }),
    ];
    let verdicts = graded("number", &lines);
    let seen: Vec<_> = verdicts.iter().map(|v| (v["claimed"].as_str(), v["correct"].as_bool())).collect();
    assert_eq!(seen, [(Some("5"), None), (None, None), (Some("5"), None)]);
    assert_eq!(verdicts[1]["why"], "the thinking block is not closed");
}

#[test]
fn a_file_is_read_and_bad_lines_are_named() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path().join("x.jsonl"), "{\"text\": \"5\"}\n\n{\"text\": 5}\n").expect("a file");
    let outcome = sandbox.run(&["grade", "--kind", "number", "x.jsonl"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("line 3"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().count(), 1, "{}", outcome.stdout);
    for (args, code, part) in [
        (&["grade", "--kind", "poem"][..], 2, "poem"),
        (&["grade"], 2, "--kind"),
        (&["grade", "--kind", "number", "absent.jsonl"], 1, "absent.jsonl"),
    ] {
        let outcome = sandbox.run(args);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    assert!(piped("number", b"\xff\n").stderr.contains("line 1 is not UTF-8"));
}
