//! Every family's file is the model it was written from; quantized rows are read as they are;
//! damage is named.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::gguf::{self, TensorSpec, Value};
use crate::model::{Frozen, Packed, StoredLayout, forward, logprobs};

const FAMILIES: &str = include_str!("../../../../../tests/golden/families.json");

/// Name, what differs from the family's golden configuration, the architecture it is written as.
fn cases() -> Vec<(&'static str, ModelConfig, &'static str)> {
    let edits: [(&str, Json, &str); 11] = [
        ("llama3", json!({}), "llama"),
        ("llama_linear", json!({}), "llama"),
        ("mistral", json!({}), "granite_swa"),
        ("qwen2", json!({ "use_sliding_window": false }), "qwen2"),
        ("qwen3", json!({ "attention_bias": false }), "qwen3"),
        ("olmo2", json!({}), "olmo2"),
        (
            "olmo3",
            json!({ "rope_parameters": {
            "full_attention": { "rope_type": "yarn", "rope_theta": 500.0, "attention_factor": 1.3, "factor": 4.0,
                "original_max_position_embeddings": 16 },
            "sliding_attention": { "rope_type": "default", "rope_theta": 500.0 } } }),
            "olmo2",
        ),
        ("gemma2", json!({}), "gemma2"),
        ("gemma3", json!({}), "gemma3"),
        ("olmoe", json!({ "num_key_value_heads": 4 }), "olmoe"),
        ("qwen3_moe", json!({ "mlp_only_layers": [] }), "qwen3moe"),
    ];
    let mut cases: Vec<_> =
        edits.into_iter().map(|(name, edit, arch)| (name, family(name, edit), arch)).collect();
    cases.push(("seed", small_seed(), "granite_swa"));
    let mut smollm3 = small_seed();
    smollm3.sliding_window = None;
    for (i, layer) in smollm3.layers.iter_mut().enumerate() {
        (layer.rope, layer.sliding) = (i != 3, false);
    }
    cases.push(("smollm3", smollm3, "smollm3"));
    cases
}

fn family(name: &str, edit: Json) -> ModelConfig {
    let all: BTreeMap<String, Json> = serde_json::from_str(FAMILIES).unwrap();
    let mut config = all[name]["config"].clone();
    for (key, value) in edit.as_object().unwrap() {
        config[key] = value.clone();
    }
    ModelConfig::parse(&config.to_string()).unwrap()
}

fn small_seed() -> ModelConfig {
    let mut config = ModelConfig::seed(64);
    (config.hidden_size, config.intermediate_size) = (32, 40);
    (config.num_attention_heads, config.num_key_value_heads, config.head_dim) = (4, 2, 8);
    config.max_position_embeddings = 64;
    config
}

