//! What a policy is made of: weights that are trained, weights that are only read, or an adapter on
//! such weights.
//!
//! Whoever samples, trains, writes or measures a policy takes a [`Body`] and asks it, instead of
//! telling the three forms apart again. It knows nothing about where the weights came from, and
//! nothing about engines.

use anyhow::{Context, Result};

use super::weights::elements;
use super::{Frozen, Lora, ModelConfig, Packed, Parameters, Place, Weights};
use crate::ops::kernels::{Arithmetic, PackedWeight};

/// The weights of a policy, in the form in which they are held. `clone` shares the tensors.
#[derive(Clone, Debug)]
pub enum Body {
    /// Weights that can all be trained, with matrix products in this arithmetic.
    Full(Weights, Arithmetic),
    /// Weights that are only read. An adapter can be trained on them.
    Frozen(Frozen),
    /// Frozen weights with an adapter.
    Lora(Lora),
}

impl Body {
    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Full(weights, _) => &weights.config,
            Self::Frozen(frozen) => &frozen.config,
            Self::Lora(lora) => &lora.base.config,
        }
    }

    /// The frozen weights, which other policies may share; `None` if all weights are trained.
    pub fn frozen(&self) -> Option<&Frozen> {
        match self {
            Self::Full(..) => None,
            Self::Frozen(frozen) => Some(frozen),
            Self::Lora(lora) => Some(&lora.base),
        }
    }

    /// A copy on another device.
    ///
    /// # Errors
    /// The device has no room, or the weights are quantised and it is not the CPU.
    pub fn on(self, place: &Place) -> Result<Self> {
        Ok(match self {
            Self::Full(weights, arithmetic) => Self::Full(weights.on(place)?, arithmetic),
            Self::Frozen(frozen) => Self::Frozen(frozen.on(place)?),
            Self::Lora(Lora { base, adapter }) => {
                Self::Lora(Lora { base: base.on(place)?, adapter: adapter.on(place)? })
            }
        })
    }

    /// A view for a forward pass.
    pub fn parameters(&self) -> Parameters<'_> {
        match self {
            Self::Full(weights, arithmetic) => Parameters::Full(weights, *arithmetic),
            Self::Frozen(frozen) => frozen.parameters(),
            Self::Lora(lora) => lora.parameters(),
        }
    }

    /// The same policy laid out for rollouts on the CPU's kernels.
    ///
    /// # Errors
    /// The processor lacks the arithmetic, or the weights are on another device.
    pub fn packed(&self) -> Result<Packed> {
        match self {
            Self::Full(weights, arithmetic) => {
                Packed::of(&Frozen::of(weights)?.computing(*arithmetic).context("model.matmul")?)
            }
            Self::Frozen(frozen) => Packed::of(frozen),
            Self::Lora(lora) => Packed::adapted(lora),
        }
    }

    /// Names the policy: blake3, in hex.
    ///
    /// # Errors
    /// An adapter's tensors can't be read from their device.
    pub fn hash(&self) -> Result<String> {
        match self {
            Self::Full(weights, _) => Ok(weights.hash()),
            Self::Frozen(frozen) => Ok(frozen.hash().to_string()),
            Self::Lora(lora) => lora.hash(),
        }
    }

    /// Number of elements of all parameters, without an adapter's.
    pub fn parameter_count(&self) -> usize {
        self.config().parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Number of elements that training changes and a checkpoint stores: an adapter's, or else all.
    pub fn stored_count(&self) -> usize {
        match self {
            Self::Lora(lora) => lora.adapter.parameter_count(),
            Self::Full(..) | Self::Frozen(_) => self.parameter_count(),
        }
    }

    /// Bytes of memory, with the packed copy that rollouts read.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Full(weights, arithmetic) => {
                let matrices = weights.tensors.values().filter(|var| var.rank() == 2);
                let packed = matrices.map(|var| PackedWeight::bytes_beside(var.elem_count(), *arithmetic));
                8 * weights.parameter_count() + packed.sum::<usize>()
            }
            Self::Frozen(frozen) => frozen.bytes(),
            Self::Lora(lora) => lora.base.bytes() + 8 * lora.adapter.parameter_count(),
        }
    }

    /// A parameter's elements, row-major, with an adapter's share added.
    ///
    /// # Errors
    /// The policy has no parameter of this name.
    pub fn elements(&self, name: &str) -> Result<Vec<f32>> {
        match self {
            Self::Full(weights, _) => elements(weights.tensor(name)?),
            Self::Frozen(frozen) => frozen.elements(name),
            Self::Lora(lora) => lora.merged(name),
        }
    }

    /// The policy as plain weights that can all be trained.
    ///
    /// # Errors
    /// A tensor can't be read from its device.
    pub fn into_weights(self) -> Result<Weights> {
        match self {
            Self::Full(weights, _) => Ok(weights),
            Self::Frozen(frozen) => frozen.thaw(),
            Self::Lora(lora) => lora.merge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;

    use super::*;
    use crate::domain::{Address, Purpose};
    use crate::model::{ALL_LINEAR, Adapter, LoraSettings};

    /// The same weights in the three forms; a new adapter changes nothing.
    #[test]
    fn three_forms_of_the_same_weights_agree() {
        let address = Address::new(1, Purpose::Init, 0, "", &[]);
        let mut config = ModelConfig::seed(20);
        (config.hidden_size, config.intermediate_size, config.head_dim) = (16, 24, 8);
        (config.num_attention_heads, config.num_key_value_heads) = (2, 1);
        let weights = Weights::init(config, &address).unwrap();
        let frozen = Frozen::of(&weights).unwrap();
        let settings = LoraSettings { r: 2, lora_alpha: 4.0, lora_dropout: 0.0, use_rslora: false };
        let targets = [ALL_LINEAR.to_owned()];
        let adapter = Adapter::init(&frozen.config, settings, &targets, &address).unwrap();
        let lora = Body::Lora(Lora { base: frozen.clone(), adapter });
        let full = Body::Full(weights, Arithmetic::F32);
        let frozen = Body::Frozen(frozen);

        assert_eq!(full.hash().unwrap(), frozen.hash().unwrap());
        assert_ne!(full.hash().unwrap(), lora.hash().unwrap());
        assert!(full.frozen().is_none() && frozen.frozen().is_some() && lora.frozen().is_some());
        for (name, _) in full.config().parameters() {
            let all = [&full, &frozen, &lora].map(|body| body.elements(&name).unwrap());
            assert!(all[0] == all[1] && all[0] == all[2], "{name}");
        }
        for body in [full, frozen, lora] {
            let count = body.parameter_count();
            assert_eq!(**body.packed().unwrap().policy(), *body.hash().unwrap());
            assert_refused(body.elements("nothing"), "the model has no");
            let is_adapted = matches!(body, Body::Lora(_));
            assert_eq!(body.stored_count() < count, is_adapted);
            assert_eq!(body.into_weights().unwrap().parameter_count(), count);
        }
    }
}
