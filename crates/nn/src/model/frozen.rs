//! Weights that are only read, in the precision they were stored in. They are packed once;
//! rollouts, the training of adapters and all policies with these weights share them.
//!
//! A bf16 checkpoint takes two bytes per parameter, where [`Weights`] take four; a quantised one
//! takes less. Products equal those of the same numbers in f32, bit for bit. Matrices may be
//! quantised to ggml's formats while they are loaded; norms, biases and routers never are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;

use super::Place;
use super::rope::RopeTables;
use super::shards::Checkpoint;
use super::weights::{PolicyHasher, elements, read_config, var};
use super::{GgufModel, ModelConfig, Weights, gguf};
use crate::ops::kernels::{Arithmetic, PackedWeight, Precision, RopeTable};
use crate::ops::{FrozenMatrix, composed};
use crate::profile::{self, Operator};

/// Number of rows that are quantised at a time.
const QUANTISED_ROWS: usize = 256;

/// Formats to which matrices can be quantised while they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Eight bits, and a scale for 32 of them.
    Q8_0,
    /// Four bits, with scales and minimums of six bits; rows whose length is no multiple of 256
    /// become Q8_0.
    Q4K,
}

impl Quantization {
    /// The format for rows of `inp` elements, if there is one.
    fn dtype(self, inp: usize) -> Option<crate::gguf::Dtype> {
        match self {
            Self::Q4K if inp.is_multiple_of(256) => Some(crate::gguf::Dtype::Q4K),
            _ if inp.is_multiple_of(32) => Some(crate::gguf::Dtype::Q8_0),
            _ => None,
        }
    }
}

/// All parameters of a decoder, only to be read. `clone` shares them.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub config: Arc<ModelConfig>,
    /// Keyed by Hugging Face names, (out, in).
    matrices: BTreeMap<String, FrozenMatrix>,
    /// Norms and biases.
    vectors: BTreeMap<String, Tensor>,
    hash: Arc<str>,
    rope: RopeTables,
    arithmetic: Arithmetic,
}

impl Frozen {
    /// A copy of weights as they are now, in f32.
    pub fn of(weights: &Weights) -> Result<Self> {
        let mut all = Parts::default();
        for (name, tensor) in &weights.tensors {
            let values = elements(tensor)?;
            match *tensor.dims() {
                [out, inp] => all.matrix(name, PackedWeight::new(&values, out, inp)),
                _ => all.vector(name, values)?,
            }
        }
        all.finish(weights.config.clone(), weights.hash())
    }

    /// Reads a checkpoint directory or a GGUF file.
    pub fn load(dir: &Path, quantization: Option<Quantization>) -> Result<Self> {
        if crate::gguf::is_gguf(dir) && !dir.is_dir() {
            return Self::read_gguf(&GgufModel::open(dir)?, quantization)
                .with_context(|| format!("can't load {}", dir.display()));
        }
        let config = read_config(dir)?;
        let checkpoint = Checkpoint::open(&config, dir)?;
        Self::read(config, &checkpoint, quantization).with_context(|| format!("can't load {}", dir.display()))
    }

    /// Reads the text of a `config.json` and the bytes of a `model.safetensors`.
    pub fn from_bytes(config_json: &str, bytes: &[u8], quantization: Option<Quantization>) -> Result<Self> {
        let config = ModelConfig::parse(config_json)?;
        let checkpoint = Checkpoint::of_bytes(&config, bytes)?;
        Self::read(config, &checkpoint, quantization)
    }

    fn read(
        config: ModelConfig,
        checkpoint: &Checkpoint,
        quantization: Option<Quantization>,
    ) -> Result<Self> {
        let _span = profile::span(Operator::Checkpoint);
        config.validate()?;
        let mut all = Parts::default();
        for name in checkpoint.names() {
            let &[out, inp] = checkpoint.shape(name)? else {
                all.vector(name, checkpoint.tensor(name)?)?;
                continue;
            };
            let rows = |range: Range<usize>| checkpoint.rows(name, range);
            let quantised = quantization.filter(|_| !is_router(name)).and_then(|q| q.dtype(inp));
            all.matrix(
                name,
                match quantised {
                    Some(dtype) => quantise(dtype, out, inp, rows)?,
                    None => PackedWeight::from_rows(precision(checkpoint.dtype(name)?), out, inp, rows)?,
                },
            );
        }
        let hash = all.hash(&config)?;
        all.finish(Arc::new(config), hash)
    }

