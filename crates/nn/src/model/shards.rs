//! The tensors of a checkpoint: one safetensors file, several with an index, or bytes in memory.
//!
//! Opening reads only headers and refuses a checkpoint that doesn't fit the configuration. Tensors
//! are then read by rows, so that only the requested rows are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use serde::Deserialize;

use super::weights::{WEIGHTS_FILE, finite_f32};
use super::{Family, ModelConfig};

/// Names the file that holds each tensor of a checkpoint in several files.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";
/// Longest header of a safetensors file, in bytes; the limit of the format's own library.
const HEADER_MAX: u64 = 100_000_000;

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

/// An opened checkpoint, complete and in the shapes of its configuration.
pub(super) struct Checkpoint<'a> {
    sources: Vec<Source<'a>>,
    places: BTreeMap<String, Place>,
}

/// A place where tensors are stored one after another.
enum Source<'a> {
    Bytes(&'a [u8]),
    /// A file with its name, and the offset where its tensors begin.
    File(File, String, u64),
}

/// Where one tensor is stored.
struct Place {
    source: usize,
    /// Its name in the source.
    stored: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl<'a> Checkpoint<'a> {
    /// Opens a checkpoint directory.
    pub(super) fn open(config: &ModelConfig, dir: &Path) -> Result<Self> {
        let mut all = Self { sources: Vec::new(), places: BTreeMap::new() };
        for name in files(dir)? {
            let path = dir.join(&name);
            let (file, header, start) =
                open(&path).with_context(|| format!("can't load {}", path.display()))?;
            all.sources.push(Source::File(file, name, start));
            all.add(config, &header).with_context(|| format!("can't load {}", path.display()))?;
        }
        all.check(config).with_context(|| format!("the checkpoint {} is not complete", dir.display()))?;
        Ok(all)
    }

    /// Opens the bytes of a whole safetensors file.
    pub(super) fn of_bytes(config: &ModelConfig, bytes: &'a [u8]) -> Result<Self> {
        let incomplete = |error| anyhow!("not a complete safetensors file ({} bytes): {error}", bytes.len());
        let (start, header) = SafeTensors::read_metadata(bytes).map_err(incomplete)?;
        SafeTensors::deserialize(bytes).map_err(incomplete)?;
        let mut all = Self { sources: vec![Source::Bytes(&bytes[8 + start..])], places: BTreeMap::new() };
        all.add(config, &header)?;
        all.check(config)?;
        Ok(all)
    }

    /// Adds the tensors of the last source.
    fn add(&mut self, config: &ModelConfig, header: &Metadata) -> Result<()> {
        let wanted: BTreeMap<String, Vec<usize>> = config.parameters().into_iter().collect();
        let mut tensors: Vec<_> = header.tensors().into_iter().collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (stored, info) in tensors {
            let Some(name) = name(config, &stored).filter(|name| !is_value_head(name)) else { continue };
            // An output layer that is stored although embeddings are tied is compared with them.
            let is_tied_copy = name == TIED_COPY && config.tie_word_embeddings;
            let shape = match wanted.get(if is_tied_copy { config.output_name() } else { &name }) {
                Some(shape) => shape,
                None if name.ends_with(".rotary_emb.inv_freq") => continue,
                None => bail!(
                    "tensor `{stored}` is unexpected: it is not part of the model that config.json describes"
                ),
            };
            ensure!(
                &info.shape == shape,
                "tensor `{stored}` has shape {:?}; config.json asks for {shape:?}",
                info.shape
            );
            let place = Place {
                source: self.sources.len() - 1,
                stored: stored.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: info.data_offsets.0..info.data_offsets.1,
            };
            ensure!(self.places.insert(name, place).is_none(), "tensor `{stored}` is there twice");
        }
        Ok(())
    }

    /// Refuses a checkpoint that lacks a parameter, or whose output layer differs from the tied
    /// embeddings.
    fn check(&mut self, config: &ModelConfig) -> Result<()> {
        for (name, _) in config.parameters() {
            let hint = match name == config.output_name() && !config.tie_word_embeddings {
                true => {
                    "; if the output layer is the embeddings, set tie_word_embeddings to true in config.json"
                }
                false => "",
            };
            ensure!(self.places.contains_key(&name), "tensor `{name}` is missing{hint}");
        }
        if config.tie_word_embeddings && self.places.contains_key(TIED_COPY) {
            let rows = self.shape(TIED_COPY)?[0];
            for first in (0..rows).step_by(ROWS) {
                let rows = first..rows.min(first + ROWS);
                ensure!(
                    self.rows(TIED_COPY, rows.clone())? == self.rows(config.output_name(), rows)?,
                    "tensor `lm_head.weight` differs from the embeddings although config.json has \
                     tie_word_embeddings; set it to false there"
                );
            }
            self.places.remove(TIED_COPY);
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Result<&Place> {
        self.places.get(name).with_context(|| format!("tensor `{name}` is missing"))
    }

    /// Names of all parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.place(name)?.shape)
    }

    pub(super) fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.place(name)?.dtype)
    }

