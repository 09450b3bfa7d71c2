//! Adapters: merged and unmerged alike, named and initialised as PEFT's, written and read back, and
//! what is refused.

use std::sync::Arc;

use super::*;
use crate::domain::Purpose;
use crate::model::{ADAPTER_CONFIG, Adapted, Packed, Parameters, forward, logprobs};

fn address(task: &str) -> Address {
    Address::new(5, Purpose::Init, 0, task, &[])
}

fn config() -> ModelConfig {
    let mut config = ModelConfig::seed(30);
    config.hidden_size = 16;
    config.intermediate_size = 24;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.head_dim = 4;
    config
}

fn settings() -> LoraSettings {
    LoraSettings { r: 3, lora_alpha: 6.0, lora_dropout: 0.0, use_rslora: false }
}

fn all() -> Vec<String> {
    vec![ALL_LINEAR.to_owned()]
}

/// With both matrices away from zero.
fn moved(config: &ModelConfig, targets: &[String]) -> Adapter {
    let adapter = Adapter::init(config, settings(), targets, &address("a")).unwrap();
    for (n, var) in adapter.tensors.values().enumerate() {
        let data = crate::model::init::normal(&address("b").child(n as u32), var.elem_count(), 0.2);
        var.set(&Tensor::from_vec(data, var.shape(), var.device()).unwrap()).unwrap();
    }
    adapter
}

fn lora(settings_of: impl Fn(&mut LoraSettings)) -> Lora {
    let base = Frozen::of(&Weights::init(config(), &address("w")).unwrap()).unwrap();
    let mut adapter = moved(&base.config, &all());
    settings_of(&mut adapter.settings);
    Lora { base, adapter }
}

fn read(parameters: Parameters) -> Vec<f32> {
    let (ids, targets): (Vec<u32>, _) = ((1..20).collect(), Arc::new((2..21).collect::<Vec<u32>>()));
    let hidden = forward(parameters, &ids, &Arc::new(vec![0, 8, 19])).unwrap();
    logprobs(parameters, &hidden, &targets).unwrap().to_vec1().unwrap()
}

#[test]
fn merged_and_unmerged_agree_and_differ_from_the_base() {
    let lora = lora(|_| ());
    let merge = lora.merge().unwrap();
    let (unmerged, merged, base) =
        (read(lora.parameters()), read(merge.parameters()), read(lora.base.parameters()));
    let agree = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(agree(&unmerged, &merged));
    assert!(base.iter().zip(&merged).any(|(a, b)| (a - b).abs() > 1e-3));
    // By hand: W + s B A.
    let name = "model.layers.0.self_attn.q_proj";
    let values = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    let (a, b) = lora.adapter.pair(name).unwrap();
    let matrix = |w: &[f32]| Tensor::from_vec(w.to_vec(), (16, 16), &candle_core::Device::Cpu).unwrap();
    let (a, b, w) =
        (values(a), values(b), values(&matrix(&lora.base.elements(&format!("{name}.weight")).unwrap())));
    let m = values(merge.tensor(&format!("{name}.weight")).unwrap());
    for (o, i) in [(0, 0), (3, 7), (15, 15)] {
        let product: f32 = (0..3).map(|k| b[o][k] * a[k][i]).sum();
        assert!((m[o][i] - (w[o][i] + 2.0 * product)).abs() < 1e-6);
    }
    assert_eq!(**Packed::adapted(&lora).unwrap().policy(), lora.hash().unwrap());
}

