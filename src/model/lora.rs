//! A low-rank adapter (LoRA, Hu et al. 2021) of a decoder's linear layers, and a policy that is frozen weights and one.
//!
//! `W + s B A` with A (r, in) and B (out, r); s is alpha / r, or alpha / √r for rank-stabilised adapters (Kalajdzievski
//! 2023). B starts at zero, so a new adapter changes nothing. The policy is the merged weights, and their hash is its
//! hash: samplers, heads and stores know nothing of adapters. Left out: embeddings, output layer, routers and experts
//! (whose weights transformers holds in one tensor, which the PEFT format can't name), DoRA, ranks per layer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Tensor, Var};
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::init::uniform;
use super::weights::var;
use super::{ModelConfig, Weights};
use crate::domain::Address;
use crate::ops;

/// What stands for every linear layer that can be adapted.
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
    /// What `B A` is multiplied by.
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

/// The names that `target` may have, without their layers: `q_proj` and its like.
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
    /// A new adapter of the layers whose name is or ends in one of `targets` (`"all-linear"`: all of them). A is
    /// uniform on ±1/√in (Kaiming's with a = √5, as PEFT's), the n-th layer's from `address.child(n)`; B is zero.
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

    /// Takes tensors named as in [`Adapter::tensors`]; each adapted layer must be the model's and have both.
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

    /// The layer's weight with its share of the adapter.
    fn merged(&self, base: &Weights, module: &str) -> Result<Tensor> {
        let (a, b) = (self.tensor(&a_name(module))?, self.tensor(&b_name(module))?);
        ops::lora_merge(base.tensor(&format!("{module}.weight"))?, a, b, self.settings.scale())
    }
}

/// Where dropout draws from in one forward pass.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The n-th adapted layer draws from child n.
    pub address: Address,
}

/// A policy of frozen weights and an adapter.
#[derive(Clone, Debug)]
pub struct Lora {
    base: Weights,
    pub adapter: Adapter,
    /// Shares what isn't adapted with the base.
    merged: Weights,
    /// The merged weights again, but outside of any graph.
    frozen: BTreeMap<String, Tensor>,
}

impl Lora {
    /// Merges at once. Tensors are shared with `base` and `adapter`.
    pub fn new(base: Weights, adapter: Adapter) -> Result<Self> {
        let mut merged = base.clone();
        for module in &adapter.modules {
            let var = Var::from_tensor(&adapter.merged(&base, module)?)?;
            merged.tensors.insert(format!("{module}.weight"), var);
        }
        let frozen = |(name, var): (&String, &Var)| (name.clone(), var.as_detached_tensor());
        let frozen = merged.tensors.iter().map(frozen).collect();
        Ok(Self { base, adapter, merged, frozen })
    }

    /// A copy whose adapter and merged weights share nothing with this one's.
    pub fn deep_copy(&self) -> Result<Self> {
        Self::new(self.base.clone(), self.adapter.deep_copy()?)
    }

    /// The weights without the adapter.
    pub fn base(&self) -> &Weights {
        &self.base
    }

    /// The weights of the policy.
    pub fn weights(&self) -> &Weights {
        &self.merged
    }

    /// Brings the merged weights up to date with the adapter.
    pub fn merge(&self) -> Result<()> {
        for module in &self.adapter.modules {
            let name = format!("{module}.weight");
            let var = self.merged.tensors.get(&name).with_context(|| format!("no weight `{name}`"))?;
            var.set(&self.adapter.merged(&self.base, module)?)?;
        }
        Ok(())
    }

    pub(super) fn frozen(&self, name: &str) -> Result<&Tensor> {
        self.frozen.get(name).with_context(|| format!("the model has no tensor `{name}`"))
    }

    /// The layer's `x Wᵀ` with its share of the adapter.
    pub(super) fn linear(&self, x: &Tensor, module: &str, dropout: Option<&Dropout>) -> Result<Tensor> {
        let merged = self.frozen(&format!("{module}.weight"))?;
        let Some((a, b)) = self.adapter.pair(module) else { return ops::linear(x, merged) };
        let settings = &self.adapter.settings;
        let mask = dropout.filter(|_| settings.lora_dropout > 0.0).map(|dropout| {
            let place = self.adapter.modules.partition_point(|m| m.as_str() < module);
            mask(&dropout.address.child(place as u32), x.elem_count(), settings.lora_dropout)
        });
        ops::lora_linear(x, a, b, merged, settings.scale(), mask)
    }
}

/// Dropout's factors: 0 with chance `rate`, else 1 / (1 - rate); one word each.
fn mask(address: &Address, count: usize, rate: f64) -> Arc<Vec<f32>> {
    let (mut stream, kept) = (address.stream(), (1.0 / (1.0 - rate)) as f32);
    let mut draw = || f64::from(stream.next_u32()) / f64::from(u32::MAX);
    Arc::new((0..count).map(|_| if draw() < rate { 0.0 } else { kept }).collect())
}

#[cfg(test)]
#[path = "lora_tests.rs"]
mod tests;
