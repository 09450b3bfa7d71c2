//! Rollout: a task's prompt in, a [`Tree`] of thoughts out.
//!
//! [`chains`] samples chains of thought (one branch each), [`search`] grows trees of thoughts (Yao
//! et al. 2023, arXiv:2305.10601), and [`teacher_forced`] lays out completions that were given.
//! Each passes all jobs of a call to the engine at once, keeps tokens, log-probabilities and hidden
//! states exactly as they were drawn, and leaves nothing out: pruned thoughts stay in the tree. A
//! tree is a pure function of (policy, job, limits, guide); the other jobs of a call can't change
//! it.
//!
//! Knows nothing about stores, grades or gold answers: the caller passes the function that reads an
//! answer.

mod chain;
mod config;
mod teacher_forced;
mod thought;
mod tree;

use anyhow::{Result, ensure};

pub use config::{Propose, RolloutConfig, TreeConfig, ValueBy};
pub use teacher_forced::teacher_forced;
pub use tree::{Extent, Guide, Path, Proposing, Values, Valuing, search};

use crate::domain::{Address, AnswerMap, Generate, Sampling, Stops, TaskKind, Tree, Variant};

/// One prompt to roll out.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub task_id: String,
    pub kind: TaskKind,
    /// `None` when the task is asked in its own words.
    pub variant: Option<Variant>,
    /// What answers to the variant mean for the task; empty when the two have the same.
    pub answers: AnswerMap,
    pub prompt_ids: Vec<u32>,
    /// Unique to this job. A chain samples from it; a thought of a search samples from the address
    /// below it that the sibling numbers along the thought's path name.
    pub address: Address,
}

/// Bounds of one trajectory, and how its tokens are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub sampling: Sampling,
    /// Most tokens of one trajectory, the prompt not counted.
    pub tokens_max: usize,
    /// Most thoughts of one trajectory.
    pub thoughts_max: usize,
}

/// Reads the answer that a finished completion of a task of this kind claims.
pub type Answer<'a> = &'a (dyn Fn(TaskKind, &str) -> Option<String> + Sync);

/// Decodes token ids, special tokens left out.
pub type Decode<'a> = &'a (dyn Fn(&[u32]) -> Result<String> + Sync);

/// What the jobs of a call share.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    pub engine: &'a dyn Generate,
    pub decode: Decode<'a>,
    pub stops: &'a Stops,
    pub limits: Limits,
    pub answer: Answer<'a>,
    /// Called with the number of tokens that were just drawn, from any thread.
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

/// Samples one chain of thought for each job, in the order of the jobs: a tree with one branch and
/// one leaf.
///
/// A completion with more than `thoughts_max` thoughts is cut after that many.
pub fn chains(tools: &Tools, jobs: &[Job]) -> Result<Vec<Tree>> {
    tools.check()?;
    chain::chains(tools, jobs)
}

#[cfg(test)]
mod tests;
