//! GGUF files through the built program: out of it, and into every command that takes a policy.

use std::fs;

use serde_json::Value;

use crate::model::tiny;
use crate::sandbox::Sandbox;

fn export(sandbox: &Sandbox, kind: &str) -> String {
    let out = format!("{kind}.gguf");
    let args =
        ["export", "policy", "--iteration", "0", "--format", "gguf", "--type", kind, "--out", &out, "--json"];
    let report: Value = serde_json::from_str(&sandbox.run(&args).success()).unwrap();
    assert_eq!(report["out"], out.as_str());
    assert!(report["notes"][0].as_str().unwrap().contains("granite_swa"), "{report}");
    out
}

fn logprobs(sandbox: &Sandbox, args: &[&str]) -> Vec<f64> {
    let line = r#"{"prompt": "Paul plus 2 is Tina. Paul has 3. Tina?\n", "completion": "Paul plus 2 is Tina 5\nA: 5"}"#;
    fs::write(sandbox.path().join("lines.jsonl"), format!("{line}\n")).unwrap();
    let out = sandbox.run(&[&["logprobs"], args, &["lines.jsonl"]].concat()).success();
    let row: Value = serde_json::from_str(&out).unwrap();
    row["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn an_exported_file_is_the_policy_again() {
    let sandbox = Sandbox::new();
    let own = logprobs(&sandbox, &[]);
    for (kind, bound) in [("f32", 0.0), ("bf16", 0.05), ("f16", 0.01), ("q8_0", 0.05)] {
        let file = export(&sandbox, kind);
        let again = logprobs(&sandbox, &["--model", &file]);
        let off = own.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= bound, "{kind}: a log-probability is off by {off}");
    }
    // Nothing else is left behind.
    let mut names: Vec<_> = sandbox.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bf16.gguf", "f16.gguf", "f32.gguf", "lines.jsonl", "q8_0.gguf"]);
}

#[test]
fn every_command_takes_it() {
    let sandbox = Sandbox::new();
    let file = export(&sandbox, "f32");
    fs::write(sandbox.path().join("questions.txt"), "Paul plus 2 is Tina. Paul has 3. Tina?\n").unwrap();
    let answer = |args: &[&str]| {
        sandbox.run(&[&["generate", "--greedy"], args, &["questions.txt"]].concat()).success()
    };
    assert_eq!(answer(&["--model", &file]), answer(&[]));
    let path = format!("model.path={file}");
    let eval = |args: &[&str]| -> Value {
        let out = sandbox.run(&[&tiny(&["eval", "--json"], &[])[..], args].concat()).success();
        serde_json::from_str(&out).unwrap()
    };
    let (own, again) = (eval(&[]), eval(&["--model", &file]));
    assert!(own["figures"][0].is_object() && own["figures"] == again["figures"], "{own} {again}");
    let doctor = sandbox.run(&tiny(&["doctor"], &[&path])).success();
    assert!(doctor.contains(&file) && doctor.contains("ready"), "{doctor}");
    // A run begins from it, and what it trains leaves as a file again.
    let set: Vec<&str> = vec![&path, "run.iterations=1"];
    sandbox.run(&tiny(&["run"], &set)).success();
    let out = sandbox.run(&[
        "export",
        "policy",
        "--iteration",
        "1",
        "--format",
        "gguf",
        "--out",
        "after.gguf",
        "--set",
        &path,
    ]);
    out.success();
    assert_ne!(logprobs(&sandbox, &["--model", "after.gguf"]), logprobs(&sandbox, &["--model", &file]));
    // A merged export of a policy that came from a file keeps its types.
    sandbox.run(&["export", "policy", "--model", &file, "--out", "merged"]).success();
    assert_eq!(logprobs(&sandbox, &["--model", "merged"]), logprobs(&sandbox, &["--model", &file]));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let file = export(&sandbox, "f16");
    let whole = fs::read(sandbox.path().join(&file)).unwrap();
    let fails = |args: &[&str], words: &[&str]| {
        let outcome = sandbox.run(args);
        assert_eq!(outcome.code, Some(1), "{args:?}: {}", outcome.stdout);
        for word in words {
            assert!(outcome.stderr.contains(word), "{args:?}: {word}: {}", outcome.stderr);
        }
    };
    let out = |format: &'static str, out: &'static str| {
        ["export", "policy", "--iteration", "0", "--format", format, "--out", out]
    };
    fails(&out("gguf", "f16.gguf"), &["f16.gguf already exists"]);
    fails(&out("gguf", "model"), &["ends in .gguf"]);
    fails(&[&out("merged", "m")[..], &["--type", "f16"]].concat(), &["--type goes with --format gguf"]);
    assert_eq!(fs::read(sandbox.path().join(&file)).unwrap(), whole, "the file that was there");
    assert!(!sandbox.path().join("m").exists());

    fs::write(sandbox.path().join("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
    fails(&["eval", "--model", "cut.gguf"], &["cut.gguf", "cut off or damaged"]);
    fs::write(sandbox.path().join("text.gguf"), "no model").unwrap();
    fails(&["doctor", "--set", "model.path=text.gguf"], &["text.gguf", "no GGUF file"]);
    fails(&["logprobs", "--model", "absent.gguf"], &["absent.gguf"]);
}
