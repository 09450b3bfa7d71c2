//! A policy's weights: trainable tensors under the checkpoint's own names, read, checked, hashed
//! and written.
//!
//! A checkpoint, in one file or several, is read whole or refused. Every parameter of the
//! configuration must be there in its shape, no other tensor may be, and every number must be
//! finite. All arithmetic is f32; bf16 and f16 are widened exactly. It knows nothing about how a
//! checkpoint becomes durable: the caller writes into a temporary directory, syncs and renames.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor, Var};
use safetensors::tensor::Dtype;

use super::rope::RopeTables;
use super::shards::Checkpoint;
use super::write::{Lazy, PYTORCH, write_tensors};
use super::{GgufModel, ModelConfig, Place};
use crate::ops::kernels::RopeTable;
use crate::profile::{self, Operator};

/// The file that holds the tensors within a checkpoint directory.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The file that holds the configuration within a checkpoint directory.
pub const CONFIG_FILE: &str = "config.json";

/// All parameters of a decoder, as f32.
#[derive(Clone, Debug)]
pub struct Weights {
    pub config: Arc<ModelConfig>,
    /// Keyed by Hugging Face names. `clone` shares them; [`Weights::deep_copy`] doesn't.
    pub tensors: BTreeMap<String, Var>,
    rope: RopeTables,
}

impl Weights {
    /// Takes tensors that are already f32 on the CPU; names and shapes must be exactly the
    /// configuration's.
    pub fn from_tensors(config: Arc<ModelConfig>, tensors: BTreeMap<String, Var>) -> Result<Self> {
        config.validate()?;
        let mut wanted = config.parameters();
        for (name, shape) in &wanted {
            let var = tensors.get(name).with_context(|| format!("tensor `{name}` is missing"))?;
            ensure!(
                var.dims() == shape.as_slice(),
                "tensor `{name}` has shape {:?}; the configuration needs {shape:?}",
                var.dims()
            );
            ensure!(
                var.dtype() == candle_core::DType::F32,
                "tensor `{name}` is {:?}; weights are held as F32",
                var.dtype()
            );
        }
        if tensors.len() > wanted.len() {
            wanted.sort();
            let known = |name: &String| wanted.binary_search_by(|(n, _)| n.cmp(name)).is_ok();
            if let Some(name) = tensors.keys().find(|name| !known(name)) {
                bail!("tensor `{name}` is not part of the configured model");
            }
        }
        Ok(Self { config, tensors, rope: RopeTables::default() })
    }

    /// Reads a checkpoint directory (`config.json`, and `model.safetensors` or the files that
    /// `model.safetensors.index.json` names) or a GGUF file, whose tensors are widened.
    pub fn load(dir: &Path) -> Result<Self> {
        if crate::gguf::is_gguf(dir) && !dir.is_dir() {
            return GgufModel::open(dir)?.weights();
        }
        let config = read_config(dir)?;
        let checkpoint = Checkpoint::open(&config, dir)?;
        Self::read(config, &checkpoint).with_context(|| format!("can't load {}", dir.display()))
    }

    /// Reads the text of a `config.json` and the bytes of a `model.safetensors`.
    pub fn from_bytes(config_json: &str, bytes: &[u8]) -> Result<Self> {
        let config = ModelConfig::parse(config_json)?;
        let checkpoint = Checkpoint::of_bytes(&config, bytes)?;
        Self::read(config, &checkpoint)
    }

    fn read(config: ModelConfig, checkpoint: &Checkpoint) -> Result<Self> {
        let _span = profile::span(Operator::Checkpoint);
        let read =
            |name: &str| Ok((name.to_owned(), var(checkpoint.tensor(name)?, checkpoint.shape(name)?)?));
        let tensors = checkpoint.names().map(read).collect::<Result<_>>()?;
        Self::from_tensors(Arc::new(config), tensors)
    }

