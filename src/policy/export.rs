//! Export: a policy as a Hugging Face checkpoint, as a PEFT adapter, or as a GGUF file, for other
//! programs.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{ModelPolicy, Policy, adapter, checkpoints, seed};
use crate::config::Config;
use crate::gguf;
use crate::model::{Body, GgufExport, GgufModel, GgufType, StoredLayout};
use crate::text::Text;

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Hugging Face checkpoint with its tokenizer, in the base model's types.
    Merged,
    /// An adapter in the format of PEFT.
    Peft,
    /// One file with the tokenizer, for llama.cpp and what is built on it.
    Gguf(GgufType),
}

/// Writes `policy` to the folder `out`, which must not exist or be empty, or to the file `out`,
/// which must not exist; all or nothing. A folder gets `card` as its README.md. Returns notes for the user about what was written.
///
/// # Errors
/// The policy is no model, or has no adapter where one is asked for; `out` exists; the disk is
/// full.
pub fn export(
    policy: &Policy,
    config: &Config,
    text: &Text,
    out: &Path,
    format: ExportFormat,
    card: &str,
) -> Result<Vec<String>> {
    let Policy::Model(model) = policy else { bail!("only a model can be exported") };
    match format {
        ExportFormat::Gguf(kind) => export_gguf(model, policy.hash(), text, out, kind),
        ExportFormat::Merged => {
            let body = &model.body;
            let bytes = policy.bytes_estimate().max(body.parameter_count() as u64 * 4);
            export_folder(out, bytes, card, |dir| {
                stored_layout(config)?.save(body.config(), &|name| body.elements(name), dir)?;
                text.save(dir)
            })
        }
        ExportFormat::Peft => export_folder(out, policy.bytes_estimate(), card, |dir| {
            let Body::Lora(lora) = &model.body else {
                bail!(
                    "this policy has no adapter: it is the base, or the run trained every weight; use --format merged, or \
                     run with train.method = \"lora\""
                );
            };
            adapter::save(lora, config.model.name(), dir)
        }),
    }
}

fn export_folder(
    dir: &Path,
    bytes: u64,
    card: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Vec<String>> {
    let is_free = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    ensure!(is_free, "{} already exists; give a folder that doesn't exist or is empty", dir.display());
    checkpoints::ensure_space(existing_parent(dir), bytes)?;
    checkpoints::write(dir, |dir| {
        fill(dir)?;
        std::fs::write(dir.join("README.md"), card).context("cannot write README.md")
    })?;
    Ok(Vec::new())
}

fn export_gguf(
    model: &ModelPolicy,
    hash: &str,
    text: &Text,
    file: &Path,
    kind: GgufType,
) -> Result<Vec<String>> {
    ensure!(
        gguf::is_gguf(file),
        "{} is no name for a GGUF file; give one that ends in .gguf",
        file.display()
    );
    ensure!(!file.exists(), "{} already exists; give the name of a file that doesn't exist", file.display());
    let elements = |name: &str| model.body.elements(name);
    let export = GgufExport::new(model.body.config(), &elements, kind)?;
    let vocabulary = text.gguf(model.body.config().vocab_size)?;
    checkpoints::ensure_space(existing_parent(file), export.bytes()?)?;
    let name = format!("autodidact {hash:.10}");
    checkpoints::write_file(
        file,
        |out| export.write(out, &name, vocabulary.metadata),
        // A file that can't be read back must not get the target's name.
        |written| GgufModel::open(written).map(drop),
    )?;
    Ok(export.notes().into_iter().chain(vocabulary.notes).collect())
}

/// The types and files in which the configured model stores its tensors.
fn stored_layout(config: &Config) -> Result<StoredLayout> {
    match seed::is_configured(config) {
        true => seed::stored_layout(),
        false => StoredLayout::of_dir(config.model.folder()),
    }
}

/// The nearest folder that exists.
fn existing_parent(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}
