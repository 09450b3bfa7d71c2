//! Model cards: what an export states about a policy is what the store has.

use std::fs;

use serde_json::Value;

use crate::model::tiny;
use crate::sandbox::Sandbox;

/// An export of a policy; returns its card.
fn export(sandbox: &Sandbox, out: &str, args: &[&str]) -> String {
    sandbox.run(&[&["export", "policy", "--out", out], args].concat()).success();
    fs::read_to_string(sandbox.path().join(out).join("README.md")).unwrap()
}

fn inspected(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap()
}

/// `75.0 % | [46.8, 91.1]` of an iteration's held-out tasks.
fn measured(line: &Value) -> String {
    let share = |key: &str| 100.0 * line["heldout"][key].as_f64().unwrap();
    format!("{:.1} % | [{:.1}, {:.1}] | 12 |", share("pass1"), share("lo"), share("hi"))
}

fn has(card: &str, parts: &[&str]) {
    for part in parts {
        assert!(card.contains(part), "{part:?} is not in:\n{card}");
    }
}

#[test]
fn a_card_states_what_the_store_has() {
    let sandbox = Sandbox::new();
    // Whatever is trained is promoted.
    let promoted = ["gate.regression_points=-100"];
    sandbox.run(&tiny(&["run"], &promoted)).success();
    sandbox.run(&tiny(&["run", "--control", "random"], &promoted)).success();
    let report = inspected(&sandbox);
    let line = &report["iterations"][1];
    let card = export(&sandbox, "trained", &[]);
    assert!(card.starts_with("---\n# base_model: fill in"), "{card}");
    let gain = &report["gain"];
    let gain = |key: &str| gain[key].as_f64().unwrap();
    let gain = format!("{:+.1} points [{:+.1}, {:+.1}]", gain("points"), gain("lo"), gain("hi"));
    has(
        &card,
        &[
            "library_name: transformers",
            "license:\n  - mit\n  - apache-2.0",
            "  - autodidact",
            "the built-in seed model of autodidact after 1 of 1 iterations",
            "it was promoted by the gate",
            &format!("| base | {}", measured(&report["iterations"][0])),
            &format!("| this one | {}", measured(line)),
            &format!("Gain over the base: {gain}"),
            "The gate promoted it, compared with the policy before it: ",
            "| random | ",
            "`0.5 * vote + 0.5 * head`",
            "label-free on the practice tasks; gold answers of easy tasks taught the critique head",
            "the built-in task `relations`",
            "| practice tasks | 8 |",
            "| held-out tasks, reported only | 12 |",
            line["policy_hash"].as_str().unwrap(),
            report["config_hash"].as_str().unwrap(),
            &format!("autodidact {}", env!("CARGO_PKG_VERSION")),
        ],
    );
    let place = sandbox.path().display().to_string();
    assert!(!card.contains(&place), "no folder of this machine");

    let base = export(&sandbox, "base", &["--base"]);
    has(
        &base,
        &["as it was before any training", &format!("| base | {}", measured(&report["iterations"][0]))],
    );
    assert!(!base.contains("this one") && !base.contains("## Training") && !base.contains("Gain"), "{base}");
    let arm = export(&sandbox, "arm", &["--run", "2"]);
    has(&arm, &["This run is the control arm `random`", "| kept by | chance |", "| run, iteration | 2, 1 |"]);

    // What is in the way stays.
    fs::create_dir(sandbox.path().join("mine")).unwrap();
    fs::write(sandbox.path().join("mine/README.md"), "mine").unwrap();
    let refused = sandbox.run(&["export", "policy", "--out", "mine"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("already exists"), "{refused:?}");
    assert_eq!(fs::read_to_string(sandbox.path().join("mine/README.md")).unwrap(), "mine");
    let gguf = sandbox.run(&["export", "policy", "--format", "gguf", "--out", "night.gguf"]).success();
    assert!(gguf.contains("a GGUF file has no model card"), "{gguf}");
}

#[test]
fn a_card_of_another_model_claims_nothing() {
    let sandbox = Sandbox::new();
    export(&sandbox, "first", &["--base"]);
    // A model of the user's, which has a licence.
    fs::write(sandbox.path().join("first/README.md"), "---\nlicense: gemma\nlicense_link: terms\n---\n")
        .unwrap();
    let path = sandbox.path().join("first").display().to_string();
    let card = export(&sandbox, "second", &["--model", &path]);
    has(
        &card,
        &[
            "license: gemma\nlicense_link: terms\n",
            "# first, exported by autodidact",
            "nothing is known here about",
        ],
    );
    assert!(!card.contains(&path) && !card.contains("## Evaluation") && !card.contains("| seed |"), "{card}");

    // A run's folder does not lend its figures to it.
    fs::remove_file(sandbox.path().join("first/README.md")).unwrap();
    let run = tiny(&["run"], &["train.method=lora", "gate.regression_points=-100"]);
    sandbox.run(&run).success();
    let other = tiny(
        &["pretrain", "--out", "other"],
        &["pretrain.steps=2", "pretrain.warmup_steps=1", "pretrain.decay_steps=1"],
    );
    sandbox.run(&other).success();
    let outcome = sandbox.run(&["export", "policy", "--model", "other", "--out", "third"]).success();
    assert!(outcome.contains("note: fill in the licence in README.md"), "{outcome}");
    let card = fs::read_to_string(sandbox.path().join("third/README.md")).unwrap();
    has(&card, &["# license: fill in", "nothing is known here about"]);
    assert!(!card.contains("## Evaluation"), "{card}");

    let adapter = export(&sandbox, "adapter", &["--format", "peft"]);
    has(
        &adapter,
        &["library_name: peft", "An adapter to the built-in seed model", "a LoRA adapter", "| this one |"],
    );
}
