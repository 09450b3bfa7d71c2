//! Training speed on the seed model's shape: `cargo bench --bench train [-- --json FILE]`.
//!
//! The trainer makes one update of about 6k tokens (sequences of some 360 tokens; the second half of
//! each is trained on). The baseline, in the same run, is the gradient of the same update with the same
//! packing and threads on candle's own differentiable operators (`ops::composed`). Reported as tokens
//! per second and as a ratio.
//!
//! `cargo bench --bench train -- update [f32|1|2|3]` times whole updates only, for
//! `benches/peers/train.py`, and prints one line of JSON.

#[path = "measure/mod.rs"]
mod measure;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use autodidact::config::Config;
use autodidact::domain::{Address, Purpose};
use autodidact::model::{self, ModelConfig, Weights};
use autodidact::ops::kernels::{Arithmetic, has_tiles};
use autodidact::ops::{self, composed};
use autodidact::train::{
    CHUNK_TOKENS, Example, Group, Hyper, Pack, Trainable, Trainer, chunks, example_from_solution, pack,
};
use candle_core::Tensor;
use measure::results::{Results, figure, positional};
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use serde_json::json;

const VOCABULARY: usize = 149;
const SEQUENCE_TOKENS: usize = 360;
const SEQUENCES: usize = 17;
/// Timed repetitions; the fastest counts, since other work on the machine only ever slows down.
const REPETITIONS: usize = 8;

#[allow(unsafe_code, reason = "the first statement of the process prepares it")]
fn main() -> Result<()> {
    // SAFETY: the first statement of the process.
    unsafe { autodidact::cli::prepare() };
    let weights = Weights::init(ModelConfig::seed(VOCABULARY), &address("weights"))?;
    let examples = examples();
    let tokens: usize = examples.iter().map(Example::tokens).sum();
    let groups: Vec<Group> = examples.iter().cloned().map(Group::from).collect();
    let batch: Vec<&Group> = groups.iter().collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let mut args = positional().into_iter();
    if args.next().is_some_and(|arg| arg == "update") {
        let mut trainer = trainer(Trainable::Full(weights, measure::arithmetic(args.next().as_ref())?))?;
        trainer.step(&batch)?;
        println!("{}", measure::repeated(REPETITIONS, || trainer.step(&batch).map(|_| tokens))?);
        return Ok(());
    }
    let chunks = chunks(&examples.iter().map(|e| e.tokens()).collect::<Vec<_>>(), CHUNK_TOKENS);
    let packs: Vec<Pack> = chunks.into_iter().map(|chunk| pack(&examples[chunk])).collect();
    println!(
        "seed shape, {tokens} tokens in {} chunks, {} threads",
        packs.len(),
        rayon::current_num_threads()
    );

    let results = &mut Results::of("train");
    for name in ["forward", "backward"] {
        let backward = name == "backward";
        let fused = fastest(|| gradients(&weights, &packs, fused_logprobs, backward))?;
        let candle = fastest(|| gradients(&weights, &packs, composed_logprobs, backward))?;
        report(results, &format!("{name}, fused operators"), tokens, fused, candle);
        report(results, &format!("{name}, candle's operators"), tokens, candle, candle);
    }
    let candle = fastest(|| gradients(&weights, &packs, composed_logprobs, true))?;
    let arithmetics = [
        ("trainer, whole update", Arithmetic::F32),
        ("trainer, whole update, bf16", Arithmetic::Tiles { parts: 1 }),
    ];
    for (name, arithmetic) in arithmetics.into_iter().filter(|(_, a)| *a == Arithmetic::F32 || has_tiles()) {
        let mut trainer = trainer(Trainable::Full(weights.clone(), arithmetic))?;
        report(results, name, tokens, fastest(|| trainer.step(&batch).map(drop))?, candle);
    }
    results.write_if_asked()
}

fn trainer(trainable: Trainable) -> Result<Trainer> {
    Trainer::new(trainable, Hyper::from(&Config::load(None, &[])?.train), 1 + REPETITIONS as u32)
}

