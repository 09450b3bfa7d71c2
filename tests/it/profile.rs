//! `--profile`: what is recorded, what is written of it, and that it changes nothing.

use std::cell::Cell;
use std::fs;
use std::sync::Arc;

use autodidact::ops::{
    self, AttentionShape, FrozenMatrix,
    kernels::{KvPrecision, PackedWeight},
};
use autodidact::profile::{self, Count, Operator, Tokens};
use candle_core::{Device, Tensor, Var};
use serde_json::Value;

use crate::crash::{small, verified};
use crate::model::tiny;
use crate::sandbox::Sandbox;

thread_local! {
    /// A clock of every thread's own, so that only what a test does moves its time.
    static NS: Cell<u64> = const { Cell::new(0) };
}

fn pass(ns: u64) {
    NS.set(NS.get() + ns);
}

/// What `work` adds to the counters of this thread.
fn recorded(work: impl FnOnce()) -> impl Fn(Operator) -> Count {
    profile::install(|| NS.get());
    let before = profile::thread_totals();
    work();
    let since = profile::thread_totals().since(&before);
    move |operator| since.of(operator)
}

#[test]
fn time_is_exclusive_and_adds_up() {
    let count = recorded(|| {
        let _outer = profile::span(Operator::Store);
        pass(5);
        for _ in 0..3 {
            let _inner = profile::span(Operator::Text);
            pass(10);
            let _innermost = profile::span(Operator::Grading);
            pass(100);
        }
        pass(7);
    });
    let [store, text, grading] = [Operator::Store, Operator::Text, Operator::Grading].map(count);
    assert_eq!((store.ns, store.spans), (12, 1));
    assert_eq!((text.ns, text.spans), (30, 3));
    assert_eq!((grading.ns, grading.spans), (300, 3));
    assert_eq!(store.ns + text.ns + grading.ns, 342, "all of it, once");
}

#[test]
fn a_wait_counts_from_its_beginning_to_its_end() {
    let count = recorded(|| {
        let wait = profile::waiting(Operator::Store);
        pass(40);
        drop(wait);
        pass(2);
    });
    assert_eq!((count(Operator::Store).ns, count(Operator::Store).spans), (40, 1));
}

#[test]
fn tokens_are_counted_where_they_are_asked_for() {
    profile::install(|| NS.get());
    let before = profile::thread_totals();
    profile::tokens(Tokens::Read, 5);
    profile::tokens(Tokens::Read, 6);
    let since = profile::thread_totals().since(&before);
    assert_eq!((since.tokens(Tokens::Read), since.tokens(Tokens::Drawn)), (11, 0));
}

fn tensor(rows: usize, columns: usize) -> Var {
    let values = (0..rows * columns).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

#[test]
fn products_count_two_operations_for_every_multiplication() {
    let (x, w) = (tensor(3, 5), tensor(7, 5));
    let count = recorded(|| {
        let y = ops::linear(&x, &w).unwrap();
        y.sum_all().unwrap().backward().unwrap();
    });
    for operator in [Operator::LinearForward, Operator::LinearBackwardInput, Operator::LinearBackwardWeight] {
        assert_eq!(count(operator).flops, [2 * 3 * 5 * 7, 0], "{operator}");
        assert_eq!(count(operator).spans, 1, "{operator}");
    }
    assert_eq!(count(Operator::LinearForward).bytes, 4 * 5 * 7, "the weight");
    assert_eq!(count(Operator::Packing).spans, 3);
}

#[test]
fn an_adapter_is_apart_from_its_weight() {
    let (x, a, b) = (tensor(3, 5), tensor(2, 5), tensor(7, 2));
    let w = PackedWeight::new(&[0.5; 35], 7, 5);
    let bytes = w.bytes() as u64;
    let w = FrozenMatrix::Packed(Arc::new(w));
    let count = recorded(|| {
        let y = ops::lora_linear(&x, &a, &b, &w, 2.0, None).unwrap();
        y.sum_all().unwrap().backward().unwrap();
    });
    assert_eq!(count(Operator::LinearForward).flops, [2 * 3 * 5 * 7, 0]);
    assert_eq!(count(Operator::LinearBackwardInput).flops, [2 * 3 * 5 * 7, 0]);
    assert_eq!(count(Operator::LinearBackwardInput).bytes, bytes);
    assert_eq!(count(Operator::LinearBackwardWeight).flops, [0, 0], "a frozen weight has no gradient");
    let (down, up) = (2 * 3 * 5 * 2, 2 * 3 * 2 * 7);
    // Forward each once; backward dh, da, h again, db, and what goes through to x.
    assert_eq!(count(Operator::Adapter).flops, [(down + up) + (up + down + down + up + down), 0]);
}

#[test]
fn attention_counts_the_keys_that_are_seen() {
    let shape = AttentionShape {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        scale: 0.3,
        window: Some(2),
        softcap: None,
        kv: KvPrecision::F32,
    };
    let (q, k, v) = (tensor(5, 32), tensor(5, 16), tensor(5, 16));
    // Sequences of 3 and 2 rows, of which a row sees itself and the one before.
    let (starts, seen) = (Arc::new(vec![0, 3, 5]), (1 + 2 + 2) + (1 + 2));
    let count = recorded(|| {
        let y: Tensor = ops::attention(&q, &k, &v, &shape, &starts).unwrap();
        y.sum_all().unwrap().backward().unwrap();
    });
    assert_eq!(count(Operator::AttentionForward).flops, [4 * 4 * 8 * seen, 0]);
    assert_eq!(count(Operator::AttentionBackward).flops, [10 * 4 * 8 * seen, 0]);
    assert_eq!(count(Operator::AttentionForward).bytes, 2 * 4 * 2 * 8 * seen);
    assert_eq!(count(Operator::LinearForward).flops, [0, 0], "its products are its own");
}

fn file(sandbox: &Sandbox, name: &str) -> Value {
    let path = sandbox.path().join("autodidact-run").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("the profile is written")).unwrap()
}

