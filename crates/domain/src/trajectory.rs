//! Trajectories: attempts at a task, stored as trees of thoughts (Yao et al. 2023, arXiv:2305.10601).
//!
//! A chain of thought is a tree with one branch. A trajectory is the path from the root to one [`Leaf`];
//! trajectories that share a beginning share its thoughts.

use serde::Serialize;

use super::{Address, Variant};
use crate::named_enum;

/// How a rollout explores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Chain of thought: one branch, sampled to its end.
    Cot,
    /// Tree of thoughts: breadth-first search by beam and critic values.
    Tot,
}

named_enum!(Strategy { Cot => "cot", Tot => "tot" });

/// Why a trajectory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The end-of-sequence token was drawn.
    Eos,
    /// A stop string appeared.
    StopString,
    /// A thought boundary was reached and the request asked to stop there.
    Boundary,
    /// The limit on drawn tokens was reached.
    TokensMax,
    /// The limit on thoughts in one trajectory was reached.
    ThoughtsMax,
    /// The model's context is full.
    ContextFull,
}

named_enum!(FinishReason {
    Eos => "eos",
    StopString => "stop_string",
    Boundary => "boundary",
    TokensMax => "tokens_max",
    ThoughtsMax => "thoughts_max",
    ContextFull => "context_full",
});

impl FinishReason {
    /// Whether the policy itself said it was done.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Eos | Self::StopString)
    }
}

/// Why a search gave a thought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PruneReason {
    /// Ranked below the beam.
    Beam,
    /// The same text as a sibling that was kept.
    Duplicate,
    /// Valued below the floor.
    Value,
}

named_enum!(PruneReason { Beam => "beam", Duplicate => "duplicate", Value => "value" });

/// One reasoning unit: the tokens drawn between two thought boundaries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thought {
    /// Index of the parent within [`Tree::thoughts`]; `None` for a first thought.
    pub parent: Option<u32>,
    /// Tokens as drawn, the closing boundary or end-of-sequence token included. Never re-tokenized, but for a line that
    /// a propose prompt gave, which is tokenized and read after its path.
    pub token_ids: Vec<u32>,
    /// Natural log-probability of each token under the policy at temperature 1, before any truncation.
    pub logprobs: Vec<f32>,
    /// The tokens decoded, special tokens left out.
    pub text: String,
    /// Final-norm hidden state (of `hidden_size`) from which the thought's last token was drawn, as f16 bits:
    /// what the critique head reads. Empty for policies without weights.
    #[serde(skip)]
    pub hidden_f16: Vec<u16>,
    /// The critic's value at the time of the search, in [0, 1]; `None` outside a tree search.
    pub value: Option<f32>,
    pub pruned: Option<PruneReason>,
}

/// The end of one trajectory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leaf {
    /// Index of the last thought within [`Tree::thoughts`].
    pub thought: u32,
    pub finish: FinishReason,
    /// The answer the trajectory claims, normalised by the task's kind; `None` if none could be read.
    pub answer: Option<String>,
}

/// Everything that one rollout unit drew for one variant of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tree {
    /// Names the random stream. A thought of a search draws from the address below it that the sibling
    /// numbers along the thought's path name. Trees of earlier builds drew from `address.child(i)` instead,
    /// where `i` is the thought's index.
    pub address: Address,
    pub strategy: Strategy,
    pub task_id: String,
    /// `None` when the task was asked in its own words.
    pub variant: Option<Variant>,
    /// The prompt as the policy read it.
    pub prompt_ids: Vec<u32>,
    /// Parents come before their children.
    pub thoughts: Vec<Thought>,
    /// At least one; in order of discovery.
    pub leaves: Vec<Leaf>,
}

impl Tree {
    /// Indices of the thoughts from the first one to `leaf`'s last.
    pub fn path(&self, leaf: &Leaf) -> Vec<usize> {
        let mut path = vec![leaf.thought as usize];
        while let Some(parent) = self.thoughts[path[path.len() - 1]].parent {
            path.push(parent as usize);
        }
        path.reverse();
        path
    }

    /// The trajectory's completion: all token ids after the prompt.
    pub fn completion_ids(&self, leaf: &Leaf) -> Vec<u32> {
        self.path(leaf).into_iter().flat_map(|i| self.thoughts[i].token_ids.iter().copied()).collect()
    }

    /// The trajectory's log-probabilities, one per completion token.
    pub fn completion_logprobs(&self, leaf: &Leaf) -> Vec<f32> {
        self.path(leaf).into_iter().flat_map(|i| self.thoughts[i].logprobs.iter().copied()).collect()
    }

    /// The trajectory's completion as text.
    pub fn completion_text(&self, leaf: &Leaf) -> String {
        self.path(leaf).into_iter().map(|i| self.thoughts[i].text.as_str()).collect()
    }

    /// Tokens drawn for the whole tree, pruned thoughts included.
    pub fn drawn_tokens(&self) -> usize {
        self.thoughts.iter().map(|t| t.token_ids.len()).sum()
    }
}
