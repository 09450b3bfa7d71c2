//! What training changes: the policy's weights, its adapter, or a new adapter.

use anyhow::{Context, Result};

use crate::config::Config;
use crate::domain::{Address, Purpose};
use crate::model::{Adapter, Body, Lora, LoraSettings, Place};
use crate::train::Trainable;

/// What training in `iteration` changes, starting from the incumbent's `body`.
///
/// # Errors
/// `lora.target_modules` names what the model doesn't have, or `run.device` is not available.
pub fn trainable(body: &Body, config: &Config, iteration: u32) -> Result<Trainable> {
    let address = |task: &str, purpose: Purpose| Address::new(config.run.seed, purpose, iteration, task, &[]);
    let lora = match body {
        Body::Full(weights, arithmetic) => return Ok(Trainable::Full(weights.clone(), *arithmetic)),
        Body::Lora(lora) => lora.clone(),
        Body::Frozen(base) => {
            let settings = LoraSettings {
                r: config.lora.r,
                lora_alpha: f64::from(config.lora.alpha),
                lora_dropout: config.lora.dropout,
                use_rslora: config.lora.rslora,
            };
            let targets = config.lora.target_modules.names();
            let address = address("lora", Purpose::Init);
            let adapter =
                Adapter::init(&base.config, settings, targets, &address).context("lora.target_modules")?;
            Lora { base: base.clone(), adapter: adapter.on(&Place::parse(&config.run.device)?)? }
        }
    };
    Ok(Trainable::Lora { lora: Box::new(lora), address: address("dropout", Purpose::Training) })
}
