//! Rotary scalings between GGUF's keys and `config.json`'s.
//!
//! llama.cpp has no parameters for llama3's rule. It has a tensor `rope_freqs.weight` of divisors,
//! one per element pair, from which the parameters are recovered. Its yarn multiplies cosines and
//! sines by `attn_factor · (1 + 0.1 ln factor)`.

use std::f64::consts::TAU;

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::config::Keys;
use crate::gguf;
use crate::model::{Family, ModelConfig, RopeParameters, RopeScaling};

/// Divisors of the frequencies.
pub(super) const FREQUENCIES: &str = "rope_freqs.weight";

/// Writes base and scaling under the keys of `family`'s `config.json`.
pub(super) fn read(keys: &Keys, family: Family, head_dim: u64, all: &mut Map<String, Value>) -> Result<()> {
    let theta = keys.number("rope.freq_base")?.unwrap_or(1e4);
    let scaling = scaling(keys, theta, head_dim)?;
    let sliding = keys.number("rope.freq_base_swa")?;
    match family {
        Family::Olmo3 | Family::Gemma3 => {
            let mut full = scaling.unwrap_or_else(|| json!({ "rope_type": "default" }));
            full["rope_theta"] = json!(theta);
            let sliding = match family {
                Family::Gemma3 => sliding.unwrap_or(1e4),
                // llama.cpp reads the key, but rotates sliding layers with the other base anyway.
                _ => theta,
            };
            all.insert(
                "rope_parameters".into(),
                json!({ "full_attention": full,
                    "sliding_attention": { "rope_type": "default", "rope_theta": sliding } }),
            );
        }
        _ => {
            if let Some(sliding) = sliding.filter(|&sliding| sliding != theta && family == Family::Gemma2) {
                let key = keys.key("rope.freq_base_swa");
                bail!(
                    "{key} is {sliding}, which is not supported; only the same as rope.freq_base, {theta}, is"
                );
            }
            all.insert("rope_theta".into(), json!(theta));
            if let Some(scaling) = scaling {
                all.insert("rope_scaling".into(), scaling);
            }
        }
    }
    Ok(())
}

fn scaling(keys: &Keys, theta: f64, head_dim: u64) -> Result<Option<Value>> {
    let factor = match keys.number("rope.scaling.factor")? {
        Some(factor) => factor,
        None => keys.number("rope.scale_linear")?.unwrap_or(0.0),
    };
    let context = keys.meta().unsigned(&keys.key("context_length"))?;
    let original = keys.meta().unsigned(&keys.key("rope.scaling.original_context_length"))?;
    let kind_key = keys.key("rope.scaling.type");
    let kind = keys.meta().text(&kind_key)?.unwrap_or("linear");
    let divisors = keys.file.tensors().contains_key(FREQUENCIES);
    Ok(match kind {
        _ if divisors => {
            ensure!(
                factor == 0.0 || factor == 1.0,
                "{FREQUENCIES} together with a rotary scaling is not supported"
            );
            Some(llama3(keys, theta, head_dim, original)?)
        }
        "none" => None,
        "linear" if factor == 0.0 || factor == 1.0 => None,
        "linear" => Some(json!({ "rope_type": "linear", "factor": factor })),
        "yarn" => {
            let grown = 1.0 + 0.1 * factor.max(1.0).ln();
            let attention = match keys.number("rope.scaling.attn_factor")? {
                Some(attention) => attention * grown,
                // Written by converters from `attention_factor`, though llama.cpp doesn't read it.
                None => keys.number("rope.scaling.yarn_attn_factor")?.unwrap_or(grown),
            };
            Some(json!({
                "rope_type": "yarn",
                "factor": factor,
                "attention_factor": attention,
                "original_max_position_embeddings": original.or(context),
                "beta_fast": keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                "beta_slow": keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            }))
        }
        other => bail!("{kind_key} `{other}` is not supported; supported: none, linear, yarn"),
    })
}

/// What each frequency is divided by under llama3's rule.
pub(super) fn divisors(parameters: &RopeParameters, head_dim: usize) -> Vec<f32> {
    let plain = RopeParameters::new(parameters.rope_theta);
    (0..head_dim / 2)
        .map(|i| (plain.frequency(i, head_dim) / parameters.frequency(i, head_dim)) as f32)
        .collect()
}

