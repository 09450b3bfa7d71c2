//! Sampling throughput of the native engine on the seed model's shape, next to the same shape run by
//! candle-transformers' llama with its own key/value cache, in the same process.
//!
//!     cargo bench --bench generate [-- --json FILE]
//!
//! Both sample 190 tokens after prompts of 170 tokens. The baseline is the batched, cached generation
//! that candle's parts give: one static batch, prompts of equal length, greedy by argmax. It has neither
//! sliding windows nor layers without positions, which doesn't change its cost. Each line has tokens per
//! second (best of three). Where the system reports processor time, it also has tokens per second of
//! processor time, which other work on the machine disturbs less.
//!
//! `cargo bench --bench generate -- DIR REQUESTS.json [none|q8_0|q4_k] [f32|1|2|3]` samples from a
//! checkpoint instead, for `benches/peers/generate.py`, and prints one line of JSON.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "measure/mod.rs"]
mod measure;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use autodidact::domain::{Address, Generate, Purpose, ReadRequest, Request, Sampling, Stops};
use autodidact::engine::native::Native;
use autodidact::model::{Frozen, ModelConfig, Packed, Quantization, Weights};
use autodidact::ops::kernels::{Arithmetic, has_tiles};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::llama;
use measure::results::{Results, figure, positional};
use serde_json::json;

const VOCAB: usize = 149;
const PROMPT: usize = 170;
const DRAWN: usize = 190;
const BATCH_TOKENS: usize = 32_768;

#[allow(unsafe_code, reason = "the first statement of the process prepares it")]
fn main() -> Result<()> {
    // SAFETY: the first statement of the process.
    unsafe { autodidact::cli::prepare() };
    let args = positional();
    if let [dir, requests, options @ ..] = args.as_slice() {
        return checkpoint(dir, requests, options);
    }
    let weights =
        Weights::init(ModelConfig::seed(VOCAB), &Address::new(0, Purpose::Init, 0, "", &[])).unwrap();
    let engine = Native::new(Packed::new(&weights).unwrap(), BATCH_TOKENS).unwrap();
    println!("threads {}", rayon::current_num_threads());
    let results = &mut Results::of("generate");

    let distinct = requests(256, 1);
    let native = measure(results, "native, 256 prompts x 1", "drawn", || drawn(&engine, &distinct));
    if has_tiles() {
        let frozen = Frozen::of(&weights)?.computing(Arithmetic::Tiles { parts: 1 })?;
        let engine = Native::new(Packed::of(&frozen)?, BATCH_TOKENS).unwrap();
        measure(results, "native, bf16, 256 prompts x 1", "drawn", || drawn(&engine, &distinct));
    }
    let shared = requests(32, 8);
    measure(results, "native, 32 prompts x 8", "drawn", || drawn(&engine, &shared));
    let reads: Vec<ReadRequest> = distinct
        .iter()
        .map(|r| ReadRequest { ids: prompt(7, PROMPT + DRAWN), from: r.context_ids.len(), hidden_at: vec![] })
        .collect();
    measure(results, "native, reading", "read", || engine.read(&reads).unwrap().len() * (PROMPT + DRAWN));

    let small = measure(results, "candle llama, batch of 32", "drawn", || candle_batch(&weights, 32));
    let large = measure(results, "candle llama, batch of 128", "drawn", || candle_batch(&weights, 128));
    println!("ratio, native / candle's better: {:.1}", native / small.max(large));
    results.notes.push(format!(
        "The native engine is {:.1} times as fast as candle's better batch.",
        native / small.max(large)
    ));
    results.write_if_asked()
}

/// What is sampled from a checkpoint.
#[derive(serde::Deserialize)]
struct Wanted {
    prompts: Vec<Vec<u32>>,
    /// Trajectories of each prompt.
    each: u32,
    tokens_max: usize,
    temperature: f32,
    eos_ids: Vec<u32>,
}

