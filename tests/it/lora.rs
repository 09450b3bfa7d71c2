//! An adapter instead of all weights: through the loop, over crashes, out of the run and into another.

use std::fs;

use autodidact_testing::is_skipped;
use serde_json::Value;

use crate::crash::verified;
use crate::model::tiny;
use crate::sandbox::Sandbox;

/// Two iterations, so that the second goes on with the first one's adapter; a gate that always promotes.
const LORA: &[&str] = &["train.method=lora", "lora.r=4", "lora.alpha=8", "run.iterations=2"];
const PROMOTED: &str = "gate.regression_points=-100";

fn lora<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    tiny(&["run"], &[LORA, settings].concat())
}

fn rows(sandbox: &Sandbox, sql: &str) -> Vec<Value> {
    serde_json::from_str(&sandbox.run(&["inspect", "sql", sql, "--json"]).success()).unwrap()
}

fn policies(sandbox: &Sandbox) -> Vec<String> {
    let report: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    let iterations = report["iterations"].as_array().unwrap();
    iterations.iter().map(|i| i["policy_hash"].as_str().unwrap().to_owned()).collect()
}

/// Log-probabilities of a fixed text, as the program prints them.
fn logprobs(sandbox: &Sandbox, args: &[&str]) -> String {
    let line =
        r#"{"prompt": "Paul plus 2 is Tina. Paul has 3. Tina?\n", "completion": "Paul plus 2 is Tina 5\n"}"#;
    fs::write(sandbox.path().join("lines.jsonl"), format!("{line}\n")).unwrap();
    sandbox.run(&[&["logprobs"], args, &["lines.jsonl"]].concat()).success()
}

