//! Tree of thoughts (Yao et al. 2023, arXiv:2305.10601), breadth-first: sampled proposals, valued by the critic,
//! pruned to a beam. All searches of a call advance one depth at a time, in one engine batch and one scorer batch.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::chain::{check, claimed};
use super::thought::added_text;
use super::{Job, Tools};
use crate::config::TreeConfig;
use crate::domain::{FinishReason, Leaf, PruneReason, Scorer, Strategy, TaskKind, Thought, Tree};
use crate::engine::{Completion, Request};

pub fn trees(tools: &Tools, jobs: &[Job], config: &TreeConfig, scorer: &dyn Scorer) -> Result<Vec<Tree>> {
    let mut searches: Vec<Search> = jobs.iter().map(Search::new).collect();
    for depth in 1..=tools.limits.thoughts_max {
        let requests: Vec<Vec<Request>> = searches.iter().map(|s| s.requests(tools, config)).collect();
        let flat = requests.concat();
        if flat.is_empty() {
            break;
        }
        let completions = tools.engine.generate(&flat, tools.stops, tools.on_tokens)?;
        ensure!(
            completions.len() == flat.len(),
            "the engine gave {} completions for {} requests",
            completions.len(),
            flat.len()
        );
        grow(tools, config, &mut searches, &requests, completions)?;
        value(&mut searches, scorer)?;
        let last = depth == tools.limits.thoughts_max;
        searches.par_iter_mut().for_each(|search| search.narrow(tools, config, last));
    }
    Ok(searches.into_iter().map(|search| search.tree).collect())
}

/// Adds every search's share of `completions` to its tree.
fn grow(
    tools: &Tools,
    config: &TreeConfig,
    searches: &mut [Search],
    requests: &[Vec<Request>],
    completions: Vec<Completion>,
) -> Result<()> {
    let mut rest = completions.into_iter();
    let shares: Vec<Vec<Completion>> =
        requests.iter().map(|r| rest.by_ref().take(r.len()).collect()).collect();
    searches.par_iter_mut().zip(shares).try_for_each(|(search, share)| {
        let address = search.tree.address.clone();
        search.add(tools, config, share).with_context(|| format!("in the search at {address}"))
    })
}

/// Asks the scorer for every open proposal of every search in one batch.
fn value(searches: &mut [Search], scorer: &dyn Scorer) -> Result<()> {
    let open: Vec<(usize, u32)> = searches
        .iter()
        .enumerate()
        .flat_map(|(s, search)| search.open.iter().map(move |proposal| (s, proposal.thought)))
        .collect();
    let paths: Vec<Vec<&Thought>> = open
        .iter()
        .map(|&(s, i)| searches[s].path(i).into_iter().map(|t| &searches[s].tree.thoughts[t]).collect())
        .collect();
    let values = scorer.score(&paths);
    ensure!(values.len() == paths.len(), "the scorer gave {} values for {} paths", values.len(), paths.len());
    for ((s, i), value) in open.into_iter().zip(values) {
        // A value that failed stays absent: it is not a zero.
        searches[s].tree.thoughts[i as usize].value = value.ok().map(|v| v as f32);
    }
    Ok(())
}

/// A thought of the newest depth that is neither a duplicate nor yet ranked.
struct Proposal {
    thought: u32,
    finish: FinishReason,
}

/// One job's search between two depths.
struct Search {
    kind: TaskKind,
    tree: Tree,
    /// Thoughts to be continued; `None` is the root.
    beam: Vec<Option<u32>>,
    open: Vec<Proposal>,
}

impl Search {
    fn new(job: &Job) -> Self {
        let tree = Tree {
            address: job.address.clone(),
            strategy: Strategy::Tot,
            task_id: job.task_id.clone(),
            variant: job.variant.clone(),
            prompt_ids: job.prompt_ids.clone(),
            thoughts: Vec::new(),
            leaves: Vec::new(),
        };
        Self { kind: job.kind, tree, beam: vec![None], open: Vec::new() }
    }

    /// Indices from the first thought to `last`.
    fn path(&self, last: u32) -> Vec<usize> {
        let leaf = Leaf { thought: last, finish: FinishReason::Boundary, answer: None };
        self.tree.path(&leaf)
    }

    fn path_ids(&self, last: Option<u32>) -> Vec<u32> {
        let path = last.map(|i| self.path(i)).unwrap_or_default();
        path.into_iter().flat_map(|i| self.tree.thoughts[i].token_ids.iter().copied()).collect()
    }

    fn path_text(&self, last: Option<u32>) -> String {
        let path = last.map(|i| self.path(i)).unwrap_or_default();
        path.into_iter().map(|i| self.tree.thoughts[i].text.as_str()).collect()
    }

