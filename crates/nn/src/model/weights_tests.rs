//! Tests of reading, checking and writing checkpoints.

use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::domain::{Address, Purpose};

fn tiny() -> Weights {
    let config = ModelConfig {
        hidden_size: 16,
        intermediate_size: 24,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        tie_word_embeddings: false,
        ..ModelConfig::seed(11)
    };
    Weights::init(config, &Address::new(2, Purpose::Init, 0, "", &[])).unwrap()
}

fn data(weights: &Weights, name: &str) -> Vec<f32> {
    weights.tensor(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The tiny checkpoint with one tensor changed, added or (with `None`) left out.
fn edited(name: &str, tensor: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> Result<Weights> {
    let weights = tiny();
    let mut all: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, var) in &weights.tensors {
        all.insert(name.clone(), (Dtype::F32, var.dims().to_vec(), little_endian(var).unwrap()));
    }
    match tensor {
        Some(tensor) => all.insert(name.to_owned(), tensor),
        None => all.remove(name),
    };
    let views = all.iter().map(|(n, (d, s, b))| (n, TensorView::new(*d, s.clone(), b).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    Weights::from_bytes(&weights.config.to_json(), &bytes)
}

#[test]
fn a_checkpoint_round_trips_and_keeps_its_hash() {
    let weights = tiny();
    let dir = tempfile::tempdir().unwrap();
    weights.save(dir.path()).unwrap();
    let permissions = |file| std::fs::metadata(dir.path().join(file)).unwrap().permissions();
    assert_eq!(permissions(WEIGHTS_FILE), permissions(CONFIG_FILE), "who may read one may read the other");
    let loaded = Weights::load(dir.path()).unwrap();
    assert_eq!(loaded.config, weights.config);
    assert_eq!(loaded.hash(), weights.hash());
    assert_eq!(loaded.to_bytes(), weights.to_bytes());
    for name in weights.tensors.keys() {
        assert_eq!(data(&loaded, name), data(&weights, name), "{name}");
    }
    let header = String::from_utf8_lossy(&weights.to_bytes()[8..60]).into_owned();
    assert!(header.contains(r#""__metadata__":{"format":"pt"}"#), "{header}");
}

#[test]
fn the_hash_sees_values_and_configuration_and_copies_are_deep() {
    let weights = tiny();
    let copy = weights.deep_copy().unwrap();
    assert_eq!(copy.hash(), weights.hash());
    let norm = &copy.tensors["model.norm.weight"];
    norm.set(&(norm.as_tensor() * 1.000001).unwrap()).unwrap();
    assert_ne!(copy.hash(), weights.hash());
    assert_eq!(data(&weights, "model.norm.weight"), [1.0; 16]);
    let mut config = (*weights.config).clone();
    config.rope.rope_theta = 5e4;
    let other = Weights::from_tensors(Arc::new(config), weights.tensors.clone()).unwrap();
    assert_ne!(other.hash(), weights.hash());
}

#[test]
fn initial_weights_have_their_widths() {
    let weights = tiny();
    let deviation = |name: &str| {
        let data = data(&weights, name);
        (data.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / data.len() as f64).sqrt()
    };
    let within = |x: f64, want: f64| assert!((x / want - 1.0).abs() < 0.2, "{x} {want}");
    within(deviation("model.embed_tokens.weight"), 0.05);
    within(deviation("model.layers.0.mlp.up_proj.weight"), 0.6 / 4.0);
    within(deviation("model.layers.3.mlp.down_proj.weight"), 0.6 / 4.0 / 8f64.sqrt());
    within(deviation("model.layers.1.self_attn.o_proj.weight"), 0.6 / 4.0 / 8f64.sqrt());
    assert_eq!(tiny().hash(), weights.hash());
}

#[test]
fn half_precision_is_widened_exactly() {
    let values: Vec<f32> = (0..16).map(|i| 0.125 * i as f32 - 1.0).collect();
    let f16 = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
    let bf16 = values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
    for (dtype, bytes) in [(Dtype::F16, f16), (Dtype::BF16, bf16)] {
        let loaded = edited("model.norm.weight", Some((dtype, vec![16], bytes))).unwrap();
        assert_eq!(data(&loaded, "model.norm.weight"), values);
    }
}

#[test]
fn damage_is_refused_by_tensor_name() {
    let f32s = |x: f32, n: usize| x.to_le_bytes().repeat(n);
    let name = "model.layers.2.mlp.up_proj.weight";
    let cases = [
        (None, "missing"),
        (Some((Dtype::F32, vec![16, 24], f32s(0.5, 16 * 24))), "[16, 24]"),
        (Some((Dtype::F32, vec![24, 16], f32s(f32::NAN, 16 * 24))), "NaN at element 0"),
        (Some((Dtype::F32, vec![24, 16], f32s(f32::INFINITY, 16 * 24))), "inf"),
        (Some((Dtype::I8, vec![24, 16], vec![1; 16 * 24])), "I8"),
    ];
    for (tensor, word) in cases {
        let error = format!("{:#}", edited(name, tensor).unwrap_err());
        assert!(error.contains(name) && error.contains(word), "{word}: {error}");
    }
    let error = edited("model.layers.4.mlp.up_proj.weight", Some((Dtype::F32, vec![1], f32s(0.0, 1))));
    assert!(format!("{:#}", error.unwrap_err()).contains("layers.4.mlp.up_proj.weight` is unexpected"));
    let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
    edited(buffer, Some((Dtype::F32, vec![4], f32s(0.0, 4)))).unwrap();
    edited("v_head.summary.weight", Some((Dtype::F32, vec![1, 16], f32s(0.5, 16)))).unwrap();
}

#[test]
fn every_truncation_and_damaged_header_is_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let whole = std::fs::read(&path).unwrap();
    let header_len = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize + 8;
    let cuts = [0, 1, 7, 8, 9, header_len / 2, header_len, header_len + 1, whole.len() / 2, whole.len() - 1];
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = format!("{:#}", Weights::load(dir.path()).unwrap_err());
        assert!(error.contains("model.safetensors"), "{cut}: {error}");
    }
    // A flipped bit in the header either breaks it or leaves a checkpoint that is read completely;
    // never a panic.
    for at in (0..header_len.min(2000)).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        let _ = Weights::from_bytes(&tiny().config.to_json(), &flipped);
    }
    // A flipped exponent bit in the data.
    let mut flipped = whole.clone();
    let last = whole.len() - 1;
    (flipped[last], flipped[last - 1]) = (0x7f, 0x80);
    let error = format!("{:#}", Weights::from_bytes(&tiny().config.to_json(), &flipped).unwrap_err());
    assert!(error.contains("tensor `") && error.contains("damaged"), "{error}");
}

#[test]
fn missing_files_and_shards_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(format!("{:#}", Weights::load(dir.path()).unwrap_err()).contains("config.json"));
    std::fs::write(dir.path().join("config.json"), tiny().config.to_json()).unwrap();
    assert!(format!("{:#}", Weights::load(dir.path()).unwrap_err()).contains("model.safetensors"));
}

/// The tiny checkpoint in two files with an index, both of which `edit` may change.
fn sharded(edit: impl FnOnce(&Path, &mut BTreeMap<String, String>)) -> Result<Weights> {
    let weights = tiny();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), weights.config.to_json()).unwrap();
    let mut index = BTreeMap::new();
    let all: Vec<_> = weights.tensors.iter().map(|(n, v)| (n, v, little_endian(v).unwrap())).collect();
    for (s, shard) in all.chunks(all.len().div_ceil(2)).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", s + 1);
        let view = |(n, v, b): &'_ (_, &Var, Vec<u8>)| {
            (
                *n,
                TensorView::new(Dtype::F32, v.dims().to_vec(), b).unwrap().data().to_vec(),
                v.dims().to_vec(),
            )
        };
        let owned: Vec<(&String, Vec<u8>, Vec<usize>)> = shard.iter().map(view).collect();
        let views = owned.iter().map(|(n, b, s)| (*n, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
        std::fs::write(dir.path().join(&file), safetensors::serialize(views, None).unwrap()).unwrap();
        index.extend(shard.iter().map(|(name, ..)| ((*name).clone(), file.clone())));
    }
    edit(dir.path(), &mut index);
    let text = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": index}).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
    Weights::load(dir.path())
}

