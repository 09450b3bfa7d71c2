//! Runs on tasks from files to their end: published ones as they are, where they are there, and made ones everywhere.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use autodidact::config::Config;
use autodidact::domain::TaskKind;
use autodidact::model::ModelConfig;
use autodidact::policy::PolicyKind;
use autodidact::train;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::benchmarks::shared;
use crate::crash::verified;
use crate::sandbox::Sandbox;

/// Two iterations of everything, of little each.
const LITTLE: &[&str] = &[
    "tasks.kind=file",
    "tasks.split_max=6",
    "run.iterations=2",
    "rollout.tasks=4",
    "rollout.variants=1",
    "rollout.samples=2",
    "rollout.tokens_max=32",
    "critic.bootstrap=8",
    "critic.epochs=2",
    "train.steps=2",
    "train.step_tokens=1024",
    "eval.samples=2",
    "eval.sampled_tasks=2",
];

const REPLAYS_NOTHING: &str = "training replays nothing";

/// A model of bytes, which the embedded one is not, that answers every question in the form that is graded: A or B.
fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    let dir = MODEL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, json: Value| fs::write(dir.path().join(name), json.to_string()).unwrap();
        let shape = json!({
            "model_type": "llama", "vocab_size": 257, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192,
            "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0
        });
        write("config.json", shape.clone());
        write("tokenizer.json", tokenizer());
        write("tokenizer_config.json", json!({ "eos_token": "<end>" }));
        let path = format!("model.path={}", dir.path().display());
        let pair = path.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
        let config = Config::load(None, &[pair]).unwrap();
        let text = PolicyKind::Model.text(&config).unwrap();
        let (kinds, mut n) = ([TaskKind::Choice, TaskKind::Number, TaskKind::Exact, TaskKind::Game24], 0);
        let next = || {
            n += 1;
            let question = format!("Who has {n}?\n(A) Paul\n(B) Tina");
            let prompt = text.prompt_ids_of(kinds[n % 4], &question)?;
            let answer = ["The answer is A.", "The answer is B."][n / 4 % 2];
            Ok(train::example_from_solution(&prompt, &text.completion_ids(answer)?, "made"))
        };
        let mut pretrain = config.pretrain.clone();
        (pretrain.steps, pretrain.step_tokens, pretrain.warmup_steps, pretrain.decay_steps) = (80, 2048, 5, 20);
        let shape = ModelConfig::parse(&shape.to_string()).unwrap();
        let weights = train::pretrain(&pretrain, &shape, next, |_| Ok(())).unwrap();
        weights.save(dir.path()).unwrap();
        dir
    });
    dir.path()
}

/// One token per byte, in GPT-2's alphabet.
fn tokenizer() -> Value {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let bytes: Vec<u32> = (0..256).collect();
    let (shown, hidden): (Vec<u32>, Vec<u32>) = bytes.into_iter().partition(printable);
    let letters = shown.into_iter().chain((256..).take(hidden.len()));
    let mut vocab = serde_json::Map::from_iter([("<end>".to_owned(), json!(0))]);
    for (n, letter) in letters.enumerate() {
        vocab.insert(char::from_u32(letter).unwrap().to_string(), json!(n + 1));
    }
    let bytes =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{ "id": 0, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true }],
        "pre_tokenizer": bytes, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] }
    })
}

fn run(sandbox: &Sandbox, settings: &[&str]) -> String {
    let model = format!("model.path={}", model().display());
    let settings = [LITTLE, &[&model], settings].concat();
    let settings = settings.iter().flat_map(|&pair| ["--set", pair]);
    let outcome = sandbox.run(&["run"].into_iter().chain(settings).collect::<Vec<_>>());
    let said = outcome.stderr.clone();
    outcome.success();
    verified(sandbox);
    said
}

fn rows(sandbox: &Sandbox, sql: &str) -> Vec<Value> {
    serde_json::from_str(&sandbox.run(&["inspect", "sql", sql, "--json"]).success()).unwrap()
}

/// How often a stored event says so.
fn events(sandbox: &Sandbox, part: &str) -> usize {
    rows(sandbox, &format!("SELECT 1 FROM events WHERE message LIKE '%{part}%'")).len()
}

