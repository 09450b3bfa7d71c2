//! Every family against Hugging Face (tests/golden/families.py), and each of its two forwards
//! against the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use autodidact_testing::is_skipped;
use candle_core::Tensor;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

use super::cache::KvCache;
use super::weights::var;
use super::*;
use crate::ops;
use crate::ops::kernels::{Arithmetic, has_tiles, logprob};

const CASES: &str = include_str!("../../../../tests/golden/families.json");
const EXPECTED: &[u8] = include_bytes!("../../../../tests/golden/families.safetensors");
const LENGTHS: [usize; 3] = [3, 13, 21];

/// The generator's numbers: a function of a tensor's place by name and an element's place within.
fn counter(n: u64, count: usize) -> impl Iterator<Item = f64> {
    const MASK: u64 = 0xFFFF_FFFF;
    (1..=count as u64).map(move |i| {
        let mut h = (i * 0x9E37_79B1 + (n + 1) * 0x85EB_CA77) & MASK;
        h ^= h >> 15;
        h = (h * 0x2C1B_3C6D) & MASK;
        h ^= h >> 12;
        h = (h * 0x297A_2D39) & MASK;
        h ^= h >> 15;
        ((h >> 25) as f64 - 63.5) / 64.0
    })
}

struct Case {
    name: String,
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
}

fn cases() -> Vec<Case> {
    let all: BTreeMap<String, Value> = serde_json::from_str(CASES).unwrap();
    let case = |(name, case): (String, Value)| Case {
        name,
        config: case["config"].clone(),
        tensors: serde_json::from_value(case["tensors"].clone()).unwrap(),
    };
    all.into_iter().map(case).collect()
}

impl Case {
    fn weights(&self) -> Weights {
        let config = ModelConfig::parse(&self.config.to_string()).unwrap();
        let tensors = self.tensors.iter().enumerate().map(|(n, (name, shape))| {
            let (scale, offset) = match name {
                _ if name.ends_with("norm.weight") && config.blocks.norm_plus_one => (0.25, 0.0),
                _ if name.ends_with("norm.weight") => (0.25, 1.0),
                _ if name.ends_with("mlp.gate.weight") => (1.0, 0.0),
                _ => (0.5, 0.0),
            };
            let data = counter(n as u64, shape.iter().product()).map(|x| (scale * x + offset) as f32);
            (name.clone(), var(data.collect(), shape).unwrap())
        });
        let tensors = tensors.collect();
        Weights::from_tensors(Arc::new(config), tensors).unwrap_or_else(|e| panic!("{}: {e:#}", self.name))
    }

    fn expected(&self, what: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(EXPECTED).unwrap();
        let view = file.tensor(&format!("{}.{what}", self.name)).unwrap();
        match view.dtype() {
            safetensors::Dtype::F64 => {
                view.data().as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect()
            }
            _ => view.data().as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        }
    }
}

fn sequences() -> Vec<Vec<u32>> {
    let ids = |(s, length): (usize, &usize)| {
        counter(900 + s as u64, *length).map(|x| 3 + ((x + 1.0) * 32.0) as u32 % 61).collect()
    };
    LENGTHS.iter().enumerate().map(ids).collect()
}

