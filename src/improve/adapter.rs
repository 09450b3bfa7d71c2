//! Low-rank adapters as the loop uses them: what is trained, how a candidate lies on disk, and how it comes back.
//!
//! A candidate's folder holds the adapter alone, in the format of PEFT, with the hashes of the weights it belongs to;
//! it stands beside the configured model. Successive candidates go on with the incumbent's adapter.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::policy::{Body, ModelPolicy, frozen_base};
use crate::config::Config;
use crate::domain::{Address, Purpose};
use crate::model::{ADAPTER_CONFIG, Adapter, Frozen, Lora, LoraSettings, Place};
use crate::train::Trainable;

/// Beside the files of PEFT: which weights the adapter belongs to.
const BELONGS: &str = "autodidact.json";

#[derive(Serialize, Deserialize)]
struct Belongs {
    /// Hash of the weights without the adapter.
    base_policy_hash: String,
    /// Hash of the policy that both make.
    policy_hash: String,
}

/// Whether the folder holds an adapter rather than weights.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).is_file()
}

/// The adapter in `dir` beside the configured model.
pub(super) fn load(dir: &Path, config: &Config, beside: Option<&Frozen>) -> Result<Lora> {
    let base = frozen_base(config, beside)?;
    let adapter = Adapter::load(dir, &base.config)?;
    let path = dir.join(BELONGS);
    if path.exists() {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Belongs { base_policy_hash, .. } =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let found = &**base.hash();
        ensure!(
            base_policy_hash == found,
            "the adapter in {} was trained beside weights that hash to {base_policy_hash:.16}; model.path = {:?} hashes \
             to {found:.16}: give the model it belongs to",
            dir.display(),
            config.model.path
        );
    }
    Ok(Lora { base, adapter })
}

/// Writes the adapter's files into `dir`.
pub(super) fn save(lora: &Lora, config: &Config, dir: &Path) -> Result<()> {
    lora.adapter.save(&lora.base.config, config.model.name(), dir)?;
    let belongs = Belongs { base_policy_hash: lora.base.hash().to_string(), policy_hash: lora.hash()? };
    let path = dir.join(BELONGS);
    let json = serde_json::to_string_pretty(&belongs)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

/// What training in `iteration` changes, starting from `incumbent`: its weights, its adapter, or a new adapter.
pub fn trainable(incumbent: &ModelPolicy, config: &Config, iteration: u32) -> Result<Trainable> {
    let address = |task: &str, purpose: Purpose| Address::new(config.run.seed, purpose, iteration, task, &[]);
    let lora = match &incumbent.body {
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