#[test]
fn shards_are_one_checkpoint() {
    assert_eq!(sharded(|_, _| ()).unwrap().hash(), tiny().hash());
    const SECOND: &str = "model-00002-of-00002.safetensors";
    let message =
        |edit: fn(&Path, &mut BTreeMap<String, String>)| format!("{:#}", sharded(edit).unwrap_err());
    let error = message(|dir, _| std::fs::remove_file(dir.join(SECOND)).unwrap());
    assert!(error.contains(SECOND), "{error}");
    let error = message(|dir, _| {
        let whole = std::fs::read(dir.join(SECOND)).unwrap();
        std::fs::write(dir.join(SECOND), &whole[..whole.len() - 4]).unwrap();
    });
    assert!(error.contains(SECOND) && error.contains("not a complete safetensors file"), "{error}");
    let error = message(|_, index| index.retain(|_, file| file != SECOND));
    assert!(error.contains("is missing") && error.contains("tensor `model."), "{error}");
    let error = message(|dir, _| {
        std::fs::copy(dir.join("model-00001-of-00002.safetensors"), dir.join(SECOND)).unwrap();
    });
    assert!(error.contains(SECOND) && error.contains("is there twice"), "{error}");
    let error = message(|_, index| index.values_mut().for_each(|file| *file = format!("../{file}")));
    assert!(error.contains("index.json") && error.contains("../model-"), "{error}");
    let error = message(|_, index| index.clear());
    assert!(error.contains("index.json") && error.contains("no tensor"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), tiny().config.to_json()).unwrap();
    std::fs::write(dir.path().join("model.safetensors.index.json"), "{}").unwrap();
    let error = format!("{:#}", Weights::load(dir.path()).unwrap_err());
    assert!(error.contains("index.json is not an index") && error.contains("weight_map"), "{error}");
}

