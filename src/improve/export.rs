//! Taking a policy away: as a Hugging Face checkpoint of its own, or as a PEFT adapter.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::policy::{Body, ModelPolicy, SEED_CONFIG, SEED_WEIGHTS, is_embedded};
use super::{Policy, adapter, checkpoints};
use crate::config::Config;
use crate::model::StoredLayout;
use crate::text::Text;

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Hugging Face checkpoint with its tokenizer, in the base model's types.
    Merged,
    /// An adapter in the format of PEFT.
    Peft,
}

/// Writes `policy` to the folder `dir`, which must not exist or be empty, all or nothing.
pub fn export(policy: &Policy, config: &Config, text: &Text, dir: &Path, format: ExportFormat) -> Result<()> {
    let Policy::Model(model) = policy else { anyhow::bail!("only a model can be exported") };
    let is_free = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    ensure!(is_free, "{} is there already; give a folder that doesn't exist or is empty", dir.display());
    checkpoints::ensure_space(existing_parent(dir), policy.bytes_estimate().max(bytes(model, format)))?;
    checkpoints::write(dir, |dir| match format {
        ExportFormat::Merged => {
            let body = &model.body;
            stored_layout(config)?.save(body.config(), &|name| body.elements(name), dir)?;
            text.save(dir)
        }
        ExportFormat::Peft => {
            let Body::Lora(lora) = &model.body else {
                bail!(
                    "this policy has no adapter: it is the base, or the run trained every weight; use --format merged, or \
                 run with train.method = \"lora\""
                );
            };
            adapter::save(lora, config, dir)
        }
    })?;
    Ok(())
}

fn bytes(model: &ModelPolicy, format: ExportFormat) -> u64 {
    match format {
        ExportFormat::Merged => model.body.parameter_count() as u64 * 4,
        ExportFormat::Peft => 0,
    }
}

/// The types and files in which the configured model stores its tensors.
fn stored_layout(config: &Config) -> Result<StoredLayout> {
    if is_embedded(config) {
        StoredLayout::of_bytes(SEED_CONFIG, SEED_WEIGHTS)
    } else {
        StoredLayout::of_dir(config.model.folder())
    }
}

/// The nearest folder that exists.
fn existing_parent(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}
