//! Models beside the policy: a judge and a reference of a family that is only asked, and prompts for tree search.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::crash::{small, verified};
use crate::model::tiny;
use crate::sandbox::Sandbox;

const VOCAB: usize = 257;
const HIDDEN: usize = 16;

/// A tokenizer that writes any text, a byte a token.
fn tokenizer() -> Value {
    // GPT-2's table: printable Latin-1 stands for itself, the others follow from code point 256 on.
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = (256u32..).filter_map(char::from_u32);
    let mut vocab = serde_json::Map::new();
    for byte in 0u8..=255 {
        let symbol = if printable(byte) { char::from(byte) } else { others.next().unwrap() };
        vocab.insert(symbol.to_string(), byte.into());
    }
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{
            "id": 256, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] }
    })
}

/// A tiny Phi 3 of random weights: a family that our own decoder doesn't run.
fn phi3(dir: &Path, seed: u32) {
    fs::create_dir_all(dir).unwrap();
    let config = json!({
        "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "rope_scaling": null, "sliding_window": null, "eos_token_id": 256,
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let shapes: [(&str, Vec<usize>); 9] = [
        ("model.embed_tokens.weight", vec![VOCAB, HIDDEN]),
        ("model.layers.0.input_layernorm.weight", vec![HIDDEN]),
        ("model.layers.0.post_attention_layernorm.weight", vec![HIDDEN]),
        ("model.layers.0.self_attn.qkv_proj.weight", vec![2 * HIDDEN, HIDDEN]),
        ("model.layers.0.self_attn.o_proj.weight", vec![HIDDEN, HIDDEN]),
        ("model.layers.0.mlp.gate_up_proj.weight", vec![48, HIDDEN]),
        ("model.layers.0.mlp.down_proj.weight", vec![HIDDEN, 24]),
        ("model.norm.weight", vec![HIDDEN]),
        ("lm_head.weight", vec![VOCAB, HIDDEN]),
    ];
    let mut state = seed;
    let mut tensors: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, shape) in shapes {
        let near = if name.contains("norm") { 1.0 } else { 0.0 };
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            near + (state as f32 / u32::MAX as f32 - 0.5)
        };
        let bytes = (0..shape.iter().product()).flat_map(|_| draw().to_le_bytes()).collect();
        tensors.insert(name, (shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A tiny Qwen 2 in eight bits, with its tokenizer beside it.
fn gguf(dir: &Path, name: &str) {
    use candle_core::quantized::gguf_file::{self, Value};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    let (hidden, mut state) = (32, 3_u32);
    let mut tensor = |rows: usize, columns: usize, dtype: GgmlDType| {
        let mut draw = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / u32::MAX as f32 - 0.5
        };
        let data: Vec<f32> = (0..rows * columns).map(&mut draw).collect();
        let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
        QTensor::quantize(&Tensor::from_vec(data, shape, &Device::Cpu).unwrap(), dtype).unwrap()
    };
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), tensor(VOCAB, hidden, GgmlDType::Q8_0)),
        ("output_norm.weight".to_owned(), tensor(1, hidden, GgmlDType::F32)),
    ];
    for (part, rows) in [("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32)] {
        tensors.push((format!("blk.0.{part}.weight"), tensor(rows, hidden, GgmlDType::Q8_0)));
        if part != "attn_output" {
            tensors.push((format!("blk.0.{part}.bias"), tensor(1, rows, GgmlDType::F32)));
        }
    }
    for (part, rows, columns) in [("ffn_gate", 64, 32), ("ffn_up", 64, 32), ("ffn_down", 32, 64)] {
        tensors.push((format!("blk.0.{part}.weight"), tensor(rows, columns, GgmlDType::Q8_0)));
    }
    for part in ["attn_norm", "ffn_norm"] {
        tensors.push((format!("blk.0.{part}.weight"), tensor(1, hidden, GgmlDType::F32)));
    }
    let numbers = [
        ("qwen2.attention.head_count", 4),
        ("qwen2.attention.head_count_kv", 2),
        ("qwen2.block_count", 1),
        ("qwen2.embedding_length", 32),
        ("qwen2.feed_forward_length", 64),
        ("qwen2.context_length", 256),
    ];
    let mut metadata = vec![("general.architecture", Value::String("qwen2".into()))];
    metadata.extend(numbers.map(|(key, n)| (key, Value::U32(n))));
    metadata.push(("qwen2.attention.layer_norm_rms_epsilon", Value::F32(1e-6)));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    gguf_file::write(&mut fs::File::create(dir.join(name)).unwrap(), &metadata, &tensors).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    fs::write(dir.join("generation_config.json"), r#"{ "eos_token_id": 256 }"#).unwrap();
}

fn rows(sandbox: &Sandbox, sql: &str) -> Vec<Value> {
    serde_json::from_str(&sandbox.run(&["inspect", "sql", sql, "--json"]).success()).unwrap()
}

fn with_phi3() -> Sandbox {
    let sandbox = Sandbox::new();
    phi3(&sandbox.path().join("phi3"), 7);
    sandbox
}

/// A model of noise gives the numbers little mass, and all of it counts.
const JUDGED: &[&str] = &[
    "judge.model=phi3",
    "judge.mass_min=0",
    r#"judge.criteria=["overall","coherence"]"#,
    "reference.model=phi3",
    "reward.formula=0.5 * vote + 0.25 * judge + 0.25 * judge_accuracy + 0 * reference",
];

#[test]
fn a_candle_model_judges_the_loop_and_dying_changes_nothing() {
    let clean = with_phi3();
    clean.run(&tiny(&["run", "--json"], JUDGED)).success();
    let end = verified(&clean);
    let scores = rows(
        &clean,
        "SELECT scorer, count(*) AS n, count(value) AS numbers, min(value) AS least, max(value) AS most
         FROM scores WHERE scorer LIKE 'judge%' OR scorer IN ('reference', 'reward') GROUP BY scorer ORDER BY scorer",
    );
    let scorers: Vec<&str> = scores.iter().map(|row| row["scorer"].as_str().unwrap()).collect();
    let known = ["judge", "judge_accuracy", "judge_coherence", "judge_disagreement", "reference", "reward"];
    assert_eq!(scorers, known, "what is configured and what the formula uses");
    for row in &scores {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert_eq!((number("n"), number("numbers")), (32.0, 32.0), "{row}");
        if row["scorer"] == "reference" {
            assert!(number("most") < 0.0, "{row}");
        } else {
            assert!(number("least") >= 0.0 && number("most") <= 1.0, "{row}");
        }
    }
    let by = rows(&clean, "SELECT count(DISTINCT scorer_hash) AS n FROM scorings");
    assert_eq!(by[0]["n"], 3, "head, judge and reference each have a name");
    let shown = clean.run(&["inspect", "iteration", "1"]).success();
    assert!(shown.contains("judge_coherence") && shown.contains("reference"), "{shown}");

    let mut deaths = 0;
    let sandbox = with_phi3();
    loop {
        let outcome = sandbox.run(&tiny(&["run", "--crash-at", "6"], JUDGED));
        if outcome.code == Some(0) {
            break;
        }
        assert_eq!(outcome.code, None, "{}", outcome.stderr);
        deaths += 1;
        assert!(deaths < 60);
    }
    assert!(deaths > 3);
    assert_eq!(verified(&sandbox), end);

    // The judge's weights are part of what the run is.
    phi3(&sandbox.path().join("phi3"), 8);
    let changed = sandbox.run(&tiny(&["run"], JUDGED));
    assert_eq!(changed.code, Some(1));
    assert!(changed.stderr.contains("the judge, the reference"), "{}", changed.stderr);
}

#[test]
fn too_little_mass_is_no_score_and_needs_no_judge_in_the_formula() {
    let sandbox = with_phi3();
    sandbox.run(&tiny(&["run"], &["judge.model=phi3", "judge.mass_min=0.9"])).success();
    verified(&sandbox);
    let row = &rows(
        &sandbox,
        "SELECT count(*) AS n, count(value) AS numbers, sum(error = 'low_mass') AS low FROM scores WHERE scorer = 'judge'",
    )[0];
    assert_eq!((&row["n"], &row["numbers"], &row["low"]), (&json!(32), &json!(0), &json!(32)));
    let rewarded = rows(&sandbox, "SELECT count(value) AS n FROM scores WHERE scorer = 'reward'");
    assert_ne!(rewarded[0]["n"], 0);
}

#[test]
fn a_scripted_policy_judges_itself_and_dying_changes_nothing() {
    let sandbox = || {
        let sandbox = Sandbox::new();
        let prompts = sandbox.path().join("prompts");
        fs::create_dir(&prompts).unwrap();
        // The seed's tokenizer writes its own few words alone; the script takes a first line that is a question for its
        // own prompt.
        let source = "Ana is\n{{ question }}\n{% for thought in thoughts %}\n{{ thought }}\n{% endfor %}\n{{ variant }} is\nAna:";
        fs::write(prompts.join("judge.jinja"), source).unwrap();
        sandbox
    };
    let judged = |more: &[&'static str]| {
        let settings = [
            "model.prompts=prompts",
            "judge.model=policy",
            "judge.repeats=3",
            "reward.formula=(vote + judge) / 2 - judge_disagreement / 10",
        ];
        let settings = settings.into_iter().flat_map(|pair| ["--set", pair]);
        small(&["run", "--policy", "scripted"])
            .into_iter()
            .chain(settings)
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    let clean = sandbox();
    clean.run(&judged(&[])).success();
    let end = verified(&clean);
    let row =
        &rows(&clean, "SELECT count(*) AS n, count(value) AS numbers FROM scores WHERE scorer = 'judge'")[0];
    assert_eq!((&row["n"], &row["numbers"]), (&json!(48), &json!(48)));
    let dying = sandbox();
    let mut deaths = 0;
    while dying.run(&judged(&["--crash-at", "5"])).code != Some(0) {
        deaths += 1;
        assert!(deaths < 200);
    }
    assert!(deaths > 5);
    assert_eq!(verified(&dying), end);
}

#[test]
fn prompts_guide_the_search() {
    let sandbox = with_phi3();
    let prompts = sandbox.path().join("prompts");
    fs::create_dir(&prompts).unwrap();
    // The seed model goes on with whatever chain it reads: its lines are proposals.
    let propose = "{{ question }}\n{% for thought in thoughts %}\n{{ thought }}\n{% endfor %}\n{{ '' }}";
    fs::write(prompts.join("tot_propose.jinja"), propose).unwrap();
    let settings = [
        "rollout.strategy=tot",
        "rollout.variants=2",
        "tree.proposals=2",
        "tree.propose=prompt",
        "tree.value=prompt",
        "judge.model=phi3",
        "judge.mass_min=0",
        "model.prompts=prompts",
    ];
    sandbox.run(&tiny(&["run"], &settings)).success();
    verified(&sandbox);
    let parity = rows(&sandbox, "SELECT max_abs_diff FROM parity");
    assert_eq!(parity[0]["max_abs_diff"].as_f64().unwrap(), 0.0);
    let row = &rows(
        &sandbox,
        "SELECT count(*) AS n, count(h.value) AS valued, count(DISTINCT h.value) AS different, sum(h.pruned = 'beam') AS beam
         FROM thoughts h JOIN trees t ON t.id = h.tree_id WHERE t.purpose = 'rollout'",
    )[0];
    let number = |key: &str| row[key].as_u64().unwrap();
    assert!(number("n") > 20 && number("valued") > 20 && number("different") > 5, "{row}");
    assert!(number("beam") > 0, "{row}");
    // Templates are part of what the run is.
    fs::write(prompts.join("tot_propose.jinja"), format!("{propose}\n")).unwrap();
    let changed = sandbox.run(&tiny(&["run"], &settings));
    assert!(changed.stderr.contains("prompts they are asked with"), "{}", changed.stderr);
}

#[test]
fn a_candle_model_is_asked_and_not_trained() {
    let sandbox = with_phi3();
    let lines = "{\"prompt\": \"two and two\", \"completion\": \" is four\"}\n{\"ids\": [65, 66, 67, 256]}\n";
    fs::write(sandbox.path().join("lines.jsonl"), lines).unwrap();
    gguf(sandbox.path(), "eight.gguf");
    for model in ["phi3", "eight.gguf"] {
        let said = sandbox.run(&["logprobs", "--model", model, "lines.jsonl"]).success();
        let read: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read[0]["logprobs"].as_array().unwrap().len(), 8, "{said}");
        assert_eq!(read[1]["logprobs"].as_array().unwrap().len(), 3, "{said}");
        assert!(
            read.iter().flat_map(|r| r["logprobs"].as_array().unwrap()).all(|l| l.as_f64().unwrap() < 0.0)
        );
    }
    fs::write(sandbox.path().join("question.jsonl"), "{\"prompt\": \"So\"}\n").unwrap();
    let generate =
        ["generate", "--model", "phi3", "question.jsonl", "--set", "rollout.tokens_max=9", "--samples", "2"];
    let drawn = sandbox.run(&generate).success();
    assert_eq!(drawn, sandbox.run(&generate).success());
    assert_eq!(drawn.lines().count(), 2);

    for (args, words) in [
        (vec!["run", "--set", "model.path=phi3"], "judge.model"),
        (vec!["run", "--set", "judge.model=nowhere"], "judge.model"),
        (vec!["run", "--set", "judge.model=policy"], "model.prompts"),
        (vec!["run", "--set", "reward.formula=judge"], "nobody judges"),
        (vec!["run", "--set", "reward.formula=reference"], "reference.model"),
    ] {
        let outcome = sandbox.run(&args);
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert!(outcome.stderr.contains(words), "{args:?}: {}", outcome.stderr);
    }
}
