//! What a newcomer does in the first hour, and what the program answers when it goes wrong.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::crash::small;
use crate::sandbox::{Outcome, Sandbox};

#[track_caller]
fn refused(outcome: Outcome, parts: &[&str]) {
    assert_eq!(outcome.code, Some(1), "stdout:\n{}\nstderr:\n{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{part} is not in\n{}", outcome.stderr);
    }
}

fn scripted<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&small(&["run", "--policy", "scripted"])[..], more].concat()
}

#[test]
fn run_init_doctor_run_is_one_run() {
    let sandbox = Sandbox::new();
    let set = &small(&[])[..];
    let first = sandbox.run(&scripted(&[])).success();
    let init = sandbox.run(&[&["init"], set].concat()).success();
    assert!(init.contains("autodidact.toml") && init.contains("number.jinja"), "{init}");
    let doctor = sandbox.run(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "the folder holds a scripted run, and doctor asks about a real one");
    assert!(doctor.stdout.contains("✗ the base model has changed"), "{}", doctor.stdout);
    // Settings, tasks and prompts are those of the run: nothing is left to do.
    let again = sandbox.run(&["run", "--policy", "scripted"]).success();
    let result = |text: &str| text.lines().find(|line| line.contains("held-out pass@1")).map(str::to_owned);
    assert_eq!(result(&again), result(&first));
    // A prompt that changed is another matter.
    let prompt = sandbox.path().join("prompts/relations.jinja");
    fs::write(&prompt, fs::read_to_string(&prompt).unwrap() + "\n\n").unwrap();
    refused(sandbox.run(&["run", "--policy", "scripted"]), &["the tokenizer or the prompts have changed"]);
}

#[test]
fn init_keeps_what_is_set_and_what_is_there() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("prompts")).unwrap();
    fs::write(sandbox.path().join("prompts/number.jinja"), "mine: {{ question }}").unwrap();
    let init = sandbox.run(&["init", "--set", "run.seed=7"]).success();
    assert!(init.contains("kept") && init.contains("number.jinja"), "{init}");
    let config = fs::read_to_string(sandbox.path().join("autodidact.toml")).unwrap();
    assert!(config.contains("\nseed = 7\n") && config.contains("\nprompts = \"prompts\"\n"), "{config}");
    let mine = fs::read_to_string(sandbox.path().join("prompts/number.jinja")).unwrap();
    assert_eq!(mine, "mine: {{ question }}");
    refused(sandbox.run(&["init"]), &["autodidact.toml exists already", "--force"]);
    sandbox.run(&["init", "night", "--minimal", "--set", "run.iterations=1"]).success();
    let night = fs::read_to_string(sandbox.path().join("night/autodidact.toml")).unwrap();
    assert_eq!(
        night.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(),
        5,
        "{night}"
    );
    assert!(!sandbox.path().join("night/prompts").exists());
    let unknown = sandbox.run(&["init", "more", "--set", "run.sede=7"]);
    refused(unknown, &["did you mean `run.seed`"]);
    assert!(!sandbox.path().join("more").exists());
}

#[test]
fn paths_count_from_the_configuration_and_c_works_in_a_folder() {
    let sandbox = Sandbox::new();
    let set = small(&[]);
    sandbox.run(&[&["init", "night"][..], &set].concat()).success();
    sandbox.run(&["run", "--policy", "scripted", "--config", "night/autodidact.toml"]).success();
    assert!(sandbox.path().join("night/autodidact-run/store.sqlite").exists());
    assert!(!sandbox.path().join("autodidact-run").exists());
    let there = sandbox.run(&["-C", "night", "inspect", "run"]).success();
    assert_eq!(there, sandbox.run(&["inspect", "run", "--config", "night/autodidact.toml"]).success());
    refused(sandbox.run(&["-C", "nowhere", "inspect", "run"]), &["cannot work in nowhere"]);
}

