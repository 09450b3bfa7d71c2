//! The policy as the loop holds it: weights with an engine around them, or a script.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::adapter;
use crate::config::{Config, TrainMethod};
use crate::data;
use crate::domain::{Address, Purpose};
use crate::engine::foreign::{self, Foreign};
use crate::engine::native::Native;
use crate::engine::scripted::{Play, Script, Scripted};
use crate::engine::{Generate, Sampling};
use crate::grade;
use crate::model::{Lora, Weights};
use crate::rollout::{Limits, Tools};
use crate::text::{Prompts, TEMPLATES, Text};
use crate::train::Trainee;

/// Hands `work` what rollouts of `policy` on the configured tasks need.
pub fn with_tools<T>(
    config: &Config,
    text: &Text,
    policy: &Policy,
    sampling: Sampling,
    on_tokens: &(dyn Fn(usize) + Sync),
    work: impl FnOnce(&Tools) -> Result<T>,
) -> Result<T> {
    let kind = config.tasks.task_kind();
    work(&Tools {
        engine: policy.engine(),
        decode: &|ids| text.decode(ids),
        stops: &text.stops(kind, &config.rollout.stop)?,
        limits: Limits {
            sampling,
            tokens_max: config.rollout.tokens_max,
            thoughts_max: config.rollout.thoughts_max,
        },
        answer: &grade::answer,
        on_tokens,
    })
}

/// Which kind of policy a run improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// A model: the embedded seed or a checkpoint directory.
    Model,
    /// A script without weights, for tests.
    Scripted,
}

/// Chance of a right answer that the script starts from.
const SCRIPT_SKILL: f64 = 0.4;

/// Different wrong answers the script knows to each question.
const SCRIPT_MISTAKES: u32 = 4;

/// The name `model.path` has for the built-in seed model.
const EMBEDDED: &str = "embedded";

/// The embedded seed model, a Hugging Face checkpoint.
pub(super) const SEED_CONFIG: &str = include_str!("../../assets/seed/config.json");
pub(super) const SEED_WEIGHTS: &[u8] = include_bytes!("../../assets/seed/model.safetensors");

/// A model with the engine that samples it: one policy, one copy of the weights.
pub struct ModelPolicy {
    pub weights: Weights,
    /// What `weights` were merged from, if they were.
    pub lora: Option<Lora>,
    engine: Native,
    hash: String,
}

/// Something that can be sampled, and improved.
pub enum Policy {
    Model(Box<ModelPolicy>),
    /// A model of another family or a quantised file: it can be asked, but not improved.
    Foreign(Box<Foreign>),
    Scripted(Scripted),
}

impl Policy {
    /// A policy of these weights.
    pub fn model(weights: Weights, config: &Config) -> Result<Self> {
        let engine = Native::new(&weights, config.engine.batch_tokens)?;
        let hash = weights.hash();
        Ok(Self::Model(Box::new(ModelPolicy { weights, lora: None, engine, hash })))
    }

    /// A policy of an adapter and the weights it stands beside.
    pub fn adapted(lora: Lora, config: &Config) -> Result<Self> {
        let mut policy = Self::model(lora.weights().clone(), config)?;
        if let Self::Model(model) = &mut policy {
            model.lora = Some(lora);
        }
        Ok(policy)
    }

    /// The model at `path`, which need not be one that can be trained: a checkpoint folder, an adapter's folder, a GGUF
    /// file, or the name of the built-in one.
    pub fn to_read(path: &Path, config: &Config) -> Result<Self> {
        match path {
            path if path == Path::new(EMBEDDED) => {
                Self::model(Weights::from_bytes(SEED_CONFIG, SEED_WEIGHTS)?, config)
            }
            path if adapter::is_adapter(path) => Self::adapted(adapter::load(path, config)?, config),
            path if foreign::serves(path) => Ok(Self::Foreign(Box::new(Foreign::load(path)?))),
            path => Self::model(Weights::load(path)?, config),
        }
    }

    /// A policy of what a trainer has trained.
    pub(super) fn trained(trainee: Trainee, config: &Config) -> Result<Self> {
        match trainee {
            Trainee::Full(weights) => Self::model(weights, config),
            Trainee::Lora { lora, .. } => Self::adapted(*lora, config),
        }
    }

    pub fn hash(&self) -> &str {
        match self {
            Self::Model(model) => &model.hash,
            Self::Foreign(model) => model.policy_hash(),
            Self::Scripted(script) => script.policy_hash(),
        }
    }

    pub fn engine(&self) -> &dyn Generate {
        match self {
            Self::Model(model) => &model.engine,
            Self::Foreign(model) => model.as_ref(),
            Self::Scripted(script) => script,
        }
    }

    /// About how large its checkpoint will be.
    pub(super) fn bytes_estimate(&self) -> u64 {
        match self {
            Self::Model(model) => {
                let adapter = model.lora.as_ref().map(|lora| lora.adapter.parameter_count());
                adapter.unwrap_or_else(|| model.weights.parameter_count()) as u64 * 4
            }
            Self::Scripted(_) | Self::Foreign(_) => 4096,
        }
    }

    /// Writes the files of its checkpoint into `dir`: for a model a Hugging Face checkpoint with its tokenizer, or, if
    /// an adapter was trained, that alone in the format of PEFT.
    pub(super) fn save(&self, dir: &Path, config: &Config, text: &Text) -> Result<()> {
        match self {
            Self::Model(model) => match &model.lora {
                Some(lora) => adapter::save(lora, config, dir),
                None => {
                    model.weights.save(dir)?;
                    text.save(dir)
                }
            },
            Self::Foreign(model) => bail!("a {} model is only asked and has no checkpoint", model.family()),
            Self::Scripted(script) => {
                let state = serde_json::json!({ "skill": script.skill(), "version": script.version() });
                std::fs::write(dir.join("script.json"), state.to_string()).context("cannot write script.json")
            }
        }
    }
}

