//! Completions that were given, not drawn: read under the policy and laid out as chains of thought.

use anyhow::{Result, ensure};

use super::chain::laid_out;
use super::{Job, Tools};
use crate::domain::{Boundary, Completion, FinishReason, ReadRequest, Tree};

/// One chain for each job: the given tokens with the policy's own log-probabilities and hidden
/// states.
///
/// `completions` are the token ids after each job's prompt; an empty one is an error. They are not
/// cut, whatever their number of thoughts.
pub fn teacher_forced(tools: &Tools, jobs: &[Job], completions: &[Vec<u32>]) -> Result<Vec<Tree>> {
    ensure!(
        jobs.len() == completions.len(),
        "{} completions were given for {} jobs",
        completions.len(),
        jobs.len()
    );
    let mut requests = Vec::with_capacity(jobs.len());
    for (job, ids) in jobs.iter().zip(completions) {
        ensure!(!ids.is_empty(), "{} has an empty completion", job.address);
        requests.push(ReadRequest {
            ids: [job.prompt_ids.as_slice(), ids].concat(),
            from: job.prompt_ids.len(),
            hidden_at: ends(tools, ids).into_iter().map(|end| job.prompt_ids.len() + end - 1).collect(),
        });
    }
    let readings = tools.engine.read(&requests)?;
    ensure!(readings.len() == jobs.len(), "the engine read {} of {} sequences", readings.len(), jobs.len());
    let mut trees = Vec::with_capacity(jobs.len());
    for ((job, ids), reading) in jobs.iter().zip(completions).zip(readings) {
        let ended = ids.last().is_some_and(|id| tools.stops.eos_ids.contains(id));
        let boundaries = ends(tools, ids).into_iter().zip(reading.hidden_f16);
        let completion = Completion {
            token_ids: ids.clone(),
            logprobs: reading.logprobs,
            finish: if ended { FinishReason::Eos } else { FinishReason::TokensMax },
            boundaries: boundaries.map(|(end, hidden_f16)| Boundary { end, hidden_f16 }).collect(),
        };
        trees.push(laid_out(tools, job, completion)?);
    }
    Ok(trees)
}

/// One past the last token of each thought, as the engine cuts a completion that it draws.
fn ends(tools: &Tools, ids: &[u32]) -> Vec<usize> {
    let closes = |id: &u32| tools.stops.boundary_ids.contains(id);
    let mut ends: Vec<usize> =
        ids.iter().enumerate().filter(|(_, id)| closes(id)).map(|(i, _)| i + 1).collect();
    if ends.last() != Some(&ids.len()) && !ids.is_empty() {
        ends.push(ids.len());
    }
    ends
}