    /// Writes `model.safetensors` and `config.json` into `dir`, which must exist. The same weights
    /// are always written as the same bytes.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let tensors = self.tensors.iter().map(|(name, var)| lazy(name.clone(), var));
        write_tensors(&dir.join(WEIGHTS_FILE), PYTORCH, tensors)?;
        save_config(&self.config, dir)
    }

    /// The bytes of a `model.safetensors`.
    #[cfg(test)]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        self.save(dir.path()).unwrap();
        std::fs::read(dir.path().join(WEIGHTS_FILE)).unwrap()
    }

    /// blake3, in hex, over the configuration and every tensor's name, shape and little-endian
    /// bytes.
    pub fn hash(&self) -> String {
        let _span = profile::span(Operator::Checkpoint);
        let mut hasher = PolicyHasher::new(&self.config);
        for (name, var) in &self.tensors {
            hasher.tensor(name, var.dims());
            hasher.elements(&elements(var).expect("weights are f32 on the CPU"));
        }
        hasher.finish()
    }

    /// A copy on another device.
    pub fn on(&self, place: &Place) -> Result<Self> {
        let moved = |(name, var): (&String, &Var)| Ok((name.clone(), place.var(var)?));
        let tensors = self.tensors.iter().map(moved).collect::<Result<_>>()?;
        Ok(Self { config: self.config.clone(), tensors, rope: self.rope.clone() })
    }

    /// A copy that shares no storage with this one.
    pub fn deep_copy(&self) -> Result<Self> {
        let copy =
            |(name, var): (&String, &Var)| Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor())?));
        let tensors = self.tensors.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { config: self.config.clone(), tensors, rope: self.rope.clone() })
    }

    /// The parameter called `name`, which the configuration guarantees to be there.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let var = self.tensors.get(name).with_context(|| format!("the model has no tensor `{name}`"))?;
        Ok(var.as_tensor())
    }

    /// Number of elements of all parameters.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(|var| var.elem_count()).sum()
    }

    /// The rotary table of layer `index`, if it has rotary positions. It is made at first use and
    /// shared by copies.
    pub fn rope(&self, index: usize) -> Option<Arc<RopeTable>> {
        self.rope.of(&self.config, index)
    }
}

/// blake3 over the configuration and every tensor's name, shape and little-endian f32 bytes. It
/// names a policy, whatever type its numbers have in memory.
pub(super) struct PolicyHasher(blake3::Hasher);

impl PolicyHasher {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let mut hasher = Self(blake3::Hasher::new_derive_key("autodidact 2026 policy v1"));
        hasher.field(config.to_json().as_bytes());
        hasher
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The next tensor, in order of name, whose elements follow.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) {
        self.field(name.as_bytes());
        for &size in shape {
            self.field(&(size as u64).to_le_bytes());
        }
        self.0.update(&(4 * shape.iter().product::<usize>() as u64).to_le_bytes());
    }

    /// Its next elements.
    pub(super) fn elements(&mut self, elements: &[f32]) {
        self.0.update(&le_bytes(elements));
    }

    /// In hex.
    pub(super) fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// A tensor's elements in row-major order.
pub(super) fn elements(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// A tensor's elements in row-major order, as a safetensors file holds them.
pub(super) fn little_endian(var: &Var) -> Result<Vec<u8>> {
    Ok(le_bytes(&elements(var)?))
}

/// A tensor of f32 to be written under this name.
pub(crate) fn lazy(name: String, var: &Var) -> Lazy<'_> {
    let bytes = Box::new(|| little_endian(var));
    Lazy { name, dtype: Dtype::F32, shape: var.dims().to_vec(), bytes }
}

pub(crate) fn le_bytes(elements: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * elements.len()];
    bytes.as_chunks_mut().0.iter_mut().zip(elements).for_each(|(bytes, x)| *bytes = x.to_le_bytes());
    bytes
}

/// Writes `config.json` into `dir`.
pub(super) fn save_config(config: &ModelConfig, dir: &Path) -> Result<()> {
    let path = dir.join(CONFIG_FILE);
    let json = config.to_json();
    let again = ModelConfig::parse(&json).context("the configuration can't be written")?;
    ensure!(
        again == *config,
        "the configuration of this {} model has flags that its config.json can't express",
        config.family.model_type()
    );
    std::fs::write(&path, json).with_context(|| format!("can't write {}", path.display()))
}

/// The configuration of a checkpoint directory.
pub(super) fn read_config(dir: &Path) -> Result<ModelConfig> {
    let path = dir.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    ModelConfig::parse(&text).with_context(|| format!("can't use {}", path.display()))
}

/// A trainable f32 tensor on the CPU.
pub(super) fn var(data: Vec<f32>, shape: &[usize]) -> Result<Var> {
    Ok(Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu)?)?)
}

/// Widens the bytes of a tensor's elements, which begin at element `first`, to f32. Refuses NaN and
/// infinities.
pub(super) fn finite_f32(name: &str, dtype: Dtype, bytes: &[u8], first: usize) -> Result<Vec<f32>> {
    let data: Vec<f32> = match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
        other => bail!("tensor `{name}` is {other:?}; supported: F32, BF16, F16"),
    };
    if let Some(at) = data.iter().position(|x| !x.is_finite()) {
        bail!("tensor `{name}` holds {} at element {}; the checkpoint is damaged", data[at], first + at);
    }
    Ok(data)
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
