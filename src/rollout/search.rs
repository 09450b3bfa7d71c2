//! Tree of thoughts (Yao et al. 2023, arXiv:2305.10601), breadth-first: proposals, sampled or asked for, valued and
//! pruned to a beam. All searches of a call advance one depth at a time, in one engine batch and one scorer batch.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::chain::{check, claimed};
use super::thought::added_text;
use super::{Guide, Job, Path, Tools, Valuing, propose};
use crate::config::TreeConfig;
use crate::domain::{FinishReason, Leaf, PruneReason, Strategy, TaskKind, Thought, Tree};
use crate::engine::{Completion, Request};

pub fn search(tools: &Tools, jobs: &[Job], config: &TreeConfig, guide: &Guide) -> Result<Vec<Tree>> {
    let mut searches: Vec<Search> = jobs.iter().map(Search::new).collect();
    for depth in 1..=tools.limits.thoughts_max {
        let entries: Vec<Entry> =
            searches.iter().enumerate().flat_map(|(s, search)| search.entries(s)).collect();
        if entries.is_empty() {
            break;
        }
        let proposed = match &guide.proposing {
            None => sampled(tools, config, &searches, &entries)?,
            Some(proposing) => propose::prompted(tools, config, proposing, &searches, &entries)?,
        };
        grow(tools, &mut searches, &entries, proposed)?;
        value(&mut searches, guide.valuing)?;
        let last = depth == tools.limits.thoughts_max;
        searches.par_iter_mut().for_each(|search| search.narrow(tools, config, last));
    }
    Ok(searches.into_iter().map(|search| search.tree).collect())
}

/// A beam entry to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which search.
    pub search: usize,
    /// Which entry of its beam.
    pub place: usize,
}

/// A thought that may be added to a tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawn {
    pub token_ids: Vec<u32>,
    pub logprobs: Vec<f32>,
    pub hidden_f16: Vec<u16>,
    pub finish: FinishReason,
}

impl Drawn {
    fn of(completion: Completion) -> Result<Self> {
        check(&completion)?;
        let Completion { token_ids, logprobs, finish, mut boundaries } = completion;
        ensure!(
            boundaries.len() == 1,
            "the engine went on over {} thoughts where one was asked for",
            boundaries.len()
        );
        let hidden_f16 = boundaries.pop().map(|b| b.hidden_f16).unwrap_or_default();
        Ok(Self { token_ids, logprobs, hidden_f16, finish })
    }
}

/// `proposals` drawn continuations of every entry, in order.
pub(super) fn sampled(
    tools: &Tools,
    config: &TreeConfig,
    searches: &[Search],
    entries: &[Entry],
) -> Result<Vec<Vec<Drawn>>> {
    let requests: Vec<Request> = entries
        .iter()
        .flat_map(|entry| searches[entry.search].requests(tools, config, entry.place))
        .collect();
    let completions = tools.engine.generate(&requests, tools.stops, tools.on_tokens)?;
    ensure!(
        completions.len() == requests.len(),
        "the engine gave {} completions for {} requests",
        completions.len(),
        requests.len()
    );
    let mut rest = completions.into_iter();
    let mut proposed = Vec::with_capacity(entries.len());
    for entry in entries {
        let share = rest.by_ref().take(config.proposals as usize).map(Drawn::of).collect::<Result<_>>();
        proposed.push(share.with_context(|| searches[entry.search].name())?);
    }
    Ok(proposed)
}

/// Adds what was proposed for every entry to its search's tree.
fn grow(tools: &Tools, searches: &mut [Search], entries: &[Entry], proposed: Vec<Vec<Drawn>>) -> Result<()> {
    let mut shares: Vec<Vec<Vec<Drawn>>> = searches.iter().map(|_| Vec::new()).collect();
    for (entry, proposals) in entries.iter().zip(proposed) {
        shares[entry.search].push(proposals);
    }
    searches.par_iter_mut().zip(shares).try_for_each(|(search, share)| {
        let name = search.name();
        search.add(tools, share).context(name)
    })
}

