use std::collections::HashMap;

use autodidact_testing::assert_refused;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_nn::{VarBuilder, VarMap};
use rand_chacha::rand_core::Rng;
use serde_json::json;

use super::*;
use crate::domain::{Address, Purpose, Sampling};
use crate::engine::native::Native;
use crate::model::{ModelConfig, Packed, Weights};

const VOCAB: usize = 61;

/// A `config.json` of two small layers.
fn config(family: &str) -> serde_json::Value {
    let mut config = json!({
        "model_type": family, "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0,
    });
    let more = match family {
        "gemma" => json!({ "head_dim": 8, "hidden_act": "gelu_pytorch_tanh" }),
        "glm4" => json!({ "head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": true }),
        "helium" => json!({
            "head_dim": 8, "attention_bias": false, "mlp_bias": false, "bos_token_id": 1, "eos_token_id": 2,
        }),
        "mixtral" => json!({ "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": null }),
        "phi" => json!({ "layer_norm_eps": 1e-5, "hidden_act": "gelu_new", "num_key_value_heads": 4 }),
        "qwen2_moe" => json!({
            "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": 3,
            "num_experts_per_tok": 2,
        }),
        "stablelm" => json!({ "layer_norm_eps": 1e-5, "use_cache": true, "use_qkv_bias": true }),
        "starcoder2" => json!({ "sliding_window": 40, "hidden_act": "gelu_pytorch_tanh" }),
        _ => json!({}),
    };
    let map = config.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    config
}

/// Numbers of a fixed stream, small enough for a network.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut stream = Address::new(5, Purpose::Init, 0, name, &[]).stream();
    let near_one = name.contains("norm") && name.ends_with("weight");
    let draw =
        |_| (stream.next_u32() as f32 / u32::MAX as f32 - 0.5) * 0.6 + if near_one { 1.0 } else { 0.0 };
    (0..count).map(draw).collect()
}

/// Writes a checkpoint of `family`, whose tensors are the ones that its network asks for.
fn checkpoint(dir: &Path, family: &str, dtype: DType) {
    std::fs::write(dir.join(CONFIG_FILE), config(family).to_string()).unwrap();
    let map = VarMap::new();
    drop(families::network_of(dir, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap());
    let mut tensors = HashMap::new();
    for (name, var) in map.data().lock().unwrap().iter() {
        let tensor = Tensor::from_vec(numbers(name, var.elem_count()), var.dims(), &Device::Cpu).unwrap();
        tensors.insert(name.clone(), tensor.to_dtype(dtype).unwrap());
    }
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

fn ids(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i + 7 * i + 3) % VOCAB as u32).collect()
}

fn request(n: usize, branch: u32) -> Request {
    Request {
        context_ids: ids(n),
        address: Address::new(1, Purpose::Rollout, 0, "t", &[branch]),
        sampling: Sampling { temperature: 0.9, top_k: 20, top_p: 0.95, min_p: 0.0 },
        tokens_max: 12,
        stop_at_boundary: false,
    }
}

fn stops() -> Stops {
    Stops { eos_ids: vec![2], boundary_ids: vec![10], ..Stops::default() }
}

fn read(engine: &dyn Generate, ids: Vec<u32>, from: usize) -> Vec<f32> {
    engine.read(&[ReadRequest { ids, from, hidden_at: Vec::new() }]).unwrap().remove(0).logprobs
}

fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
}