#[test]
fn choices_without_solutions_are_practised_without_replay() {
    let sandbox = Sandbox::new();
    let row = |i: usize| {
        let choices = json!([{ "label": "A", "text": "Paul" }, { "label": "B", "text": "Tina" }]);
        let question =
            json!({ "stem": format!("Who has {i}?"), "choices": choices, "question_concept": "x" });
        json!({ "id": i.to_string(), "answerKey": if i.is_multiple_of(2) { "A" } else { "B" }, "question": question })
            .to_string()
    };
    fs::write(sandbox.path().join("q.jsonl"), (0..120).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let settings = ["tasks.file=q.jsonl", "rollout.temperature=0.3", "select.floor=0", "select.chance_max=1"];
    let said = run(&sandbox, &settings);
    assert!(said.contains("2 updates on") && said.contains("kept and 0 easy"), "{said}");
    assert!(!said.contains("on 0 kept"), "{said}");
    assert_eq!(said.matches(REPLAYS_NOTHING).count(), 1, "{said}");
    assert_eq!(events(&sandbox, REPLAYS_NOTHING), 1);
    assert_eq!(rows(&sandbox, "SELECT 1 FROM step_examples WHERE task_id IS NOT NULL").len(), 0);
    let more = run(&sandbox, &[&settings[..], &["run.iterations=3"]].concat());
    assert!(!more.contains(REPLAYS_NOTHING), "said once: {more}");
    assert_eq!(events(&sandbox, REPLAYS_NOTHING), 1);
    let model = format!("model.path={}", model().display());
    let args = ["doctor", "--set", "tasks.kind=file", "--set", "tasks.file=q.jsonl", "--set", &model];
    assert!(sandbox.run(&args).stdout.contains(REPLAYS_NOTHING));
}

#[test]
fn a_run_that_keeps_nothing_and_replays_nothing_goes_on() {
    let sandbox = Sandbox::new();
    let row = |i: usize| {
        let split = ["easy", "anchor", "train", "gate", "heldout"][i % 5];
        json!({ "question": format!("Paul has {i}. Paul?"), "answer": "A", "split": split }).to_string()
    };
    fs::write(sandbox.path().join("q.jsonl"), (0..40).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let said = run(&sandbox, &["tasks.file=q.jsonl", "select.floor=100"]);
    for part in [REPLAYS_NOTHING, "nothing was kept", "the candidate is the incumbent"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let hashes = rows(&sandbox, "SELECT DISTINCT policy_hash FROM evaluations");
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

fn published(files: &[(&str, &str)], settings: &[&str]) -> Option<String> {
    let sandbox = Sandbox::new();
    let paths: Option<Vec<String>> =
        files.iter().map(|(key, name)| Some(format!("tasks.{key}={}", shared(name)?.display()))).collect();
    let paths = paths?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    Some(run(&sandbox, &paths))
}

#[test]
fn published_tasks_are_practised_to_the_end() {
    for (files, replays) in [
        (&[("file", "commonsenseqa/commonsenseqa_200.jsonl")][..], false),
        (&[("file", "bbh")], false),
        (&[("file", "game24/24.csv")], false),
        (&[("file", "gsm8k/train.jsonl"), ("heldout_file", "gsm8k/test.jsonl")], true),
    ] {
        if let Some(said) = published(files, &["run.iterations=1"]) {
            assert_eq!(!said.contains(REPLAYS_NOTHING), replays, "{files:?}: {said}");
        }
    }
}

#[test]
fn init_looks_at_a_model_and_tasks_and_states_its_reasons() {
    let sandbox = Sandbox::new();
    let row = |i: usize| json!({ "question": format!("What is {i} plus 7?"), "answer": i + 7 });
    let split = |i: usize| ["easy", "anchor", "train", "train", "gate", "heldout"][i % 6];
    let with_split = |i: usize| {
        let mut row = row(i);
        row["split"] = split(i).into();
        row
    };
    let write = |name: &str, row: &dyn Fn(usize) -> Value| {
        let lines: Vec<String> = (0..80).map(|i| row(i).to_string()).collect();
        fs::write(sandbox.path().join(name), lines.join("\n")).unwrap();
    };
    write("mine.jsonl", &with_split);
    write("unlabelled.jsonl", &row);
    let model = model().display().to_string();
    let look = ["init", "night", "--model", &model, "--tasks", "mine.jsonl"];
    let init = sandbox.run(&[&look[..], &["--minimal", "--set", "eval.sampled_tasks=3"]].concat()).success();
    assert!(init.contains("mine.jsonl: 80 rows of format jsonl") && init.contains("80 tasks: "), "{init}");
    assert!(init.contains("→ train.method = full: "), "{init}");
    assert!(init.contains("→ rollout.tasks = ") && !init.contains("→ eval.sampled_tasks"), "{init}");
    let written = fs::read_to_string(sandbox.path().join("night/autodidact.toml")).unwrap();
    let chosen = |key: &str| {
        let lines: Vec<&str> = written.lines().collect();
        let at = lines.iter().position(|line| line.starts_with(&format!("{key} = "))).unwrap();
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#'))
            .any(|line| line.starts_with("# Chosen: "))
    };
    assert!(
        chosen("method") && chosen("few_shot") && chosen("tasks") && !chosen("sampled_tasks"),
        "{written}"
    );
    assert!(
        written.contains("\nsampled_tasks = 3\n") && written.contains("\nfew_shot = true\n"),
        "{written}"
    );
    // It works from the folder of the configuration.
    let doctor = sandbox.run(&["-C", "night", "doctor"]).success();
    assert!(doctor.contains("ready: `autodidact run`"), "{doctor}");
    let unlabelled = ["init", "more", "--minimal", "--model", &model, "--tasks", "unlabelled.jsonl"];
    assert!(sandbox.run(&unlabelled).success().contains("✗ there is no labelled easy task"));
    let refused = |args: &[&str], part: &str| {
        let outcome = sandbox.run(args);
        assert_eq!((outcome.code, outcome.stderr.contains(part)), (Some(1), true), "{}", outcome.stderr);
    };
    refused(&look, "exists already");
    // What can't be used writes nothing.
    refused(&["init", "other", "--model", &model, "--tasks", "none.jsonl"], "none.jsonl");
    refused(&["init", "other", "--model", "nothing.gguf", "--tasks", "mine.jsonl"], "nothing.gguf");
    refused(&["init", "other", "--tasks", "mine.jsonl"], "has no token for");
    assert!(!sandbox.path().join("other").exists());
}
