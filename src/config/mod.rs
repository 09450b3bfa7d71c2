//! The configuration: TOML text in, one validated [`Config`] out.
//!
//! Defaults are set only in the commented `default.toml` in this folder. A user's file,
//! `AUTODIDACT_*` variables and `--set` override them, in that order. Unknown keys are refused. All
//! problems are reported at once. This module reads no file and no environment: its caller passes
//! text and pairs.

mod identity;
mod validate;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use identity::Difference;

pub use crate::data::{AnswerForm, FieldNames, TaskFormat, TaskSource, TasksConfig};
pub use crate::domain::Snapshot;
pub use crate::engine::EngineConfig;
pub use crate::rollout::{Propose, RolloutConfig, TreeConfig, ValueBy};
pub use crate::score::{CriticConfig, JudgeConfig, ReferenceConfig, RewardConfig};
pub use crate::select::SelectConfig;
pub use crate::text::{ChatMode, Matmul, ModelSource, Quantize, Thinking};
pub use crate::train::settings::{
    Checkpointing, LoraConfig, MomentPrecision, OptimizerKind, PretrainConfig, TargetModules, TrainConfig,
    TrainMethod,
};

/// The built-in defaults, commented: what `autodidact init` writes.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// All sections, each owned by the room that reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub run: RunConfig,
    pub model: ModelSource,
    pub tasks: TasksConfig,
    pub rollout: RolloutConfig,
    pub tree: TreeConfig,
    pub engine: EngineConfig,
    pub critic: CriticConfig,
    pub judge: JudgeConfig,
    pub reference: ReferenceConfig,
    pub reward: RewardConfig,
    pub select: SelectConfig,
    pub train: TrainConfig,
    pub lora: LoraConfig,
    pub gate: GateConfig,
    pub eval: EvalConfig,
    pub checkpoints: CheckpointsConfig,
    pub pretrain: PretrainConfig,
}

/// The section `[run]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    pub dir: String,
    pub seed: u64,
    pub iterations: u32,
    pub device: String,
    pub threads: usize,
    pub wall_clock_max_s: u64,
    pub disk_max_mib: u64,
}

/// The section `[gate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    pub regression_points: f64,
    pub confidence: f64,
}

/// The section `[eval]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    pub samples: u32,
    pub sampled_tasks: usize,
    pub temperature: f32,
}

/// The section `[checkpoints]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsConfig {
    pub keep: usize,
    pub bytes_max_mib: u64,
    pub logprob_tolerance: f32,
}

impl Config {
    /// Overrides the defaults with `file` (TOML text), then with every `key=value` pair, and
    /// validates the result.
    ///
    /// `overrides` are in rising precedence: environment first, `--set` last. A value is read as
    /// TOML (`3`, `0.5`, `[1, 4]`, `"text"`) and, if it isn't valid TOML, as a plain string. Where
    /// the default is text, a number or a date is the text that was written.
    pub fn load(file: Option<&str>, overrides: &[(String, String)]) -> Result<Self> {
        let mut table: toml::Table = DEFAULT_TOML.parse().context("the built-in configuration is broken")?;
        if let Some(text) = file {
            let user: toml::Table = text.parse().context("the configuration is not valid TOML")?;
            overlay(&mut table, user, "")?;
        }
        for (key, value) in overrides {
            set(&mut table, key, value)?;
        }
        let config: Self = toml::Value::Table(table).try_into().context("the configuration is invalid")?;
        let problems = config.problems();
        if !problems.is_empty() {
            bail!("the configuration is invalid:\n  - {}", problems.join("\n  - "));
        }
        Ok(config)
    }
}

/// Lays `user` over `table`; a key that isn't there is refused with its full name.
fn overlay(table: &mut toml::Table, user: toml::Table, prefix: &str) -> Result<()> {
    for (key, value) in user {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (table.get_mut(&key), value) {
            (None, _) => bail!("unknown configuration key `{name}`{}", suggestion(table, &key)),
            (Some(toml::Value::Table(inner)), toml::Value::Table(user)) => overlay(inner, user, &name)?,
            (Some(toml::Value::Table(_)), other) => bail!("`{name}` is a section, not a value ({other})"),
            (Some(slot), value) => *slot = coerced(slot, value),
        }
    }
    Ok(())
}

