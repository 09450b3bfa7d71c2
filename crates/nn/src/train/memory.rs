//! How an update goes over its examples, and what memory that takes.

use super::settings::{Checkpointing, TrainConfig};
use crate::model::ModelConfig;
use crate::ops::kernels::Arithmetic;

use super::pack::CHUNK_TOKENS;
use super::update::moments_bytes;
use super::{Hyper, Trainable};

/// What `auto` keeps of the forward passes under way, in bytes, rather than computing it again.
const KEPT_MAX: usize = 1 << 30;
/// What it keeps of each one even where those are many.
const KEPT_EACH: usize = 256 << 20;
/// Bytes of an f32.
const F32: usize = 4;
/// Logits that exist at a time, and their slopes or the weight's slab: what `ops` allows itself.
const LOGITS: usize = (1 << 23) * F32;

/// How an update's examples are divided into micro-batches, and what of a forward pass is kept for
/// the backward one.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// Tokens a micro-batch aims for. Gradients are summed micro-batch by micro-batch, so it
    /// decides last bits.
    pub tokens: usize,
    /// Changes memory and time, but no bit.
    pub checkpointing: Checkpointing,
}

impl Default for Passes {
    fn default() -> Self {
        Self { tokens: CHUNK_TOKENS, checkpointing: Checkpointing::Auto }
    }
}

impl From<&TrainConfig> for Passes {
    fn from(config: &TrainConfig) -> Self {
        Self { tokens: config.micro_batch_tokens, checkpointing: config.checkpointing }
    }
}

impl Passes {
    /// Of how many of the first layers only the inputs are kept, in one of `at_once` passes over
    /// `tokens` tokens.
    pub(super) fn recomputed(self, config: &ModelConfig, tokens: usize, at_once: usize) -> usize {
        let layers = config.layers.len();
        match self.checkpointing {
            Checkpointing::On => layers,
            Checkpointing::Off => 0,
            Checkpointing::Auto => {
                layers.saturating_sub(kept_max(at_once) / (F32 * tokens * per_layer(config)).max(1))
            }
        }
    }
}

/// Bytes of layers that `auto` keeps of one of the passes that are under way at once.
fn kept_max(at_once: usize) -> usize {
    (KEPT_MAX / at_once.max(1)).max(KEPT_EACH)
}

/// Floats per token that are kept of a layer: what its operators read and give.
fn per_layer(config: &ModelConfig) -> usize {
    let (d, q, kv) = (config.hidden_size, config.query_size(), config.kv_size());
    let dense = 3 * config.intermediate_size;
    let mlp = match &config.experts {
        Some(experts) => dense.max(experts.num_experts_per_tok * (3 * experts.intermediate_size + 2 * d)),
        None => dense,
    };
    6 * d + 3 * q + 3 * kv + mlp
}

/// Most memory, in bytes, that training takes in addition to the policy: the trained copy, its
/// gradient and moments, and passes over micro-batches, `at_once` at a time, of which each may hold
/// an example of `longest` tokens.
pub fn memory_bytes(
    trainable: &Trainable,
    hyper: &Hyper,
    passes: Passes,
    longest: usize,
    at_once: usize,
) -> usize {
    let config = trainable.config();
    let tokens = passes.tokens.max(longest);
    let (layers, layer) = (config.layers.len(), F32 * tokens * per_layer(config));
    let inputs = |recomputed: usize| recomputed * F32 * tokens * config.hidden_size;
    let recomputed = passes.recomputed(config, tokens, at_once);
    let kept = match (passes.checkpointing, recomputed) {
        (_, 0) => layers * layer,
        // A shorter micro-batch keeps more layers: up to the limit, whatever this one keeps.
        (Checkpointing::Auto, recomputed) => inputs(recomputed) + kept_max(at_once).max(layer),
        (_, recomputed) => inputs(recomputed) + layer,
    };
    let trained = F32 * trainable.element_count();
    // In the backward pass of a layer the gradients of its largest activations exist as well.
    let working = layer;
    match trainable {
        // Small against the rest: as if AdamW kept two moments of everything.
        Trainable::Lora { .. } => 5 * trained + at_once * (kept + working + trained + LOGITS),
        Trainable::Full(_, arithmetic) => {
            let element = match arithmetic {
                Arithmetic::F32 => F32,
                Arithmetic::Tiles { parts } => 2 * parts,
            };
            let count = config.vocab_size * config.hidden_size;
            // The output layer is packed twice, and has its gradient before any layer; in the
            // backward pass gradients take the place of activations. The embedding's comes last, in
            // addition to what tied weights have of it already: added in place, but where layers
            // are computed again.
            let (packed, output) = (2 * element * count, F32 * count);
            let last = output * if recomputed > 0 { 2 } else { 1 };
            let pass = ((kept + output).max(trained) + working).max(trained + last);
            // The copy and the sum of its gradients.
            2 * trained + moments_bytes(hyper, trainable.tensors()) + at_once * (pass + LOGITS + packed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, Purpose};
    use crate::model::Weights;
    use crate::train::settings::{MomentPrecision, OptimizerKind, defaults};

    #[test]
    fn full_training_holds_weights_gradients_moments_and_passes() {
        let shape = ModelConfig::seed(100);
        let weights = Weights::init(shape.clone(), &Address::new(1, Purpose::Init, 0, "", &[])).unwrap();
        let trainable = Trainable::from(weights);
        let trained = 4 * trainable.element_count();
        let hyper = |optimizer, moments| Hyper { optimizer, moments, ..Hyper::from(&defaults().0) };
        let passes = Passes { tokens: 1, checkpointing: Checkpointing::Off };
        let bytes = |hyper: &Hyper, at_once| memory_bytes(&trainable, hyper, passes, 1, at_once);
        let adamw = hyper(OptimizerKind::AdamW, MomentPrecision::F32);
        let output = 4 * shape.vocab_size * shape.hidden_size;
        // So few tokens that the gradients are more than the activations ever were.
        let pass = trained + output + LOGITS + 2 * output;
        assert!(output > 4 * per_layer(&shape), "a small output layer");
        assert_eq!(bytes(&adamw, 1), 4 * trained + pass);
        assert_eq!(bytes(&adamw, 3), 4 * trained + 3 * pass);
        let halved = hyper(OptimizerKind::AdamW, MomentPrecision::Bf16);
        assert_eq!(bytes(&halved, 1), 3 * trained + pass);
        let muon = bytes(&hyper(OptimizerKind::Muon, MomentPrecision::F32), 1);
        assert!((3 * trained + pass..4 * trained + pass).contains(&muon), "one moment of most");
    }

    #[test]
    fn of_large_passes_some_layers_are_computed_again() {
        let (small, auto) = (ModelConfig::seed(100), Passes::default());
        let layers = small.layers.len();
        assert_eq!(auto.recomputed(&small, 1024, 2), 0);
        assert_eq!(auto.recomputed(&small, 1 << 20, 2), layers);
        // With this many tokens, two layers fit.
        let tokens = KEPT_MAX / (F32 * per_layer(&small) * 5 / 2);
        assert_eq!(auto.recomputed(&small, tokens, 1), layers - 2);
        assert_eq!(auto.recomputed(&small, tokens / 2, 2), layers - 2);
        assert!(
            auto.recomputed(&small, tokens / 4, 1000) == layers - 2,
            "a pass keeps a quarter in any case"
        );
        let asked = |checkpointing| Passes { checkpointing, ..auto };
        assert_eq!(asked(Checkpointing::On).recomputed(&small, 1, 1), layers);
        assert_eq!(asked(Checkpointing::Off).recomputed(&small, 1 << 30, 1), 0);
    }
}
