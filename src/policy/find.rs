//! Where policies come from: the configured model, a checkpoint folder, an adapter's folder, a GGUF
//! file, the binary.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::numerics::{arithmetic, quantization};
use super::prompts::prompts;
use super::{Policy, adapter, script, seed};
use crate::config::{Config, Quantize, TrainMethod};
use crate::engine::candle_models::{self, CandleModel};
use crate::model::{Body, Frozen, GgufModel, Lora, Weights};
use crate::text::Text;

/// Which kind of policy a run improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// A model: the embedded seed or a checkpoint directory.
    Model,
    /// A script without weights, for tests.
    Scripted,
}

/// What a policy is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To be trained by `train.method`.
    Train,
    /// To be sampled and read: half the memory, or less.
    Read,
}

impl PolicyKind {
    /// Tokenizer and prompts of the configured model.
    pub fn text(self, config: &Config) -> Result<Text> {
        let text = match self {
            Self::Scripted => Text::embedded()?,
            Self::Model if seed::is_configured(config) => Text::embedded()?,
            Self::Model => Text::load_as(config.model.folder(), &config.model)?,
        };
        let prompts = prompts(config)?.few_shot(config.tasks.few_shot);
        Ok(text.asking(config.tasks.task_kind(), prompts))
    }

    /// The policy that the run starts from. Frozen weights `in_memory` are shared, not read again.
    ///
    /// # Errors
    /// The model can't be trained, a file is missing or damaged, or a setting doesn't fit the
    /// model.
    pub fn base(
        self,
        config: &Config,
        text: &Text,
        purpose: Use,
        in_memory: Option<&Frozen>,
    ) -> Result<Policy> {
        if self == Self::Scripted {
            return Ok(Policy::Scripted(script::base(config, text)?));
        }
        ensure!(
            seed::is_configured(config) || !is_candle_model(config.model.folder()),
            "model.path = {:?} can't be trained: the families {} and GGUF files of other architectures can be judge.model, \
             reference.model or --model of `logprobs`, `generate` and `eval`; give a checkpoint folder of a family that \
             README.md lists",
            config.model.path,
            candle_models::FAMILIES.join(", ")
        );
        let trains_all = trains_all(config, purpose);
        let body = if config.model.adapter.is_empty() {
            match trains_all {
                true => Body::Full(base_weights(config)?, arithmetic(config)),
                false => Body::Frozen(base_frozen(config, in_memory)?),
            }
        } else {
            let lora = adapted(config.model.adapter_folder(), config, in_memory)
                .with_context(|| format!("model.adapter = {:?} can't be used", config.model.adapter))?;
            match trains_all {
                true => Body::Full(lora.merge()?, arithmetic(config)),
                false => Body::Lora(lora),
            }
        };
        Policy::model(body, config)
    }

    /// What kind of policy a run wrote into a checkpoint folder.
    pub fn of_checkpoint(dir: &Path) -> Self {
        if script::is_saved_in(dir) { Self::Scripted } else { Self::Model }
    }

    /// The policy in a checkpoint folder. The base of an adapter is the configured model; frozen
    /// weights `in_memory` are shared, not read again.
    pub fn load(
        self,
        dir: &Path,
        config: &Config,
        text: &Text,
        purpose: Use,
        in_memory: Option<&Frozen>,
    ) -> Result<Policy> {
        let body = match self {
            Self::Scripted => return Ok(Policy::Scripted(script::load(dir, config, text)?)),
            Self::Model if adapter::is_adapter(dir) => Body::Lora(adapted(dir, config, in_memory)?),
            Self::Model if trains_all(config, purpose) => Body::Full(Weights::load(dir)?, arithmetic(config)),
            Self::Model => Body::Frozen(frozen(dir, config)?),
        };
        Policy::model(body, config)
    }
}

impl Policy {
    /// The model at `path`, only to be read: a checkpoint folder, an adapter's folder, a GGUF file,
    /// or the name of the embedded one. It need not be one that can be trained.
    pub fn to_read(path: &Path, config: &Config) -> Result<Self> {
        match path {
            path if path == Path::new(seed::NAME) => Self::model(Body::Frozen(embedded(config)?), config),
            path if adapter::is_adapter(path) => {
                Self::model(Body::Lora(adapted(path, config, None)?), config)
            }
            path if is_candle_model(path) => Ok(Self::CandleModel(Box::new(CandleModel::load(path)?))),
            path => Self::model(Body::Frozen(frozen(path, config)?), config),
        }
    }
}

/// Whether candle-transformers runs the model at `path`, because our own decoder doesn't.
fn is_candle_model(path: &Path) -> bool {
    match candle_models::is_gguf(path) {
        true => GgufModel::is_of_another(path),
        false => candle_models::serves(path),
    }
}

fn trains_all(config: &Config, purpose: Use) -> bool {
    purpose == Use::Train && config.train.method == TrainMethod::Full
}

/// The weights of the configured model, without an adapter.
fn base_weights(config: &Config) -> Result<Weights> {
    ensure!(
        config.model.quantize == Quantize::None,
        "model.quantize is for weights that stay as they are: set train.method = \"lora\", or model.quantize = \"none\""
    );
    match seed::is_configured(config) {
        true => seed::weights(),
        false => Weights::load(config.model.folder()),
    }
}

/// The same weights, only to be read.
fn base_frozen(config: &Config, in_memory: Option<&Frozen>) -> Result<Frozen> {
    match in_memory {
        Some(frozen) => Ok(frozen.clone()),
        None if seed::is_configured(config) => embedded(config),
        None => frozen(config.model.folder(), config),
    }
}

/// The adapter in `dir` on the configured model.
fn adapted(dir: &Path, config: &Config, in_memory: Option<&Frozen>) -> Result<Lora> {
    adapter::load(dir, base_frozen(config, in_memory)?, &config.model.path)
}

/// The embedded model, only to be read.
fn embedded(config: &Config) -> Result<Frozen> {
    computing(seed::frozen(quantization(config))?, config)
}

/// The weights at `path`, only to be read.
fn frozen(path: &Path, config: &Config) -> Result<Frozen> {
    computing(Frozen::load(path, quantization(config))?, config)
}

/// The same weights, with products in the configured arithmetic.
fn computing(frozen: Frozen, config: &Config) -> Result<Frozen> {
    frozen.computing(arithmetic(config)).context("model.matmul")
}
