//! The policy as the loop holds it: weights with an engine around them, or a script.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::adapter;
use crate::answer;
use crate::config::{Config, Quantize, TrainMethod};
use crate::data;
use crate::domain::{Address, Generate, Purpose, Sampling};
use crate::engine::candle_models::{self, CandleModel};
use crate::engine::device::DeviceEngine;
use crate::engine::native::Native;
use crate::engine::scripted::{Play, Script, Scripted};
pub use crate::model::Body;
use crate::model::{Frozen, GgufModel, Place, Quantization, Weights};
use crate::ops::kernels::Arithmetic;
use crate::rollout::{Limits, Tools};
use crate::text::{Prompts, TEMPLATES, Text};
use crate::train::Trainable;

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
        answer: &answer::read,
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

/// A model with the engine that samples it.
pub struct ModelPolicy {
    pub body: Body,
    engine: Box<dyn Generate + Send>,
}

/// What a policy is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To be trained as `train.method` says.
    Train,
    /// To be sampled and read: half the memory, or less.
    Read,
}

/// Something that can be sampled, and improved.
pub enum Policy {
    Model(Box<ModelPolicy>),
    /// A model of another family or a quantised file: it can be asked, but not improved.
    CandleModel(Box<CandleModel>),
    Scripted(Scripted),
}

impl Policy {
    /// A policy of a model, on the configured device.
    pub fn model(body: Body, config: &Config) -> Result<Self> {
        let (place, batch_tokens) = (Place::parse(&config.run.device)?, config.engine.batch_tokens);
        if !place.is_kernels() {
            let body = body.on(&place)?;
            let engine = Box::new(DeviceEngine::new(body.clone(), batch_tokens)?);
            return Ok(Self::Model(Box::new(ModelPolicy { body, engine })));
        }
        let engine = Box::new(Native::new(body.packed()?, batch_tokens)?);
        Ok(Self::Model(Box::new(ModelPolicy { body, engine })))
    }

    /// The model at `path`, which need not be one that can be trained: a checkpoint folder, an adapter's folder, a GGUF
    /// file, or the name of the built-in one.
    pub fn to_read(path: &Path, config: &Config) -> Result<Self> {
        match path {
            path if path == Path::new(EMBEDDED) => Self::model(Body::Frozen(embedded(config)?), config),
            path if adapter::is_adapter(path) => {
                Self::model(Body::Lora(adapter::load(path, config, None)?), config)
            }
            path if is_candle_model(path) => Ok(Self::CandleModel(Box::new(CandleModel::load(path)?))),
            path => Self::model(Body::Frozen(frozen(path, config)?), config),
        }
    }

    /// A policy of what a trainer has trained.
    pub(super) fn trained(trainable: Trainable, config: &Config) -> Result<Self> {
        Self::model(trainable.into_body(), config)
    }

    pub fn hash(&self) -> &str {
        match self {
            Self::Model(model) => model.engine.policy_hash(),
            Self::CandleModel(model) => model.policy_hash(),
            Self::Scripted(script) => script.policy_hash(),
        }
    }

    /// The weights that an adapter is trained beside.
    pub(super) fn frozen(&self) -> Option<&Frozen> {
        match self {
            Self::Model(model) => model.body.frozen(),
            Self::Scripted(_) | Self::CandleModel(_) => None,
        }
    }

    pub fn engine(&self) -> &dyn Generate {
        match self {
            Self::Model(model) => &*model.engine,
            Self::CandleModel(model) => model.as_ref(),
            Self::Scripted(script) => script,
        }
    }

    /// Only its engine: for a policy that is asked and never improved.
    pub(super) fn into_engine(self) -> Box<dyn Generate + Send> {
        match self {
            Self::Model(model) => model.engine,
            Self::CandleModel(model) => model,
            Self::Scripted(script) => Box::new(script),
        }
    }

    /// About how large its checkpoint will be.
    pub(super) fn bytes_estimate(&self) -> u64 {
        match self {
            Self::Model(model) => model.body.stored_count() as u64 * 4,
            Self::Scripted(_) | Self::CandleModel(_) => 4096,
        }
    }

    /// Writes the files of its checkpoint into `dir`: for a model a Hugging Face checkpoint with its tokenizer, or, if
    /// an adapter was trained, that alone in the format of PEFT.
    pub(super) fn save(&self, dir: &Path, config: &Config, text: &Text) -> Result<()> {
        match self {
            Self::Model(model) => match &model.body {
                Body::Lora(lora) => adapter::save(lora, config, dir),
                Body::Full(weights, _) => {
                    weights.save(dir)?;
                    text.save(dir)
                }
                Body::Frozen(_) => bail!("a frozen policy was never trained: it has no checkpoint"),
            },
            Self::CandleModel(model) => {
                bail!("a {} model is only asked and has no checkpoint", model.family())
            }
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
            (Self::Model, _) => Text::load_as(config.model.folder(), &config.model)?,
        };
        let prompts = prompts(config)?.few_shot(config.tasks.few_shot);
        Ok(text.asking(config.tasks.task_kind(), prompts))
    }