impl PolicyKind {
    /// Tokenizer and prompts of the configured model.
    pub fn text(self, config: &Config) -> Result<Text> {
        let text = match (self, config.model.path.as_str()) {
            (Self::Scripted, _) | (_, EMBEDDED) => Text::embedded()?,
            (Self::Model, path) => Text::load_as(Path::new(path), &config.model)?,
        };
        let prompts = prompts(config)?.few_shot(config.tasks.few_shot);
        Ok(text.asking(config.tasks.task_kind(), prompts))
    }

    /// The policy the run starts from.
    pub fn base(self, config: &Config, text: &Text) -> Result<Policy> {
        let path = Path::new(&config.model.path);
        ensure!(
            self == Self::Scripted || is_embedded(config) || !foreign::serves(path),
            "model.path = {:?} can't be trained: files of quantised weights and the families {} can be judge.model, \
             reference.model or --model of `logprobs`, `generate` and `eval`; give a checkpoint folder of a family that \
             README.md lists",
            config.model.path,
            foreign::FAMILIES.join(", ")
        );
        match (self, config.model.path.as_str()) {
            (Self::Scripted, _) => Ok(Policy::Scripted(Scripted::new(script(config, text)?, SCRIPT_SKILL)?)),
            (Self::Model, _) if config.model.adapter.is_empty() => {
                Policy::model(base_weights(config)?, config)
            }
            (Self::Model, _) => {
                let lora = adapter::load(Path::new(&config.model.adapter), config)
                    .with_context(|| format!("model.adapter = {:?} can't be used", config.model.adapter))?;
                match config.train.method {
                    TrainMethod::Lora => Policy::adapted(lora, config),
                    TrainMethod::Full => Policy::model(lora.weights().clone(), config),
                }
            }
        }
    }

    /// The policy in a checkpoint folder; one with an adapter stands beside the configured model.
    pub fn load(self, dir: &Path, config: &Config, text: &Text) -> Result<Policy> {
        match self {
            Self::Model if adapter::is_adapter(dir) => Policy::adapted(adapter::load(dir, config)?, config),
            Self::Model => Policy::model(Weights::load(dir)?, config),
            Self::Scripted => {
                let path = dir.join("script.json");
                let bytes =
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let state: ScriptState = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged", path.display()))?;
                let script = Scripted::new(script(config, text)?, state.skill)?;
                Ok(Policy::Scripted(script.at_version(state.version)))
            }
        }
    }
}

pub(super) fn is_embedded(config: &Config) -> bool {
    config.model.path == EMBEDDED
}

/// The weights of the configured model, without an adapter.
pub(super) fn base_weights(config: &Config) -> Result<Weights> {
    match config.model.path.as_str() {
        EMBEDDED => Weights::from_bytes(SEED_CONFIG, SEED_WEIGHTS),
        path => Weights::load(Path::new(path)),
    }
}

/// The built-in prompt templates, replaced by those in `model.prompts`.
fn prompts(config: &Config) -> Result<Prompts> {
    let dir = Path::new(&config.model.prompts);
    if config.model.prompts.is_empty() {
        return Prompts::embedded();
    }
    anyhow::ensure!(dir.is_dir(), "model.prompts = {:?} is not a folder", config.model.prompts);
    let mut replaced = Vec::new();
    for (name, _) in TEMPLATES {
        let path = dir.join(name);
        if path.exists() {
            let source =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            replaced.push((name.to_owned(), source));
        }
    }
    Prompts::with(&replaced).with_context(|| format!("cannot use the prompts in {}", dir.display()))
}

#[derive(serde::Deserialize)]
struct ScriptState {
    skill: f64,
    version: u32,
}

/// A script that solves the built-in tasks from their question alone.
fn script(config: &Config, text: &Text) -> Result<Script> {
    let (text, kind) = (text.clone(), config.tasks.kind.kind());
    let stops = text.stops(kind, &[])?;
    let lookup = move |context: &[u32]| -> Option<(usize, Play)> {
        // A built-in prompt is one line.
        let prompt = context.iter().position(|id| stops.boundary_ids.contains(id))? + 1;
        let question = text.decode(&context[..prompt]).ok()?;
        let task = data::solved(kind, question.trim_end())?;
        let ids = |solution: &str| text.completion_ids(solution).ok();
        let place = |n| Address::new(0, Purpose::Dataset, 0, &task.question, &[n]);
        let wrong = (0..SCRIPT_MISTAKES).filter_map(|n| ids(&data::corrupted(&task, &place(n))?)).collect();
        Some((prompt, Play { solution: ids(task.solution.as_ref()?)?, wrong }))
    };
    Ok(Script::solver("built-in solver v1", Arc::new(lookup)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A skill is a number with all its digits: one that came back a bit off would be another policy.
    #[test]
    fn a_scripted_checkpoint_is_the_same_policy_again() {
        let config = Config::load(None, &[]).unwrap();
        let text = PolicyKind::Scripted.text(&config).unwrap();
        let Policy::Scripted(base) = PolicyKind::Scripted.base(&config, &text).unwrap() else { panic!() };
        for kept in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let policy = Policy::Scripted(base.improved(kept));
            policy.save(dir.path(), &config, &text).unwrap();
            let again = PolicyKind::Scripted.load(dir.path(), &config, &text).unwrap();
            assert_eq!(again.hash(), policy.hash(), "after {kept} kept trajectories");
        }
    }
}
