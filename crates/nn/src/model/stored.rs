//! Writes a policy with the types and files of a stored checkpoint. bf16 and f16 are rounded to
//! nearest, ties to even. Tensors are made one at a time, so that a policy larger than half of the
//! memory can be written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::shards::{Checkpoint, INDEX_FILE};
use super::weights::{le_bytes, read_config, save_config};
use super::write::{Lazy, PYTORCH, write_tensors};
use super::{CONFIG_FILE, GgufModel, ModelConfig, WEIGHTS_FILE};

/// In which type and file a checkpoint stores each parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLayout {
    by_name: BTreeMap<String, (Dtype, String)>,
}

impl StoredLayout {
    /// The layout of a checkpoint directory or a GGUF file. Reads no tensor.
    pub fn of_dir(dir: &Path) -> Result<Self> {
        if crate::gguf::is_gguf(dir) && !dir.is_dir() {
            return Self::of_gguf(&GgufModel::open(dir)?);
        }
        let config = read_config(dir)?;
        Self::of(&Checkpoint::open(&config, dir)?)
    }

    /// The layout of a `config.json`'s text and a `model.safetensors`' bytes.
    pub fn of_bytes(config_json: &str, bytes: &[u8]) -> Result<Self> {
        Self::of(&Checkpoint::of_bytes(&ModelConfig::parse(config_json)?, bytes)?)
    }

    fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let place =
            |name: &str| Ok((name.to_owned(), (checkpoint.dtype(name)?, checkpoint.file(name)?.to_owned())));
        Ok(Self { by_name: checkpoint.names().map(place).collect::<Result<_>>()? })
    }

    /// Quantised tensors become F32, which holds their numbers exactly.
    fn of_gguf(model: &GgufModel) -> Result<Self> {
        let place = |(name, _): (String, _)| {
            let dtype = match model.dtype(&name)? {
                crate::gguf::Dtype::F16 => Dtype::F16,
                crate::gguf::Dtype::Bf16 => Dtype::BF16,
                _ => Dtype::F32,
            };
            Ok((name, (dtype, String::new())))
        };
        Ok(Self { by_name: model.config().parameters().into_iter().map(place).collect::<Result<_>>()? })
    }

    /// Type and file of a parameter. One that isn't stored is F32, in the one file.
    fn of_parameter(&self, name: &str) -> (Dtype, &str) {
        match self.by_name.get(name) {
            Some((dtype, file)) if !file.is_empty() => (*dtype, file),
            Some((dtype, _)) => (*dtype, WEIGHTS_FILE),
            None => (Dtype::F32, WEIGHTS_FILE),
        }
    }

    /// Writes a checkpoint of this layout into `dir`, which must exist. `elements(name)` returns
    /// each parameter's elements.
    pub fn save(
        &self,
        config: &ModelConfig,
        elements: &dyn Fn(&str) -> Result<Vec<f32>>,
        dir: &Path,
    ) -> Result<()> {
        save_config(config, dir)?;
        let path = dir.join(CONFIG_FILE);
        let mut json: Value = serde_json::from_str(&config.to_json())?;
        let name = match self.of_parameter("model.embed_tokens.weight").0 {
            Dtype::BF16 => "bfloat16",
            Dtype::F16 => "float16",
            _ => "float32",
        };
        json["dtype"] = json!(name);
        json["torch_dtype"] = json!(name);
        write(&path, &format!("{json:#}\n"))?;

        let parameters: BTreeMap<String, Vec<usize>> = config.parameters().into_iter().collect();
        let files: BTreeSet<&str> = parameters.keys().map(|name| self.of_parameter(name).1).collect();
        for file in &files {
            let tensors = parameters.iter().filter(|(name, _)| self.of_parameter(name).1 == *file);
            let tensors = tensors.map(|(name, shape)| {
                let dtype = self.of_parameter(name).0;
                let bytes = Box::new(move || narrowed(name, &elements(name)?, dtype));
                Lazy { name: name.clone(), dtype, shape: shape.clone(), bytes }
            });
            write_tensors(&dir.join(file), PYTORCH, tensors)?;
        }
        if files.len() > 1 || !files.contains(WEIGHTS_FILE) {
            let bytes = |(name, shape): (&String, &Vec<usize>)| {
                shape.iter().product::<usize>() * self.of_parameter(name).0.bitsize() / 8
            };
            let total_size: usize = parameters.iter().map(bytes).sum();
            let weight_map: BTreeMap<&String, &str> =
                parameters.keys().map(|name| (name, self.of_parameter(name).1)).collect();
            let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
            write(&dir.join(INDEX_FILE), &format!("{index:#}\n"))?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// The bytes of f32 numbers in another type.
fn narrowed(name: &str, numbers: &[f32], dtype: Dtype) -> Result<Vec<u8>> {
    Ok(match dtype {
        Dtype::F32 => le_bytes(numbers),
        Dtype::BF16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        Dtype::F16 => {
            let mut halves = Vec::with_capacity(numbers.len() * 2);
            for &x in numbers {
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
    })
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;

    use super::*;
    use crate::domain::{Address, Purpose};
    use crate::model::weights::elements;
    use crate::model::{Frozen, Weights};

    #[test]
    fn every_tensor_keeps_its_type_and_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ModelConfig::seed(20);
        config.hidden_size = 16;
        config.intermediate_size = 24;
        config.num_attention_heads = 2;
        config.num_key_value_heads = 1;
        config.head_dim = 8;
        let weights = Weights::init(config, &Address::new(1, Purpose::Init, 0, "", &[])).unwrap();
        let bytes = weights.to_bytes();
        let mut layout = StoredLayout::of_bytes(&weights.config.to_json(), &bytes).unwrap();
        for (n, place) in layout.by_name.values_mut().enumerate() {
            *place = ([Dtype::BF16, Dtype::F16, Dtype::F32][n % 3], format!("model-{}.safetensors", n % 2));
        }
        let get = |name: &str| elements(weights.tensor(name).unwrap());
        layout.save(&weights.config, &get, dir.path()).unwrap();
        assert_eq!(StoredLayout::of_dir(dir.path()).unwrap(), layout);
        let again = Weights::load(dir.path()).unwrap();
        for (name, var) in &weights.tensors {
            let (kept, read) = (elements(var).unwrap(), elements(&again.tensors[name]).unwrap());
            let digits = match layout.by_name[name].0 {
                Dtype::BF16 => 8,
                Dtype::F16 => 11,
                _ => 24,
            };
            for (x, y) in kept.into_iter().zip(read) {
                assert!((x - y).abs() <= x.abs() * 0.5f32.powi(digits) + 1e-7, "{name}: {x} became {y}");
            }
        }
        // Loaded without widening it is the same policy, and it is written as it was.
        let frozen = Frozen::load(dir.path(), None).unwrap();
        assert_eq!(**frozen.hash(), again.hash());
        let copy = tempfile::tempdir().unwrap();
        layout.save(&weights.config, &|name| frozen.elements(name), copy.path()).unwrap();
        for n in [0, 1] {
            let file = format!("model-{n}.safetensors");
            let read = |dir: &Path| std::fs::read(dir.join(&file)).unwrap();
            assert!(read(dir.path()) == read(copy.path()), "{file}");
        }
        let error = layout.save(&weights.config, &|name| bail!("no {name}"), copy.path()).unwrap_err();
        assert!(format!("{error:#}").contains("no model."), "{error:#}");
        assert_refused(narrowed("w", &[1e6], Dtype::F16), "too large for the base model's float16");
    }
}