    /// The name of the file that holds a parameter; empty for bytes in memory.
    pub(super) fn file(&self, name: &str) -> Result<&str> {
        Ok(match &self.sources[self.place(name)?.source] {
            Source::Bytes(_) => "",
            Source::File(_, name, _) => name,
        })
    }

    /// A parameter as f32.
    ///
    /// # Errors
    /// A number is not finite, or the file can't be read.
    pub(super) fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let rows = self.shape(name)?.first().copied().unwrap_or(1);
        self.rows(name, 0..rows)
    }

    /// Rows of a parameter as f32.
    ///
    /// # Errors
    /// A number is not finite, or the file can't be read.
    pub(super) fn rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let Place { source, stored, dtype, shape, bytes } = self.place(name)?;
        let row_bytes = bytes.len() / shape.first().copied().unwrap_or(1).max(1);
        let range = bytes.start + rows.start * row_bytes..bytes.start + rows.end * row_bytes;
        let row = row_bytes * 8 / dtype.bitsize();
        match &self.sources[*source] {
            Source::Bytes(all) => finite_f32(stored, *dtype, &all[range], rows.start * row),
            Source::File(file, name, start) => {
                let mut read = vec![0; range.len()];
                let mut file = file;
                file.seek(SeekFrom::Start(start + range.start as u64))
                    .and_then(|_| file.read_exact(&mut read))
                    .with_context(|| format!("can't read tensor `{stored}` of {name}"))?;
                finite_f32(stored, *dtype, &read, rows.start * row)
            }
        }
    }
}

/// The output layer, which some checkpoints store although it is tied to the embeddings.
const TIED_COPY: &str = "lm_head.weight";
/// Number of rows that are compared at a time.
const ROWS: usize = 1024;

/// The parameter that a stored tensor holds; `None` if it isn't part of the language model.
fn name(config: &ModelConfig, stored: &str) -> Option<String> {
    if config.family != Family::Gemma3 {
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

/// Whether the tensor belongs to the value head that TRL's PPO trainer saves with a model.
fn is_value_head(name: &str) -> bool {
    name.starts_with("v_head.")
}

/// Names of the tensors in a checkpoint directory that are no part of the language model and are
/// not read: those of a value head.
///
/// # Errors
/// A file can't be opened.
pub fn value_head_tensors(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in files(dir)? {
        let path = dir.join(name);
        let (_, header, _) = open(&path).with_context(|| format!("can't load {}", path.display()))?;
        found.extend(header.tensors().into_keys().filter(|name| is_value_head(name)));
    }
    found.sort();
    Ok(found)
}

/// A safetensors file, its header, and the offset where its tensors begin.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata, u64)> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    let incomplete = |why: String| anyhow!("not a complete safetensors file ({found} bytes): {why}");
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| incomplete(error.to_string()))?;
    let bytes = u64::from_le_bytes(length);
    ensure!(bytes <= HEADER_MAX, incomplete(format!("its header claims {bytes} bytes")));
    let mut header = Vec::new();
    (&file).take(bytes).read_to_end(&mut header)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| incomplete(format!("its header is damaged: {error}")))?;
    let end = header.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
    let start = 8 + bytes;
    ensure!(found == start + end, incomplete(format!("its header describes {} bytes", start + end)));
    Ok((file, header, start))
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
        ensure!(is_plain, "{at}: weight_map names {name:?}, which is not a file in the same folder");
    }
    Ok(files)
}