    /// The policy the run starts from; frozen weights that are in memory already are not read again.
    pub fn base(self, config: &Config, text: &Text, purpose: Use, beside: Option<&Frozen>) -> Result<Policy> {
        ensure!(
            self == Self::Scripted || is_embedded(config) || !is_candle_model(config.model.folder()),
            "model.path = {:?} can't be trained: the families {} and GGUF files of other architectures can be judge.model, \
             reference.model or --model of `logprobs`, `generate` and `eval`; give a checkpoint folder of a family that \
             README.md lists",
            config.model.path,
            candle_models::FAMILIES.join(", ")
        );
        match (self, config.model.path.as_str()) {
            (Self::Scripted, _) => Ok(Policy::Scripted(Scripted::new(script(config, text)?, SCRIPT_SKILL)?)),
            (Self::Model, _) if config.model.adapter.is_empty() => {
                let body = match all_trained(config, purpose) {
                    true => Body::Full(base_weights(config)?, arithmetic(config)),
                    false => Body::Frozen(frozen_base(config, beside)?),
                };
                Policy::model(body, config)
            }
            (Self::Model, _) => {
                let lora = adapter::load(config.model.adapter_folder(), config, beside)
                    .with_context(|| format!("model.adapter = {:?} can't be used", config.model.adapter))?;
                let body = match all_trained(config, purpose) {
                    true => Body::Full(lora.merge()?, arithmetic(config)),
                    false => Body::Lora(lora),
                };
                Policy::model(body, config)
            }
        }
    }

    /// The policy in a checkpoint folder; one with an adapter stands beside the configured model, which is not read
    /// again if it is in memory already.
    pub fn load(
        self,
        dir: &Path,
        config: &Config,
        text: &Text,
        purpose: Use,
        beside: Option<&Frozen>,
    ) -> Result<Policy> {
        match self {
            Self::Model if adapter::is_adapter(dir) => {
                Policy::model(Body::Lora(adapter::load(dir, config, beside)?), config)
            }
            Self::Model if all_trained(config, purpose) => {
                Policy::model(Body::Full(Weights::load(dir)?, arithmetic(config)), config)
            }
            Self::Model => Policy::model(Body::Frozen(frozen(dir, config)?), config),
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

/// Whether candle-transformers runs the model at `path`, because our own decoder doesn't.
fn is_candle_model(path: &Path) -> bool {
    match candle_models::is_gguf(path) {
        true => GgufModel::is_of_another(path),
        false => candle_models::serves(path),
    }
}

fn all_trained(config: &Config, purpose: Use) -> bool {
    purpose == Use::Train && config.train.method == TrainMethod::Full
}

/// The weights of the configured model, without an adapter.
fn base_weights(config: &Config) -> Result<Weights> {
    ensure!(
        config.model.quantize == Quantize::None,
        "model.quantize is for weights that stay as they are: set train.method = \"lora\", or model.quantize = \"none\""
    );
    match config.model.path.as_str() {
        EMBEDDED => Weights::from_bytes(SEED_CONFIG, SEED_WEIGHTS),
        _ => Weights::load(config.model.folder()),
    }
}

/// The same, to be read alone.
pub(super) fn frozen_base(config: &Config, beside: Option<&Frozen>) -> Result<Frozen> {
    if let Some(frozen) = beside {
        return Ok(frozen.clone());
    }
    match config.model.path.as_str() {
        EMBEDDED => embedded(config),
        _ => frozen(config.model.folder(), config),
    }
}

/// The built-in model, to be read alone.
fn embedded(config: &Config) -> Result<Frozen> {
    let frozen = Frozen::from_bytes(SEED_CONFIG, SEED_WEIGHTS, quantization(config))?;
    frozen.computing(arithmetic(config)).context("model.matmul")
}

/// The weights at `path`, to be read alone.
fn frozen(path: &Path, config: &Config) -> Result<Frozen> {
    let computing = |frozen: Frozen| frozen.computing(arithmetic(config)).context("model.matmul");
    Frozen::load(path, quantization(config)).and_then(computing)
}

fn arithmetic(config: &Config) -> Arithmetic {
    config.model.matmul.parts().map_or(Arithmetic::F32, |parts| Arithmetic::Tiles { parts })
}

fn quantization(config: &Config) -> Option<Quantization> {
    match config.model.quantize {
        Quantize::None => None,
        Quantize::Q8_0 => Some(Quantization::Q8_0),
        Quantize::Q4K => Some(Quantization::Q4K),
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
        let Policy::Scripted(base) = PolicyKind::Scripted.base(&config, &text, Use::Train, None).unwrap()
        else {
            panic!()
        };
        for kept in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let policy = Policy::Scripted(base.improved(kept));
            policy.save(dir.path(), &config, &text).unwrap();
            let again = PolicyKind::Scripted.load(dir.path(), &config, &text, Use::Train, None).unwrap();
            assert_eq!(again.hash(), policy.hash(), "after {kept} kept trajectories");
        }
    }
}