#[test]
fn a_new_adapter_changes_nothing_and_is_drawn_from_its_address() {
    let base = Weights::init(config(), &address("w")).unwrap();
    let new = |task: &str| Adapter::init(&base.config, settings(), &all(), &address(task)).unwrap();
    let lora = Lora { base: Frozen::of(&base).unwrap(), adapter: new("a") };
    assert_eq!(read(lora.parameters()), read(base.parameters()));
    assert_eq!(lora.merge().unwrap().hash(), base.hash());
    let values = |a: &Adapter| -> Vec<f32> {
        a.tensors.values().flat_map(|v| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    assert_eq!(values(&new("a")), values(&lora.adapter));
    assert_ne!(values(&new("b")), values(&lora.adapter));
    let name = "model.layers.1.mlp.down_proj.lora_A.weight";
    let a: Vec<f32> = lora.adapter.tensors[name].flatten_all().unwrap().to_vec1().unwrap();
    let bound = 1.0 / 24f32.sqrt();
    assert!(a.iter().all(|x| x.abs() <= bound) && a.iter().any(|x| x.abs() > 0.8 * bound));
    assert!(lora.adapter.must_rest(name).unwrap());
    assert!(!lora.adapter.must_rest("model.layers.1.mlp.down_proj.lora_B.weight").unwrap());
}

#[test]
fn targets_are_suffixes_and_unknown_ones_are_named() {
    let modules = |targets: &[&str]| {
        let targets: Vec<String> = targets.iter().map(|t| (*t).to_owned()).collect();
        Adapter::init(&config(), settings(), &targets, &address("a")).map(|a| a.modules)
    };
    let layers = config().layers.len();
    assert_eq!(modules(&["all-linear"]).unwrap().len(), 7 * layers);
    assert_eq!(modules(&["q_proj", "mlp.up_proj"]).unwrap().len(), 2 * layers);
    assert_eq!(modules(&["model.layers.1.self_attn.v_proj"]).unwrap(), ["model.layers.1.self_attn.v_proj"]);
    for wrong in ["proj", "lm_head", "embed_tokens", "query"] {
        let error = modules(&["q_proj", wrong]).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("k_proj"), "{error}");
    }
}

#[test]
fn only_the_adapter_gets_a_gradient() {
    let lora = lora(|_| ());
    let hidden = forward(lora.parameters(), &[1, 2, 3, 4], &Arc::new(vec![0, 4])).unwrap();
    let loss = logprobs(lora.parameters(), &hidden, &Arc::new(vec![2, 3, 4, 5])).unwrap();
    let grads = loss.backward().unwrap();
    for (name, var) in &lora.adapter.tensors {
        let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn dropout_has_an_address_and_the_right_mean() {
    let lora = lora(|s| s.lora_dropout = 0.5);
    let at = |n| Dropout { address: address("d").child(n) };
    let (one, other) = (at(1), at(2));
    let with = |dropout| {
        let adapted = Adapted { adapter: &lora.adapter, dropout: Some(dropout) };
        read(Parameters::Frozen(&lora.base, Some(adapted)))
    };
    let dropped = with(&one);
    assert_eq!(dropped, with(&one));
    assert_ne!(dropped, with(&other));
    assert_ne!(dropped, read(lora.parameters()));
    let factors = mask(&address("d"), 10_000, 0.25);
    let mean = factors.iter().sum::<f32>() / 10_000.0;
    assert!((mean - 1.0).abs() < 0.03 && factors.iter().all(|&f| f == 0.0 || f == 1.0 / 0.75), "{mean}");
}

#[test]
fn an_adapter_comes_back_from_its_folder() {
    for targets in [all(), vec!["q_proj".to_owned()], vec!["model.layers.2.mlp.up_proj".to_owned()]] {
        let dir = tempfile::tempdir().unwrap();
        let adapter = moved(&config(), &targets);
        adapter.save(&config(), "base", dir.path()).unwrap();
        let again = Adapter::load(dir.path(), &config()).unwrap();
        assert_eq!((&again.settings, &again.modules), (&adapter.settings, &adapter.modules));
        for (name, var) in &adapter.tensors {
            let values = |v: &Var| v.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(var), values(&again.tensors[name]), "{name}");
        }
        let json = std::fs::read_to_string(dir.path().join(ADAPTER_CONFIG)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let named = json["target_modules"].as_array().unwrap().len();
        assert_eq!(named, if targets[0] == ALL_LINEAR { 7 } else { 1 });
        assert_eq!(json["lora_alpha"], 6);
    }
}

#[test]
fn what_would_change_the_result_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    moved(&config(), &all()).save(&config(), "base", dir.path()).unwrap();
    let path = dir.path().join(ADAPTER_CONFIG);
    let whole: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut json = whole.clone();
        json[key] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        Adapter::load(dir.path(), &config()).map(|a| a.settings)
    };
    for (key, value) in [
        ("use_dora", serde_json::json!(true)),
        ("use_something_new", serde_json::json!(true)),
        ("init_lora_weights", serde_json::json!("pissa")),
        ("init_lora_weights", serde_json::json!("pissa_niter_4")),
        ("init_lora_weights", serde_json::json!("olora")),
        ("init_lora_weights", serde_json::json!("corda")),
        ("init_lora_weights", serde_json::json!("loftq")),
        ("init_lora_weights", serde_json::json!("lora_ga")),
        ("init_lora_weights", serde_json::json!("not known yet")),
        ("init_lora_weights", serde_json::json!(7)),
        ("megatron_config", serde_json::json!({ "tensor_model_parallel_size": 2 })),
        ("ensure_weight_tying", serde_json::json!(true)),
        ("rank_pattern", serde_json::json!({ "q_proj": 4 })),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("bias", serde_json::json!("all")),
        ("peft_type", serde_json::json!("IA3")),
        ("r", serde_json::json!(4)),
        ("r", serde_json::json!("many")),
        ("lora_alpha", serde_json::json!(-1)),
    ] {
        let error = format!("{:#}", with(key, value).unwrap_err());
        assert!(error.contains(key) && error.contains("adapter"), "{key}: {error}");
    }
    assert!(with("rank_pattern", serde_json::json!({})).unwrap().scale() == 2.0);
    for init in ["gaussian", "eva", "orthogonal"] {
        with("init_lora_weights", init.into()).unwrap();
    }
    for plain in [serde_json::Value::Null, true.into(), false.into()] {
        with("init_lora_weights", plain.clone()).unwrap();
        with("use_dora", if plain == true { false.into() } else { plain }).unwrap();
    }
    assert!(with("use_rslora", serde_json::json!(true)).unwrap().scale() == (6.0 / 3f64.sqrt()) as f32);

    std::fs::write(&path, whole.to_string()).unwrap();
    let mut other = config();
    other.hidden_size = 32;
    let error = format!("{:#}", Adapter::load(dir.path(), &other).unwrap_err());
    assert!(error.contains("has shape") && error.contains("lora_"), "{error}");
}