/// llama3's parameters, recovered from the divisors.
///
/// The divisors determine only two ratios of low factor, high factor and original length: `kept =
/// a·frequency − b` in the interpolated ones, with `b = low / (high − low)`. So the published
/// values are tried first; otherwise low is 1.
fn llama3(keys: &Keys, theta: f64, head_dim: u64, original: Option<u64>) -> Result<Value> {
    let info = keys.file.tensor(FREQUENCIES)?;
    let head_dim = head_dim as usize;
    let wanted = super::blocks::to_f32(info.dtype, &keys.file.read(FREQUENCIES)?)?;
    ensure!(
        wanted.len() == head_dim / 2 && wanted.iter().all(|x| x.is_finite() && *x > 0.0),
        "{FREQUENCIES} must hold {} positive numbers",
        head_dim / 2
    );
    let factor = wanted.iter().fold(1f64, |most, &x| most.max(x.into()));
    let context = keys.meta().unsigned(&keys.key("context_length"))?.unwrap_or(8192);
    let lengths = [original, Some(8192), Some(context)];
    let mut candidates: Vec<(f64, f64, f64)> =
        lengths.into_iter().flatten().map(|original| (1.0, 4.0, original as f64)).collect();
    let plain = RopeParameters::new(theta);
    let between: Vec<(f64, f64)> = (0..head_dim / 2)
        .filter(|&i| wanted[i] > 1.0 && f64::from(wanted[i]) < factor)
        .map(|i| {
            let kept = (1.0 / f64::from(wanted[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
            (plain.frequency(i, head_dim), kept)
        })
        .collect();
    if let (Some((x0, y0)), Some((x1, y1))) = (between.first(), between.last())
        && x0 != x1
    {
        let a = (y0 - y1) / (x0 - x1);
        let b = a * x0 - y0;
        candidates.push((1.0, 1.0 + 1.0 / b, a * TAU / b));
    }
    if let Some((x, y)) = between.first() {
        // The original length that explains one interpolated pair, with the factors of all
        // published models.
        candidates.push((1.0, 4.0, ((1.0 + 3.0 * y) * TAU / x).round()));
        let turns = original.unwrap_or(context) as f64 * x / TAU;
        candidates.push((1.0, 1.0 + (turns - 1.0) / y, original.unwrap_or(context) as f64));
    }
    for (low, high, original) in candidates {
        let sound = [low, high, original].iter().all(|x| x.is_finite() && *x > 0.0) && low < high;
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        };
        let found = divisors(&RopeParameters { rope_theta: theta, scaling }, head_dim);
        if sound && found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-4 * b) {
            return Ok(json!({ "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original }));
        }
    }
    bail!("{FREQUENCIES} does not follow llama3's rule, which is the only one that is supported")
}

/// The keys for `config`'s bases and scaling, without the architecture in front.
pub(super) fn write(config: &ModelConfig) -> Vec<(&'static str, gguf::Value)> {
    let mut keys: Vec<(&'static str, gguf::Value)> = vec![
        ("rope.dimension_count", config.head_dim.into()),
        ("rope.freq_base", config.rope.rope_theta.into()),
    ];
    if let Some(sliding) = config.sliding_rope.filter(|_| config.sliding_window.is_some()) {
        keys.push(("rope.freq_base_swa", sliding.rope_theta.into()));
    }
    let original_key = "rope.scaling.original_context_length";
    match config.rope.scaling {
        RopeScaling::Default => {}
        RopeScaling::Linear { factor } => {
            keys.push(("rope.scaling.type", "linear".into()));
            keys.push(("rope.scaling.factor", factor.into()));
        }
        RopeScaling::Llama3 { original_max_position_embeddings: original, .. } => {
            keys.push((original_key, (original as u32).into()));
        }
        RopeScaling::Yarn {
            factor, attention_factor, original_max_position_embeddings: original, ..
        } => {
            keys.push(("rope.scaling.type", "yarn".into()));
            keys.push(("rope.scaling.factor", factor.into()));
            keys.push((original_key, (original as u32).into()));
            keys.push(("rope.scaling.attn_factor", (attention_factor / (1.0 + 0.1 * factor.ln())).into()));
        }
    }
    keys
}