#[test]
fn every_family_reads_what_it_drew_and_weighs_what_it_reads() {
    for family in FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        checkpoint(dir.path(), family, DType::F32);
        assert!(serves(dir.path()));
        let model = CandleModel::load(dir.path()).unwrap_or_else(|e| panic!("{family}: {e:#}"));
        assert_eq!(model.family(), family);
        assert_eq!(model.capabilities(), Capabilities { hidden: false, ..Capabilities::ALL });
        let requests = [request(9, 0), request(5, 1), request(9, 2)];
        let drawn = model.generate(&requests, &stops(), &|_| ()).unwrap();
        for (request, completion) in requests.iter().zip(&drawn) {
            let alone = model.generate(std::slice::from_ref(request), &stops(), &|_| ()).unwrap();
            assert_eq!(alone[0], *completion, "{family}: neighbours don't matter");
            assert_eq!(completion.boundaries.last().unwrap().end, completion.token_ids.len());
            assert!(completion.boundaries.iter().all(|end| end.hidden_f16.is_empty()));
            let whole = [request.context_ids.as_slice(), &completion.token_ids].concat();
            let again = read(&model, whole.clone(), request.context_ids.len());
            assert_eq!(again, completion.logprobs, "{family}: reading repeats drawing");
            // Read in one pass, without a cache: the positions must be the same ones.
            for at in 1..completion.token_ids.len() {
                let n = request.context_ids.len() + at;
                let choice = Choice { context_ids: whole[..n].to_vec(), options: vec![vec![whole[n]]] };
                let weight = model.option_logprobs(&[choice]).unwrap().remove(0);
                assert!(close(&weight, &completion.logprobs[at..=at], 1e-4), "{family} at {at}");
            }
        }
        assert!(drawn[0] != drawn[2], "{family}: the address matters");
        let choice = Choice { context_ids: ids(6), options: vec![vec![7], vec![7, 8], vec![9, 8, 7]] };
        let weights = model.option_logprobs(std::slice::from_ref(&choice)).unwrap().remove(0);
        let sums: Vec<f32> = choice
            .options
            .iter()
            .map(|o| read(&model, [ids(6), o.clone()].concat(), 6).iter().sum())
            .collect();
        assert!(close(&weights, &sums, 1e-5), "{family}: {weights:?} {sums:?}");
    }
}

#[test]
fn threads_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    checkpoint(dir.path(), "phi3", DType::F32);
    let model = CandleModel::load(dir.path()).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| model.generate(&[request(40, 0)], &stops(), &|_| ()).unwrap())
    };
    assert_eq!(with(1), with(4));
}

/// Phi 3 is Llama with its projections in one: our own decoder, fed the same numbers, must agree.
#[test]
fn phi3_is_our_own_llama_in_fewer_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let mut llama = config("llama");
    llama["architectures"] = json!(["LlamaForCausalLM"]);
    let weights = weights(&llama);
    let part = |name: &str| weights.tensor(name).unwrap().clone();
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (name, var) in &weights.tensors {
        let (prefix, last) =
            name.rsplit_once("_proj").map_or((name.as_str(), ""), |(p, _)| p.rsplit_once('.').unwrap());
        let fused = match last {
            "q" => ("qkv_proj", vec!["q_proj", "k_proj", "v_proj"]),
            "gate" => ("gate_up_proj", vec!["gate_proj", "up_proj"]),
            "k" | "v" | "up" => continue,
            _ => {
                tensors.insert(name.clone(), var.as_detached_tensor());
                continue;
            }
        };
        let parts: Vec<Tensor> = fused.1.iter().map(|p| part(&format!("{prefix}.{p}.weight"))).collect();
        tensors.insert(format!("{prefix}.{}.weight", fused.0), Tensor::cat(&parts, 0).unwrap());
    }
    candle_core::safetensors::save(&tensors, dir.path().join("model.safetensors")).unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), config("phi3").to_string()).unwrap();
    agree(
        &Native::new(Packed::new(&weights).unwrap(), 1024).unwrap(),
        &CandleModel::load(dir.path()).unwrap(),
    );
}

fn weights(config: &serde_json::Value) -> Weights {
    let config = ModelConfig::parse(&config.to_string()).unwrap();
    Weights::init(config, &Address::new(11, Purpose::Init, 0, "", &[])).unwrap()
}

fn agree(ours: &Native, theirs: &CandleModel) {
    let (ours_read, theirs_read) = (read(ours, ids(60), 1), read(theirs, ids(60), 1));
    assert!(close(&ours_read, &theirs_read, 2e-4), "{ours_read:?}\n{theirs_read:?}");
    let choice = Choice { context_ids: ids(33), options: vec![vec![4], vec![5, 6, 7], vec![1, 1]] };
    let weights = [ours as &dyn Generate, theirs]
        .map(|e| e.option_logprobs(std::slice::from_ref(&choice)).unwrap().remove(0));
    assert!(close(&weights[0], &weights[1], 2e-4), "{weights:?}");
}