    /// `proposals` continuations of every beam entry; the k-th will be thought `thoughts.len() + k`.
    fn requests(&self, tools: &Tools, config: &TreeConfig) -> Vec<Request> {
        let mut requests = Vec::with_capacity(self.beam.len() * config.proposals as usize);
        for &entry in &self.beam {
            let ids = self.path_ids(entry);
            let context_ids = [self.tree.prompt_ids.as_slice(), &ids].concat();
            for _ in 0..config.proposals {
                let index = self.tree.thoughts.len() + requests.len();
                requests.push(Request {
                    context_ids: context_ids.clone(),
                    address: self.tree.address.child(index as u32),
                    sampling: tools.limits.sampling,
                    tokens_max: tools.limits.tokens_max - ids.len(),
                    stop_at_boundary: true,
                });
            }
        }
        requests
    }

    /// Appends the completions of [`Self::requests`] as thoughts; a sibling's text again is a duplicate.
    fn add(&mut self, tools: &Tools, config: &TreeConfig, completions: Vec<Completion>) -> Result<()> {
        let mut completions = completions.into_iter();
        for entry in std::mem::take(&mut self.beam) {
            let (before_ids, before) = (self.path_ids(entry), self.path_text(entry));
            let siblings = self.open.len();
            for completion in completions.by_ref().take(config.proposals as usize) {
                let finish = self.checked(&completion)?;
                let finish = self.room(tools, finish, before_ids.len() + completion.token_ids.len());
                let last = finish != FinishReason::Boundary;
                let text = added_text(tools.decode, &before_ids, &before, &completion.token_ids, last)?;
                let twin = |p: &Proposal| {
                    self.tree.thoughts[p.thought as usize].text == text
                        && p.finish.is_complete() == finish.is_complete()
                };
                let duplicate = self.open[siblings..].iter().any(twin);
                let thought = self.tree.thoughts.len() as u32;
                if !duplicate {
                    self.open.push(Proposal { thought, finish });
                }
                self.tree.thoughts.push(Thought {
                    parent: entry,
                    token_ids: completion.token_ids,
                    logprobs: completion.logprobs,
                    text,
                    hidden_f16: completion
                        .boundaries
                        .into_iter()
                        .next_back()
                        .map(|b| b.hidden_f16)
                        .unwrap_or_default(),
                    value: None,
                    pruned: duplicate.then_some(PruneReason::Duplicate),
                });
            }
        }
        Ok(())
    }

    /// A thought that ends well with `tokens` on its path ends the path if no token could follow.
    fn room(&self, tools: &Tools, finish: FinishReason, tokens: usize) -> FinishReason {
        if finish != FinishReason::Boundary {
            finish
        } else if tokens >= tools.limits.tokens_max {
            FinishReason::TokensMax
        } else if self.tree.prompt_ids.len() + tokens >= tools.engine.context_max() {
            FinishReason::ContextFull
        } else {
            finish
        }
    }

    fn checked(&self, completion: &Completion) -> Result<FinishReason> {
        check(completion)?;
        ensure!(
            completion.boundaries.len() == 1,
            "the engine went on over {} thoughts where one was asked for",
            completion.boundaries.len()
        );
        Ok(completion.finish)
    }

    /// Ranks the open proposals and keeps as many as the beam has places: leaves stay, the rest is the new beam.
    fn narrow(&mut self, tools: &Tools, config: &TreeConfig, last_depth: bool) {
        let mut ranked = std::mem::take(&mut self.open);
        let value = |p: &Proposal| self.tree.thoughts[p.thought as usize].value;
        ranked.sort_by(|a, b| {
            let (a_value, b_value) =
                (value(a).unwrap_or(f32::NEG_INFINITY), value(b).unwrap_or(f32::NEG_INFINITY));
            b_value.total_cmp(&a_value).then(a.thought.cmp(&b.thought))
        });
        let places = (config.beam as usize).saturating_sub(self.tree.leaves.len());
        for (rank, Proposal { thought, finish }) in ranked.into_iter().enumerate() {
            let below =
                self.tree.thoughts[thought as usize].value.is_some_and(|v| f64::from(v) < config.value_floor);
            // A search never ends empty-handed: the best proposal passes the floor if there is nothing else.
            let only = rank == 0 && self.tree.leaves.is_empty();
            if rank >= places {
                self.tree.thoughts[thought as usize].pruned = Some(PruneReason::Beam);
            } else if below && !only {
                self.tree.thoughts[thought as usize].pruned = Some(PruneReason::Value);
            } else if finish == FinishReason::Boundary && !last_depth {
                self.beam.push(Some(thought));
            } else {
                let finish =
                    if finish == FinishReason::Boundary { FinishReason::ThoughtsMax } else { finish };
                let answer = claimed(tools, self.kind, finish, &self.path_text(Some(thought)));
                self.tree.leaves.push(Leaf { thought, finish, answer });
            }
        }
    }
}
