//! What programs and agents rely on: events of a run as lines, completions, the skill document.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::crash::small;
use crate::sandbox::{Outcome, Sandbox};

fn events(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.run(&[args, &["--json"]].concat()).success()).unwrap()
}

#[test]
fn a_run_is_a_stream_of_events_with_the_report_last() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.run(&small(&["run", "--policy", "scripted", "--json"]));
    let lines = events(&outcome);
    for line in &lines {
        let time = line["time"].as_str().unwrap();
        assert!(line["event"].is_string() && time.ends_with('Z') && line["run"] == 1, "{line}");
    }
    let first = &lines[0];
    assert_eq!((&first["event"], &first["heldout"]), (&"started".into(), &16.into()), "{first}");
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((of("phase"), of("phase_done"), of("iteration_done")), (15, 15, 3));
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "report");
    assert!(
        outcome.stdout.lines().last().unwrap().starts_with(r#"{"event":"report","time":""#),
        "in their order"
    );
    assert_eq!(last["report"], json(&sandbox, &["inspect", "run"]));
    assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);

    let quiet = sandbox.run(&small(&["run", "--policy", "scripted", "--json", "--quiet"]));
    assert_eq!(events(&quiet).len(), 1, "{}", quiet.stdout);
    let failed = sandbox.run(&small(&["run", "--policy", "scripted", "--json", "--set", "run.seed=1"]));
    let last = events(&failed).pop().unwrap();
    assert_eq!((failed.code, &last["event"]), (Some(1), &"error".into()), "{last}");
    assert!(failed.stderr.contains(last["message"].as_str().unwrap().lines().next().unwrap()));
}

#[test]
fn a_stopped_run_ends_with_its_reason() {
    let sandbox = Sandbox::new();
    let args = small(&["run", "--policy", "scripted", "--json", "--set", "run.disk_max_mib=1"]);
    let folder = sandbox.path().join("autodidact-run");
    fs::create_dir_all(&folder).unwrap();
    // It counts as the run's.
    fs::write(folder.join("large"), vec![0; 2 << 20]).unwrap();
    let stopped = sandbox.run(&args);
    let last = events(&stopped).pop().unwrap();
    assert_eq!((stopped.code, &last["event"]), (Some(3), &"stopped".into()), "{stopped:?}");
    assert!(last["reason"].as_str().unwrap().contains("run.disk_max_mib"), "{last}");
    assert_eq!(last["report"]["state"], "stopped");
}

#[test]
fn a_run_goes_on_when_its_events_are_not_read() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.command(&small(&["run", "--policy", "scripted", "--json"]));
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(json(&sandbox, &["inspect", "run"])["state"], "done");
}

#[test]
fn completions_name_every_command_without_reading_a_configuration() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("autodidact.toml"), "not = [toml").unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = sandbox.run(&["completions", shell]).success();
        for word in ["trajectories", "logprobs", "control", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(sandbox.run(&["completions", "csh"]).code, Some(2));
}

/// The document names fields of `--json`; here the program prints them.
#[test]
fn the_skill_is_true() {
    let sandbox = Sandbox::new();
    let skill = sandbox.run(&["skill"]).success();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    fs::write(sandbox.path().join("q.txt"), "Paul plus 2 is Tina. Paul has 3. Tina?\n").unwrap();
    fs::write(sandbox.path().join("ids.jsonl"), "{\"ids\": [1, 2, 3]}\n").unwrap();
    fs::write(sandbox.path().join("a.jsonl"), "{\"text\": \"So 4.\", \"answer\": \"4\"}\n").unwrap();
    for args in [
        &["eval", "--base", "--tasks", "1"][..],
        &["generate", "--base", "q.txt"],
        &["logprobs", "--base", "ids.jsonl"],
        &["grade", "--kind", "number", "a.jsonl"],
        &["inspect", "runs"],
        &["inspect", "run"],
        &["inspect", "iteration", "1"],
        &["inspect", "trajectory", "1"],
        &["inspect", "trajectories"],
        &["inspect", "task", "relations/train/000000"],
        &["inspect", "steps"],
        &["inspect", "events"],
        &["inspect", "datasette"],
        &["export", "policy", "--base", "--out", "out"],
        &["verify"],
        &["gc"],
        &["doctor", "--set", "run.dir=another"],
    ] {
        let path = args.iter().take(if matches!(args[0], "inspect" | "export") { 2 } else { 1 });
        let path = path.copied().collect::<Vec<_>>().join(" ");
        let printed = json(&sandbox, args);
        let section =
            skill.split(&format!("\n### autodidact {path}\n")).nth(1).unwrap_or_else(|| panic!("{path}"));
        let shape = section.split("\nJSON: ").nth(1).unwrap().lines().next().unwrap();
        let object = shape.split("`{").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        for name in object.split(',').map(|name| name.trim().trim_matches('"')) {
            assert!(printed.get(name).is_some(), "`{path}` prints no {name}: {printed}");
        }
    }
}
