//! A policy's weights in a GGUF file: read under Hugging Face names, and written for llama.cpp.
//!
//! [`GgufModel`] makes a [`ModelConfig`] from a file's metadata and finds each parameter's place:
//! its name, the order of its rows, and its index in a stack of experts. Numbers are those of the
//! checkpoint from which the file was converted, in the file's precision. [`GgufExport`] writes
//! files, for the architectures that llama.cpp computes exactly as we do.
//!
//! It knows nothing about the vocabulary, which `text` reads from the same file.

mod arch;
mod blocks;
mod config;
mod export;
mod names;
mod rope;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

pub use arch::Arch;
pub(super) use blocks::ggml;
pub use export::{GgufExport, GgufType};

use super::weights::var;
use super::{ModelConfig, Weights};
use crate::gguf::{Dtype, File};

/// A GGUF file that has every tensor of the model that its metadata describes.
pub struct GgufModel {
    file: File,
    arch: Arch,
    config: ModelConfig,
}

/// A parameter as it is stored, but with its rows in Hugging Face's order.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor {
    pub dtype: Dtype,
    /// As in [`ModelConfig::parameters`]; rows consist of whole blocks of `dtype`.
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
    /// Whether 1 must be subtracted from every number: Gemma's norms are stored with 1 added.
    pub plus_one: bool,
}

impl GgufModel {
    /// Reads the header. Checks that every parameter is there in its shape, and no other tensor.
    /// Reads no tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("can't use the GGUF file {}", path.display());
        let file = File::open(path)?;
        let (arch, config) = config::read(&file).with_context(context)?;
        let model = Self { file, arch, config };
        model.check().with_context(context)?;
        Ok(model)
    }

    /// Whether the header can be read, but our decoder doesn't compute the architecture.
    pub fn is_of_another(path: &Path) -> bool {
        let named = |file: &File| Some(file.metadata().text("general.architecture").ok()??.to_owned());
        let name = File::open(path).ok().as_ref().and_then(named);
        name.is_some_and(|name| Arch::from_name(&name).is_err())
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// llama.cpp's architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    fn check(&self) -> Result<()> {
        let mut used = BTreeSet::from([rope::FREQUENCIES.to_owned()]);
        for (parameter, shape) in self.config.parameters() {
            let place = names::place(&self.config, self.arch, &parameter)?;
            let info = self.file.tensor(&place.tensor)?;
            let own = match (place.expert, info.shape.split_first()) {
                (Some(expert), Some((&experts, own))) if expert < experts => own,
                (Some(_), _) => {
                    bail!("tensor `{}` has shape {:?}, too few experts", place.tensor, info.shape)
                }
                (None, _) => &info.shape,
            };
            ensure!(
                own == shape,
                "tensor `{}` has shape {own:?}; the metadata asks for {shape:?}",
                place.tensor
            );
            info.row_bytes(&place.tensor)?;
            used.insert(place.tensor);
        }
        // Left by old converters, or read apart from the configuration.
        let is_known = |name: &str| {
            name.ends_with(".attn_sinks.weight")
                || name.ends_with(".attn_rot_embd")
                || name.ends_with(".rope_freqs.weight")
        };
        match self.file.tensors().keys().find(|name| !used.contains(*name) && !is_known(name)) {
            Some(name) => bail!(
                "tensor `{name}` is unexpected: it is not part of the model that the metadata describes"
            ),
            None => Ok(()),
        }
    }

    /// A parameter's bytes, quantised as in the file.
    pub fn raw(&self, parameter: &str) -> Result<RawTensor> {
        let place = names::place(&self.config, self.arch, parameter)?;
        let info = self.file.tensor(&place.tensor)?;
        let row_bytes = info.row_bytes(&place.tensor)?;
        let (shape, rows) = match place.expert {
            None => (info.shape.clone(), 0..info.rows()),
            Some(expert) => {
                let own: Vec<usize> = info.shape[1..].to_vec();
                let rows = own.iter().rev().skip(1).product::<usize>();
                (own, expert * rows..(expert + 1) * rows)
            }
        };
        let mut bytes = self.file.read_rows(&place.tensor, rows)?;
        if place.permuted_heads.is_some() {
            // A bias is one row, whose elements are the rows of the matrix.
            let unit = if shape.len() == 1 { row_bytes / info.columns().max(1) } else { row_bytes };
            bytes = names::unpermute(&bytes, unit, self.config.head_dim);
        }
        Ok(RawTensor { dtype: info.dtype, shape, bytes, plus_one: place.plus_one })
    }

    /// The type in which the file stores a parameter.
    pub fn dtype(&self, parameter: &str) -> Result<Dtype> {
        let place = names::place(&self.config, self.arch, parameter)?;
        Ok(self.file.tensor(&place.tensor)?.dtype)
    }

    /// A parameter's numbers, which must all be finite.
    pub fn f32(&self, parameter: &str) -> Result<Vec<f32>> {
        let raw = self.raw(parameter)?;
        let mut numbers = blocks::to_f32(raw.dtype, &raw.bytes)
            .with_context(|| format!("parameter `{parameter}` can't be read"))?;
        if raw.plus_one {
            numbers.iter_mut().for_each(|x| *x -= 1.0);
        }
        if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
            bail!("parameter `{parameter}` holds {} at element {at}; the file is damaged", numbers[at]);
        }
        Ok(numbers)
    }

    /// All parameters, widened to f32.
    pub fn weights(self) -> Result<Weights> {
        let context = || format!("can't load {}", self.file.path().display());
        let read = |(name, shape): (String, Vec<usize>)| {
            let tensor = var(self.f32(&name)?, &shape)?;
            Ok((name, tensor))
        };
        let tensors =
            self.config.parameters().into_iter().map(read).collect::<Result<_>>().with_context(context)?;
        Weights::from_tensors(Arc::new(self.config), tensors)
    }
}