/// Numbers that f16 and bf16 hold exactly, all different from their neighbours.
fn weights(config: ModelConfig) -> Weights {
    let tensor = |(n, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        let is_norm = name.ends_with("norm.weight");
        let (scale, offset) = if is_norm && !config.blocks.norm_plus_one { (0.25, 1.0) } else { (0.5, 0.0) };
        let number = |i: usize| {
            let h = ((i + 1) as u64)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add((n as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
            let h = (h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            scale * ((h >> 57) as f32 - 63.5) / 64.0 + offset
        };
        (name, var((0..count).map(number).collect(), &shape).unwrap())
    };
    let tensors = config.parameters().into_iter().enumerate().map(tensor).collect();
    Weights::from_tensors(Arc::new(config.clone()), tensors).unwrap()
}

fn write(weights: &Weights, kind: GgufType, dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join(format!("{kind:?}.gguf"));
    let elements = |name: &str| Ok(weights.tensor(name)?.flatten_all()?.to_vec1()?);
    let export = GgufExport::new(&weights.config, &elements, kind).unwrap();
    let mut out = Vec::new();
    export.write(&mut out, "test", others()).unwrap();
    std::fs::write(&path, out).unwrap();
    path
}

fn others() -> Vec<(String, Value)> {
    let id = |name: &str, id: u32| (format!("tokenizer.ggml.{name}_token_id"), id.into());
    vec![id("bos", 1), id("eos", 2), id("eot", 3), id("padding", 0)]
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Hidden states and log-probabilities of three sequences.
fn outputs(weights: &Weights) -> Vec<f32> {
    let ids: Vec<u32> = (0..40u32).map(|i| (i * i * 7 + i * 3 + 5) % 64).collect();
    let starts = Arc::new(vec![0, 3, 16, 40]);
    let hidden = forward(weights.parameters(), &ids, &starts).unwrap();
    let targets = Arc::new(ids.iter().map(|id| (id * 5 + 1) % 64).collect::<Vec<u32>>());
    let logprobs = logprobs(weights.parameters(), &hidden, &targets).unwrap();
    [values(&hidden), values(&logprobs)].concat()
}

#[test]
fn every_family_comes_back_as_the_same_model() {
    for (name, config, arch) in cases() {
        let dir = tempfile::tempdir().unwrap();
        let weights = weights(config);
        for kind in [GgufType::F32, GgufType::F16, GgufType::Bf16] {
            let path = write(&weights, kind, &dir);
            let model = GgufModel::open(&path).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            assert_eq!(model.arch().name(), arch, "{name}");
            assert_eq!((model.config().bos_token_id, model.config().pad_token_id), (Some(1), Some(0)));
            assert_eq!(model.config().eos_token_ids, [2, 3], "{name}");
            let again = Weights::load(&path).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let (was, is) = (outputs(&weights), outputs(&again));
            let off = was.iter().zip(&is).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The attention's scale went into the queries, which halves then round.
            let bound = match (again.config.family.is_gemma(), kind) {
                (false, _) => 0.0,
                (true, GgufType::F32) => 1e-4,
                (true, _) => 0.3,
            };
            assert!(off <= bound, "{name}, {kind:?}: off by {off}");
            Packed::new(&again).unwrap();
            // It is a checkpoint like any other: saved and loaded, it is the same.
            let saved = tempfile::tempdir().unwrap();
            again.save(saved.path()).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            assert_eq!(Weights::load(saved.path()).unwrap().hash(), again.hash(), "{name}");
        }
    }
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let weights = weights(small_seed());
    let bytes = |dir: &tempfile::TempDir| std::fs::read(write(&weights, GgufType::Q8_0, dir)).unwrap();
    assert_eq!(bytes(&dir), bytes(&tempfile::tempdir().unwrap()));
}

#[test]
fn eight_bits_are_within_half_a_step_and_only_where_blocks_fit() {
    for (name, config, _) in cases() {
        let dir = tempfile::tempdir().unwrap();
        let weights = weights(config);
        let scaled = weights.config.family.is_gemma();
        let model = GgufModel::open(&write(&weights, GgufType::Q8_0, &dir)).unwrap();
        for (parameter, shape) in weights.config.parameters() {
            let (was, is) = (values(weights.tensor(&parameter).unwrap()), model.f32(&parameter).unwrap());
            let dtype = model.dtype(&parameter).unwrap();
            let wanted = match shape.as_slice() {
                [_] => Dtype::F32,
                _ if parameter.ends_with("mlp.gate.weight") => Dtype::F32,
                [_, columns] if columns.is_multiple_of(32) => Dtype::Q8_0,
                _ => Dtype::F16,
            };
            assert_eq!(dtype, wanted, "{name}: {parameter}");
            if scaled && parameter.contains("self_attn.q_") {
                continue;
            }
            let columns = *shape.last().unwrap();
            for (was, is) in was.chunks(columns.min(32)).zip(is.chunks(columns.min(32))) {
                let largest = was.iter().map(|x| x.abs()).fold(0.0, f32::max);
                // Half a step, and what rounding the step to f16 costs at its 127th multiple.
                let bound = if dtype == Dtype::Q8_0 { largest / 127.0 * 0.57 } else { 1e-7 };
                let off = was.iter().zip(is).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= bound, "{name}: {parameter} is off by {off}, more than {bound}");
            }
        }
    }
}

/// The same file with every matrix in another type, and one in f32 of the numbers that type then
/// holds.
fn requantized(path: &Path, kind: GgmlDType, dtype: Dtype, dir: &tempfile::TempDir) -> (PathBuf, PathBuf) {
    let file = File::open(path).unwrap();
    let metadata: Vec<_> = file.metadata().values.clone().into_iter().collect();
    let (mut specs, mut quantized, mut widened) = (Vec::new(), Vec::new(), Vec::new());
    for (name, info) in file.tensors() {
        let bytes = file.read(name).unwrap();
        let spec = |dtype| TensorSpec { name: name.clone(), dtype, shape: info.shape.clone() };
        if info.shape.len() < 2 {
            specs.push((spec(info.dtype), spec(info.dtype)));
            quantized.push(bytes.clone());
            widened.push(bytes);
            continue;
        }
        let numbers = blocks::to_f32(info.dtype, &bytes).unwrap();
        let tensor = Tensor::from_vec(numbers, info.shape.as_slice(), &Device::Cpu).unwrap();
        let blocks = QTensor::quantize(&tensor, kind).unwrap();
        let numbers = values(&blocks.dequantize(&Device::Cpu).unwrap());
        specs.push((spec(dtype), spec(Dtype::F32)));
        quantized.push(blocks.data().unwrap().into_owned());
        widened.push(blocks::from_f32(Dtype::F32, &numbers).unwrap());
    }
    let (first, second): (Vec<_>, Vec<_>) = specs.into_iter().unzip();
    let put = |name: &str, specs: &[TensorSpec], data: &[Vec<u8>]| {
        let path = dir.path().join(name);
        let mut out = Vec::new();
        gguf::write(&mut out, &metadata, specs, |n| Ok(data[n].clone())).unwrap();
        std::fs::write(&path, out).unwrap();
        path
    };
    (put("quantized.gguf", &first, &quantized), put("widened.gguf", &second, &widened))
}

#[test]
fn quantized_rows_are_the_numbers_they_stand_for() {
    // Both with permuted rows and with a stack of experts, and rows of whole large blocks.
    let mut seed = small_seed();
    (seed.hidden_size, seed.intermediate_size, seed.head_dim) = (256, 256, 64);
    let mut moe = family("olmoe", json!({ "num_key_value_heads": 4 }));
    (moe.hidden_size, moe.intermediate_size, moe.head_dim) = (256, 256, 64);
    moe.experts.iter_mut().for_each(|experts| experts.intermediate_size = 256);
    for config in [seed, moe] {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&weights(config), GgufType::F32, &dir);
        for (kind, dtype) in [
            (GgmlDType::Q4_0, Dtype::Q4_0),
            (GgmlDType::Q4_1, Dtype::Q4_1),
            (GgmlDType::Q5_0, Dtype::Q5_0),
            (GgmlDType::Q5_1, Dtype::Q5_1),
            (GgmlDType::Q8_0, Dtype::Q8_0),
            (GgmlDType::Q4K, Dtype::Q4K),
            (GgmlDType::Q5K, Dtype::Q5K),
            (GgmlDType::Q6K, Dtype::Q6K),
        ] {
            let (quantized, widened) = requantized(&path, kind, dtype, &dir);
            // Kept quantised it is the same policy, in less memory.
            let frozen = Frozen::load(&quantized, None).unwrap();
            assert_eq!(**frozen.hash(), Weights::load(&quantized).unwrap().hash(), "{dtype:?}");
            assert!(frozen.bytes() < 2 * frozen.parameter_count(), "{dtype:?}: {} bytes", frozen.bytes());
            let (quantized, widened) =
                (GgufModel::open(&quantized).unwrap(), GgufModel::open(&widened).unwrap());
            for (parameter, shape) in quantized.config().parameters() {
                let raw = quantized.raw(&parameter).unwrap();
                assert_eq!(raw.shape, shape, "{parameter}");
                assert_eq!(raw.dtype, if shape.len() > 1 { dtype } else { Dtype::F32 });
                let (is, wanted) = (quantized.f32(&parameter).unwrap(), widened.f32(&parameter).unwrap());
                assert!(is == wanted, "{parameter} as {dtype:?}");
            }
        }
    }
}

#[test]
fn rows_are_in_the_order_of_llama_cpps_converter() {
    // `LlamaModel.permute` of its conversion/llama.py, on `arange(16)` as 2 heads of 8 rows.
    let rows: Vec<u8> = (0..16).collect();
    let permuted = names::permute(&rows, 1, 8);
    assert_eq!(permuted, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    assert_eq!(names::unpermute(&permuted, 1, 8), rows);
    let wide: Vec<u8> = (0..96).collect();
    for (row_bytes, head_dim) in [(3, 2), (3, 4), (3, 32), (1, 96), (24, 4)] {
        assert_eq!(names::unpermute(&names::permute(&wide, row_bytes, head_dim), row_bytes, head_dim), wide);
    }
}

#[test]
fn llama3s_rule_is_found_again() {
    let of = |factor: f64, low: f64, high: f64, original: f64, theta: f64| {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        };
        RopeParameters { rope_theta: theta, scaling }
    };
    for (rope, is_published) in [
        (of(8.0, 1.0, 4.0, 8192.0, 5e5), true),
        (of(32.0, 1.0, 4.0, 8192.0, 5e5), true),
        (of(4.0, 2.0, 6.0, 1000.0, 1e4), false),
        (of(8.0, 1.0, 4.0, 16.0, 500.0), true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = family("llama3", json!({}));
        (config.rope, config.head_dim) = (rope, 64);
        let again = GgufModel::open(&write(&weights(config), GgufType::F16, &dir)).unwrap();
        let found = again.config().rope;
        if is_published {
            assert_eq!(found, rope);
        }
        let pairs = rope::divisors(&rope, 64).into_iter().zip(rope::divisors(&found, 64));
        for (was, is) in pairs {
            assert!((was - is).abs() < 1e-4 * was, "{rope:?} became {found:?}");
        }
    }
}

#[test]
fn what_llama_cpp_would_compute_otherwise_is_refused() {
    type Edit = fn(&mut ModelConfig);
    let cases: [(&str, Json, Edit, &str); 8] = [
        ("qwen2", json!({}), |_| (), "sliding window of 5 tokens"),
        ("qwen3", json!({}), |_| (), "attention_bias is true"),
        ("olmoe", json!({}), |_| (), "num_key_value_heads is 2"),
        ("qwen3_moe", json!({}), |_| (), "mlp_only_layers"),
        ("olmo3", json!({}), |_| (), "beta_fast 8"),
        ("gemma2", json!({ "attn_logit_softcapping": null }), |_| (), "attn_logit_softcapping is null"),
        (
            "llama_linear",
            json!({}),
            |c| c.blocks.activation = Activation::GeluTanh,
            "the activation is GeluTanh",
        ),
        ("olmo2", json!({ "head_dim": 4 }), |_| (), "head_dim is 4"),
    ];
    for (name, change, edit, word) in cases {
        let mut config = family(name, change);
        edit(&mut config);
        let config = &weights(config).config;
        let refused = GgufExport::new(config, &|_| unreachable!(), GgufType::F16);
        let error = format!("{:#}", refused.err().unwrap());
        assert!(error.contains(word) && error.contains("llama.cpp"), "{word}: {error}");
    }
}

use crate::model::{Activation, RopeParameters, RopeScaling};

/// A file whose metadata were changed.
fn edited(path: &Path, edit: impl FnOnce(&mut BTreeMap<String, Value>), rename: (&str, &str)) -> PathBuf {
    let file = File::open(path).unwrap();
    let mut metadata = file.metadata().values.clone();
    edit(&mut metadata);
    let names: Vec<&String> = file.tensors().keys().collect();
    let spec = |name: &&String| {
        let info = &file.tensors()[*name];
        let name = if *name == rename.0 { rename.1.to_owned() } else { (*name).clone() };
        TensorSpec { name, dtype: info.dtype, shape: info.shape.clone() }
    };
    let specs: Vec<TensorSpec> = names.iter().map(spec).collect();
    let mut out = Vec::new();
    let metadata: Vec<_> = metadata.into_iter().collect();
    gguf::write(&mut out, &metadata, &specs, |n| file.read(names[n])).unwrap();
    let path = path.with_file_name("edited.gguf");
    std::fs::write(&path, out).unwrap();
    path
}

#[test]
fn what_does_not_fit_is_named_with_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&weights(family("llama_linear", json!({}))), GgufType::F16, &dir);
    let cases: Vec<(&str, Option<Value>, &str)> = vec![
        ("general.architecture", Some("mamba".into()), "`mamba` is not supported; supported: llama, smollm3"),
        ("general.architecture", None, "general.architecture is missing"),
        ("llama.block_count", None, "llama.block_count is missing"),
        (
            "llama.block_count",
            Some(4_000_000_000u32.into()),
            "llama.block_count is 4000000000, but the file holds",
        ),
        ("llama.block_count", Some(3u32.into()), "`blk.2.attn_norm.weight` is missing"),
        ("llama.block_count", Some(1u32.into()), "`blk.1.attn_k.weight` is unexpected"),
        ("llama.embedding_length", Some(64u32.into()), "has shape"),
        ("llama.embedding_length", Some("x".into()), "llama.embedding_length is \"x\""),
        ("llama.attention.head_count", Some(0u32.into()), "llama.attention.head_count is 0"),
        ("llama.attention.head_count_kv", Some(Value::Integers(vec![2, 1])), "differs from layer to layer"),
        ("llama.rope.dimension_count", Some(4u32.into()), "llama.rope.dimension_count is 4"),
        ("llama.rope.scaling.type", Some("longrope".into()), "llama.rope.scaling.type `longrope`"),
        ("llama.expert_count", Some(8u32.into()), "llama.expert_count is 8"),
        ("llama.logit_scale", Some(2.0.into()), "llama.logit_scale is 2"),
        ("llama.attention.causal", Some(false.into()), "llama.attention.causal is false"),
        ("split.count", Some(3u32.into()), "llama-gguf-split --merge"),
        ("llama.attention.layer_norm_rms_epsilon", Some(f64::NAN.into()), "rms_epsilon is NaN"),
    ];
    for (key, value, word) in cases {
        let edit = |metadata: &mut BTreeMap<String, Value>| {
            match value {
                Some(value) => metadata.insert(key.to_owned(), value),
                None => metadata.remove(key),
            };
        };
        let Err(error) = GgufModel::open(&edited(&path, edit, ("", ""))) else { panic!("{key}: {word}") };
        let error = format!("{error:#}");
        assert!(error.contains(word) && error.contains("edited.gguf"), "{key}: {error}");
    }
    let error = GgufModel::open(&edited(&path, |_| (), ("blk.0.attn_q.weight", "blk.0.attn_qkv.weight")));
    assert!(format!("{:#}", error.err().unwrap()).contains("`blk.0.attn_q.weight` is missing"));
    // A list with the same value for all layers is one value.
    let same = |metadata: &mut BTreeMap<String, Value>| {
        metadata.insert("llama.attention.head_count_kv".into(), Value::Integers(vec![2, 2]));
    };
    GgufModel::open(&edited(&path, same, ("", ""))).unwrap();
}

#[test]
fn sinks_are_refused_unless_they_weigh_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&weights(small_seed()), GgufType::F16, &dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let info = File::open(&path).unwrap().tensor("blk.1.attn_sinks.weight").unwrap().clone();
    bytes[info.offset as usize..][..4].copy_from_slice(&(-3f32).to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", GgufModel::open(&path).err().unwrap());
    assert!(error.contains("`blk.1.attn_sinks.weight` holds attention sinks"), "{error}");
}

#[test]
fn numbers_that_are_none_are_refused_and_quantized_types_are_stored_as_f32() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&weights(family("llama_linear", json!({}))), GgufType::Q8_0, &dir);
    let out = tempfile::tempdir().unwrap();
    let loaded = Weights::load(&path).unwrap();
    let elements = |name: &str| Ok(loaded.tensor(name)?.flatten_all()?.to_vec1()?);
    StoredLayout::of_dir(&path).unwrap().save(&loaded.config, &elements, out.path()).unwrap();
    assert_eq!(
        Weights::load(out.path()).unwrap().hash(),
        loaded.hash(),
        "the numbers of blocks are kept exactly"
    );

    let info = File::open(&path).unwrap().tensor("blk.0.ffn_norm.weight").unwrap().clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[info.offset as usize + 8..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", Weights::load(&path).err().unwrap());
    assert!(error.contains("post_attention_layernorm.weight` holds NaN at element 2"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn damaged_files_never_panic(
        at in any::<prop::sample::Index>(),
        with in any::<[u8; 8]>(),
        count in 1usize..8,
        cut in prop::option::of(any::<prop::sample::Index>()),
        which in 0usize..13,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (_, config, _) = cases().swap_remove(which);
        let path = write(&weights(config), GgufType::Q8_0, &dir);
        let mut bytes = std::fs::read(&path).unwrap();
        // The header, mostly.
        let at = at.index(bytes.len().min(6000));
        for (place, byte) in bytes[at..].iter_mut().zip(with).take(count) {
            *place = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        match GgufModel::open(&path) {
            Ok(model) => {
                for (parameter, shape) in model.config().parameters() {
                    if let Ok(numbers) = model.f32(&parameter) {
                        prop_assert_eq!(numbers.len(), shape.iter().product::<usize>());
                    }
                }
            }
            Err(error) => prop_assert!(format!("{error:#}").contains("Q8_0.gguf"), "{error:#}"),
        }
    }
}
