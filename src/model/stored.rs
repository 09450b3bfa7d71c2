//! Weights written in the types a checkpoint had: bf16 and f16 are rounded to nearest, ties to even.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde_json::{Value, json};

use super::shards::{self, Reader};
use super::weights::little_endian;
use super::{CONFIG_FILE, GgufModel, ModelConfig, WEIGHTS_FILE, Weights};

/// Longest header of a safetensors file, in bytes, as the format's own library has it.
const HEADER_MAX: u64 = 100_000_000;

/// In which type a checkpoint stores each parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTypes {
    by_name: BTreeMap<String, Dtype>,
}

impl StoredTypes {
    /// Of a checkpoint directory or a GGUF file; reads no tensor.
    pub fn of_dir(dir: &Path) -> Result<Self> {
        if crate::gguf::is_gguf(dir) && !dir.is_dir() {
            return Self::of_gguf(&GgufModel::open(dir)?);
        }
        let path = dir.join(CONFIG_FILE);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let config = ModelConfig::parse(&text).with_context(|| format!("can't use {}", path.display()))?;
        let mut types = Self { by_name: BTreeMap::new() };
        for name in shards::files(dir)? {
            let path = dir.join(&name);
            let header = header(&path).with_context(|| format!("can't read {}", path.display()))?;
            types.add(&config, &header);
        }
        Ok(types)
    }

    /// Of the text of a `config.json` and the bytes of a `model.safetensors`.
    pub fn of_bytes(config_json: &str, bytes: &[u8]) -> Result<Self> {
        let mut types = Self { by_name: BTreeMap::new() };
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        types.add(&ModelConfig::parse(config_json)?, &header);
        Ok(types)
    }

    /// What is quantized becomes F32, which holds its numbers exactly.
    fn of_gguf(model: &GgufModel) -> Result<Self> {
        let kind = |(name, _): (String, _)| {
            let dtype = match model.dtype(&name)? {
                crate::gguf::Dtype::F16 => Dtype::F16,
                crate::gguf::Dtype::Bf16 => Dtype::BF16,
                _ => Dtype::F32,
            };
            Ok((name, dtype))
        };
        Ok(Self { by_name: model.config().parameters().into_iter().map(kind).collect::<Result<_>>()? })
    }

    fn add(&mut self, config: &ModelConfig, header: &Metadata) {
        let reader = Reader::new(config);
        for (stored, info) in header.tensors() {
            if let Some(name) = reader.name(&stored) {
                self.by_name.insert(name, info.dtype);
            }
        }
    }

    /// F32 for one that isn't stored.
    fn of(&self, name: &str) -> Dtype {
        self.by_name.get(name).copied().unwrap_or(Dtype::F32)
    }
}

/// What a safetensors file says of its tensors, without reading them.
fn header(path: &Path) -> Result<Metadata> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let bytes = u64::from_le_bytes(length);
    ensure!(bytes <= HEADER_MAX, "its header claims {bytes} bytes; it is no safetensors file");
    let mut header = Vec::new();
    file.take(bytes).read_to_end(&mut header)?;
    serde_json::from_slice(&header).context("its header is damaged")
}

impl Weights {
    /// As [`Weights::save`], but with every tensor in the type that `types` gives it.
    pub fn save_as(&self, dir: &Path, types: &StoredTypes) -> Result<()> {
        self.save_config(dir)?;
        let path = dir.join(CONFIG_FILE);
        let mut config: Value = serde_json::from_str(&self.config.to_json())?;
        let name = match types.of("model.embed_tokens.weight") {
            Dtype::BF16 => "bfloat16",
            Dtype::F16 => "float16",
            _ => "float32",
        };
        config["dtype"] = json!(name);
        config["torch_dtype"] = json!(name);
        std::fs::write(&path, format!("{config:#}\n"))
            .with_context(|| format!("can't write {}", path.display()))?;

        let cast = |(name, var)| {
            let bytes = little_endian(var)?;
            narrowed(name, bytes, types.of(name))
        };
        let tensors = self.tensors.iter().map(cast).collect::<Result<Vec<_>>>()?;
        let views = self.tensors.iter().zip(&tensors);
        let views = views
            .map(|((name, var), (dtype, bytes))| {
                Ok((name, TensorView::new(*dtype, var.dims().to_vec(), bytes)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let path = dir.join(WEIGHTS_FILE);
        safetensors::serialize_to_file(views, Some(metadata), &path)
            .with_context(|| format!("can't write {}", path.display()))
    }
}

/// Bytes of f32 numbers in another type.
fn narrowed(name: &String, bytes: Vec<u8>, dtype: Dtype) -> Result<(Dtype, Vec<u8>)> {
    let (numbers, _) = bytes.as_chunks();
    let numbers = numbers.iter().map(|&b| f32::from_le_bytes(b));
    let bytes = match dtype {
        Dtype::F32 => bytes,
        Dtype::BF16 => numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F16 => {
            let mut halves = Vec::with_capacity(bytes.len() / 2);
            for x in numbers {
                let half = half::f16::from_f32(x);
                ensure!(
                    half.is_finite(),
                    "tensor `{name}` holds {x}, too large for the base model's float16"
                );
                halves.extend(half.to_le_bytes());
            }
            halves
        }
        other => bail!("tensor `{name}` is {other:?} in the base model; supported: F32, BF16, F16"),
    };
    Ok((dtype, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Purpose};

    #[test]
    fn every_tensor_keeps_its_type() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ModelConfig::seed(20);
        config.hidden_size = 16;
        config.intermediate_size = 24;
        config.num_attention_heads = 2;
        config.num_key_value_heads = 1;
        config.head_dim = 8;
        let weights = Weights::init(config, &Address::new(1, Purpose::Init, 0, "", &[])).unwrap();
        let bytes = weights.to_bytes().unwrap();
        let mut types = StoredTypes::of_bytes(&weights.config.to_json(), &bytes).unwrap();
        for (n, dtype) in types.by_name.values_mut().enumerate() {
            *dtype = [Dtype::BF16, Dtype::F16, Dtype::F32][n % 3];
        }
        weights.save_as(dir.path(), &types).unwrap();
        assert_eq!(StoredTypes::of_dir(dir.path()).unwrap(), types);
        let again = Weights::load(dir.path()).unwrap();
        for (name, var) in &weights.tensors {
            let (kept, read) = (var.flatten_all().unwrap(), again.tensors[name].flatten_all().unwrap());
            let pairs = kept.to_vec1::<f32>().unwrap().into_iter().zip(read.to_vec1::<f32>().unwrap());
            let digits = match types.of(name) {
                Dtype::BF16 => 8,
                Dtype::F16 => 11,
                _ => 24,
            };
            for (x, y) in pairs {
                assert!((x - y).abs() <= x.abs() * 0.5f32.powi(digits) + 1e-7, "{name}: {x} became {y}");
            }
        }
        assert!(narrowed(&"w".into(), 1e6f32.to_le_bytes().to_vec(), Dtype::F16).is_err());
    }
}
