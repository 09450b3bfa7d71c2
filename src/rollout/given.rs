//! Completions that were not drawn here, read under the policy and laid out as chains.

use anyhow::{Context, Result, ensure};

use super::{Job, Tools, thought};
use crate::domain::{FinishReason, Leaf, Strategy, Thought, Tree};
use crate::engine::ReadRequest;

/// One chain per job: the given tokens with the policy's own log-probabilities and hidden states.
pub fn given(tools: &Tools, jobs: &[Job], completions: &[Vec<u32>]) -> Result<Vec<Tree>> {
    ensure!(
        jobs.len() == completions.len(),
        "{} completions were given for {} jobs",
        completions.len(),
        jobs.len()
    );
    let ends: Vec<Vec<usize>> = completions.iter().map(|ids| ends(tools, ids)).collect();
    let request = |((job, ids), ends): ((&Job, &Vec<u32>), &Vec<usize>)| ReadRequest {
        ids: [job.prompt_ids.as_slice(), ids].concat(),
        from: job.prompt_ids.len(),
        hidden_at: ends.iter().map(|end| job.prompt_ids.len() + end - 1).collect(),
    };
    let requests: Vec<ReadRequest> = jobs.iter().zip(completions).zip(&ends).map(request).collect();
    let readings = tools.engine.read(&requests)?;
    let mut trees = Vec::with_capacity(jobs.len());
    for (((job, ids), ends), reading) in jobs.iter().zip(completions).zip(&ends).zip(readings) {
        let texts = thought::texts(tools.decode, ids, ends)?;
        let text = texts.concat();
        let (mut thoughts, mut start) = (Vec::with_capacity(ends.len()), 0);
        for ((index, (&end, text)), hidden_f16) in ends.iter().zip(texts).enumerate().zip(reading.hidden_f16)
        {
            thoughts.push(Thought {
                parent: index.checked_sub(1).map(|p| p as u32),
                token_ids: ids[start..end].to_vec(),
                logprobs: reading.logprobs[start..end].to_vec(),
                text,
                hidden_f16,
                value: None,
                pruned: None,
            });
            start = end;
        }
        let last = thoughts
            .len()
            .checked_sub(1)
            .with_context(|| format!("{} has an empty completion", job.address))?;
        let ended = ids.last().is_some_and(|id| tools.stops.eos_ids.contains(id));
        let finish = if ended { FinishReason::Eos } else { FinishReason::TokensMax };
        let answer = if finish.is_complete() { (tools.answer)(job.kind, &text) } else { None };
        trees.push(Tree {
            address: job.address.clone(),
            strategy: Strategy::Cot,
            task_id: job.task_id.clone(),
            variant: job.variant.clone(),
            prompt_ids: job.prompt_ids.clone(),
            thoughts,
            leaves: vec![Leaf { thought: last as u32, finish, answer }],
        });
    }
    Ok(trees)
}

/// One past the last token of each thought, as drawing would have cut them.
fn ends(tools: &Tools, ids: &[u32]) -> Vec<usize> {
    let closes = |id: &u32| tools.stops.boundary_ids.contains(id);
    let mut ends: Vec<usize> =
        ids.iter().enumerate().filter(|(_, id)| closes(id)).map(|(i, _)| i + 1).collect();
    if ends.last() != Some(&ids.len()) && !ids.is_empty() {
        ends.push(ids.len());
    }
    ends
}