/// The one number that a query gives.
fn number(sandbox: &Sandbox, sql: &str) -> u64 {
    let rows: Value =
        serde_json::from_str(&sandbox.run(&["inspect", "sql", sql, "--json"]).success()).unwrap();
    rows[0].as_object().unwrap().values().next().unwrap().as_u64().unwrap()
}

fn tokens(report: &Value, phase: &str, kind: &str) -> u64 {
    let phases = report["phases"].as_array().unwrap().iter().filter(|p| p["phase"] == phase);
    phases.map(|p| p["tokens"][kind].as_u64().unwrap()).sum()
}

/// Operators' times fit into the threads' time, and everything adds up to the whole.
fn check(report: &Value) {
    let threads = report["machine"]["threads"].as_f64().unwrap();
    let mut whole = 0.0;
    for phase in report["phases"].as_array().unwrap() {
        let wall = phase["seconds"].as_f64().unwrap();
        let operators = phase["operators"].as_array().unwrap();
        let busy: f64 = operators.iter().map(|o| o["seconds"].as_f64().unwrap()).sum();
        // The loop's own thread works beside the pool's now and then.
        assert!(busy <= wall * threads * 1.01 + 0.01, "{busy} s in {wall} s of {threads}: {phase}");
        let rest = phase["other_seconds"].as_f64().unwrap();
        assert!((busy + rest - wall * threads).abs() < 0.01 * wall * threads + 0.01, "{phase}");
        whole += wall;
    }
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((whole - seconds).abs() < 1e-6 && seconds > 0.0, "{whole} of {seconds}");
    for operator in report["operators"].as_array().unwrap() {
        let share = operator["share"].as_f64().unwrap();
        assert!((0.0..=1.01).contains(&share), "{operator}");
    }
    assert!(report["machine"]["peaks"][0]["all_threads_flops_per_s"].as_f64().unwrap() > 1e7);
    assert!(report["machine"]["memory"]["one_thread_bytes_per_s"].as_f64().unwrap() > 1e7);
}

