//! Sampled proposals: every child is drawn as a continuation of its parent's path, up to the first
//! thought boundary.

use crate::domain::{Completion, Request};
use anyhow::{Context, Result, ensure};

use super::Tools;
use super::search::{Expansion, Proposal, Search};
use crate::rollout::chain::check;

/// The proposals of every expansion, in order: as many as it asks for.
pub(super) fn sampled(
    tools: &Tools,
    searches: &[Search],
    expansions: &[Expansion],
) -> Result<Vec<Vec<Proposal>>> {
    let requests: Vec<Request> =
        expansions.iter().flat_map(|expansion| requests(tools, searches, expansion)).collect();
    let completions = tools.engine.generate(&requests, tools.stops, tools.on_tokens)?;
    ensure!(
        completions.len() == requests.len(),
        "the engine gave {} completions for {} requests",
        completions.len(),
        requests.len()
    );
    let mut rest = completions.into_iter();
    let mut proposed = Vec::with_capacity(expansions.len());
    for Expansion { search, expand } in expansions {
        let share = rest.by_ref().take(expand.children as usize).map(proposal).collect::<Result<_>>();
        proposed.push(share.with_context(|| searches[*search].name())?);
    }
    Ok(proposed)
}

fn requests(tools: &Tools, searches: &[Search], expansion: &Expansion) -> Vec<Request> {
    let Expansion { search, expand } = expansion;
    let search = &searches[*search];
    let context_ids = search.context_ids(expand.parent);
    let tokens_max = search.tokens_left(tools, expand.parent);
    let request = |address| Request {
        context_ids: context_ids.clone(),
        address,
        sampling: tools.limits.sampling,
        tokens_max,
        stop_at_boundary: true,
    };
    search.child_addresses(*expand).into_iter().map(request).collect()
}

fn proposal(completion: Completion) -> Result<Proposal> {
    check(&completion)?;
    let Completion { token_ids, logprobs, finish, mut boundaries } = completion;
    ensure!(
        boundaries.len() == 1,
        "the engine returned {} thoughts where one was asked for",
        boundaries.len()
    );
    let hidden_f16 = boundaries.pop().map(|boundary| boundary.hidden_f16).unwrap_or_default();
    Ok(Proposal { token_ids, logprobs, hidden_f16, finish })
}
