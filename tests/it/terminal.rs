//! What goes to terminals: readers that go away, and text that nobody vouches for.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::crash::small;
use crate::sandbox::{Outcome, Sandbox};

/// A run of the script, which takes a moment.
fn run() -> Vec<&'static str> {
    small(&["run", "--policy", "scripted"])
}

/// Clears the screen, sets the title, begins a control sequence with one character, turns the
/// direction around, deletes.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}\x7f";

fn is_clean(outcome: &Outcome) -> bool {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !outcome.stdout.contains(acts) && !outcome.stderr.contains(acts)
}

#[test]
fn a_run_goes_on_without_a_reader() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.command(&run()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // As `run 2>&1 | head -1` does, and a `tee` that was killed.
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    assert_eq!(report["state"], "done", "{report}");
    assert!(sandbox.run(&["verify"]).success().contains("everything checks out"));
}

#[test]
fn reports_end_quietly_where_nobody_reads() {
    let sandbox = Sandbox::new();
    sandbox.run(&run()).success();
    for args in [&["inspect", "iteration", "1"][..], &["verify"], &["inspect", "runs", "--json"]] {
        let mut child = sandbox.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    }
}

#[test]
fn errors_show_hostile_names_as_escapes() {
    let sandbox = Sandbox::new();
    let task = serde_json::json!({ format!("q{HOSTILE}"): "1 + 1?", "answer": "2" });
    fs::write(sandbox.path().join("tasks.jsonl"), format!("{task}\n")).unwrap();
    let model = sandbox.path().join("model");
    fs::create_dir(&model).unwrap();
    let config = serde_json::json!({ "model_type": HOSTILE, "architectures": [HOSTILE] });
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let key = format!("--set=run.{HOSTILE}=1");
    let fields = format!("--set=tasks.fields={{question = {}}}", Value::from(HOSTILE));
    let file = ["--set=tasks.kind=file", "--set=tasks.file=tasks.jsonl"];
    let path = format!("--set=model.path={HOSTILE}");
    let cases: [&[&str]; 6] = [
        &["doctor", &key],
        &["doctor", file[0], file[1]],
        &["doctor", file[0], file[1], &fields],
        &["run", "--set=model.path=model"],
        &["run", &path],
        &["eval", "--model", HOSTILE],
    ];
    for args in cases {
        let outcome = sandbox.run(args);
        assert!(is_clean(&outcome), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains("\\u{1b}") || outcome.code != Some(0), "{args:?}: {outcome:?}");
    }
}

#[test]
fn json_escapes_what_a_terminal_acts_on_and_keeps_the_value() {
    let sandbox = Sandbox::new();
    let query = format!("SELECT '{HOSTILE}' AS x");
    sandbox.run(&run()).success();
    let json = sandbox.run(&["inspect", "sql", &query, "--json"]);
    assert!(is_clean(&json), "{json:?}");
    let report: Value = serde_json::from_str(&json.success()).unwrap();
    assert!(report.to_string().contains("owned"), "{report}");
    assert_eq!(report[0]["x"], HOSTILE, "{report}");
    let text = sandbox.run(&["inspect", "sql", &query]);
    assert!(is_clean(&text), "{text:?}");
    assert!(text.success().contains("\\u{1b}[2J"));
}

#[test]
fn input_is_bounded_in_length_and_number() {
    let sandbox = Sandbox::new();
    let long = format!("{{\"text\": \"{}\"}}\n", "x".repeat(17 << 20));
    fs::write(sandbox.path().join("long.jsonl"), &long).unwrap();
    for command in [&["generate"][..], &["logprobs"], &["grade", "--kind", "number"]] {
        let outcome = sandbox.run(&[command, &["long.jsonl"]].concat());
        assert_eq!(outcome.code, Some(1), "{command:?}");
        assert!(outcome.stderr.contains("line 1 has more than 16777216 bytes"), "{}", outcome.stderr);
    }
    fs::write(sandbox.path().join("many"), "a\n".repeat(200)).unwrap();
    assert_eq!(sandbox.run(&["generate", "--samples", "4000000000", "many"]).code, Some(2));
    let many = sandbox.run(&["generate", "--samples", "100000", "many"]);
    assert_eq!(many.code, Some(1));
    assert!(many.stderr.contains("20000000 trajectories; at most 10000000"), "{}", many.stderr);
}