    /// Matrices that are quantised in the file stay as they are: rounding again would only lose
    /// precision.
    fn read_gguf(model: &GgufModel, quantization: Option<Quantization>) -> Result<Self> {
        let config = model.config();
        let mut all = Parts::default();
        for (name, shape) in config.parameters() {
            let &[out, inp] = shape.as_slice() else {
                all.vector(&name, model.f32(&name)?)?;
                continue;
            };
            let raw = model.raw(&name)?;
            let matrix = match gguf::ggml(raw.dtype) {
                Some(_) => PackedWeight::from_ggml(raw.dtype, &raw.bytes, out, inp),
                None => {
                    let precision = match raw.dtype {
                        crate::gguf::Dtype::F16 => Precision::F16,
                        crate::gguf::Dtype::Bf16 => Precision::Bf16,
                        _ => Precision::F32,
                    };
                    let w = model.f32(&name)?;
                    let rows = |range: Range<usize>| Ok(w[range.start * inp..range.end * inp].to_vec());
                    match quantization.filter(|_| !is_router(&name)).and_then(|q| q.dtype(inp)) {
                        Some(dtype) => quantise(dtype, out, inp, rows),
                        None => PackedWeight::from_rows(precision, out, inp, rows),
                    }
                }
            };
            all.matrix(&name, matrix.with_context(|| format!("parameter `{name}` can't be read"))?);
        }
        let hash = all.hash(config)?;
        all.finish(Arc::new(config.clone()), hash)
    }

    /// blake3, in hex, of the numbers; equal to the hash of [`Weights`] with the same numbers.
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// The matrix called `name`, (out, in).
    pub fn matrix(&self, name: &str) -> Result<&FrozenMatrix> {
        self.matrices.get(name).with_context(|| format!("the model has no matrix `{name}`"))
    }

    /// The norm's weight or bias called `name`.
    pub fn vector(&self, name: &str) -> Result<&Tensor> {
        self.vectors.get(name).with_context(|| format!("the model has no vector `{name}`"))
    }

    /// Whether there is a norm's weight or bias of that name.
    pub fn has_vector(&self, name: &str) -> bool {
        self.vectors.contains_key(name)
    }

    /// The matrix called `name`, for the CPU's kernels.
    pub fn packed(&self, name: &str) -> Result<&Arc<PackedWeight>> {
        match self.matrix(name)? {
            FrozenMatrix::Packed(matrix) => Ok(matrix),
            FrozenMatrix::Elsewhere(_) => bail!("matrix `{name}` is not on the CPU"),
        }
    }

    /// A copy for another device. Numbers keep their types.
    pub fn on(self, place: &Place) -> Result<Self> {
        if place.is_kernels() {
            return Ok(self);
        }
        let moved = |(name, matrix): (String, FrozenMatrix)| {
            let FrozenMatrix::Packed(packed) = matrix else { return Ok((name, matrix)) };
            let dtype = match packed.precision() {
                Some(Precision::F32) => DType::F32,
                Some(Precision::Bf16) => DType::BF16,
                Some(Precision::F16) => DType::F16,
                None => bail!("quantised weights run only on the CPU: set model.quantize = \"none\""),
            };
            let w = Tensor::from_vec(packed.to_rows(), (packed.out(), packed.inp()), &Device::Cpu)?;
            Ok((name, FrozenMatrix::Elsewhere(w.to_dtype(dtype)?.to_device(place.device())?)))
        };
        let vector = |(name, v): (String, Tensor)| Ok((name, v.to_device(place.device())?));
        Ok(Self {
            matrices: self.matrices.into_iter().map(moved).collect::<Result<_>>()?,
            vectors: self.vectors.into_iter().map(vector).collect::<Result<_>>()?,
            ..self
        })
    }

    /// The same weights, with products in `arithmetic`. Routers keep f32, because the last bit may
    /// decide which expert is chosen.
    pub fn computing(mut self, arithmetic: Arithmetic) -> Result<Self> {
        for (name, matrix) in &mut self.matrices {
            if let FrozenMatrix::Packed(packed) = matrix
                && !is_router(name)
            {
                let own =
                    Arc::unwrap_or_clone(std::mem::replace(packed, Arc::new(PackedWeight::new(&[], 0, 0))));
                *packed = Arc::new(own.computing(arithmetic)?);
            }
        }
        Ok(Self { arithmetic, ..self })
    }