#[test]
fn a_run_says_where_its_time_went_and_ends_with_the_same_bits() {
    let plain = Sandbox::new();
    let shown = plain.run(&tiny(&["run"], &["run.threads=2"])).success();
    assert!(!shown.contains("profile"), "{shown}");
    let sandbox = Sandbox::new();
    let shown = sandbox.run(&tiny(&["run", "--profile"], &["run.threads=2"])).success();
    assert_eq!(verified(&sandbox), verified(&plain), "measuring changes nothing");
    let names = |sandbox: &Sandbox| {
        let entries = sandbox.path().join("autodidact-run").read_dir().unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut expected = names(&plain);
    expected.push("profile.json".to_owned());
    expected.sort();
    assert_eq!(names(&sandbox), expected, "one file more");

    let report = file(&sandbox, "profile.json");
    check(&report);
    assert_eq!(
        (&report["ended"], &report["resumed"], &report["run"]),
        (&true.into(), &false.into(), &1.into())
    );
    let phases = report["phases"].as_array().unwrap();
    for phase in
        ["open", "bootstrap", "rollout", "critique", "select", "train", "evaluate", "promote", "close"]
    {
        assert!(phases.iter().any(|p| p["phase"] == phase), "no {phase}");
    }
    assert!(shown.contains("rollout ") && shown.contains("train update"), "{shown}");
    for part in ["reread", "fit", "score", "update", "checkpoint", "greedy", "sampled", "measure"] {
        assert!(phases.iter().any(|p| p["part"] == part), "no part {part}");
    }
    let operators = report["operators"].as_array().unwrap();
    let unused = ["adapter", "unpacking"];
    for operator in Operator::ALL.iter().map(|o| o.name()).filter(|name| !unused.contains(name)) {
        let line = operators.iter().find(|o| o["operator"] == operator);
        let line = line.unwrap_or_else(|| panic!("no {operator}: {operators:?}"));
        assert!(line["pieces"].as_u64().unwrap() > 0, "{line}");
        assert!(shown.contains(operator), "{operator} isn't shown:\n{shown}");
    }

    let drawn = |purpose: &str| {
        number(&sandbox, &format!("SELECT sum(drawn_tokens) FROM trees WHERE purpose = '{purpose}'"))
    };
    assert_eq!(tokens(&report, "rollout", "drawn"), drawn("rollout"));
    assert_eq!(tokens(&report, "evaluate", "drawn"), drawn("evaluation"));
    assert_eq!(tokens(&report, "train", "trained"), number(&sandbox, "SELECT sum(tokens) FROM steps"));
    assert!(tokens(&report, "rollout", "prompted") > 0 && tokens(&report, "critique", "read") > 0);

    let text = sandbox.run(&["inspect", "run"]).success();
    assert!(text.contains("of the measured peak") && text.contains("linear_forward"), "{text}");
    let json: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    assert_eq!(json["profile"]["tokens"], report["tokens"]);
    let json: Value = serde_json::from_str(&plain.run(&["inspect", "run", "--json"]).success()).unwrap();
    assert!(json.get("profile").is_none() && json["run"] == 1, "{json}");
}

#[test]
fn a_profile_is_of_one_process_and_one_arm() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted", "--set", "run.threads=2"])).success();
    let more = |args: &[&'static str]| {
        let mut more = small(&[&["run", "--policy", "scripted", "--profile"], args].concat());
        more.extend(["--set", "run.iterations=3"]);
        sandbox.run(&more).success()
    };
    let shown = more(&[]);
    assert!(shown.contains("earlier process"), "{shown}");
    let report = file(&sandbox, "profile.json");
    check(&report);
    assert_eq!(report["resumed"], true);
    let iterations = report["phases"].as_array().unwrap().iter().filter_map(|p| p["iteration"].as_u64());
    assert!(iterations.clone().count() > 0 && iterations.clone().all(|i| i == 3), "only what it did itself");
    more(&["--control", "random"]);
    assert_eq!(file(&sandbox, "profile-random.json")["run"], 2);
    assert_eq!(file(&sandbox, "profile.json"), report, "another arm has a file of its own");
    let of_control = sandbox.run(&["inspect", "run", "2", "--json"]).success();
    assert_eq!(serde_json::from_str::<Value>(&of_control).unwrap()["profile"]["run"], 2);

    // A file that is damaged, or from another version, is said to be and ignored.
    fs::write(sandbox.path().join("autodidact-run/profile.json"), "{}").unwrap();
    let outcome = sandbox.run(&["inspect", "run"]);
    assert!(outcome.stderr.contains("profile.json is not a profile"), "{}", outcome.stderr);
    assert!(outcome.success().contains("run 1"));
}

#[test]
fn other_commands_print_theirs_beside_their_output() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("prompts"), "Paul plus 2 is Tina. Paul has 3. Tina?\n").unwrap();
    let plain = sandbox.run(&["generate", "--samples", "2", "prompts"]).success();
    let outcome = sandbox.run(&["generate", "--samples", "2", "--profile", "prompts"]);
    assert!(outcome.stderr.contains("attention_decode"), "{}", outcome.stderr);
    assert_eq!(outcome.success(), plain);
    let outcome = sandbox.run(&["eval", "--tasks", "4", "--profile", "--json"]);
    assert!(outcome.stderr.contains("of the measured peak"), "{}", outcome.stderr);
    serde_json::from_str::<Value>(&outcome.success()).expect("the output is JSON alone");
    for command in ["verify", "init", "doctor"] {
        let refused = sandbox.run(&[command, "--profile"]);
        assert_eq!(refused.code, Some(2), "{command}: {}", refused.stdout);
        assert!(refused.stderr.contains("--profile"), "{}", refused.stderr);
    }
}
