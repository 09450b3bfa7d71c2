//! The loop on the embedded seed model: what must not change its result, and what it must never read.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use autodidact::config::Config;
use autodidact::data;
use autodidact::domain::Split;
use serde_json::{Value, json};

use crate::crash::verified;
use crate::sandbox::Sandbox;

/// One iteration of the real loop on a few tasks of few hops.
pub(crate) const TINY: &[&str] = &[
    "run.iterations=1",
    "tasks.hard_levels=[5,6]",
    "tasks.easy=24",
    "tasks.anchor=12",
    "tasks.train=8",
    "tasks.gate=8",
    "tasks.heldout=12",
    "rollout.tasks=8",
    "rollout.variants=4",
    "critic.bootstrap=24",
    "critic.epochs=4",
    "train.steps=6",
    "train.step_tokens=1024",
    "train.checkpoint_steps=2",
    "eval.samples=2",
    "eval.sampled_tasks=4",
];

pub(crate) fn tiny<'a>(args: &[&'a str], settings: &[&'a str]) -> Vec<&'a str> {
    let settings = TINY.iter().chain(settings).flat_map(|&pair| ["--set", pair]);
    args.iter().copied().chain(settings).collect()
}

#[test]
fn threads_and_batch_size_change_nothing() {
    let digest = |settings: &[&str]| {
        let sandbox = Sandbox::new();
        sandbox.run(&tiny(&["run"], settings)).success();
        verified(&sandbox)
    };
    let base = digest(&["run.threads=1", "engine.batch_tokens=64"]);
    assert_eq!(digest(&["run.threads=2"]), base, "two threads, full batches");
    assert_ne!(digest(&["run.seed=1"]), base, "the seed matters");
}

#[test]
fn the_sampler_and_the_trainer_agree_to_the_bit() {
    let sandbox = Sandbox::new();
    sandbox.run(&tiny(&["run"], &[])).success();
    let parity = "SELECT max_abs_diff, tokens FROM parity";
    let rows: Value =
        serde_json::from_str(&sandbox.run(&["inspect", "sql", parity, "--json"]).success()).unwrap();
    assert_eq!(rows[0]["max_abs_diff"].as_f64().unwrap(), 0.0);
    assert!(rows[0]["tokens"].as_u64().unwrap() > 100);
}

#[test]
fn every_trajectory_is_reread_in_other_words() {
    let rows = |settings: &[&str]| -> Vec<Value> {
        let sandbox = Sandbox::new();
        sandbox.run(&tiny(&["run"], settings)).success();
        let sql = "SELECT count(*) AS n, count(r.value) AS reread, sum(r.error = 'missing_input') AS missing,
                   sum(r.value = m.value) AS unchanged
                   FROM scores r JOIN scores m ON (m.trajectory, m.scoring) = (r.trajectory, r.scoring)
                   WHERE r.scorer = 'reread' AND m.scorer = 'logprob_mean'";
        serde_json::from_str(&sandbox.run(&["inspect", "sql", sql, "--json"]).success()).unwrap()
    };
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    let reread = &rows(&[])[0];
    assert_eq!((number(reread, "n"), number(reread, "reread")), (32, 32), "{reread}");
    assert_eq!(number(reread, "unchanged"), 0, "other words give other log-probabilities: {reread}");
    let never = &rows(&["critic.rereads=0"])[0];
    assert_eq!((number(never, "reread"), number(never, "missing")), (0, 32), "{never}");
}

#[test]
fn trees_of_thoughts_run_through_the_loop() {
    let sandbox = Sandbox::new();
    let settings = ["rollout.strategy=tot", "tree.proposals=2", "tree.beam=2", "rollout.variants=2"];
    sandbox.run(&tiny(&["run"], &settings)).success();
    verified(&sandbox);
    let pruned = "SELECT count(*) AS n FROM thoughts WHERE pruned IS NOT NULL";
    let rows: Value =
        serde_json::from_str(&sandbox.run(&["inspect", "sql", pruned, "--json"]).success()).unwrap();
    assert_ne!(rows[0]["n"], "0");
}

#[test]
fn gold_answers_of_practice_and_held_out_tasks_decide_nothing() {
    let run = |poison: bool| {
        let sandbox = Sandbox::new();
        write_tasks(&sandbox, poison);
        let settings =
            ["tasks.kind=file", "tasks.file=tasks.jsonl", "model.prompts=prompts", "rollout.samples=3"];
        sandbox.run(&tiny(&["run"], &settings)).success();
        // Everything but the tasks' own rows: what was drawn, judged, kept, trained and measured.
        let tables = [
            "SELECT address, content_hash FROM trees ORDER BY address",
            "SELECT trajectory, scorer, value, error FROM scores ORDER BY trajectory, scorer",
            "SELECT trajectory, rank, reason FROM selections ORDER BY trajectory",
            "SELECT iteration, step, loss FROM steps ORDER BY iteration, step",
            "SELECT iteration, kind, policy_hash, file_hash FROM checkpoints ORDER BY iteration, kind, step",
            "SELECT iteration, metric, value FROM evaluations WHERE split = 'gate' ORDER BY iteration, metric, level",
            "SELECT iteration, promoted, candidate_hash FROM promotions",
        ];
        tables.map(|sql| sandbox.run(&["inspect", "sql", sql, "--json"]).success())
    };
    let (honest, poisoned) = (run(false), run(true));
    for (honest, poisoned) in honest.iter().zip(&poisoned) {
        assert!(honest.len() > 10);
        assert_eq!(honest, poisoned);
    }
}

/// Moments in bf16 are rounded by draws, which have addresses, too; a trainer's state holds the bits.
#[test]
fn moments_in_bf16_end_the_same_over_crashes_and_threads() {
    let steps = |settings: &[&str]| {
        let sandbox = Sandbox::new();
        sandbox.run(&tiny(&["run"], settings)).success();
        let losses = "SELECT step, loss FROM steps ORDER BY step";
        (sandbox.run(&["inspect", "sql", losses, "--json"]).success(), verified(&sandbox))
    };
    let (losses, end) = steps(&["train.moments=bf16", "run.threads=1"]);
    assert_ne!(steps(&[]).0, losses, "the rounding shows");
    let sandbox = Sandbox::new();
    let (mut args, mut deaths) = (tiny(&["run"], &["train.moments=bf16"]), 0);
    while sandbox.run(&[args.as_slice(), &["--crash-at", "4"]].concat()).code != Some(0) {
        deaths += 1;
        assert!(deaths < 100, "no progress between crashes");
    }
    assert!(deaths > 3 && verified(&sandbox) == end, "{deaths} deaths");
    args.pop();
    args.push("train.moments=f32");
    let refused = sandbox.run(&args);
    assert!(refused.code == Some(1) && refused.stderr.contains("train.moments"), "{}", refused.stderr);
}

#[test]
fn a_damaged_trainer_state_costs_its_updates_and_nothing_else() {
    let candidate = |sandbox: &Sandbox| {
        let sql = "SELECT policy_hash, file_hash FROM checkpoints WHERE kind = 'candidate'";
        sandbox.run(&["inspect", "sql", sql, "--json"]).success()
    };
    let clean = Sandbox::new();
    clean.run(&tiny(&["run"], &[])).success();

    let sandbox = Sandbox::new();
    let checkpoints = sandbox.path().join("autodidact-run/checkpoints");
    let state = || {
        let mut folders = checkpoints.read_dir().ok()?.map(|entry| entry.unwrap().path());
        folders.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("state-"))
    };
    let mut died = 0;
    while state().is_none() {
        died += 1;
        let died_at_will = sandbox.run(&tiny(&["run", "--crash-at", "3"], &[])).code.is_none();
        assert!(died_at_will && died < 100, "no trainer state after {died} sessions");
    }
    // The session that wrote the state died in its middle: one more makes sure that the row is there, too.
    sandbox.run(&tiny(&["run", "--crash-at", "2"], &[]));
    let state = state().expect("a state is kept until the next one is safe");
    let file = state.read_dir().unwrap().map(|entry| entry.unwrap().path()).find(|p| p.is_file()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).unwrap();

    let outcome = sandbox.run(&tiny(&["run"], &[]));
    assert!(outcome.stderr.contains("is trained again from its start"), "{outcome:?}");
    outcome.success();
    verified(&sandbox);
    assert_eq!(candidate(&sandbox), candidate(&clean));
}