/// Between the log-probabilities of two such lines, in nats.
fn largest_difference(a: &str, b: &str) -> f64 {
    let numbers = |line: &str| -> Vec<f64> {
        let line: Value = serde_json::from_str(line).unwrap();
        line["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    assert!(!a.is_empty() && a.len() == b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_quantised_base_is_sampled_and_trained() {
    let sandbox = Sandbox::new();
    sandbox.run(&lora(&[PROMOTED, "model.quantize=q8_0"])).success();
    verified(&sandbox);
    for row in rows(&sandbox, "SELECT max_abs_diff FROM parity") {
        assert_eq!(row["max_abs_diff"].as_f64().unwrap(), 0.0);
    }
    let own = logprobs(&sandbox, &["--iteration", "2", "--set", "model.quantize=q8_0"]);
    let outcome = sandbox.run(&["logprobs", "--iteration", "2", "lines.jsonl"]);
    assert_eq!(outcome.code, Some(1), "an adapter on other weights: {}", outcome.stdout);
    assert!(outcome.stderr.contains("give the model that the adapter was trained on"), "{}", outcome.stderr);
    let plain = logprobs(&sandbox, &["--base"]);
    let quantised = logprobs(&sandbox, &["--base", "--set", "model.quantize=q8_0"]);
    assert_ne!(plain, quantised, "eight bits are fewer");
    assert!(largest_difference(&plain, &quantised) < 0.5);
    assert_ne!(quantised, own, "the adapter counts");
    let refused = Sandbox::new().run(&tiny(&["run"], &["model.quantize=q8_0"]));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("train.method"), "{}", refused.stderr);
}

/// Tiles of bf16 where the processor has them: a run stores that it began with them, and its figures are those of f32
/// within what three parts, or one, can hold. Elsewhere asking for them is an error, and "auto" means f32.
#[test]
fn tiles_multiply_frozen_matrices() {
    let matmul = |sandbox: &Sandbox| {
        let stored = rows(sandbox, "SELECT json_extract(config_json, '$.model.matmul') AS matmul FROM runs");
        stored[0]["matmul"].as_str().map(str::to_owned)
    };
    let sandbox = Sandbox::new();
    sandbox.run(&lora(&[PROMOTED])).success();
    if is_skipped("amx", autodidact::ops::kernels::has_tiles()) {
        assert_eq!(matmul(&sandbox).as_deref(), Some("f32"));
        let refused = Sandbox::new().run(&lora(&["model.matmul=bf16x3"]));
        assert!(refused.code == Some(1) && refused.stderr.contains("AMX"), "{}", refused.stderr);
        return;
    }
    assert_eq!(matmul(&sandbox).as_deref(), Some("bf16"));
    for row in rows(&sandbox, "SELECT max_abs_diff FROM parity") {
        assert_eq!(row["max_abs_diff"].as_f64().unwrap(), 0.0);
    }
    let digest = verified(&sandbox);
    sandbox.run(&lora(&[PROMOTED])).success();
    assert_eq!(verified(&sandbox), digest, "a finished run has nothing left to do");
    let other = sandbox.run(&lora(&[PROMOTED, "model.matmul=f32"]));
    assert!(other.code == Some(1) && other.stderr.contains("matmul"), "{}", other.stderr);

    let by = |sandbox: &Sandbox, matmul: &str| {
        logprobs(sandbox, &["--iteration", "2", "--set", &format!("model.matmul={matmul}")])
    };
    let difference = largest_difference(&logprobs(&sandbox, &["--iteration", "2"]), &by(&sandbox, "f32"));
    assert!((1e-5..0.2).contains(&difference), "one part is bf16: {difference}");

    let fine = Sandbox::new();
    fine.run(&lora(&[PROMOTED, "model.matmul=bf16x3"])).success();
    assert_eq!(matmul(&fine).as_deref(), Some("bf16x3"));
    fine.run(&lora(&[PROMOTED])).success();
    let own = logprobs(&fine, &["--iteration", "2"]);
    assert_eq!(own, by(&fine, "bf16x3"), "what the run began with");
    assert!(largest_difference(&own, &by(&fine, "f32")) < 1e-5, "three parts hold an f32");

    let exact = Sandbox::new();
    exact.run(&lora(&[PROMOTED, "model.matmul=f32"])).success();
    assert_eq!(matmul(&exact), None, "as before there were tiles");
    exact.run(&lora(&[PROMOTED])).success();
}

/// All weights by tiles: sampled and trained with the same bits, however many threads there are. One part is what "auto"
/// takes, and rounds keys and values too.
#[test]
fn tiles_multiply_trained_matrices() {
    let run = |settings: &[&str]| {
        let sandbox = Sandbox::new();
        let outcome = sandbox.run(&tiny(&["run"], &[&["run.iterations=2", PROMOTED], settings].concat()));
        (sandbox, outcome)
    };
    if is_skipped("amx", autodidact::ops::kernels::has_tiles()) {
        let (_, refused) = run(&["model.matmul=bf16x2"]);
        assert!(refused.code == Some(1) && refused.stderr.contains("AMX"), "{}", refused.stderr);
        return;
    }
    let (exact, outcome) = run(&["model.matmul=f32"]);
    outcome.success();
    let mut digests = vec![verified(&exact)];
    for asked in [&[][..], &["model.matmul=bf16x2"]] {
        let (sandbox, outcome) = run(&[asked, &["run.threads=1"]].concat());
        outcome.success();
        for row in rows(&sandbox, "SELECT max_abs_diff FROM parity") {
            assert_eq!(row["max_abs_diff"].as_f64().unwrap(), 0.0);
        }
        let digest = verified(&sandbox);
        sandbox.run(&tiny(&["run"], &["run.iterations=2", PROMOTED])).success();
        assert_eq!(verified(&sandbox), digest, "a finished run has nothing left to do, and keeps its tiles");
        let (other, outcome) = run(&[asked, &["run.threads=2"]].concat());
        outcome.success();
        assert_eq!(verified(&other), digest, "two threads");
        assert!(!digests.contains(&digest), "{asked:?} has bits of its own");
        digests.push(digest);
    }
}

#[test]
fn tiles_need_the_cpu() {
    let refused = Sandbox::new().run(&lora(&["model.matmul=bf16", "run.device=composed"]));
    assert!(refused.code == Some(1) && refused.stderr.contains("model.matmul"), "{}", refused.stderr);
}

/// What other devices compute with, on the CPU: the loop goes round, and the figures are those of the kernels but for
/// rounding.
#[test]
fn the_operators_of_other_devices_run_the_loop() {
    for method in ["train.method=full", "train.method=lora"] {
        let sandbox = Sandbox::new();
        let settings = [method, "checkpoints.logprob_tolerance=0.001", PROMOTED];
        sandbox.run(&[tiny(&["run", "--device", "composed"], &settings).as_slice()].concat()).success();
        verified(&sandbox);
        let worst = rows(&sandbox, "SELECT MAX(max_abs_diff) AS worst FROM parity");
        assert!(worst[0]["worst"].as_f64().unwrap() < 1e-3, "{worst:?}");
        let ids: Vec<u32> = (0..120).map(|i| 3 + (i * i * 7 + i) % 140).collect();
        fs::write(sandbox.path().join("long.jsonl"), serde_json::json!({ "ids": ids }).to_string()).unwrap();
        let read = |device: &str| {
            sandbox.run(&["logprobs", "--iteration", "1", "--device", device, "long.jsonl"]).success()
        };
        let (kernels, composed) = (read("cpu"), read("composed"));
        // Some bits differ, or the kernels ran.
        assert_ne!(kernels, composed, "{method}");
        assert!(largest_difference(&kernels, &composed) < 1e-3, "{method}");
    }
    let refused = |device: &str| {
        let outcome = Sandbox::new().run(&["logprobs", "--device", device, "none.jsonl"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        outcome.stderr
    };
    assert!(refused("tpu").contains("composed"));
    if cfg!(not(feature = "cuda")) {
        assert!(refused("cuda:1").contains("--features cuda"));
    }
}

#[test]
fn an_adapter_goes_through_the_loop_and_over_crashes() {
    let clean = Sandbox::new();
    clean.run(&lora(&["lora.dropout=0.1", PROMOTED])).success();
    let end = verified(&clean);
    for row in rows(&clean, "SELECT max_abs_diff FROM parity") {
        assert_eq!(row["max_abs_diff"].as_f64().unwrap(), 0.0);
    }
    // Candidates are adapters, each with the base's hash, and small.
    let folders = rows(&clean, "SELECT path, bytes FROM checkpoints WHERE kind = 'candidate'");
    assert_eq!(folders.len(), 2);
    for row in &folders {
        let folder = clean.path().join("autodidact-run").join(row["path"].as_str().unwrap());
        let mut names: Vec<_> =
            folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "autodidact.json"]);
        assert!(row["bytes"].as_u64().unwrap() < 400_000);
    }
    // Between the states of the first iteration's training, at its end, and where the second goes on with its adapter.
    for moment in ["36", "44", "80"] {
        let sandbox = Sandbox::new();
        let mut args = lora(&["lora.dropout=0.1", PROMOTED]);
        args.extend(["--crash-at", moment]);
        let first = sandbox.run(&args);
        assert_eq!(first.code, None, "died otherwise than asked: {}", first.stderr);
        sandbox.run(&lora(&["lora.dropout=0.1", PROMOTED])).success();
        assert_eq!(verified(&sandbox), end, "resumed after dying at moment {moment}");
    }
}

#[test]
fn a_policy_leaves_the_run_and_starts_another() {
    let sandbox = Sandbox::new();
    sandbox.run(&lora(&[PROMOTED])).success();
    let policies = policies(&sandbox);
    let own = logprobs(&sandbox, &["--iteration", "2"]);
    assert_ne!(own, logprobs(&sandbox, &["--base"]));
    assert_eq!(own, logprobs(&sandbox, &[]), "the promoted one is meant where none is named");

    let export = |args: &[&str]| sandbox.run(&[&["export", "policy"], args].concat());
    let said = export(&["--out", "merged", "--json"]).success();
    assert!(said.contains(&policies[2]), "the default is the policy promoted last: {said}");
    export(&["--iteration", "2", "--format", "peft", "--out", "peft"]).success();
    // Merging rounds once per weight.
    assert!(largest_difference(&logprobs(&sandbox, &["--model", "merged"]), &own) < 1e-4, "merged");
    assert_eq!(logprobs(&sandbox, &["--model", "peft"]), own, "as an adapter");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        assert!(sandbox.path().join("merged").join(file).is_file(), "{file}");
    }

    // Into another run: to go on with the adapter, or with all weights.
    for method in ["train.method=lora", "train.method=full"] {
        let other = Sandbox::new();
        let from = format!("model.adapter={}", sandbox.path().join("peft").display());
        other.run(&tiny(&["run"], &[&from, method])).success();
        let is_same = self::policies(&other)[0] == policies[2];
        assert_eq!(is_same, method == "train.method=lora", "{method} starts where the adapter ended");
        let begins = logprobs(&other, &["--base", "--set", &from]);
        assert!(largest_difference(&begins, &own) < 1e-4, "{method} starts where the adapter ended");
        verified(&other);
    }

    let refused = |args: &[&str], parts: &[&str]| {
        let outcome = export(args);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        for part in parts {
            assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
        }
    };
    refused(&["--out", "merged"], &["merged", "already exists"]);
    refused(&["--iteration", "0", "--format", "peft", "--out", "none"], &["no adapter", "--format merged"]);
    refused(&["--iteration", "9", "--out", "none"], &["iteration 9"]);
    assert!(!sandbox.path().join("none").exists());
    let outcome = Sandbox::new().run(&lora(&["lora.target_modules=query"]));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("query") && outcome.stderr.contains("q_proj"), "{}", outcome.stderr);
}