/// A GGUF file with the tensors of `weights` as they are, in ggml's names.
fn gguf(path: &Path, architecture: &str, weights: &Weights, more: &[(&str, Value)]) {
    const NAMES: [(&str, &str); 14] = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
    ];
    let name = |name: &str| {
        let short = NAMES.iter().fold(name.to_owned(), |name, (long, short)| name.replace(long, short));
        short.replace("mlp.down_proj", "ffn_down")
    };
    let tensors: Vec<(String, QTensor)> = weights
        .tensors
        .iter()
        .map(|(n, v)| (name(n), QTensor::quantize(&v.as_detached_tensor(), GgmlDType::F32).unwrap()))
        .collect();
    let shape = &weights.config;
    let mut metadata = vec![("general.architecture".to_owned(), Value::String(architecture.into()))];
    for (key, value) in [
        ("attention.head_count", shape.num_attention_heads),
        ("attention.head_count_kv", shape.num_key_value_heads),
        ("attention.key_length", shape.head_dim),
        ("block_count", shape.layers.len()),
        ("embedding_length", shape.hidden_size),
        ("context_length", shape.max_position_embeddings),
    ] {
        metadata.push((format!("{architecture}.{key}"), Value::U32(value as u32)));
    }
    let floats = [("attention.layer_norm_rms_epsilon", 1e-6), ("rope.freq_base", 10_000.0)];
    metadata.extend(floats.map(|(key, value)| (format!("{architecture}.{key}"), Value::F32(value))));
    metadata.extend(more.iter().map(|(key, value)| (key.to_string(), value.clone())));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn gguf_files_are_our_own_models() {
    let dir = tempfile::tempdir().unwrap();
    for (family, architecture) in [("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM")] {
        let mut config = config(family);
        config["architectures"] = json!([architecture]);
        config["head_dim"] = json!(8);
        let (weights, path) = (weights(&config), dir.path().join(format!("{family}.gguf")));
        gguf(&path, family, &weights, &[]);
        let model = CandleModel::load(&path).unwrap_or_else(|e| panic!("{family}: {e:#}"));
        assert_eq!((model.family(), model.context_max()), (family, 64));
        agree(&Native::new(Packed::new(&weights).unwrap(), 1024).unwrap(), &model);
        let again = model.generate(&[request(9, 0), request(9, 1)], &stops(), &|_| ()).unwrap();
        assert_eq!(model.generate(&[request(9, 1)], &stops(), &|_| ()).unwrap(), again[1..]);
    }
    let scaled = [("qwen2.rope.scaling.type", Value::String("yarn".into()))];
    let path = dir.path().join("scaled.gguf");
    gguf(&path, "qwen2", &weights(&config("qwen2")), &scaled);
    let error = format!("{:#}", CandleModel::load(&path).unwrap_err());
    assert!(error.contains("yarn") && error.contains("safetensors folder"), "{error}");
    std::fs::write(&path, "not a model").unwrap();
    assert_refused(CandleModel::load(&path), "not a GGUF file");
    for (key, size) in
        [("block_count", u32::MAX), ("attention.head_count", 0), ("attention.head_count_kv", 0)]
    {
        let key = format!("qwen2.{key}");
        gguf(&path, "qwen2", &weights(&config("qwen2")), &[(&key, Value::U32(size))]);
        let error = format!("{:#}", CandleModel::load(&path).unwrap_err());
        assert!(error.contains(&format!("{key} is {size}; it must be from 1 to")), "{error}");
    }
}

#[test]
fn what_candle_would_read_past_is_refused_and_files_are_named_by_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    checkpoint(dir.path(), "starcoder2", DType::BF16);
    let model = CandleModel::load(dir.path()).unwrap();
    assert_eq!(model.context_max(), 40, "as far as the window is exact");
    let context = Request { context_ids: ids(39), ..request(39, 0) };
    assert_eq!(model.generate(&[context], &stops(), &|_| ()).unwrap()[0].token_ids.len(), 1);
    let read = |ids| model.read(&[ReadRequest { ids, from: 1, hidden_at: vec![] }]);
    assert_refused(read(ids(41)), "41 tokens; the model reads at most 40");
    assert_refused(read(vec![99]), "token id 99");
    assert_eq!(model.policy_hash(), CandleModel::load(dir.path()).unwrap().policy_hash());

    let mut config = config("starcoder2");
    config["use_bias"] = json!(true);
    std::fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    assert_ne!(model.policy_hash(), CandleModel::load(dir.path()).unwrap().policy_hash());
    config["rope_scaling"] = json!({ "type": "linear", "factor": 2.0 });
    std::fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    let error = format!("{:#}", CandleModel::load(dir.path()).unwrap_err());
    assert!(error.contains("rope_scaling") && error.contains("linear"), "{error}");
    config["model_type"] = json!("llama");
    std::fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    assert!(!serves(dir.path()), "our own decoder does");
}