#[test]
fn a_copy_of_tied_embeddings_must_be_one() {
    let config = ModelConfig { tie_word_embeddings: true, ..(*tiny().config).clone() };
    let mut tensors = tiny().tensors;
    let head = tensors.remove("lm_head.weight").unwrap();
    let load = |head: &Var| {
        let mut all: BTreeMap<_, _> =
            tensors.iter().map(|(n, v)| (n.clone(), little_endian(v).unwrap())).collect();
        all.insert("lm_head.weight".to_owned(), little_endian(head).unwrap());
        let shape = |n: &String| tensors.get(n).unwrap_or(head).dims().to_vec();
        let views = all.iter().map(|(n, b)| (n, TensorView::new(Dtype::F32, shape(n), b).unwrap()));
        Weights::from_bytes(&config.to_json(), &safetensors::serialize(views, None).unwrap())
    };
    load(&tensors["model.embed_tokens.weight"]).unwrap();
    let error = format!("{:#}", load(&head).unwrap_err());
    assert!(error.contains("lm_head.weight") && error.contains("tie_word_embeddings"), "{error}");
}

#[test]
fn the_language_model_of_a_multimodal_checkpoint_is_taken_out() {
    let text = serde_json::json!({"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 11,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4});
    let whole =
        serde_json::json!({"model_type": "gemma3", "text_config": text, "vision_config": {}}).to_string();
    let config = ModelConfig::parse(&whole).unwrap();
    let weights = Weights::init(config, &Address::new(2, Purpose::Init, 0, "", &[])).unwrap();
    for prefix in ["language_model.model.", "model.language_model.", "model."] {
        let name = |n: &str| n.replacen("model.", prefix, 1);
        let mut all: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (n, v) in &weights.tensors {
            all.insert(name(n), (v.dims().to_vec(), little_endian(v).unwrap()));
        }
        for other in ["model.vision_tower.x.weight", "multi_modal_projector.y"] {
            all.insert(other.to_owned(), (vec![1], vec![0; 4]));
        }
        let views = all.iter().map(|(n, (s, b))| (n, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        assert_eq!(Weights::from_bytes(&whole, &bytes).unwrap().hash(), weights.hash(), "{prefix}");
    }
}