fn report(results: &mut Results, name: &str, tokens: usize, seconds: f64, baseline: f64) {
    let speed = tokens as f64 / seconds;
    println!(
        "{name:<30} {:>8.1} ms {speed:>9.0} tokens/s  {:>5.2} × candle",
        1e3 * seconds,
        baseline / seconds
    );
    results.row(
        "",
        &[
            ("what", json!(name)),
            ("ms", figure(1e3 * seconds)),
            ("tokens/s", figure(speed)),
            ("× candle", figure(baseline / seconds)),
        ],
    );
}

/// Seconds of the fastest repetition, after one to warm up.
fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn address(task: &str) -> Address {
    Address::new(0, Purpose::Init, 0, task, &[])
}

fn examples() -> Vec<Example> {
    let mut stream = address("examples").stream();
    let mut draw = |tokens| (0..tokens).map(|_| stream.next_u32() % VOCABULARY as u32).collect::<Vec<_>>();
    let half = SEQUENCE_TOKENS / 2;
    (0..SEQUENCES).map(|i| example_from_solution(&draw(half + i), &draw(half - i), "bench")).collect()
}

type Logprobs = fn(&Weights, &Pack) -> Result<Tensor>;

fn gradients(weights: &Weights, packs: &[Pack], logprobs: Logprobs, backward: bool) -> Result<()> {
    packs.par_iter().try_for_each(|pack| {
        let logprobs = logprobs(weights, pack)?;
        if backward {
            std::hint::black_box(logprobs.backward()?);
        }
        Ok(())
    })
}

fn fused_logprobs(weights: &Weights, pack: &Pack) -> Result<Tensor> {
    let hidden = model::forward(weights.parameters(), &pack.ids, &pack.starts)?;
    let hidden = ops::embedding(&hidden, &pack.rows)?;
    model::logprobs(weights.parameters(), &hidden, &pack.targets)
}

/// The forward pass of `model::forward`, of candle's operators.
fn composed_logprobs(weights: &Weights, pack: &Pack) -> Result<Tensor> {
    let config = &weights.config;
    let positions: Vec<u32> = pack.starts.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect();
    let positions = Arc::new(positions);
    let mut x = composed::embedding(weights.tensor("model.embed_tokens.weight")?, &pack.ids)?;
    for i in 0..config.layers.len() {
        let param = |name: &str| weights.tensor(&format!("model.layers.{i}.{name}.weight"));
        let linear = |x: &Tensor, name: &str| composed::linear(x, param(name)?);
        let normed = composed::rms_norm(&x, param("input_layernorm")?, config.rms_norm_eps)?;
        let mut q = linear(&normed, "self_attn.q_proj")?;
        let mut k = linear(&normed, "self_attn.k_proj")?;
        let v = linear(&normed, "self_attn.v_proj")?;
        if let Some(table) = weights.rope(i) {
            q = composed::rope(&q, config.num_attention_heads, &table, &positions)?;
            k = composed::rope(&k, config.num_key_value_heads, &table, &positions)?;
        }
        let attended =
            composed::attention(&q, &k, &v, &config.attention_shape(i, Arithmetic::F32), &pack.starts)?;
        x = composed::add(&x, &linear(&attended, "self_attn.o_proj")?)?;
        let normed = composed::rms_norm(&x, param("post_attention_layernorm")?, config.rms_norm_eps)?;
        let activated =
            composed::swiglu(&linear(&normed, "mlp.gate_proj")?, &linear(&normed, "mlp.up_proj")?)?;
        x = composed::add(&x, &linear(&activated, "mlp.down_proj")?)?;
    }
    let hidden = composed::rms_norm(&x, weights.tensor("model.norm.weight")?, config.rms_norm_eps)?;
    let hidden = composed::embedding(&hidden, &pack.rows)?;
    composed::linear_logprob(&hidden, model::output_weight(weights), &pack.targets)
}
