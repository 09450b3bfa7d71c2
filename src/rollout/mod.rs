//! Rollout: a task's prompt in, a [`Tree`] of thoughts out.
//!
//! [`chains`] draws chains of thought (one branch each), [`search`] searches (tree of thoughts, Yao et al. 2023,
//! arXiv:2305.10601). Both give every job of a call to the engine at once, keep tokens, log-probs and hidden
//! states exactly as drawn, and leave nothing out: pruned thoughts stay in the tree. A tree is a pure function of
//! (policy, job, limits, guide); what else is in the call can't change it.
//!
//! Knows nothing about stores, grades or gold answers: the caller brings the function that reads an answer.

mod chain;
mod given;
mod propose;
mod search;
mod thought;

use anyhow::{Result, ensure};

pub use given::given;

use crate::config::TreeConfig;
use crate::domain::{Address, ScoreError, Scorer, TaskKind, Thought, Tree, Variant};
use crate::engine::{Generate, Sampling, Stops};

/// One prompt to roll out.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub task_id: String,
    pub kind: TaskKind,
    /// `None` when the task is asked in its own words.
    pub variant: Option<Variant>,
    pub prompt_ids: Vec<u32>,
    /// Unique to this job; a chain draws from it, thought `i` of a search from its child `i`.
    pub address: Address,
}

/// How far one trajectory may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub sampling: Sampling,
    /// Most tokens of one trajectory, prompt not counted.
    pub tokens_max: usize,
    /// Most thoughts of one trajectory.
    pub thoughts_max: usize,
}

/// Reads the answer that a finished completion of a task of this kind claims.
pub type Answer<'a> = &'a (dyn Fn(TaskKind, &str) -> Option<String> + Sync);

/// Decodes token ids, special tokens left out.
pub type Decode<'a> = &'a (dyn Fn(&[u32]) -> Result<String> + Sync);

/// What a call's jobs share.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    pub engine: &'a dyn Generate,
    pub decode: Decode<'a>,
    pub stops: &'a Stops,
    pub limits: Limits,
    pub answer: Answer<'a>,
    /// Told of drawn tokens as they come, from any thread.
    pub on_tokens: &'a (dyn Fn(usize) + Sync),
}

impl Tools<'_> {
    fn check(&self) -> Result<()> {
        let Limits { tokens_max, thoughts_max, .. } = self.limits;
        ensure!(tokens_max > 0, "a trajectory's limit is 0 tokens; give at least 1");
        ensure!(thoughts_max > 0, "a trajectory's limit is 0 thoughts; give at least 1");
        Ok(())
    }
}

/// Draws one chain of thought per job, in the order of the jobs: a tree with one branch and one leaf.
///
/// A completion with more than `thoughts_max` thoughts is cut after that many.
pub fn chains(tools: &Tools, jobs: &[Job]) -> Result<Vec<Tree>> {
    tools.check()?;
    chain::chains(tools, jobs)
}

/// What a search has thought so far on one of its paths.
#[derive(Clone, Debug)]
pub struct Path<'t> {
    /// The search, for its task and its words.
    pub tree: &'t Tree,
    /// First to last; none at the root.
    pub thoughts: Vec<&'t Thought>,
}

/// What each of several paths is worth, as a probability of being good so far.
pub type Values = Vec<Result<f64, ScoreError>>;

/// How a search values its paths.
#[derive(Clone, Copy)]
pub enum Valuing<'a> {
    /// By what the policy computed while drawing.
    Scorer(&'a dyn Scorer),
    /// By whatever the caller asks about a path.
    Prompt(&'a (dyn Fn(&[Path]) -> Result<Values> + Sync)),
}

/// Asks the policy for next thoughts in words (Yao et al. 2023, "propose prompt").
#[derive(Clone, Copy)]
pub struct Proposing<'a> {
    /// The prompt for so many thoughts after a path, as token ids.
    pub ask: &'a (dyn Fn(&Path, u32) -> Result<Vec<u32>> + Sync),
    /// Token ids of a line of the answer, as the policy would go on with it.
    pub encode: &'a (dyn Fn(&str) -> Result<Vec<u32>> + Sync),
}

/// Where a search's thoughts come from, and what they are worth.
#[derive(Clone, Copy)]
pub struct Guide<'a> {
    pub valuing: Valuing<'a>,
    /// `None`: every proposal is drawn on from its path.
    pub proposing: Option<Proposing<'a>>,
}

/// Searches one tree per job, in the order of the jobs: breadth-first by beam.
///
/// At each depth every thought in the beam gets `proposals` continuations. Those with a sibling's text are
/// pruned, the rest are valued in one batch, and the best `beam` are kept (ties by index, unvalued ones last). A
/// kept thought that ends its trajectory becomes a leaf and keeps its place in the beam for good, so a tree has
/// at most `beam` leaves. What was left out of the paper: voting across states and depth-first search.
pub fn search(tools: &Tools, jobs: &[Job], config: &TreeConfig, guide: &Guide) -> Result<Vec<Tree>> {
    tools.check()?;
    ensure!(config.proposals > 0 && config.beam > 0, "a search needs tree.proposals and tree.beam above 0");
    search::search(tools, jobs, config, guide)
}

/// [`search`] with sampled proposals, valued by `scorer`.
pub fn trees(tools: &Tools, jobs: &[Job], config: &TreeConfig, scorer: &dyn Scorer) -> Result<Vec<Tree>> {
    search(tools, jobs, config, &Guide { valuing: Valuing::Scorer(scorer), proposing: None })
}

#[cfg(test)]
mod tests;
