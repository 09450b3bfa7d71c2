//! What is trained: all weights of a policy, or an adapter on frozen ones.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Var;

use crate::domain::Address;
use crate::model::{Adapted, Body, Dropout, Lora, ModelConfig, Parameters, Weights};
use crate::ops::kernels::Arithmetic;

/// A policy, divided into what is trained and what is frozen.
pub enum Trainable {
    /// With products by this arithmetic.
    Full(Weights, Arithmetic),
    Lora {
        lora: Box<Lora>,
        /// Dropout draws below it, from the children of an update, of a chunk, and of a layer.
        address: Address,
    },
}

impl From<Weights> for Trainable {
    fn from(weights: Weights) -> Self {
        Self::Full(weights, Arithmetic::F32)
    }
}

/// One forward pass of an update.
pub(super) enum Pass<'a> {
    Full(&'a Weights, Arithmetic),
    Lora(&'a Lora, Dropout),
}

impl Pass<'_> {
    pub(super) fn parameters(&self) -> Parameters<'_> {
        match self {
            Self::Full(weights, arithmetic) => Parameters::Full(weights, *arithmetic),
            Self::Lora(lora, dropout) => {
                let adapted = Adapted { adapter: &lora.adapter, dropout: Some(dropout) };
                Parameters::Frozen(&lora.base, Some(adapted))
            }
        }
    }
}

impl Trainable {
    /// The arithmetic of products with tensors that are trained.
    pub(super) fn arithmetic(&self) -> Arithmetic {
        match self {
            Self::Full(_, arithmetic) => *arithmetic,
            Self::Lora { .. } => Arithmetic::F32,
        }
    }

    /// Hash of the policy as it is now.
    pub fn hash(&self) -> Result<String> {
        match self {
            Self::Full(weights, _) => Ok(weights.hash()),
            Self::Lora { lora, .. } => lora.hash(),
        }
    }

    /// The policy as it is now, without what only training needs.
    pub fn into_body(self) -> Body {
        match self {
            Self::Full(weights, arithmetic) => Body::Full(weights, arithmetic),
            Self::Lora { lora, .. } => Body::Lora(*lora),
        }
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Full(weights, _) => &weights.config,
            Self::Lora { lora, .. } => &lora.base.config,
        }
    }

    /// The tensors that get a gradient, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Var> {
        match self {
            Self::Full(weights, _) => &weights.tensors,
            Self::Lora { lora, .. } => &lora.adapter.tensors,
        }
    }

    /// Elements of everything that gets a gradient.
    pub fn element_count(&self) -> usize {
        self.tensors().values().map(|var| var.elem_count()).sum()
    }

    /// Shares nothing that is trained with this one.
    pub(super) fn deep_copy(&self) -> Result<Self> {
        Ok(match self {
            Self::Full(weights, arithmetic) => Self::Full(weights.deep_copy()?, *arithmetic),
            Self::Lora { lora, address } => {
                Self::Lora { lora: Box::new(lora.deep_copy()?), address: address.clone() }
            }
        })
    }

    /// The forward pass of chunk `chunk` of update `step`.
    pub(super) fn pass(&self, step: u32, chunk: usize) -> Pass<'_> {
        match self {
            Self::Full(weights, arithmetic) => Pass::Full(weights, *arithmetic),
            Self::Lora { lora, address } => {
                Pass::Lora(lora, Dropout { address: address.child(step).child(chunk as u32) })
            }
        }
    }

    /// Whether the tensor may have no gradient, or one of zeros, in an update: an expert that the router sent nothing
    /// has nothing to learn (the router itself always has), and an adapter's A waits for its B to move.
    pub(super) fn may_rest(&self, name: &str) -> Result<bool> {
        match self {
            Self::Full(..) => Ok(ModelConfig::is_of_expert(name)),
            Self::Lora { lora, .. } => lora.adapter.must_rest(name),
        }
    }

    /// Whether some tensor still waits for another to move.
    pub(super) fn is_waiting(&self) -> Result<bool> {
        let Self::Lora { lora, .. } = self else { return Ok(false) };
        for name in lora.adapter.tensors.keys() {
            if lora.adapter.must_rest(name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
