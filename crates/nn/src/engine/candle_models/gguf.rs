//! GGUF files: quantised weights with their settings in one file (ggml's `docs/gguf.md`).
//!
//! The weights stay quantised in memory. The tokenizer is not read here.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device};
use candle_transformers::models::{
    quantized_gemma3, quantized_glm4, quantized_llama, quantized_phi, quantized_phi3, quantized_qwen2,
    quantized_qwen3,
};

use super::{CONTEXT_MAX, Forward, Network, cleared, cloned};

/// `general.architecture` of every file that runs here.
pub const ARCHITECTURES: [&str; 7] = ["gemma3", "glm4", "llama", "phi2", "phi3", "qwen2", "qwen3"];

/// Rows of the rotary table that candle makes for llama and phi2, whatever the file contains.
const FIXED_POSITIONS: usize = 4096;

pub(super) fn load(path: &Path) -> Result<Network> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let content = Content::read(&mut reader).context("it is not a GGUF file that can be read")?;
    let family =
        text(&content, "general.architecture").context("it names no general.architecture")?.to_owned();
    check_sizes(&content, &family)?;
    refuse_ignored_keys(&content, &family)?;
    let (vocab_size, context_max) = (vocab_size(&content)?, context_max(&content, &family)?);
    let forward = network(&family, content, &mut reader)?;
    Ok(Network { forward, family, vocab_size, context_max })
}

/// Sizes that candle asks for memory by, or divides by, and the most that each may be.
const SIZES: [(&str, usize); 6] = [
    ("block_count", 1024),
    ("attention.head_count", 4096),
    ("attention.head_count_kv", 4096),
    ("embedding_length", 1 << 20),
    ("feed_forward_length", 1 << 22),
    ("rope.dimension_count", 1 << 16),
];

/// Refuses sizes that no model has, before memory is asked for.
fn check_sizes(content: &Content, family: &str) -> Result<()> {
    for (name, most) in SIZES {
        let key = format!("{family}.{name}");
        if let Some(size) = number(content, &key) {
            ensure!((1..=most).contains(&size), "{key} is {size}; it must be from 1 to {most}");
        }
    }
    Ok(())
}

fn text<'a>(content: &'a Content, key: &str) -> Option<&'a str> {
    content.metadata.get(key)?.to_string().ok().map(String::as_str)
}

fn number(content: &Content, key: &str) -> Option<usize> {
    content.metadata.get(key)?.to_u64().ok().map(|n| n as usize)
}

/// Refuses settings that change the result and that candle's models ignore.
fn refuse_ignored_keys(content: &Content, family: &str) -> Result<()> {
    let scaling = text(content, &format!("{family}.rope.scaling.type")).filter(|kind| *kind != "none");
    let factors = ["rope_freqs.weight", "rope_factors_long.weight"];
    let factors = factors.into_iter().find(|name| content.tensor_infos.contains_key(*name));
    let base = content.metadata.get(&format!("{family}.rope.freq_base")).and_then(|v| v.to_f32().ok());
    let what = match (scaling, factors, base) {
        (Some(kind), ..) => format!("rope.scaling.type `{kind}`"),
        (_, Some(tensor), _) => format!("the scaled rotary positions of `{tensor}`"),
        (.., Some(base)) if matches!(family, "phi3" | "phi2") && base != 10_000.0 => {
            format!("rope.freq_base {base}")
        }
        _ => return Ok(()),
    };
    bail!(
        "{what} of this {family} file is not supported: candle 0.11.1 ignores it and would compute something else; \
         give the model's safetensors folder instead"
    )
}

fn vocab_size(content: &Content) -> Result<usize> {
    let info = content.tensor_infos.get("token_embd.weight").context("it has no token_embd.weight")?;
    let rows = info.shape.dims().first().copied();
    rows.context("token_embd.weight has no shape")
}

/// The smallest of: the file's context length, what one pass can take, and the length up to which
/// windows are exact.
fn context_max(content: &Content, family: &str) -> Result<usize> {
    let key = format!("{family}.context_length");
    let context = number(content, &key).with_context(|| format!("it has no {key}"))?;
    let window = number(content, &format!("{family}.attention.sliding_window")).filter(|&window| window > 0);
    let context = context.min(window.unwrap_or(usize::MAX)).min(CONTEXT_MAX).min(FIXED_POSITIONS);
    ensure!(context > 1, "{key} is {context}");
    Ok(context)
}

fn network(family: &str, mut content: Content, reader: &mut BufReader<File>) -> Result<Forward> {
    let device = &Device::Cpu;
    Ok(match family {
        "gemma3" => {
            let model = quantized_gemma3::ModelWeights::from_gguf(content, reader, device)?;
            cloned(model, quantized_gemma3::ModelWeights::forward)
        }
        "glm4" => {
            let model = quantized_glm4::ModelWeights::from_gguf(content, reader, device, DType::F32)?;
            cloned(model, quantized_glm4::ModelWeights::forward)
        }
        "llama" => {
            let model = quantized_llama::ModelWeights::from_gguf(content, reader, device)?;
            cloned(model, quantized_llama::ModelWeights::forward)
        }
        "phi2" => {
            let model = quantized_phi::ModelWeights::from_gguf(content, reader, device)?;
            cloned(model, quantized_phi::ModelWeights::forward)
        }
        "phi3" => {
            let model = quantized_phi3::ModelWeights::from_gguf(false, content, reader, device)?;
            cloned(model, quantized_phi3::ModelWeights::forward)
        }
        "qwen2" => {
            let model = quantized_qwen2::ModelWeights::from_gguf(content, reader, device)?;
            cleared(
                model,
                quantized_qwen2::ModelWeights::clear_kv_cache,
                quantized_qwen2::ModelWeights::forward,
            )
        }
        "qwen3" => {
            // Without this key candle makes the rotary angles in f16, which can't hold odd
            // positions above 2048.
            content.metadata.insert("general.dtype".into(), Value::U32(0));
            let model = quantized_qwen3::ModelWeights::from_gguf(content, reader, device)?;
            cloned(model, quantized_qwen3::ModelWeights::forward)
        }
        other => {
            bail!("the architecture `{other}` is not supported; supported: {}", ARCHITECTURES.join(", "))
        }
    })
}
