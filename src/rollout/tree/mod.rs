//! Tree of thoughts (Yao et al. 2023, arXiv:2305.10601): propose next thoughts, value them, keep
//! the best.
//!
//! All searches of a call advance in rounds. In a round each tree's [`Frontier`] decides what to
//! expand; all proposals of all trees are drawn in one engine call and valued in one scorer call;
//! then each frontier rules on its own tree. A tree doesn't depend on the other trees of the call.
//!
//! Knows nothing about which thoughts are worth expanding: that is the frontier's.

mod beam;
mod frontier;
mod propose;
mod sample;
mod search;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

pub use frontier::Extent;

use self::beam::Beam;
use self::frontier::Frontier;
use self::search::{Expansion, Proposal, Search};
use super::{Job, RolloutConfig, Tools, TreeConfig};
use crate::domain::{ScoreError, Scorer, Strategy, Thought, Tree};

/// The thoughts of a search on one of its paths.
#[derive(Clone, Debug)]
pub struct Path<'t> {
    /// The tree that is searched, for its task and variant.
    pub tree: &'t Tree,
    /// First to last; none at the root.
    pub thoughts: Vec<&'t Thought>,
}

/// The value of each of several paths, as a probability of being good so far.
pub type Values = Vec<Result<f64, ScoreError>>;

/// How a search values its paths.
#[derive(Clone, Copy)]
pub enum Valuing<'a> {
    /// From what the policy computed while drawing.
    Scorer(&'a dyn Scorer),
    /// From a prompt that the caller fills in for each path.
    Prompt(&'a (dyn Fn(&[Path]) -> Result<Values> + Sync)),
}

/// Asks the policy for next thoughts in words (Yao et al. 2023, "propose prompt").
#[derive(Clone, Copy)]
pub struct Proposing<'a> {
    /// Token ids of the prompt that asks for this many thoughts after a path.
    pub ask: &'a (dyn Fn(&Path, u32) -> Result<Vec<u32>> + Sync),
    /// Token ids of one line of the answer, as a continuation of a completion.
    pub encode: &'a (dyn Fn(&str) -> Result<Vec<u32>> + Sync),
}

/// Where the thoughts of a search come from, and what values them.
#[derive(Clone, Copy)]
pub struct Guide<'a> {
    pub valuing: Valuing<'a>,
    /// `None`: every proposal is sampled as a continuation of its path.
    pub proposing: Option<Proposing<'a>>,
}

impl RolloutConfig {
    /// How large the tree of one job can become when a trajectory has at most `thoughts_max`
    /// thoughts.
    pub fn extent(&self, tree: &TreeConfig, thoughts_max: usize) -> Extent {
        match self.strategy {
            Strategy::Cot => Extent { in_flight: 1, leaves: 1, thoughts: thoughts_max },
            Strategy::Tot => frontier(tree).extent(thoughts_max),
        }
    }
}

/// Searches one tree for each job, in the order of the jobs.
///
/// Siblings with the same text are pruned, all other thoughts are valued, and every tree has at
/// least one leaf.
pub fn search(tools: &Tools, jobs: &[Job], config: &TreeConfig, guide: &Guide) -> Result<Vec<Tree>> {
    tools.check()?;
    let TreeConfig { proposals, beam, .. } = config;
    ensure!(
        *proposals > 0 && *beam > 0,
        "a search needs tree.proposals and tree.beam above 0; they are {proposals} and {beam}"
    );
    run(tools, jobs, guide, &|| frontier(config))
}

/// The frontier that the configuration asks for.
fn frontier(config: &TreeConfig) -> Box<dyn Frontier> {
    Box::new(Beam::new(config))
}

/// [`search`] with a new frontier for each tree.
fn run(
    tools: &Tools,
    jobs: &[Job],
    guide: &Guide,
    frontier: &dyn Fn() -> Box<dyn Frontier>,
) -> Result<Vec<Tree>> {
    let mut searches: Vec<Search> = jobs.iter().map(|job| Search::new(job, frontier())).collect();
    loop {
        let expansions = expansions(tools, &mut searches)?;
        if expansions.is_empty() {
            return searches.into_iter().map(Search::into_tree).collect();
        }
        let proposed = match &guide.proposing {
            None => sample::sampled(tools, &searches, &expansions)?,
            Some(proposing) => propose::prompted(tools, proposing, &searches, &expansions)?,
        };
        add(tools, &mut searches, &expansions, proposed)?;
        value(&mut searches, guide.valuing)?;
        searches.par_iter_mut().try_for_each(|search| {
            let learned = search.learn(tools);
            learned.with_context(|| search.name())
        })?;
    }
}

/// What all searches want to expand, in the order of the searches.
fn expansions(tools: &Tools, searches: &mut [Search]) -> Result<Vec<Expansion>> {
    let mut expansions = Vec::new();
    for (s, search) in searches.iter_mut().enumerate() {
        let wanted = search.next(tools.limits.thoughts_max);
        let wanted = wanted.with_context(|| search.name())?;
        expansions.extend(wanted.into_iter().map(|expand| Expansion { search: s, expand }));
    }
    Ok(expansions)
}

/// Adds the proposals of every expansion to the tree of its search.
fn add(
    tools: &Tools,
    searches: &mut [Search],
    expansions: &[Expansion],
    proposed: Vec<Vec<Proposal>>,
) -> Result<()> {
    let mut shares: Vec<Vec<(Option<u32>, Vec<Proposal>)>> = searches.iter().map(|_| Vec::new()).collect();
    for (Expansion { search, expand }, proposals) in expansions.iter().zip(proposed) {
        shares[*search].push((expand.parent, proposals));
    }
    searches.par_iter_mut().zip(shares).try_for_each(|(search, share)| {
        let mut share = share.into_iter();
        let added = share.try_for_each(|(parent, proposals)| search.add(tools, parent, proposals));
        added.with_context(|| search.name())
    })
}

/// Values the new thoughts of all searches in one batch.
fn value(searches: &mut [Search], valuing: Valuing) -> Result<()> {
    let added: Vec<(usize, u32)> = searches
        .iter()
        .enumerate()
        .flat_map(|(s, search)| search.added.iter().map(move |&thought| (s, thought)))
        .collect();
    let paths: Vec<Path> = added.iter().map(|&(s, thought)| searches[s].path_to(Some(thought))).collect();
    let values = match valuing {
        Valuing::Scorer(scorer) => {
            scorer.score(&paths.into_iter().map(|path| path.thoughts).collect::<Vec<_>>())
        }
        Valuing::Prompt(ask) => ask(&paths)?,
    };
    ensure!(values.len() == added.len(), "the scorer gave {} values for {} paths", values.len(), added.len());
    for ((s, thought), value) in added.into_iter().zip(values) {
        // A value that failed stays absent: it is not a zero.
        searches[s].tree.thoughts[thought as usize].value = value.ok().map(|v| v as f32);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
