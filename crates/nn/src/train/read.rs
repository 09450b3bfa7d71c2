//! Reading with the trainer's forward: what the sampler's log-probabilities are compared with.

use std::sync::Arc;

use anyhow::Result;

use crate::model::{self, Parameters};

/// Log-probability of every completion token after the prompt, as training would compute it.
pub fn logprobs(parameters: Parameters, prompt_ids: &[u32], completion_ids: &[u32]) -> Result<Vec<f32>> {
    anyhow::ensure!(!prompt_ids.is_empty(), "nothing predicts the first token: the prompt is empty");
    let ids = [prompt_ids, completion_ids].concat();
    let hidden = model::forward(parameters, &ids, &Arc::new(vec![0, ids.len()]))?; // (T, D)
    let predicting = hidden.narrow(0, prompt_ids.len() - 1, completion_ids.len())?.detach(); // (N, D)
    let targets = Arc::new(completion_ids.to_vec());
    Ok(model::logprobs(parameters, &predicting.contiguous()?, &targets)?.to_vec1()?)
}
