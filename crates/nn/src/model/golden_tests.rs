//! The decoder against Hugging Face, against candle's own llama, and against itself.

use std::sync::Arc;

use autodidact_testing::assert_refused;
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::cache::KvCache;
use super::*;
use crate::domain::{Address, Purpose};
use crate::ops;
use crate::ops::kernels::logprob;

const CONFIG: &str = include_str!("../../../../tests/golden/smollm3/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../../../tests/golden/smollm3/model.safetensors");
const EXPECTED: &[u8] = include_bytes!("../../../../tests/golden/smollm3/expected.safetensors");

fn f32s(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn golden() -> (Weights, Vec<u32>, SafeTensors<'static>) {
    let file = SafeTensors::deserialize(EXPECTED).unwrap();
    let ids = file.tensor("ids").unwrap();
    let ids = ids.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect();
    (Weights::from_bytes(CONFIG, WEIGHTS).unwrap(), ids, file)
}

/// Logits (rows, vocab) of the training forward.
fn logits(weights: &Weights, ids: &[u32], starts: &Arc<Vec<usize>>) -> Vec<f32> {
    let hidden = forward(weights.parameters(), ids, starts).unwrap();
    ops::linear(&hidden, output_weight(weights)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Final-norm hidden states (rows, hidden) of the cached forward, read in chunks of the given
/// sizes, over and over.
fn cached(model: &Packed, ids: &[u32], chunks: &[usize]) -> Vec<f32> {
    let mut cache = KvCache::new(&model.page_pool());
    let (mut scratch, mut hidden) = (Scratch::default(), Vec::new());
    for &n in chunks.iter().cycle() {
        let unread = &ids[cache.len()..];
        if unread.is_empty() {
            return hidden;
        }
        let span = Span { cache: &mut cache, ids: &unread[..n.min(unread.len())], wanted_from: 0 };
        hidden.extend_from_slice(decode(model, &mut [span], &mut scratch).unwrap());
    }
    hidden
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn smollm3_logits_are_hugging_faces() {
    let (weights, ids, file) = golden();
    let want = f32s(&file, "logits");
    let got = logits(&weights, &ids, &Arc::new(vec![0, ids.len()]));
    let difference = largest_difference(&got, &want);
    assert!(difference < 1e-4, "training forward: {difference}");
    let model = Packed::new(&weights).unwrap();
    let mut got = Vec::new();
    model.logits(&cached(&model, &ids, &[1, 3, 17]), &mut got);
    let difference = largest_difference(&got, &want);
    assert!(difference < 1e-4, "cached forward: {difference}");
}

#[test]
fn smollm3_gradients_are_hugging_faces() {
    let (weights, ids, file) = golden();
    let hidden = forward(weights.parameters(), &ids, &Arc::new(vec![0, ids.len()])).unwrap();
    let n = ids.len() - 1;
    let targets = Arc::new(ids[1..].to_vec());
    let hidden = hidden.narrow(0, 0, n).unwrap();
    let logprobs = ops::linear_logprob(&hidden, output_weight(&weights), &targets).unwrap();
    let loss = (logprobs.sum_all().unwrap() * (-1.0 / n as f64)).unwrap();
    let difference = (loss.to_scalar::<f32>().unwrap() - f32s(&file, "loss")[0]).abs();
    assert!(difference < 1e-5, "loss: {difference}");
    let grads = loss.backward().unwrap();
    for (name, var) in &weights.tensors {
        let got: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let scale = f32s(&file, &format!("grad_scale.{name}"))[0];
        let view = file.tensor(&format!("grad.{name}")).unwrap();
        let want = view.data().as_chunks().0.iter().map(|&b| scale * f32::from(i16::from_le_bytes(b)));
        let difference = largest_difference(&got, &want.collect::<Vec<_>>());
        let largest = scale * 32767.0;
        assert!(difference < 1e-3 * largest, "{name}: off by {difference} of {largest}");
    }
}

#[test]
fn llama_is_candle_transformers_own() {
    use candle_transformers::models::llama;

    let config = ModelConfig {
        family: Family::Llama,
        hidden_size: 48,
        intermediate_size: 80,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 8,
        sliding_window: None,
        layers: vec![LayerConfig { rope: true, ..LayerConfig::default() }; 3],
        tie_word_embeddings: false,
        ..ModelConfig::seed(53)
    };
    let weights = Weights::init(config, &Address::new(11, Purpose::Init, 0, "", &[])).unwrap();
    let reference = llama::Config {
        hidden_size: 48,
        intermediate_size: 80,
        vocab_size: 53,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        use_flash_attn: false,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
    };
    let tensors = weights.tensors.iter().map(|(n, v)| (n.clone(), v.as_detached_tensor())).collect();
    let vars = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let model = llama::Llama::load(vars, &reference).unwrap();
    let ids: Vec<u32> = (0..37).map(|i| (i * i + 5 * i) % 53).collect();
    let ours = logits(&weights, &ids, &Arc::new(vec![0, ids.len()]));
    for n in [1, 16, 37] {
        let mut cache = llama::Cache::new(true, DType::F32, &reference, &Device::Cpu).unwrap();
        let input = Tensor::from_slice(&ids[..n], (1, n), &Device::Cpu).unwrap();
        let want: Vec<f32> =
            model.forward(&input, 0, &mut cache).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        let difference = largest_difference(&ours[(n - 1) * 53..n * 53], &want);
        assert!(difference < 1e-4, "{n} tokens: {difference}");
    }
}

/// A small model with every mix of rotary positions and windows, and grouped queries.
fn mixed(window: usize) -> Weights {
    let flags = [(true, true), (true, false), (false, true), (false, false)];
    let config = ModelConfig {
        hidden_size: 40,
        intermediate_size: 56,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 12,
        sliding_window: Some(window),
        layers: flags.map(|(rope, sliding)| LayerConfig { rope, sliding, sparse: false }).into(),
        ..ModelConfig::seed(37)
    };
    Weights::init(config, &Address::new(12, Purpose::Init, 0, "", &[])).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cached_and_training_forward_have_the_same_bits(
        window in 1usize..40,
        lengths in prop::collection::vec(1usize..70, 1..4),
        chunks in prop::collection::vec(1usize..40, 1..4),
        salt in 0u32..100,
    ) {
        let weights = mixed(window);
        let model = Packed::new(&weights).unwrap();
        let total: usize = lengths.iter().sum();
        let ids: Vec<u32> = (0..total as u32).map(|i| (i * i * 7 + i * 3 + salt) % 37).collect();
        let mut starts = vec![0];
        lengths.iter().for_each(|n| starts.push(starts[starts.len() - 1] + n));
        let starts = Arc::new(starts);
        let hidden = forward(weights.parameters(), &ids, &starts).unwrap();
        let rows: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
        let targets: Vec<u32> = ids.iter().map(|id| (id * 5 + 1) % 37).collect();
        let trained: Vec<f32> =
            ops::linear_logprob(&hidden, output_weight(&weights), &Arc::new(targets.clone())).unwrap().to_vec1().unwrap();
        for bounds in starts.windows(2) {
            let (start, end) = (bounds[0], bounds[1]);
            let read = cached(&model, &ids[start..end], &chunks);
            prop_assert_eq!(&read, &rows[start * 40..end * 40]);
            let mut logits = Vec::new();
            model.logits(&read, &mut logits);
            for (row, i) in logits.chunks_exact(37).zip(start..end) {
                prop_assert_eq!(logprob(row, targets[i] as usize), trained[i]);
            }
        }
    }
}

#[test]
fn a_window_hides_what_lies_before_it() {
    // With a window of w in every layer, the last of n rows sees the last n0 = layers * (w - 1) + 1
    // tokens only.
    let config = ModelConfig {
        layers: vec![LayerConfig { rope: true, sliding: true, sparse: false }; 2],
        sliding_window: Some(4),
        ..(*mixed(4).config).clone()
    };
    let weights = Weights::init(config, &Address::new(13, Purpose::Init, 0, "", &[])).unwrap();
    let model = Packed::new(&weights).unwrap();
    let ids: Vec<u32> = (0..40).map(|i| i * 11 % 37).collect();
    let last = |ids: &[u32]| cached(&model, ids, &[9]).split_off((ids.len() - 1) * 40);
    let mut hidden_away = ids.clone();
    hidden_away[32] += 1;
    assert_eq!(last(&hidden_away), last(&ids));
    let mut seen = ids.clone();
    seen[33] += 1;
    assert_ne!(last(&seen), last(&ids));
}

#[test]
fn a_ragged_batch_gives_each_sequence_its_own_rows() {
    let weights = mixed(6);
    let model = Packed::new(&weights).unwrap();
    let pool = model.page_pool();
    let ids: Vec<u32> = (0..60).map(|i| (i * 17 + 4) % 37).collect();
    let alone = cached(&model, &ids, &[60]);
    let mut scratch = Scratch::default();
    // Three forks at different depths, one step each, in one batch, with different wishes.
    let mut trunk = KvCache::new(&pool);
    let span = Span { cache: &mut trunk, ids: &ids[..21], wanted_from: 21 };
    assert!(decode(&model, &mut [span], &mut scratch).unwrap().is_empty());
    let (mut a, mut b, mut c) = (trunk.clone(), trunk.clone(), KvCache::new(&pool));
    let mut spans = [
        Span { cache: &mut a, ids: &ids[21..22], wanted_from: 0 },
        Span { cache: &mut c, ids: &ids[..30], wanted_from: 28 },
        Span { cache: &mut b, ids: &ids[21..50], wanted_from: 10 },
    ];
    let got = decode(&model, &mut spans, &mut scratch).unwrap().to_vec();
    let rows = [&alone[21 * 40..22 * 40], &alone[28 * 40..30 * 40], &alone[31 * 40..50 * 40]].concat();
    assert_eq!(got, rows);
    assert_eq!((a.len(), b.len(), c.len(), trunk.len()), (22, 50, 30, 21));
}

#[test]
fn forward_refuses_cuts_that_do_not_fit() {
    let weights = mixed(6);
    for starts in [vec![], vec![0], vec![0, 3], vec![1, 4], vec![0, 3, 2, 4]] {
        assert!(
            forward(weights.parameters(), &[1, 2, 3, 4], &Arc::new(starts.clone())).is_err(),
            "{starts:?}"
        );
    }
    let unknown = forward(weights.parameters(), &[37], &Arc::new(vec![0, 1]));
    assert_refused(unknown, "id 37 of a table of 37 rows");
}
