//! A low-rank adapter's folder: how a trained adapter lies on disk, and how it comes back.
//!
//! The folder holds the adapter without the base weights, in the format of PEFT, and one more file
//! with the hash of the weights that it was trained on. The caller supplies those weights.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::model::{ADAPTER_CONFIG, Adapter, Frozen, Lora};

/// The file next to those of PEFT that holds an [`AdapterBase`].
const BASE_FILE: &str = "autodidact.json";

/// Which weights an adapter was trained on.
#[derive(Serialize, Deserialize)]
struct AdapterBase {
    /// Hash of the weights without the adapter.
    base_policy_hash: String,
    /// Hash of the policy that both make.
    policy_hash: String,
}

/// Whether the folder holds an adapter rather than weights.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).is_file()
}

/// The adapter in `dir` with its `base`, the weights of the model that is configured as
/// `model_path`.
///
/// # Errors
/// A file is missing or damaged, the shapes don't fit, or the adapter was trained on other weights.
pub(super) fn load(dir: &Path, base: Frozen, model_path: &str) -> Result<Lora> {
    let adapter = Adapter::load(dir, &base.config)?;
    let path = dir.join(BASE_FILE);
    if path.exists() {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let AdapterBase { base_policy_hash, .. } =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let found = &**base.hash();
        ensure!(
            base_policy_hash == found,
            "the adapter in {} was trained on weights that hash to {base_policy_hash:.16}; model.path = \
             {model_path:?} hashes to {found:.16}: give the model that the adapter was trained on",
            dir.display(),
        );
    }
    Ok(Lora { base, adapter })
}

/// Writes the adapter's files into `dir`; PEFT's configuration names the base model `base_name`.
pub(super) fn save(lora: &Lora, base_name: &str, dir: &Path) -> Result<()> {
    lora.adapter.save(&lora.base.config, base_name, dir)?;
    let base = AdapterBase { base_policy_hash: lora.base.hash().to_string(), policy_hash: lora.hash()? };
    let path = dir.join(BASE_FILE);
    let json = serde_json::to_string_pretty(&base)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}
