//! A low-rank adapter (LoRA, Hu et al. 2021) of a decoder's linear layers, and a policy of frozen
//! weights with an adapter.
//!
//! A layer becomes `W + s B A` with A (r, in) and B (out, r); s is alpha / r, or alpha / √r for
//! rank-stabilised adapters (Kalajdzievski 2023). B starts at zero, so a new adapter changes
//! nothing. The product is never added to the weights, which keep their stored precision. Rollouts
//! and training both compute `x Wᵀ + s (x Aᵀ) Bᵀ`, so the policy that samples is the policy that
//! trains. Left out: embeddings, output layer, routers and experts (transformers holds the experts'
//! weights in one tensor, which the PEFT format can't name), DoRA, ranks per layer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Tensor, Var};
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::init::uniform;
use super::weights::{elements, little_endian, var};
use super::{Frozen, ModelConfig, Place, Weights};
use crate::domain::Address;
use crate::ops::kernels::PackedWeight;
use crate::ops::{self, FrozenMatrix};

/// The target that means every linear layer that can be adapted.
pub const ALL_LINEAR: &str = "all-linear";

/// An adapter's hyper-parameters, under PEFT's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Rank.
    pub r: usize,
    pub lora_alpha: f64,
    /// Share of an adapter's inputs that is dropped in training.
    pub lora_dropout: f64,
    pub use_rslora: bool,
}

impl LoraSettings {
    /// The factor of `B A`.
    pub fn scale(&self) -> f32 {
        let rank = self.r as f64;
        (self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }

    fn validate(&self) -> Result<()> {
        let Self { r, lora_alpha, lora_dropout, .. } = *self;
        ensure!((1..=1 << 16).contains(&r), "the adapter's r is {r}; it must be in 1..=65536");
        let alpha_fits = lora_alpha.is_finite() && lora_alpha > 0.0;
        ensure!(alpha_fits, "the adapter's lora_alpha is {lora_alpha}; it must be above 0");
        let dropout_fits = (0.0..1.0).contains(&lora_dropout);
        ensure!(dropout_fits, "the adapter's lora_dropout is {lora_dropout}; it must be from 0, below 1");
        Ok(())
    }
}

/// The trainable part: two matrices for each adapted layer.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub settings: LoraSettings,
    /// `{layer}.lora_A.weight` (r, in) and `{layer}.lora_B.weight` (out, r). `clone` shares them.
    pub tensors: BTreeMap<String, Var>,
    /// Names of the adapted layers, such as `model.layers.0.self_attn.q_proj`, in order.
    pub modules: Vec<String>,
}

/// Layers that can be adapted, with (out, in), in order of name.
pub(super) fn adaptable(config: &ModelConfig) -> BTreeMap<String, (usize, usize)> {
    let module = |(name, shape): (String, Vec<usize>)| {
        let module = name.strip_suffix("_proj.weight").filter(|_| !ModelConfig::is_of_expert(&name))?;
        let [out, inp] = shape[..] else { return None };
        Some((format!("{module}_proj"), (out, inp)))
    };
    config.parameters().into_iter().filter_map(module).collect()
}

