//! The configuration: TOML text in, one validated [`Config`] out.
//!
//! Defaults are set only in the commented `default.toml` in this folder. A user's file,
//! `AUTODIDACT_*` variables and `--set` override them, in that order. Unknown keys are refused. All
//! problems are reported at once. This module reads no file and no environment: its caller passes
//! text and pairs.

mod identity;
mod keys;
mod paths;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use identity::Difference;
pub(crate) use paths::is_same_model;

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
    pub hours: f64,
    pub device: String,
    pub threads: usize,
    pub wall_clock_max_s: u64,
    pub disk_max_mib: u64,
    /// What was configured in the place of what a plan chose for the run's hours. No key of a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, usize>,
}

/// The section `[gate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    pub regression_points: f64,
    pub confidence: f64,
    pub rule: GateRule,
    pub solved_min: usize,
}

/// What the gate asks of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateRule {
    /// That no regression is shown.
    NoRegression,
    /// That a gain is shown.
    Gain,
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
    ///
    /// # Errors
    /// Names every unknown key and every value that can't be used.
    pub fn load(file: Option<&str>, overrides: &[(String, String)]) -> Result<Self> {
        Self::load_from(file.map(|text| (text, Path::new(""))), overrides)
    }

    /// As [`Config::load`], for a file in a folder: its relative paths count from there.
    ///
    /// # Errors
    /// Names every unknown key and every value that can't be used.
    pub fn load_from(file: Option<(&str, &Path)>, overrides: &[(String, String)]) -> Result<Self> {
        let mut table: toml::Table = DEFAULT_TOML.parse().context("the built-in configuration is broken")?;
        let mut given = match file {
            Some((text, folder)) => keys::of_file(text, |table| paths::from_folder(table, folder))?,
            None => Vec::new(),
        };
        given.extend(overrides.iter().flat_map(|(key, value)| keys::of_pair(&table, key, value)));
        let laid = given.into_iter().map(|given| keys::lay(&mut table, given));
        let mut problems: Vec<String> = laid.filter_map(|laid| Some(laid.err()?.to_string())).collect();
        let config: Self = toml::Value::Table(table).try_into().context("the configuration is invalid")?;
        problems.extend(config.problems());
        match problems.as_slice() {
            [] => Ok(config),
            [problem] => bail!("the configuration is invalid: {problem}"),
            problems => bail!("the configuration is invalid:\n  - {}", problems.join("\n  - ")),
        }
    }
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

    fn refused(file: &str, pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        format!("{:#}", Config::load(Some(file), &pairs).unwrap_err())
    }

    #[test]
    fn unknown_keys_are_named_with_their_line_and_what_was_meant() {
        let file = "[run]\nseed = 1\nsede = 2\n\n[rollouts]\ntasks = 3\n[tasks]\nfields.qestion = 'q'\n[train]\n\
                    temperature = 1\n[x]\nnothing_like_it = 1\n";
        let error = refused(file, &[("rollout.temprature", "1"), ("seed", "1")]);
        let lines: Vec<&str> = error.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  - line 3: unknown key `run.sede`; did you mean `run.seed`?",
                "  - line 6: unknown key `rollouts.tasks`; did you mean `rollout.tasks`?",
                "  - line 8: unknown key `tasks.fields.qestion`; did you mean `tasks.fields.question`?",
                "  - line 10: unknown key `train.temperature`; did you mean `critic.temperature` or \
                 `eval.temperature` or `judge.temperature` or `rollout.temperature`?",
                "  - line 12: unknown key `x.nothing_like_it`; `autodidact init` writes all keys with their meaning",
                "  - in the setting `rollout.temprature=1`: unknown key `rollout.temprature`; did you mean \
                 `rollout.temperature`?",
                "  - in the setting `seed=1`: unknown key `seed`; did you mean `pretrain.seed` or `run.seed` or \
                 `tasks.seed`?",
            ]
        );
    }

    #[test]
    fn a_value_of_another_type_is_named_with_what_is_wanted() {
        for (key, value, wanted) in [
            ("run.iterations", "three", "run.iterations = \"three\": give a whole number, such as 3"),
            ("run.iterations", "2.5", "run.iterations = 2.5: give a whole number, such as 3"),
            ("run.iterations", "-1", "run.iterations = -1: give a whole number, 0 or more"),
            ("rollout.temperature", "hot", "rollout.temperature = \"hot\": give a number, such as 0.6"),
            ("tasks.few_shot", "1", "tasks.few_shot = 1: give true or false"),
            ("model.chat", "maybe", "model.chat = \"maybe\": give \"auto\" or \"plain\""),
            ("model.matmul", "fast", "`fast` is not one of auto, f32, bf16x3"),
            ("run", "5", "`run` is a section, and 5 is not: its keys are "),
            ("tasks.kind", "gsm8k", "that is a format of files"),
            ("tasks.kind", "gsm9k", "give one of \"relations\""),
            ("tasks.fields", "{ qestion = \"q\" }", "unknown key `tasks.fields.qestion`"),
            ("rollout.stop", "7", "give a value such as []"),
        ] {
            let error = refused("", &[(key, value)]);
            assert!(error.contains(wanted), "{key}={value}: {error}");
        }
        assert!(
            refused("[run]\ndir = 5", &[]).contains("line 2: run.dir = 5: give a text in quotes, such as")
        );
        assert!(refused("run = 5", &[]).contains("line 1: `run` is a section"));
        assert!(refused("[run\n", &[]).contains("not valid TOML"));
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
    fn a_key_and_a_bad_value_elsewhere_are_one_error() {
        let error =
            refused("[gate]\nconfidense = 2\n", &[("model.chat", "maybe"), ("model.date", "2024-7-1")]);
        for part in ["gate.confidense", "maybe", "model.date"] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }
}