/// Relations as a file of text tasks, asked as the seed model knows them; `poison` makes every gold answer of
/// the train and held-out splits wrong.
fn write_tasks(sandbox: &Sandbox, poison: bool) {
    let pairs: Vec<(String, String)> =
        TINY.iter().filter_map(|s| s.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    let config = Config::load(None, &pairs).unwrap();
    let mut lines = String::new();
    for task in data::dataset(&config.tasks, Vec::new()).unwrap().tasks {
        let mut answer = task.answer.unwrap();
        if poison && matches!(task.split, Split::Train | Split::HeldOut) {
            answer = format!("{answer}7");
        }
        let mut row = json!({
            "question": task.question, "answer": answer, "level": task.level, "split": task.split.name(),
        });
        if let Some(solution) = task.solution {
            row["solution"] = json!(solution);
        }
        lines += &format!("{row}\n");
    }
    fs::write(sandbox.path().join("tasks.jsonl"), lines).unwrap();
    fs::create_dir(sandbox.path().join("prompts")).unwrap();
    fs::write(sandbox.path().join("prompts/cot.jinja"), "{{ question }}\n\n").unwrap();
}

/// Real kill -9 at random moments of the default recipe on fewer tasks. Minutes: run it with `--ignored`.
#[test]
#[ignore = "takes minutes: cargo test --test it -- --ignored"]
fn kill_9_at_twenty_random_moments() {
    let settings =
        ["run.iterations=2", "train.steps=20", "tasks.train=40", "rollout.tasks=20", "tasks.heldout=100"];
    let args = tiny(&["run"], &settings);
    let clean = Sandbox::new();
    let began = Instant::now();
    clean.run(&args).success();
    let (whole, end) = (began.elapsed(), verified(&clean));

    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut phases = std::collections::BTreeSet::new();
    for death in 0..20 {
        let sandbox = Sandbox::new();
        // SplitMix64: the moments are the same in every run of the test, relative to a clean run's length.
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31) ^ death;
        let share = (state >> 11) as f64 / (1_u64 << 53) as f64;
        let mut child = sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        child.kill().unwrap();
        child.wait().unwrap();
        if sandbox.path().join("autodidact-run/store.sqlite").exists() {
            let report: Value =
                serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).stdout).unwrap_or_default();
            phases.insert(report["next"]["phase"].to_string());
        }
        sandbox.run(&args).success();
        assert_eq!(verified(&sandbox), end, "killed at {:.0} % of a clean run", 100.0 * share);
    }
    println!("killed before {phases:?} were done; every digest was {end}");
}