/// Samples everything that a file asks for from a checkpoint's weights.
fn checkpoint(dir: &str, requests: &str, options: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(requests).with_context(|| format!("can't read {requests}"))?;
    let wanted: Wanted = serde_json::from_str(&text)?;
    let quantization = match options.first().map(String::as_str) {
        None | Some("none") => None,
        Some("q8_0") => Some(Quantization::Q8_0),
        Some("q4_k") => Some(Quantization::Q4K),
        Some(other) => bail!("{other} is no format: q8_0 or q4_k"),
    };
    let arithmetic = measure::arithmetic(options.get(1))?;
    let frozen = Frozen::load(Path::new(dir), quantization)?.computing(arithmetic)?;
    let engine = Native::new(Packed::of(&frozen)?, 2 * BATCH_TOKENS)?.remembering(0);
    let sampling = Sampling { temperature: wanted.temperature, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let one = |n: usize, branch: u32| Request {
        context_ids: wanted.prompts[n].clone(),
        address: Address::new(0, Purpose::Rollout, 0, "bench", &[n as u32, branch]),
        sampling,
        tokens_max: wanted.tokens_max,
        stop_at_boundary: false,
    };
    let one = &one;
    let requests: Vec<Request> =
        (0..wanted.prompts.len()).flat_map(|n| (0..wanted.each).map(move |branch| one(n, branch))).collect();
    let stops = Stops { eos_ids: wanted.eos_ids.clone(), ..Stops::default() };
    let report = measure::repeated(3, || {
        let completions = engine.generate(&requests, &stops, &|_| ())?;
        Ok(completions.iter().map(|c| c.token_ids.len()).sum())
    })?;
    println!("{report}");
    Ok(())
}

/// Prints and returns tokens per second of the best of three runs.
fn measure(results: &mut Results, name: &str, verb: &str, mut run: impl FnMut() -> usize) -> f64 {
    let (mut best, mut best_of_cpu) = (0f64, 0f64);
    for _ in 0..3 {
        let (start, cpu_start) = (Instant::now(), measure::cpu_seconds());
        let tokens = run() as f64;
        best = best.max(tokens / start.elapsed().as_secs_f64());
        best_of_cpu = best_of_cpu.max(tokens / (measure::cpu_seconds() - cpu_start));
    }
    println!("{name:<30} {best:>8.0} {verb} tokens/s  {best_of_cpu:>8.0} per CPU second");
    results.row(
        "",
        &[("what", json!(name)), ("tokens/s", figure(best)), ("tokens per CPU second", figure(best_of_cpu))],
    );
    best
}

fn prompt(n: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|p| 3 + (p * p * 31 + p * 7 + n * 13 + n * p) % (VOCAB as u32 - 3)).collect()
}

fn requests(prompts: u32, each: u32) -> Vec<Request> {
    let sampling = Sampling { temperature: 0.6, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let one = |n: u32, branch: u32| Request {
        context_ids: prompt(n, PROMPT),
        address: Address::new(0, Purpose::Rollout, 0, "bench", &[n, branch]),
        sampling,
        tokens_max: DRAWN,
        stop_at_boundary: false,
    };
    (0..prompts).flat_map(|n| (0..each).map(move |branch| one(n, branch))).collect()
}

fn drawn(engine: &Native, requests: &[Request]) -> usize {
    let stops = Stops { boundary_ids: vec![3], ..Stops::default() };
    let completions = engine.generate(requests, &stops, &|_| ()).unwrap();
    completions.iter().map(|c| c.token_ids.len()).sum()
}

/// One static batch through candle-transformers' llama.
fn candle_batch(weights: &Weights, batch: usize) -> usize {
    let config = &weights.config;
    let reference = llama::Config {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        vocab_size: VOCAB,
        num_hidden_layers: config.layers.len(),
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: config.rms_norm_eps,
        rope_theta: config.rope.rope_theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: config.max_position_embeddings,
        tie_word_embeddings: true,
    };
    let tensors = weights.tensors.iter().map(|(n, v)| (n.clone(), v.as_detached_tensor())).collect();
    let vars = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let model = llama::Llama::load(vars, &reference).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &reference, &Device::Cpu).unwrap();
    let ids: Vec<u32> = (0..batch as u32).flat_map(|n| prompt(n, PROMPT)).collect();
    let mut input = Tensor::from_vec(ids, (batch, PROMPT), &Device::Cpu).unwrap();
    let mut position = 0;
    for _ in 0..DRAWN {
        let logits = model.forward(&input, position, &mut cache).unwrap();
        position += input.dim(1).unwrap();
        input = logits.argmax(1).unwrap().reshape((batch, 1)).unwrap();
    }
    batch * DRAWN
}