/// Asks for every open proposal of every search in one batch.
fn value(searches: &mut [Search], valuing: Valuing) -> Result<()> {
    let open: Vec<(usize, u32)> = searches
        .iter()
        .enumerate()
        .flat_map(|(s, search)| search.open.iter().map(move |proposal| (s, proposal.thought)))
        .collect();
    let paths: Vec<Path> = open.iter().map(|&(s, i)| searches[s].path_to(Some(i))).collect();
    let values = match valuing {
        Valuing::Scorer(scorer) => {
            scorer.score(&paths.into_iter().map(|path| path.thoughts).collect::<Vec<_>>())
        }
        Valuing::Prompt(ask) => ask(&paths)?,
    };
    ensure!(values.len() == open.len(), "the scorer gave {} values for {} paths", values.len(), open.len());
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
pub(super) struct Search {
    kind: TaskKind,
    pub(super) tree: Tree,
    /// Thoughts to be continued; `None` is the root.
    pub(super) beam: Vec<Option<u32>>,
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

    fn entries(&self, search: usize) -> impl Iterator<Item = Entry> + use<> {
        (0..self.beam.len()).map(move |place| Entry { search, place })
    }

    pub(super) fn name(&self) -> String {
        format!("in the search at {}", self.tree.address)
    }

    /// Indices from the first thought to `last`.
    fn path(&self, last: u32) -> Vec<usize> {
        let leaf = Leaf { thought: last, finish: FinishReason::Boundary, answer: None };
        self.tree.path(&leaf)
    }

    /// The thoughts up to `last`.
    pub(super) fn path_to(&self, last: Option<u32>) -> Path<'_> {
        let path = last.map(|i| self.path(i)).unwrap_or_default();
        Path { tree: &self.tree, thoughts: path.into_iter().map(|i| &self.tree.thoughts[i]).collect() }
    }

    pub(super) fn path_ids(&self, last: Option<u32>) -> Vec<u32> {
        self.path_to(last).thoughts.into_iter().flat_map(|t| t.token_ids.iter().copied()).collect()
    }

    fn path_text(&self, last: Option<u32>) -> String {
        self.path_to(last).thoughts.into_iter().map(|t| t.text.as_str()).collect()
    }

    /// What the policy reads to go on from a beam entry.
    pub(super) fn context_ids(&self, place: usize) -> Vec<u32> {
        [self.tree.prompt_ids.as_slice(), &self.path_ids(self.beam[place])].concat()
    }

    /// Index of the first thought that a beam entry's proposals may become, and of the stream it is drawn from.
    pub(super) fn first_index(&self, config: &TreeConfig, place: usize) -> u32 {
        self.tree.thoughts.len() as u32 + place as u32 * config.proposals
    }

    /// `proposals` continuations of a beam entry.
    fn requests(&self, tools: &Tools, config: &TreeConfig, place: usize) -> Vec<Request> {
        let context_ids = self.context_ids(place);
        let drawn = context_ids.len() - self.tree.prompt_ids.len();
        let request = |index: u32| Request {
            context_ids: context_ids.clone(),
            address: self.tree.address.child(index),
            sampling: tools.limits.sampling,
            tokens_max: tools.limits.tokens_max - drawn,
            stop_at_boundary: true,
        };
        let first = self.first_index(config, place);
        (first..first + config.proposals).map(request).collect()
    }

    /// Appends every beam entry's proposals as thoughts; a sibling's text again is a duplicate.
    fn add(&mut self, tools: &Tools, proposed: Vec<Vec<Drawn>>) -> Result<()> {
        for (entry, proposals) in std::mem::take(&mut self.beam).into_iter().zip(proposed) {
            let (before_ids, before) = (self.path_ids(entry), self.path_text(entry));
            let siblings = self.open.len();
            for Drawn { token_ids, logprobs, hidden_f16, finish } in proposals {
                let finish = self.room(tools, finish, before_ids.len() + token_ids.len());
                let last = finish != FinishReason::Boundary;
                let text = added_text(tools.decode, &before_ids, &before, &token_ids, last)?;
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
                    token_ids,
                    logprobs,
                    text,
                    hidden_f16,
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
