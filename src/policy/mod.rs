//! A policy: weights with an engine that samples them, or a script.
//!
//! This room finds a policy from the configuration or a folder, holds it in memory, saves it as a
//! checkpoint, exports it for other programs, and estimates the memory that a run with it needs. It
//! knows nothing about the loop, the store, rollouts or scores: a caller names a folder, and
//! compares hashes.

mod adapter;
pub mod checkpoints;
mod export;
mod find;
mod memory;
mod numerics;
mod prompts;
mod script;
mod seed;
mod trainable;

use std::path::Path;

use anyhow::{Result, bail};

pub use self::adapter::is_adapter;
pub use self::export::{ExportFormat, export};
pub use self::find::{PolicyKind, Use};
pub use self::memory::{Lengths, Shortage, advice as memory_advice, memory_needed, shortage};
pub use self::trainable::trainable;
use crate::config::Config;
use crate::domain::Generate;
use crate::engine::candle_models::CandleModel;
use crate::engine::device::DeviceEngine;
use crate::engine::native::Native;
use crate::engine::scripted::Scripted;
use crate::model::{Body, Frozen, Place};
use crate::text::Text;
use crate::train::Trainable;

/// A model with the engine that samples it.
pub struct ModelPolicy {
    pub body: Body,
    engine: Box<dyn Generate + Send>,
}

/// Something that can be sampled and, unless only candle runs it, improved.
pub enum Policy {
    Model(Box<ModelPolicy>),
    /// A model of another family or a quantised file: it can be sampled, but not trained.
    CandleModel(Box<CandleModel>),
    Scripted(Scripted),
}

impl Policy {
    /// A policy of a model, on the configured device.
    ///
    /// # Errors
    /// `run.device` is not available in this build, or the weights can't be packed for it.
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

    /// A policy of what a trainer has trained.
    pub fn trained(trainable: Trainable, config: &Config) -> Result<Self> {
        Self::model(trainable.into_body(), config)
    }

    /// Names the weights, or the script and its state: 64 hexadecimal digits.
    pub fn hash(&self) -> &str {
        match self {
            Self::Model(model) => model.engine.policy_hash(),
            Self::CandleModel(model) => model.policy_hash(),
            Self::Scripted(script) => script.policy_hash(),
        }
    }

    /// The frozen weights that it shares with the policies trained from it, if it has any.
    pub fn frozen(&self) -> Option<&Frozen> {
        match self {
            Self::Model(model) => model.body.frozen(),
            Self::Scripted(_) | Self::CandleModel(_) => None,
        }
    }

    /// What samples and reads it.
    pub fn engine(&self) -> &dyn Generate {
        match self {
            Self::Model(model) => &*model.engine,
            Self::CandleModel(model) => model.as_ref(),
            Self::Scripted(script) => script,
        }
    }

    /// Its engine without the policy: for a model that is only sampled and read.
    pub fn into_engine(self) -> Box<dyn Generate + Send> {
        match self {
            Self::Model(model) => model.engine,
            Self::CandleModel(model) => model,
            Self::Scripted(script) => Box::new(script),
        }
    }

    /// About how large its checkpoint will be, in bytes.
    pub fn bytes_estimate(&self) -> u64 {
        match self {
            Self::Model(model) => model.body.stored_count() as u64 * 4,
            Self::Scripted(_) | Self::CandleModel(_) => 4096,
        }
    }

    /// Writes the files of its checkpoint into `dir`. A trained model becomes a Hugging Face
    /// checkpoint with its tokenizer. A trained adapter is saved without the base weights, in the
    /// format of PEFT.
    ///
    /// # Errors
    /// The policy was never trained, or a file can't be written.
    pub fn save(&self, dir: &Path, config: &Config, text: &Text) -> Result<()> {
        match self {
            Self::Model(model) => match &model.body {
                Body::Lora(lora) => adapter::save(lora, config.model.name(), dir),
                Body::Full(weights, _) => {
                    weights.save(dir)?;
                    text.save(dir)
                }
                Body::Frozen(_) => bail!("a frozen policy was never trained: it has no checkpoint"),
            },
            Self::CandleModel(model) => {
                bail!("a {} model can't be trained and has no checkpoint", model.family())
            }
            Self::Scripted(script) => script::save(script, dir),
        }
    }
}
