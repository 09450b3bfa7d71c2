//! Trajectories: attempts at a task, stored as trees of thoughts (Yao et al. 2023, arXiv:2305.10601).
//!
//! A chain of thought is a tree with one branch. A trajectory is the path from the root to one [`Leaf`];
//! trajectories that share a beginning share its thoughts.

use serde::Serialize;

use super::{Address, Task, Variant};
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

/// What the log-probabilities of sampled tokens are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogprobKind {
    /// The policy's distribution, at temperature 1 and before any truncation.
    Raw,
    /// The sampler's distribution: after temperature and truncation, renormalised.
    Processed,
}

named_enum!(LogprobKind { Raw => "raw", Processed => "processed" });

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
    /// How often a search visited it; `None` if the search counts no visits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visits: Option<u32>,
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

/// One trajectory, borrowed from the tree that holds it: the path from the root to one leaf.
///
/// What every room that judges, reads or selects trajectories is passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trajectory<'t> {
    /// Row id in the store.
    pub id: i64,
    pub task: &'t Task,
    pub tree: &'t Tree,
    /// One of the tree's leaves.
    pub leaf: &'t Leaf,
}

impl<'t> Trajectory<'t> {
    /// The question as it was asked: the variant's, or the task's own.
    pub fn question(&self) -> &'t str {
        self.tree.variant.as_ref().map_or(&self.task.question, |variant| &variant.question)
    }

    /// Its thoughts, first to last.
    pub fn thoughts(&self) -> Vec<&'t Thought> {
        self.tree.path(self.leaf).into_iter().map(|i| &self.tree.thoughts[i]).collect()
    }

    /// The texts of its thoughts, first to last, without the empty one that only ends a trajectory.
    pub fn thought_texts(&self) -> Vec<&'t str> {
        self.thoughts().into_iter().map(|t| t.text.as_str()).filter(|text| !text.is_empty()).collect()
    }

    /// The completion as text.
    pub fn text(&self) -> String {
        self.tree.completion_text(self.leaf)
    }

    /// The completion's length in tokens.
    pub fn tokens(&self) -> usize {
        self.thoughts().into_iter().map(|thought| thought.token_ids.len()).sum()
    }

    /// The answer that it claims, normalised by the task's kind.
    pub fn answer(&self) -> Option<&'t str> {
        self.leaf.answer.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, Split, TaskKind};

    fn thought(parent: Option<u32>, text: &str) -> Thought {
        Thought {
            parent,
            token_ids: vec![1; text.len().max(1)],
            logprobs: vec![-0.5; text.len().max(1)],
            text: text.to_owned(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        }
    }

    #[test]
    fn a_trajectory_is_the_path_to_its_leaf() {
        let address = Address::new(1, Purpose::Rollout, 1, "t/1", &[0]);
        let task = Task {
            id: "t/1".into(),
            kind: TaskKind::Relations,
            split: Split::Train,
            level: 1,
            question: "own?".into(),
            answer: None,
            solution: None,
        };
        let leaf = |thought, answer: Option<&str>| Leaf {
            thought,
            finish: FinishReason::Eos,
            answer: answer.map(str::to_owned),
        };
        let thoughts = vec![
            thought(None, "ab\n"),
            thought(Some(0), "left"),
            thought(Some(0), "r"),
            thought(Some(2), ""),
        ];
        let mut tree = Tree {
            address: address.clone(),
            strategy: Strategy::Tot,
            task_id: task.id.clone(),
            variant: None,
            prompt_ids: vec![9],
            thoughts,
            leaves: vec![leaf(1, None), leaf(3, Some("7"))],
        };
        let last = Trajectory { id: 5, task: &task, tree: &tree, leaf: &tree.leaves[1] };
        assert_eq!((last.question(), last.answer(), last.tokens()), ("own?", Some("7"), 5));
        assert_eq!((last.text().as_str(), last.thought_texts()), ("ab\nr", vec!["ab\n", "r"]));
        assert_eq!(last.thoughts().len(), 3, "the thought that only ends it is one of its thoughts");
        let first = Trajectory { leaf: &tree.leaves[0], ..last };
        assert_eq!((first.text().as_str(), first.answer()), ("ab\nleft", None));
        tree.variant = Some(Variant { address, question: "other words?".into() });
        let asked = Trajectory { id: 5, task: &task, tree: &tree, leaf: &tree.leaves[1] };
        assert_eq!(asked.question(), "other words?");
    }
}
