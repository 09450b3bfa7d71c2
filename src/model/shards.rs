//! The tensors of a checkpoint directory: one safetensors file, or several with an index.
//!
//! Files are read one after another, so that no more than one is in memory beside the weights made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::Var;
use safetensors::tensor::SafeTensors;
use serde::Deserialize;

use super::weights::{WEIGHTS_FILE, finite_f32, var};
use super::{Family, ModelConfig};

/// Names the file that holds each tensor of a checkpoint in several files.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Where a multimodal checkpoint keeps its language model.
const LANGUAGE_PREFIXES: [(&str, &str); 3] = [
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head.", "lm_head."),
];

/// The configured parameters as they come in, file by file.
pub(super) struct Reader<'a> {
    config: &'a ModelConfig,
    wanted: BTreeMap<String, Vec<usize>>,
    tensors: BTreeMap<String, Var>,
    /// The output layer beside tied embeddings, to be compared with them.
    tied_copy: Option<Vec<f32>>,
}

impl<'a> Reader<'a> {
    pub fn new(config: &'a ModelConfig) -> Self {
        let wanted = config.parameters().into_iter().collect();
        Self { config, wanted, tensors: BTreeMap::new(), tied_copy: None }
    }

    /// Reads every file of the directory.
    pub fn read_dir(&mut self, dir: &Path) -> Result<()> {
        for name in files(dir)? {
            let path = dir.join(&name);
            let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            self.read_bytes(&bytes).with_context(|| format!("can't load {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes the tensors of a whole safetensors file.
    pub fn read_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| anyhow!("not a complete safetensors file ({} bytes): {error}", bytes.len()))?;
        for (stored, view) in file.iter() {
            let Some(name) = self.name(stored) else { continue };
            let Some(shape) = self.wanted.get(&name) else {
                if name == "lm_head.weight" && self.config.tie_word_embeddings {
                    self.tied_copy = Some(finite_f32(stored, &view)?);
                } else if !name.ends_with(".rotary_emb.inv_freq") {
                    bail!(
                        "tensor `{stored}` is unexpected: it is not part of the model that config.json describes"
                    );
                }
                continue;
            };
            ensure!(
                view.shape() == shape.as_slice(),
                "tensor `{stored}` has shape {:?}; config.json asks for {shape:?}",
                view.shape()
            );
            let tensor = var(finite_f32(stored, &view)?, shape)?;
            ensure!(self.tensors.insert(name, tensor).is_none(), "tensor `{stored}` is there twice");
        }
        Ok(())
    }

    /// The parameter a stored tensor is; `None` for one of a part that isn't the language model.
    pub fn name(&self, stored: &str) -> Option<String> {
        if self.config.family != Family::Gemma3 {
            return Some(stored.to_owned());
        }
        if stored.contains("vision_tower.") || stored.contains("multi_modal_projector.") {
            return None;
        }
        let renamed = LANGUAGE_PREFIXES.iter().find_map(|(from, to)| {
            let rest = stored.strip_prefix(from)?;
            Some(format!("{to}{rest}"))
        });
        Some(renamed.unwrap_or_else(|| stored.to_owned()))
    }

    /// All parameters, if they are all there.
    pub fn finish(self) -> Result<BTreeMap<String, Var>> {
        if let Some(name) = self.wanted.keys().find(|name| !self.tensors.contains_key(*name)) {
            let hint = match name == self.config.output_name() && !self.config.tie_word_embeddings {
                true => {
                    "; if the output layer is the embeddings, set tie_word_embeddings to true in config.json"
                }
                false => "",
            };
            bail!("tensor `{name}` is missing{hint}");
        }
        if let (Some(copy), Some(embedding)) = (self.tied_copy, self.tensors.get(self.config.output_name())) {
            ensure!(
                copy == embedding.flatten_all()?.to_vec1::<f32>()?,
                "tensor `lm_head.weight` differs from the embeddings although config.json says \
                 tie_word_embeddings; set it to false there"
            );
        }
        Ok(self.tensors)
    }
}

/// The files that hold the tensors of a checkpoint directory.
pub fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let index = dir.join(INDEX_FILE);
    match index.exists() && !dir.join(WEIGHTS_FILE).exists() {
        true => shards(&index),
        false => Ok(BTreeSet::from([WEIGHTS_FILE.to_owned()])),
    }
}

/// The files that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let at = index.display();
    let text = std::fs::read_to_string(index).with_context(|| format!("can't read {at}"))?;
    let Index { weight_map } =
        serde_json::from_str(&text).with_context(|| format!("{at} is not an index"))?;
    ensure!(!weight_map.is_empty(), "{at}: weight_map names no tensor");
    let files: BTreeSet<String> = weight_map.into_values().collect();
    for name in &files {
        let is_plain = !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref());
        ensure!(is_plain, "{at}: weight_map names {name:?}, which is not a file beside it");
    }
    Ok(files)
}