    /// The arithmetic of matrix products.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The embeddings of tokens, (N, hidden).
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let table = self.matrix("model.embed_tokens.weight")?;
        let (vocab, d) = table.shape();
        let unknown = ids.iter().find(|&&id| id as usize >= vocab);
        ensure!(unknown.is_none(), "token id {} of a vocabulary of {vocab}", unknown.unwrap_or(&0));
        let table = match table {
            FrozenMatrix::Packed(table) => table,
            FrozenMatrix::Elsewhere(table) => {
                return Ok(composed::embedding(table, ids)?.to_dtype(DType::F32)?);
            }
        };
        let mut x = vec![0.0; ids.len() * d];
        for (&id, row) in ids.iter().zip(x.chunks_exact_mut(d)) {
            table.row(id as usize, row);
        }
        Ok(Tensor::from_vec(x, (ids.len(), d), &Device::Cpu)?)
    }

    /// The rotary table of layer `index`, if it has rotary positions.
    pub fn rope(&self, index: usize) -> Option<Arc<RopeTable>> {
        self.rope.of(&self.config, index)
    }

    /// Number of elements of all parameters.
    pub fn parameter_count(&self) -> usize {
        self.config.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let vectors = self.vectors.values().map(|v| 4 * v.elem_count());
        self.matrices.values().map(|m| m.bytes()).chain(vectors).sum()
    }

    /// The same numbers, to be trained.
    pub fn thaw(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in self.config.parameters() {
            tensors.insert(name.clone(), var(self.elements(&name)?, &shape)?);
        }
        Weights::from_tensors(self.config.clone(), tensors)
    }

    /// A parameter's elements, row-major.
    pub fn elements(&self, name: &str) -> Result<Vec<f32>> {
        match self.matrices.get(name) {
            Some(matrix) => matrix.to_rows(),
            None => elements(self.vector(name)?),
        }
    }
}

/// Whether a matrix is a mixture's router.
pub(super) fn is_router(name: &str) -> bool {
    name.ends_with("mlp.gate.weight")
}

fn precision(dtype: Dtype) -> Precision {
    match dtype {
        Dtype::BF16 => Precision::Bf16,
        Dtype::F16 => Precision::F16,
        _ => Precision::F32,
    }
}

/// Quantises a matrix to a format of ggml, with candle's quantisation.
fn quantise(
    dtype: crate::gguf::Dtype,
    out: usize,
    inp: usize,
    rows: impl Fn(Range<usize>) -> Result<Vec<f32>>,
) -> Result<PackedWeight> {
    let ggml = gguf::ggml(dtype).with_context(|| format!("{} has no blocks", dtype.name()))?;
    let mut bytes = Vec::with_capacity(out * inp / ggml.block_size() * ggml.type_size());
    for first in (0..out).step_by(QUANTISED_ROWS) {
        let range = first..out.min(first + QUANTISED_ROWS);
        let part = Tensor::from_vec(rows(range.clone())?, (range.len(), inp), &Device::Cpu)?;
        bytes.extend_from_slice(&QTensor::quantize(&part, ggml)?.data()?);
    }
    PackedWeight::from_ggml(dtype, &bytes, out, inp)
}

/// Parameters while they are loaded.
#[derive(Default)]
struct Parts {
    matrices: BTreeMap<String, Arc<PackedWeight>>,
    vectors: BTreeMap<String, Tensor>,
}

impl Parts {
    fn matrix(&mut self, name: &str, matrix: PackedWeight) {
        self.matrices.insert(name.to_owned(), Arc::new(matrix));
    }

    fn vector(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        let count = values.len();
        self.vectors.insert(name.to_owned(), Tensor::from_vec(values, count, &Device::Cpu)?);
        Ok(())
    }

    fn hash(&self, config: &ModelConfig) -> Result<String> {
        let mut hasher = PolicyHasher::new(config);
        let names: std::collections::BTreeSet<_> = self.matrices.keys().chain(self.vectors.keys()).collect();
        for name in names {
            match self.matrices.get(name) {
                Some(matrix) => {
                    hasher.tensor(name, &[matrix.out(), matrix.inp()]);
                    let mut row = vec![0.0; matrix.inp()];
                    for index in 0..matrix.out() {
                        matrix.row(index, &mut row);
                        hasher.elements(&row);
                    }
                }
                None => {
                    let values = elements(&self.vectors[name])?;
                    hasher.tensor(name, &[values.len()]);
                    hasher.elements(&values);
                }
            }
        }
        Ok(hasher.finish())
    }

    fn finish(self, config: Arc<ModelConfig>, hash: String) -> Result<Frozen> {
        let matrices = self.matrices.into_iter().map(|(name, matrix)| (name, FrozenMatrix::Packed(matrix)));
        let (matrices, vectors) = (matrices.collect(), self.vectors);
        let (rope, arithmetic) = (RopeTables::default(), Arithmetic::F32);
        Ok(Frozen { config, matrices, vectors, hash: hash.into(), rope, arithmetic })
    }
}