#[test]
fn a_killed_run_is_interrupted_and_a_live_one_names_its_process() {
    let sandbox = Sandbox::new();
    let long = scripted(&["--set", "run.iterations=900"]);
    let mut process =
        sandbox.command(&long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let state = |what: &str| -> Option<Value> {
        let outcome = sandbox.run(&["inspect", "run", "--json"]);
        let report: Value = serde_json::from_str(&outcome.stdout).ok()?;
        (report["state"] == what).then_some(report)
    };
    let live = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        state("running")
    });
    assert_eq!(live.expect("the run is seen running")["worker"]["pid"], process.id());
    process.kill().unwrap();
    process.wait().unwrap();
    let text = sandbox.run(&["inspect"]).success();
    assert!(text.contains("run 1 interrupted") && text.contains("`autodidact run` goes on there"), "{text}");
    assert!(sandbox.run(&["inspect", "runs"]).success().contains("interrupted"));
    state("interrupted").expect("in JSON, too");
}

#[test]
fn a_wrong_model_path_names_what_was_meant_and_leaves_no_folder() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path().join("models/SmolLM")).unwrap();
    refused(
        sandbox.run(&["run", "--set", "model.path=models/SmollM"]),
        &["model.path = \"models/SmollM\" does not exist", "did you mean \"models/SmolLM\"?"],
    );
    refused(sandbox.run(&["run", "--set", "model.path=models/SmolLM"]), &["models/SmolLM"]);
    refused(sandbox.run(&["run", "--set", "tasks.kind=gsm8k"]), &["format of files", "tasks.file"]);
    refused(sandbox.run(&["run", "--set", "tasks.kind=file", "--set", "tasks.file=q.jsonl"]), &["q.jsonl"]);
    assert!(!sandbox.path().join("autodidact-run").exists());
}

#[test]
fn a_bad_line_is_an_error_line_and_the_others_are_answered() {
    let sandbox = Sandbox::new();
    let lines = "{\"prompt\": 3}\n{\"prompt_ids\": [1, 2]}\n\n{\"prompt_ids\": []}\n{\"prompt_ids\": [3]}\n";
    fs::write(sandbox.path().join("q.jsonl"), lines).unwrap();
    let outcome = sandbox.run(&["generate", "--greedy", "--set", "rollout.tokens_max=4", "q.jsonl"]);
    assert_eq!(outcome.code, Some(1));
    let rows: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<(u64, bool)> =
        rows.iter().map(|row| (row["line"].as_u64().unwrap(), row["error"].is_string())).collect();
    assert_eq!(places, [(1, true), (2, false), (4, true), (5, false)], "{}", outcome.stdout);
    assert!(outcome.stderr.contains("2 of 4 lines could not be asked"), "{}", outcome.stderr);
}

#[test]
fn a_conversation_is_answered_message_by_message() {
    let sandbox = Sandbox::new();
    let mut chat = sandbox
        .command(&["chat", "--greedy", "--json", "--set", "rollout.tokens_max=20"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let questions = "Paul is 3 more than Tina.\n\nNo letter here for: ß\n/reset\nTina is 3 more than Paul.\n/exit\nnobody reads this\n";
    std::io::Write::write_all(&mut chat.stdin.take().unwrap(), questions.as_bytes()).unwrap();
    let output = chat.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{out}");
    assert!(rows.iter().all(|row| row["tokens"].as_u64().is_some_and(|n| (1..=20).contains(&n))), "{out}");
    assert!(err.contains("no chat template") && err.contains("forgotten"), "{err}");
    assert!(err.contains("error: ") && err.contains('ß'), "the conversation goes on: {err}");
}

#[test]
fn verify_says_how_much_it_checked() {
    let sandbox = Sandbox::new();
    sandbox.run(&scripted(&[])).success();
    let text = sandbox.run(&["verify"]).success();
    assert!(text.contains("checked 1 runs, ") && text.contains("everything checks out"), "{text}");
    let report: Value = serde_json::from_str(&sandbox.run(&["verify", "--json"]).success()).unwrap();
    assert!(report["checked"]["trajectories"].as_u64().is_some_and(|n| n > 10), "{report}");
}
