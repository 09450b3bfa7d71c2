//! Chains of thought (Wei et al. 2022, arXiv:2201.11903): one completion for each job, cut at its
//! thought boundaries.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::thought::texts;
use super::{Job, Tools};
use crate::domain::{
    AnswerMap, Boundary, Completion, FinishReason, Leaf, Request, Strategy, TaskKind, Thought, Tree,
};

/// One tree for each job, in order.
pub(super) fn chains(tools: &Tools, jobs: &[Job]) -> Result<Vec<Tree>> {
    let request = |job: &Job| Request {
        context_ids: job.prompt_ids.clone(),
        address: job.address.clone(),
        sampling: tools.limits.sampling,
        tokens_max: tools.limits.tokens_max,
        stop_at_boundary: false,
    };
    let requests: Vec<_> = jobs.iter().map(request).collect();
    let completions = tools.engine.generate(&requests, tools.stops, tools.on_tokens)?;
    ensure!(
        completions.len() == jobs.len(),
        "the engine gave {} completions for {} requests",
        completions.len(),
        jobs.len()
    );
    let tree = |(job, completion)| {
        chain(tools, job, completion).with_context(|| format!("in the chain at {}", job.address))
    };
    jobs.par_iter().zip(completions).map(tree).collect()
}

fn chain(tools: &Tools, job: &Job, mut completion: Completion) -> Result<Tree> {
    if completion.boundaries.len() > tools.limits.thoughts_max {
        check(&completion)?;
        completion.boundaries.truncate(tools.limits.thoughts_max);
        let end = completion.boundaries.last().map_or(0, |b| b.end);
        completion.token_ids.truncate(end);
        completion.logprobs.truncate(end);
        completion.finish = FinishReason::ThoughtsMax;
    }
    laid_out(tools, job, completion)
}

/// A completion as a tree with one branch and one leaf.
pub(super) fn laid_out(tools: &Tools, job: &Job, completion: Completion) -> Result<Tree> {
    check(&completion)?;
    let Completion { token_ids, logprobs, finish, boundaries } = completion;
    let ends: Vec<usize> = boundaries.iter().map(|b| b.end).collect();
    let mut thoughts = Vec::with_capacity(boundaries.len());
    let mut start = 0;
    for (text, Boundary { end, hidden_f16 }) in
        texts(tools.decode, &token_ids, &ends)?.into_iter().zip(boundaries)
    {
        thoughts.push(Thought {
            parent: thoughts.len().checked_sub(1).map(|p| p as u32),
            token_ids: token_ids[start..end].to_vec(),
            logprobs: logprobs[start..end].to_vec(),
            text,
            hidden_f16,
            value: None,
            pruned: None,
            visits: None,
        });
        start = end;
    }
    let text: String = thoughts.iter().map(|t| t.text.as_str()).collect();
    let leaf = Leaf {
        thought: thoughts.len() as u32 - 1,
        finish,
        answer: claimed(tools, (job.kind, &job.answers), finish, &text),
    };
    Ok(Tree {
        address: job.address.clone(),
        strategy: Strategy::Cot,
        task_id: job.task_id.clone(),
        variant: job.variant.clone(),
        prompt_ids: job.prompt_ids.clone(),
        thoughts,
        leaves: vec![leaf],
    })
}

/// The answer that a trajectory claims, as an answer to the task in its own words. One that was cut
/// off claims none.
pub(super) fn claimed(
    tools: &Tools,
    (kind, answers): (TaskKind, &AnswerMap),
    finish: FinishReason,
    text: &str,
) -> Option<String> {
    let claimed = if finish.is_complete() { (tools.answer)(kind, text) } else { None }?;
    Some(answers.get(&claimed).cloned().unwrap_or(claimed))
}

/// Refuses a completion that no engine may return, before it is indexed.
pub(super) fn check(completion: &Completion) -> Result<()> {
    let tokens = completion.token_ids.len();
    ensure!(
        tokens > 0,
        "the engine drew no token ({}): the prompt fills the model's context; shorten the prompt",
        completion.finish
    );
    ensure!(
        completion.logprobs.len() == tokens,
        "the engine gave {} log-probs for {tokens} tokens",
        completion.logprobs.len()
    );
    let ends: Vec<usize> = completion.boundaries.iter().map(|b| b.end).collect();
    ensure!(
        ends.is_sorted_by(|a, b| a < b) && ends.first() > Some(&0) && ends.last() == Some(&tokens),
        "the engine's thoughts end at {ends:?}; they must rise and end at {tokens}"
    );
    Ok(())
}
