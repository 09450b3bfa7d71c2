//! Training an adapter of a frozen checkpoint: tokens per second and peak memory, for
//! `benches/peers/lora.py`, which runs the same with PEFT and PyTorch.
//!
//! `cargo bench --bench lora -- DIR [SEQUENCES] [TOKENS] [none|q8_0|q4_k] [f32|1|2|3] [--json FILE]`
//! prints one line of JSON. Without a folder there is nothing to do.

#[path = "measure/mod.rs"]
mod measure;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use autodidact::config::Config;
use autodidact::domain::{Address, Purpose};
use autodidact::model::{ALL_LINEAR, Adapter, Frozen, Lora, LoraSettings, Quantization};
use autodidact::train::{Group, Hyper, Passes, Trainable, Trainer, example_from_solution, memory_bytes};
use measure::results::{Results, figure, positional};
use serde_json::json;

/// Updates that are timed, after one that isn't.
const UPDATES: u32 = 3;
const RANK: usize = 16;

#[allow(unsafe_code, reason = "the first statement of the process prepares it")]
fn main() -> Result<()> {
    // SAFETY: the first statement of the process.
    unsafe { autodidact::cli::prepare() };
    let args = positional();
    let Some(dir) = args.first() else { return Ok(()) };
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse());
    let (sequences, tokens) = (number(1, 2)?, number(2, 512)?);
    let quantization = match args.get(3).map(String::as_str) {
        None | Some("none") => None,
        Some("q8_0") => Some(Quantization::Q8_0),
        Some("q4_k") => Some(Quantization::Q4K),
        Some(other) => bail!("{other} is no format: q8_0 or q4_k"),
    };

    let began = Instant::now();
    let arithmetic = measure::arithmetic(args.get(4))?;
    let base = Frozen::load(Path::new(dir), quantization)?.computing(arithmetic)?;
    let loaded = began.elapsed().as_secs_f64();
    let address = Address::new(0, Purpose::Init, 0, "lora", &[]);
    let settings = LoraSettings { r: RANK, lora_alpha: 32.0, lora_dropout: 0.0, use_rslora: false };
    let adapter = Adapter::init(&base.config, settings, &[ALL_LINEAR.to_owned()], &address)?;
    let weights_mib = base.bytes() >> 20;
    let vocabulary = base.config.vocab_size as u32;
    let trainable = Trainable::Lora { lora: Box::new(Lora { base, adapter }), address };
    // One sequence on each thread.
    let passes = Passes { tokens, ..Passes::default() };
    let at_once = rayon::current_num_threads().min(sequences);
    let hyper = Hyper::from(&Config::load(None, &[])?.train);
    let predicted = memory_bytes(&trainable, &hyper, passes, tokens, at_once);
    let mut trainer = Trainer::new(trainable, hyper, 1 + UPDATES)?.in_passes(passes);

    let example = |n: u32| -> Group {
        let id = |t: u32| (n * 7919 + t * 104_729) % vocabulary;
        let ids: Vec<u32> = (0..tokens as u32).map(id).collect();
        example_from_solution(&ids[..1], &ids[1..], &format!("{n}")).into()
    };
    let examples: Vec<Group> = (0..sequences as u32).map(example).collect();
    let batch: Vec<&Group> = examples.iter().collect();
    trainer.step(&batch)?;
    let mut report = measure::repeated(UPDATES as usize, || {
        trainer.step(&batch)?;
        Ok(sequences * tokens)
    })?;
    report["load_seconds"] = loaded.into();
    report["weights_mib"] = weights_mib.into();
    report["predicted_mib"] = (weights_mib + (predicted >> 20)).into();
    println!("{report}");
    let mut results = Results::of("lora");
    let cell = |key: &str| report[key].as_f64().map_or(report[key].clone(), figure);
    let name = Path::new(dir).file_name().unwrap_or_default().to_string_lossy();
    results.row(
        "",
        &[
            ("model", json!(name)),
            ("batch", json!(format!("{sequences} × {tokens}"))),
            ("tokens/s", cell("tokens_per_s")),
            ("peak MiB", cell("peak_mib")),
            ("predicted MiB", cell("predicted_mib")),
        ],
    );
    results.write_if_asked()
}