/// The last part of a module's name, such as `q_proj`.
pub(super) fn suffix(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

fn a_name(module: &str) -> String {
    format!("{module}.lora_A.weight")
}

fn b_name(module: &str) -> String {
    format!("{module}.lora_B.weight")
}

impl Adapter {
    /// A new adapter of the layers whose name is or ends in one of `targets` (`"all-linear"`: all
    /// of them). A is uniform on ±1/√in (Kaiming with a = √5, as in PEFT), the n-th layer's from
    /// `address.child(n)`; B is zero.
    pub fn init(
        config: &ModelConfig,
        settings: LoraSettings,
        targets: &[String],
        address: &Address,
    ) -> Result<Self> {
        let adaptable = adaptable(config);
        let hit = |module: &str, target: &str| {
            target == ALL_LINEAR
                || module == target
                || module.strip_suffix(target).is_some_and(|m| m.ends_with('.'))
        };
        for target in targets {
            if !adaptable.keys().any(|module| hit(module, target)) {
                let known: BTreeSet<&str> = adaptable.keys().map(|module| suffix(module)).collect();
                bail!(
                    "no linear layer of this model that can be adapted is called {target:?}; there are {known:?}, or \
                     {ALL_LINEAR:?} for all"
                );
            }
        }
        let chosen = adaptable.iter().filter(|(module, _)| targets.iter().any(|t| hit(module, t)));
        let mut tensors = BTreeMap::new();
        for (n, (module, &(out, inp))) in chosen.enumerate() {
            let (mut stream, bound) = (address.child(n as u32).stream(), 1.0 / (inp as f64).sqrt());
            let a = (0..settings.r * inp).map(|_| (uniform(&mut stream) * bound) as f32).collect();
            tensors.insert(a_name(module), var(a, &[settings.r, inp])?);
            tensors.insert(b_name(module), var(vec![0.0; out * settings.r], &[out, settings.r])?);
        }
        Self::from_tensors(config, settings, tensors)
    }

    /// Takes tensors named as in [`Adapter::tensors`]. Each adapted layer must be one of the
    /// model's and have both tensors.
    pub fn from_tensors(
        config: &ModelConfig,
        settings: LoraSettings,
        tensors: BTreeMap<String, Var>,
    ) -> Result<Self> {
        settings.validate()?;
        let adaptable = adaptable(config);
        let mut modules = BTreeSet::new();
        for (name, var) in &tensors {
            let a = name.strip_suffix(".lora_A.weight");
            let module = a.or_else(|| name.strip_suffix(".lora_B.weight"));
            let found = module.and_then(|module| Some((module, adaptable.get(module)?)));
            let (module, &(out, inp)) = found.with_context(|| {
                format!(
                    "the adapter's tensor `{name}` is not of a linear layer of this model that can be adapted"
                )
            })?;
            let shape = if a.is_some() { [settings.r, inp] } else { [out, settings.r] };
            ensure!(
                var.dims() == shape,
                "the adapter's tensor `{name}` has shape {:?}; its r and the model ask for {shape:?}",
                var.dims()
            );
            modules.insert(module.to_owned());
        }
        ensure!(!modules.is_empty(), "the adapter has no tensors: it adapts nothing");
        for name in modules.iter().flat_map(|module| [a_name(module), b_name(module)]) {
            ensure!(tensors.contains_key(&name), "the adapter's tensor `{name}` is missing");
        }
        Ok(Self { settings, tensors, modules: modules.into_iter().collect() })
    }

    /// A copy that shares no storage with this one.
    pub fn deep_copy(&self) -> Result<Self> {
        let copy =
            |(name, var): (&String, &Var)| Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor())?));
        let tensors = self.tensors.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { settings: self.settings.clone(), tensors, modules: self.modules.clone() })
    }

    /// A copy on another device.
    pub fn on(&self, place: &Place) -> Result<Self> {
        let moved = |(name, var): (&String, &Var)| Ok((name.clone(), place.var(var)?));
        let tensors = self.tensors.iter().map(moved).collect::<Result<_>>()?;
        Ok(Self { settings: self.settings.clone(), tensors, modules: self.modules.clone() })
    }

    /// How many numbers the adapter trains.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(|var| var.elem_count()).sum()
    }

    /// Whether the tensor is an A that has no gradient yet, because its B is zero throughout.
    pub fn must_rest(&self, name: &str) -> Result<bool> {
        let Some(module) = name.strip_suffix(".lora_A.weight") else { return Ok(false) };
        let b = self.tensor(&b_name(module))?.flatten_all()?.to_vec1::<f32>()?;
        Ok(b.iter().all(|&x| x == 0.0))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let var = self.tensors.get(name).with_context(|| format!("the adapter has no tensor `{name}`"))?;
        Ok(var.as_tensor())
    }

    /// A (r, in) and B (out, r) of a layer, if it is adapted.
    fn pair(&self, module: &str) -> Option<(&Tensor, &Tensor)> {
        Some((self.tensors.get(&a_name(module))?.as_tensor(), self.tensors.get(&b_name(module))?.as_tensor()))
    }

    /// What the adapter adds to a layer's weight, (out, in) row-major; `None` if the layer isn't
    /// adapted.
    fn delta(&self, module: &str) -> Result<Option<Vec<f32>>> {
        let Some((a, b)) = self.pair(module) else { return Ok(None) };
        Ok(Some(ops::lora_delta(a, b, self.settings.scale())?))
    }

    /// blake3, in hex, of the policy with this adapter on the weights that hash to `base`.
    fn hash(&self, base: &str) -> Result<String> {
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 adapted policy v1");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(base.as_bytes());
        field(&self.settings.scale().to_le_bytes());
        for (name, var) in &self.tensors {
            field(name.as_bytes());
            field(&little_endian(var)?);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// The randomness of dropout in one forward pass.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The n-th adapted layer uses the random stream of child n.
    pub address: Address,
}

/// A policy of frozen weights and an adapter.
#[derive(Clone, Debug)]
pub struct Lora {
    pub base: Frozen,
    pub adapter: Adapter,
}

impl Lora {
    /// A copy that shares only the frozen weights.
    pub fn deep_copy(&self) -> Result<Self> {
        Ok(Self { base: self.base.clone(), adapter: self.adapter.deep_copy()? })
    }

    /// Names the policy: blake3, in hex, over the hash of the frozen weights, the adapter's scale
    /// and its tensors.
    pub fn hash(&self) -> Result<String> {
        self.adapter.hash(self.base.hash())
    }

    /// A parameter's elements, row-major, with the adapter's share added.
    pub fn merged(&self, name: &str) -> Result<Vec<f32>> {
        let mut w = self.base.elements(name)?;
        let module = name.strip_suffix(".weight").unwrap_or(name);
        if let Some(delta) = self.adapter.delta(module)? {
            w.iter_mut().zip(delta).for_each(|(w, d)| *w += d);
        }
        Ok(w)
    }

    /// All parameters, with the adapter's share added, to be trained.
    pub fn merge(&self) -> Result<Weights> {
        let merged = |(name, shape): (String, Vec<usize>)| {
            let var = var(self.merged(&name)?, &shape)?;
            Ok((name, var))
        };
        let tensors = self.base.config.parameters().into_iter().map(merged).collect::<Result<_>>()?;
        Weights::from_tensors(self.base.config.clone(), tensors)
    }
}

impl Adapter {
    /// `x wᵀ` of the layer called `module`, whose frozen weight is `w`, with the adapter's share
    /// added.
    pub(super) fn linear(
        &self,
        x: &Tensor,
        module: &str,
        w: &FrozenMatrix,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let Some((a, b)) = self.pair(module) else { return ops::frozen_linear(x, w) };
        let settings = &self.settings;
        let mask = dropout.filter(|_| settings.lora_dropout > 0.0).map(|dropout| {
            let place = self.modules.partition_point(|m| m.as_str() < module);
            mask(&dropout.address.child(place as u32), x.elem_count(), settings.lora_dropout)
        });
        ops::lora_linear(x, a, b, w, settings.scale(), mask)
    }

    /// A and B of a layer, if it is adapted, packed for rollouts, and the factor of their product.
    pub(super) fn packed(&self, module: &str) -> Result<Option<(PackedWeight, PackedWeight, f32)>> {
        let Some((a, b)) = self.pair(module) else { return Ok(None) };
        let pack = |t: &Tensor| {
            let (out, inp) = t.dims2()?;
            Ok::<_, anyhow::Error>(PackedWeight::new(&elements(t)?, out, inp))
        };
        Ok(Some((pack(a)?, pack(b)?, self.settings.scale())))
    }
}

/// Factors of dropout: 0 with probability `rate`, else 1 / (1 - rate); each uses one random word.
fn mask(address: &Address, count: usize, rate: f64) -> Arc<Vec<f32>> {
    let (mut stream, kept) = (address.stream(), (1.0 / (1.0 - rate)) as f32);
    let mut draw = || f64::from(stream.next_u32()) / f64::from(u32::MAX);
    Arc::new((0..count).map(|_| if draw() < rate { 0.0 } else { kept }).collect())
}

#[cfg(test)]
#[path = "lora_tests.rs"]
mod tests;