/// An integer given where the default is a float is that float.
fn coerced(slot: &toml::Value, value: toml::Value) -> toml::Value {
    match (slot, value) {
        (toml::Value::Float(_), toml::Value::Integer(i)) => toml::Value::Float(i as f64),
        (_, value) => value,
    }
}

fn suggestion(table: &toml::Table, key: &str) -> String {
    let known = table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("; known here, instead of `{key}`: {known}")
}

fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let mut user = match parsed {
        // The text is what was meant: `run.dir=20240726`, `model.path=true`.
        Some(scalar) if is_text(table, key) && !(scalar.is_str() || scalar.is_array()) => {
            toml::Value::String(value.to_owned())
        }
        Some(parsed) => parsed,
        None => toml::Value::String(value.to_owned()),
    };
    for part in key.rsplit('.') {
        let mut outer = toml::Table::new();
        outer.insert(part.to_owned(), user);
        user = toml::Value::Table(outer);
    }
    let toml::Value::Table(user) = user else { bail!("`{key}` is not a configuration key") };
    overlay(table, user, "").with_context(|| format!("in the setting `{key}={value}`"))
}

/// Whether the key is one whose values are text.
fn is_text(table: &toml::Table, key: &str) -> bool {
    let Some((section, name)) = key.split_once('.') else { return false };
    table.get(section).and_then(|section| section.get(name)).is_some_and(toml::Value::is_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Config> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs)
    }

    #[test]
    fn defaults_are_valid_and_every_key_is_commented() {
        load(&[]).unwrap();
        let lines: Vec<_> = DEFAULT_TOML.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.contains(" = ") && !line.starts_with('#') {
                let above = lines[..i].iter().rev().take_while(|l| !l.is_empty());
                assert!(above.into_iter().any(|l| l.starts_with('#') || l.contains(" = ")), "{line}");
            }
        }
    }

    #[test]
    fn file_then_overrides() {
        let pairs = vec![("run.seed".to_string(), "9".to_string())];
        let config = Config::load(Some("[run]\nseed = 5\niterations = 7\n"), &pairs).unwrap();
        assert_eq!((config.run.seed, config.run.iterations), (9, 7));
        assert_eq!(load(&[("run.dir", "/tmp/x y")]).unwrap().run.dir, "/tmp/x y");
        for text in ["20240726", "2024-07-26", "true", "1e5", "0x10", "{a = 1}", "[x", "'q"] {
            assert_eq!(load(&[("run.dir", text)]).unwrap().run.dir, text);
        }
        assert_eq!(load(&[("run.dir", "\"20240726\"")]).unwrap().run.dir, "20240726");
        assert_eq!(load(&[("rollout.temperature", "1")]).unwrap().rollout.temperature, 1.0);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = format!("{:#}", load(&[("rollout.temprature", "1")]).unwrap_err());
        assert!(error.contains("rollout.temprature"), "{error}");
        let error = format!("{:#}", Config::load(Some("[rollouts]\nn = 1"), &[]).unwrap_err());
        assert!(error.contains("rollouts"), "{error}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let error = load(&[("rollout.temperature", "-1"), ("select.keep", "0"), ("critic.bootstrap", "500")]);
        let error = format!("{:#}", error.unwrap_err());
        for part in ["rollout.temperature", "-1", "select.keep", "critic.bootstrap", "500"] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let error = format!("{:#}", load(&[("model.date", "today"), ("model.chat", "maybe")]).unwrap_err());
        assert!(error.contains("maybe"), "{error}");
        let error = format!("{:#}", load(&[("model.date", "2024-7-1")]).unwrap_err());
        assert!(error.contains("model.date"), "{error}");
    }
}
