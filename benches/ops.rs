//! The operators against the same ones composed of candle's, in the same run.
//!
//! `cargo bench --bench ops [-- --json FILE]`. Times are the best of many, in microseconds per call on
//! all threads. A ratio above 1 means that the fused operator is faster. Sizes are a small policy's:
//! width 128, 4 heads of 32, 336 inner, 149 tokens.

#[path = "measure/results.rs"]
mod results;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use autodidact::ops::kernels::KvPrecision;
use autodidact::ops::{self, AttentionShape, RopeTable, composed, kernels};
use candle_core::{Device, Tensor, Var};
use results::{Results, figure};
use serde_json::json;

const WIDTH: usize = 128;
const INNER: usize = 336;
const VOCAB: usize = 149;
const SHAPE: AttentionShape = AttentionShape {
    heads: 4,
    kv_heads: 4,
    head_dim: 32,
    scale: 0.176_776_7,
    window: None,
    softcap: None,
    kv: KvPrecision::F32,
};

type Operator<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

#[allow(unsafe_code, reason = "the first statement of the process prepares it")]
fn main() -> Result<()> {
    // SAFETY: the first statement of the process.
    unsafe { autodidact::cli::prepare() };
    println!("{} threads", rayon::current_num_threads());
    let mut results = Results::of("ops");
    products(&mut results);
    println!("{:<40} {:>9} {:>9} {:>6}", "operator", "fused µs", "candle µs", "ratio");
    for rows in [32, 1024] {
        linears(&mut results, rows)?;
        pointwise(&mut results, rows)?;
        attention(&mut results, rows)?;
        outputs(&mut results, rows)?;
    }
    results.write_if_asked()
}

/// Best time of a call, over a fifth of a second.
fn best(mut call: impl FnMut()) -> Duration {
    let started = Instant::now();
    let mut best = Duration::MAX;
    while started.elapsed() < Duration::from_millis(200) {
        let call_started = Instant::now();
        call();
        best = best.min(call_started.elapsed());
    }
    best
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn var(shape: &[usize]) -> Result<Var> {
    let data = numbers(shape.iter().product());
    Ok(Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu)?)?)
}

/// Only the product's kernel, on one thread, against candle's product of the same matrices.
fn products(results: &mut Results) {
    println!("{:<40} {:>9} {:>9} {:>6}", "x (m, k) · wᵀ (k, n), one thread", "GFLOP/s", "candle", "ratio");
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() else { return };
    for (m, k, n) in
        [(1, WIDTH, INNER), (16, WIDTH, INNER), (32, WIDTH, INNER), (1024, WIDTH, INNER), (32, 896, 4864)]
    {
        let (x, w) = (numbers(m * k), numbers(n * k));
        let packed = kernels::PackedWeight::new(&w, n, k);
        let mut y = vec![0.0; m * n];
        let own = pool.install(|| best(|| kernels::linear(&x, m, &packed, &mut y)));
        let tensors = (Tensor::from_vec(x, (m, k), &Device::Cpu), Tensor::from_vec(w, (n, k), &Device::Cpu));
        let (Ok(x), Ok(w)) = tensors else { return };
        let candle = pool.install(|| best(|| drop(black_box(composed::linear(&x, &w)))));
        let speed = |t: Duration| 2.0 * (m * n * k) as f64 / t.as_secs_f64() / 1e9;
        let ratio = candle.as_secs_f64() / own.as_secs_f64();
        println!(
            "{:<40} {:>9.1} {:>9.1} {ratio:>6.2}",
            format!("m={m} k={k} n={n}"),
            speed(own),
            speed(candle)
        );
        results.row(
            "x (m, k) · wᵀ (k, n), one thread",
            &[
                ("shape", json!(format!("m={m} k={k} n={n}"))),
                ("GFLOP/s", figure(speed(own))),
                ("candle, GFLOP/s", figure(speed(candle))),
                ("ratio", figure(ratio)),
            ],
        );
    }
}

/// One line for the forward pass, one for forward and backward.
fn compare(
    results: &mut Results,
    name: &str,
    fused: Operator,
    candle: Operator,
    inputs: &[Var],
) -> Result<()> {
    let detached: Vec<Tensor> = inputs.iter().map(|v| v.as_detached_tensor()).collect();
    let tracked: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
    let trained = |operator: Operator| operator(&tracked)?.sum_all()?.backward().map_err(anyhow::Error::from);
    trained(fused)?;
    trained(candle)?;
    let forward = [fused, candle].map(|operator| best(|| drop(black_box(operator(&detached)))));
    let both = [fused, candle].map(|operator| best(|| drop(black_box(trained(operator)))));
    for (what, [fused, candle]) in [("forward", forward), ("forward+backward", both)] {
        let ratio = candle.as_secs_f64() / fused.as_secs_f64();
        let micros = |t: Duration| t.as_secs_f64() * 1e6;
        println!(
            "{:<40} {:>9.1} {:>9.1} {ratio:>6.2}",
            format!("{name}, {what}"),
            micros(fused),
            micros(candle)
        );
        results.row(
            "Operators, all threads",
            &[
                ("operator", json!(format!("{name}, {what}"))),
                ("fused, µs", figure(micros(fused))),
                ("candle, µs", figure(micros(candle))),
                ("ratio", figure(ratio)),
            ],
        );
    }
    Ok(())
}

