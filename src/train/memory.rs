//! How an update goes over its examples, and what memory that takes.

use crate::config::{Checkpointing, TrainConfig};
use crate::model::ModelConfig;
use crate::ops::kernels::Arithmetic;

use super::Trainee;
use super::pack::CHUNK_TOKENS;

/// What `auto` keeps of a forward pass, in bytes, rather than computing it again.
const KEPT_MAX: usize = 256 << 20;
/// Bytes of an f32.
const F32: usize = 4;
/// Logits that exist at a time, and their slopes or the weight's slab beside them: what `ops` allows itself.
const LOGITS: usize = (1 << 23) * F32;

/// How an update's examples are divided into micro-batches, and what of a forward pass is kept for the backward one.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// Tokens a micro-batch aims for. Gradients are summed micro-batch by micro-batch, so it decides last bits.
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
    /// Whether only the layers' inputs are kept of a pass over so many tokens.
    pub(super) fn by_layers(self, config: &ModelConfig, tokens: usize) -> bool {
        match self.checkpointing {
            Checkpointing::On => true,
            Checkpointing::Off => false,
            Checkpointing::Auto => F32 * tokens * config.layers.len() * per_layer(config) > KEPT_MAX,
        }
    }
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

/// Most memory, in bytes, that training takes beside what holds the policy: the trained copy, its gradient and moments,
/// and passes over micro-batches on every thread, of which one may hold an example of `longest` tokens.
pub fn memory_bytes(trainee: &Trainee, passes: Passes, longest: usize, threads: usize) -> usize {
    let config = trainee.config();
    let tokens = passes.tokens.max(longest);
    let (layers, layer) = (config.layers.len(), F32 * tokens * per_layer(config));
    // In the backward pass of a layer the gradients of its largest activations live beside them.
    let pass = match passes.by_layers(config, tokens) {
        true => layers * F32 * tokens * config.hidden_size + 2 * layer,
        false => (layers + 1) * layer,
    };
    let trained = F32 * trainee.trainable_count();
    // The output layer is packed twice where it is trained.
    let output = match trainee {
        Trainee::Full(_, arithmetic) => {
            let element = match arithmetic {
                Arithmetic::F32 => F32,
                Arithmetic::Tiles { parts } => 2 * parts,
            };
            2 * element * config.vocab_size * config.hidden_size
        }
        Trainee::Lora { .. } => 0,
    };
    5 * trained + threads * (pass + trained + LOGITS + output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_are_checkpointed_by_themselves() {
        let (small, auto) = (ModelConfig::seed(100), Passes::default());
        assert!(!auto.by_layers(&small, 1024));
        assert!(auto.by_layers(&small, 1 << 20));
        let asked = |checkpointing| Passes { checkpointing, ..auto };
        assert!(asked(Checkpointing::On).by_layers(&small, 1));
        assert!(!asked(Checkpointing::Off).by_layers(&small, 1 << 30));
    }
}