fn packed_sequences() -> (Vec<u32>, Arc<Vec<usize>>) {
    let starts = LENGTHS.iter().fold(vec![0], |mut starts, n| {
        starts.push(starts[starts.len() - 1] + n);
        starts
    });
    (sequences().concat(), Arc::new(starts))
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Final-norm hidden states of three sequences, read together, each in chunks of another size.
fn cached(model: &Packed, sequences: &[Vec<u32>]) -> Vec<f32> {
    let (pool, mut scratch) = (model.page_pool(), Scratch::default());
    let mut caches: Vec<KvCache> = sequences.iter().map(|_| KvCache::new(&pool)).collect();
    let mut hidden = vec![Vec::new(); sequences.len()];
    let unread = |s: usize, cache: &KvCache| sequences[s].len() - cache.len();
    while caches.iter().enumerate().any(|(s, cache)| unread(s, cache) > 0) {
        let (mut spans, mut of) = (Vec::new(), Vec::new());
        for (s, cache) in caches.iter_mut().enumerate() {
            let n = unread(s, cache).min([1, 4, 7][s]);
            if n > 0 {
                let start = cache.len();
                spans.push(Span { cache, ids: &sequences[s][start..start + n], wanted_from: 0 });
                of.extend(vec![s; n]);
            }
        }
        let rows = decode(model, &mut spans, &mut scratch).unwrap();
        for (s, row) in of.into_iter().zip(rows.chunks_exact(model.config().hidden_size)) {
            hidden[s].extend_from_slice(row);
        }
    }
    hidden.concat()
}

fn largest_difference(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn tensors_have_hugging_faces_names_and_shapes() {
    for case in cases() {
        let config = ModelConfig::parse(&case.config.to_string()).unwrap();
        let ours: BTreeMap<_, _> = config.parameters().into_iter().collect();
        assert_eq!(ours, case.tensors, "{}", case.name);
    }
}

#[test]
fn logits_are_hugging_faces_and_the_same_in_both_forwards() {
    let (ids, starts) = packed_sequences();
    for case in cases() {
        let weights = case.weights();
        let model = Packed::new(&weights).unwrap();
        let read = cached(&model, &sequences());
        let mut logits = Vec::new();
        model.logits(&read, &mut logits);
        let difference = largest_difference(&logits, &case.expected("logits"));
        assert!(difference < 1e-4, "{}: logits are off by {difference}", case.name);

        let hidden = forward(weights.parameters(), &ids, &starts).unwrap();
        assert!(values(&hidden) == read, "{}: training and cached forward differ", case.name);
        let targets = Arc::new(ids.iter().map(|id| (id * 5 + 1) % 64).collect::<Vec<u32>>());
        let trained = values(&logprobs(weights.parameters(), &hidden, &targets).unwrap());
        for ((row, &target), trained) in logits.chunks_exact(64).zip(&*targets).zip(trained) {
            assert_eq!(logprob(row, target as usize).to_bits(), trained.to_bits(), "{}", case.name);
        }
    }
}

/// Every operator that a family uses hands its gradient on.
#[test]
fn a_recorded_pass_goes_back_with_the_bits_of_candles() {
    let (ids, starts) = packed_sequences();
    let targets = Arc::new(ids.iter().map(|id| (id * 5 + 1) % 64).collect::<Vec<u32>>());
    for case in cases() {
        let weights = case.weights();
        let pass =
            || logprobs(weights.parameters(), &forward(weights.parameters(), &ids, &starts)?, &targets);
        let store = pass().unwrap().backward().unwrap();
        let parameter = weights.tensors.values().next().unwrap();
        let (output, backward) = ops::record(parameter, pass).unwrap();
        let ones = output.ones_like().unwrap();
        let mut gradients = backward.run(&output, ones).unwrap();
        for (name, var) in &weights.tensors {
            let (ours, theirs) = (gradients.take(var), store.get(var));
            assert_eq!(ours.is_some(), theirs.is_some(), "{}: {name}", case.name);
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            let (ours, theirs) = (values(&ours), values(theirs));
            // candle's backward pass visits experts in another order.
            let is_right = match weights.config.experts {
                None => ours == theirs,
                Some(_) => {
                    let theirs: Vec<f64> = theirs.iter().map(|x| f64::from(*x)).collect();
                    largest_difference(&ours, &theirs) < 1e-5 * theirs.iter().fold(1.0, |m, x| x.abs().max(m))
                }
            };
            assert!(is_right, "{}: {name}", case.name);
        }
    }
}

/// Beyond a page, a tile and a panel of the kernels, and with neighbours of other lengths.
#[test]
fn long_sequences_have_the_same_bits_in_both_forwards() {
    let lengths = [61, 1, 34];
    let sequences: Vec<Vec<u32>> =
        lengths.iter().map(|&n| (0..n).map(|i: u32| (i * i * 7 + i * 3 + n) % 64).collect()).collect();
    let starts = Arc::new(vec![0, 61, 62, 96]);
    let by_tiles = [1, 2, 3].map(|parts| Arithmetic::Tiles { parts });
    let arithmetics = by_tiles.iter().filter(|_| !is_skipped("amx", has_tiles())).chain([&Arithmetic::F32]);
    for (case, &arithmetic) in cases().iter().flat_map(|case| arithmetics.clone().map(move |a| (case, a))) {
        let weights = case.weights();
        let model = Packed::of(&Frozen::of(&weights).unwrap().computing(arithmetic).unwrap()).unwrap();
        let parameters = Parameters::Full(&weights, arithmetic);
        let trained = values(&forward(parameters, &sequences.concat(), &starts).unwrap());
        assert!(cached(&model, &sequences) == trained, "{}, {arithmetic:?}", case.name);
        // Of a chunk's rows only the last one, as a prefill asks for.
        let (mut cache, mut scratch) = (KvCache::new(&model.page_pool()), Scratch::default());
        let span = Span { cache: &mut cache, ids: &sequences[0], wanted_from: 60 };
        let last = decode(&model, &mut [span], &mut scratch).unwrap();
        assert!(last == &trained[60 * 32..61 * 32], "{}: only the last row", case.name);
    }
}

/// If no golden number depends on a flag, the flag could be wrong unnoticed.
#[test]
fn every_flag_moves_the_logits() {
    type Edit = fn(&mut ModelConfig);
    let edits: [(&str, &[&str], Edit); 12] = [
        ("window", &["mistral", "qwen2", "olmo3", "gemma2", "gemma3"], |c| {
            c.sliding_window = c.sliding_window.map(|w| w + 1);
        }),
        ("which layers slide", &["qwen2", "olmo3", "gemma2", "gemma3"], |c| {
            c.layers.iter_mut().for_each(|layer| layer.sliding = !layer.sliding);
        }),
        ("rope scaling", &["llama3", "llama_linear", "qwen2", "olmo3", "gemma3"], |c| {
            c.rope.scaling = RopeScaling::Default;
        }),
        ("rope of sliding layers", &["olmo3", "gemma3"], |c| c.sliding_rope = None),
        ("rope_theta", &["llama3", "mistral", "olmo2", "olmoe", "qwen3", "qwen3_moe"], |c| {
            c.rope.rope_theta *= 1.1
        }),
        ("rms_norm_eps", &["qwen3", "gemma2", "olmoe"], |c| c.rms_norm_eps = 1e-2),
        ("norm_plus_one", &["gemma2", "gemma3"], |c| c.blocks.norm_plus_one = false),
        ("activation", &["gemma2", "gemma3"], |c| c.blocks.activation = Activation::Silu),
        ("scale_embeddings", &["gemma2", "gemma3"], |c| c.blocks.scale_embeddings = false),
        ("query_pre_attn_scalar", &["gemma2", "gemma3"], |c| c.blocks.query_pre_attn_scalar = None),
        ("attn_logit_softcapping", &["gemma2"], |c| c.blocks.attn_logit_softcapping = None),
        ("norm_topk_prob", &["olmoe", "qwen3_moe"], |c| {
            c.experts.iter_mut().for_each(|e| e.norm_topk_prob = !e.norm_topk_prob);
        }),
    ];
    let (ids, starts) = packed_sequences();
    for case in cases() {
        let weights = case.weights();
        let hidden = |w: &Weights| values(&forward(w.parameters(), &ids, &starts).unwrap());
        let right = hidden(&weights);
        for (what, _, edit) in edits.iter().filter(|(_, names, _)| names.contains(&case.name.as_str())) {
            let mut config = (*weights.config).clone();
            edit(&mut config);
            let wrong = hidden(&Weights::from_tensors(Arc::new(config), weights.tensors.clone()).unwrap());
            let moved = right.iter().zip(&wrong).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(moved > 1e-2, "{}: {what} moves hidden states by {moved} only", case.name);
        }
    }
}

#[test]
fn gradients_are_hugging_faces_and_reach_every_tensor() {
    let (ids, starts) = packed_sequences();
    let rows: Vec<u32> = (0..ids.len() as u32).filter(|&row| !starts.contains(&(row as usize + 1))).collect();
    let targets = Arc::new(rows.iter().map(|&row| ids[row as usize + 1]).collect::<Vec<u32>>());
    for case in cases() {
        let weights = case.weights();
        let hidden = forward(weights.parameters(), &ids, &starts).unwrap();
        let predicting = crate::ops::embedding(&hidden, &rows).unwrap();
        let logprobs = logprobs(weights.parameters(), &predicting, &targets).unwrap();
        let loss = (logprobs.sum_all().unwrap() * (-1.0 / rows.len() as f64)).unwrap();
        let difference = (f64::from(loss.to_scalar::<f32>().unwrap()) - case.expected("loss")[0]).abs();
        assert!(difference < 1e-5, "{}: the loss is off by {difference}", case.name);

        let grads = loss.backward().unwrap();
        let expected = case.expected("grads");
        for (n, ((name, var), want)) in weights.tensors.iter().zip(expected.chunks_exact(3)).enumerate() {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{}: no gradient for {name}", case.name));
            let grad: Vec<f64> = values(grad).into_iter().map(f64::from).collect();
            let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
            let dot = |j: u64| -> f64 {
                grad.iter().zip(counter(1000 + 2 * n as u64 + j, grad.len())).map(|(g, r)| g * r).sum()
            };
            for (got, want_one) in [norm, dot(0), dot(1)].into_iter().zip(want) {
                let error = (got - want_one).abs();
                assert!(
                    error < 1e-3 * want[0],
                    "{}: gradient of {name} off by {error} of {}",
                    case.name,
                    want[0]
                );
            }
        }
    }
}

#[test]
fn saving_keeps_what_the_file_said() {
    for case in cases() {
        let weights = case.weights();
        let dir = tempfile::tempdir().unwrap();
        weights.save(dir.path()).unwrap();
        let loaded = Weights::load(dir.path()).unwrap();
        assert_eq!(loaded.config, weights.config, "{}", case.name);
        assert_eq!(loaded.hash(), weights.hash(), "{}", case.name);
        let text = std::fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap();
        let saved: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in case.config.as_object().unwrap() {
            if !matches!(key.as_str(), "dtype" | "torch_dtype") {
                assert_eq!(&saved[key], value, "{}: {key}", case.name);
            }
        }
        assert_eq!(saved["dtype"], "float32");
    }
}

proptest! {
    /// Whatever stands in a `config.json`, it is refused with its name or read as something that
    /// reads the same again.
    #[test]
    fn any_value_of_any_key_is_refused_or_round_trips(
        which in any::<prop::sample::Index>(),
        key in any::<prop::sample::Index>(),
        value in any::<prop::sample::Index>(),
        inner in any::<prop::sample::Index>(),
    ) {
        let values = [Value::Null, true.into(), 0.into(), (-1).into(), 7.into(), u64::MAX.into(), 1e300.into(), 0.5.into(),
            "x".into(), "yarn".into(), "silu".into(), serde_json::json!([]), serde_json::json!([1, 0]),
            serde_json::json!(["full_attention"]), serde_json::json!({}), serde_json::json!({"rope_type": "yarn"})];
        let mut config = which.get(&cases()).config.clone();
        let keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        let key = key.get(&keys);
        match &mut config[key] {
            // Within an object as often as the whole.
            Value::Object(object) if inner.index(2) == 0 => {
                let keys: Vec<String> = object.keys().cloned().collect();
                object[inner.get(&keys)] = value.get(&values).clone();
            }
            whole => *whole = value.get(&values).clone(),
        }
        match ModelConfig::parse(&config.to_string()) {
            Ok(parsed) => prop_assert_eq!(ModelConfig::parse(&parsed.to_json()).unwrap(), parsed),
            Err(error) => prop_assert!(format!("{error:#}").contains("config.json"), "{}: {:#}", key, error),
        }
    }
}

/// Writes every case's checkpoint for `python tests/golden/families.py --check`.
#[test]
#[ignore = "leaves files in the temporary directory"]
fn write_checkpoints() {
    let root = std::env::temp_dir().join("autodidact-families");
    for case in cases() {
        let dir = root.join(&case.name);
        std::fs::create_dir_all(&dir).unwrap();
        case.weights().save(&dir).unwrap();
    }
}