fn linears(results: &mut Results, rows: usize) -> Result<()> {
    for (inp, out) in [(WIDTH, INNER), (INNER, WIDTH)] {
        let inputs = [var(&[rows, inp])?, var(&[out, inp])?];
        let name = format!("linear {rows}×{inp}→{out}");
        compare(
            results,
            &name,
            &|t| ops::linear(&t[0], &t[1]),
            &|t| composed::linear(&t[0], &t[1]),
            &inputs,
        )?;
    }
    Ok(())
}

fn pointwise(results: &mut Results, rows: usize) -> Result<()> {
    let norm = [var(&[rows, WIDTH])?, var(&[WIDTH])?];
    let (fused, candle): (Operator, Operator) =
        (&|t| ops::rms_norm(&t[0], &t[1], 1e-5), &|t| composed::rms_norm(&t[0], &t[1], 1e-5));
    compare(results, &format!("rms_norm {rows}×{WIDTH}"), fused, candle, &norm)?;

    let gated = [var(&[rows, INNER])?, var(&[rows, INNER])?];
    let (fused, candle): (Operator, Operator) =
        (&|t| ops::swiglu(&t[0], &t[1]), &|t| composed::swiglu(&t[0], &t[1]));
    compare(results, &format!("swiglu {rows}×{INNER}"), fused, candle, &gated)?;

    let added = [var(&[rows, WIDTH])?, var(&[rows, WIDTH])?];
    compare(
        results,
        &format!("add {rows}×{WIDTH}"),
        &|t| ops::add(&t[0], &t[1]),
        &|t| composed::add(&t[0], &t[1]),
        &added,
    )?;

    let table = Arc::new(RopeTable::new(SHAPE.head_dim, 10_000.0, rows));
    let positions = Arc::new((0..rows as u32).collect::<Vec<_>>());
    let fused: Operator = &|t| ops::rope(&t[0], SHAPE.heads, &table, &positions);
    let candle: Operator = &|t| composed::rope(&t[0], SHAPE.heads, &table, &positions);
    compare(results, &format!("rope {rows}×{WIDTH}"), fused, candle, &added[..1])
}

fn attention(results: &mut Results, rows: usize) -> Result<()> {
    let inputs = [var(&[rows, WIDTH])?, var(&[rows, WIDTH])?, var(&[rows, WIDTH])?];
    let starts = Arc::new((0..=rows).step_by(rows.min(128)).collect::<Vec<_>>());
    for window in [None, Some(8)] {
        let shape = AttentionShape { window, ..SHAPE };
        let fused: Operator = &|t| ops::attention(&t[0], &t[1], &t[2], &shape, &starts);
        let candle: Operator = &|t| composed::attention(&t[0], &t[1], &t[2], &shape, &starts);
        let sees = window.map_or_else(String::new, |keys| format!(" seeing {keys}"));
        let name = format!("attention, {} sequences of {}{sees}", starts.len() - 1, starts[1]);
        compare(results, &name, fused, candle, &inputs)?;
    }
    Ok(())
}

fn outputs(results: &mut Results, rows: usize) -> Result<()> {
    let inputs = [var(&[rows, WIDTH])?, var(&[VOCAB, WIDTH])?];
    let targets = Arc::new((0..rows as u32).map(|i| i % VOCAB as u32).collect::<Vec<_>>());
    let fused: Operator = &|t| ops::linear_logprob(&t[0], &t[1], &targets);
    let candle: Operator = &|t| composed::linear_logprob(&t[0], &t[1], &targets);
    compare(results, &format!("linear_logprob {rows}×{WIDTH}→{VOCAB}"), fused, candle, &inputs)?;
    let ids: Vec<u32> = targets.to_vec();
    let (fused, candle): (Operator, Operator) =
        (&|t| ops::embedding(&t[0], &ids), &|t| composed::embedding(&t[0], &ids));
    compare(results, &format!("embedding {rows} of {VOCAB}×{WIDTH}"), fused, candle, &inputs[1..])
}
