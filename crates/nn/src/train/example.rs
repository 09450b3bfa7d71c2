//! Examples: token sequences with a mask that marks the targets of the loss.
//!
//! The prompt is never a target. A thought that several kept trajectories of one tree share is a
//! target once, in the first example that holds it; later examples read it as context (a shared
//! node trains once).

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::domain::Tree;

/// Where an example comes from, for lineage and for error messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Row id of a kept trajectory.
    Trajectory(i64),
    /// Id of a labelled task whose gold solution is the completion.
    Task(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trajectory(id) => write!(f, "trajectory {id}"),
            Self::Task(id) => write!(f, "task {id}"),
        }
    }
}

/// One sequence to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Prompt and completion.
    pub ids: Vec<u32>,
    /// For each token, whether its log-probability is part of the loss; of the same length as
    /// `ids`. The first token is predicted by nothing, so it is never a target.
    pub trains: Vec<bool>,
    pub source: Source,
}

impl Example {
    /// Length in tokens, prompt included.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many tokens the loss counts.
    pub fn targets(&self) -> usize {
        self.trains.iter().filter(|&&t| t).count()
    }

    /// What must hold of every example before it is packed.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.trains.len() == self.ids.len(),
            "the example from {} has {} tokens and a mask of {}",
            self.source,
            self.ids.len(),
            self.trains.len()
        );
        ensure!(
            !self.trains.first().copied().unwrap_or(false),
            "the example from {} asks for a loss on its first token, which nothing predicts",
            self.source
        );
        Ok(())
    }
}

/// Examples that an objective sees together: neither the schedule nor packing splits them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub examples: Vec<Example>,
}

impl From<Example> for Group {
    /// An example that needs no other.
    fn from(example: Example) -> Self {
        Self { examples: vec![example] }
    }
}

impl Group {
    /// Length of all examples in tokens, prompts included.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(Example::tokens).sum()
    }

    /// How many tokens the loss counts.
    pub fn targets(&self) -> usize {
        self.examples.iter().map(Example::targets).sum()
    }
}

/// The example that teaches a gold solution: `prompt_ids` is context, `completion_ids`
/// (end-of-sequence token included) is the target.
pub fn example_from_solution(prompt_ids: &[u32], completion_ids: &[u32], task_id: &str) -> Example {
    Example {
        ids: [prompt_ids, completion_ids].concat(),
        // An empty prompt leaves nothing to predict the first token from.
        trains: (0..prompt_ids.len() + completion_ids.len()).map(|i| i >= prompt_ids.len().max(1)).collect(),
        source: Source::Task(task_id.to_owned()),
    }
}

/// One example per kept leaf of `tree`, in the order of `kept` (indices into `tree.leaves`).
///
/// `trajectory_ids` holds the store's row id of every leaf of the tree. A kept leaf whose thoughts
/// are all shared with earlier ones would have no target and gives no example.
pub fn examples_from_tree(tree: &Tree, kept: &[usize], trajectory_ids: &[i64]) -> Result<Vec<Example>> {
    ensure!(
        trajectory_ids.len() == tree.leaves.len(),
        "the tree at {} has {} leaves and {} trajectory ids",
        tree.address,
        tree.leaves.len(),
        trajectory_ids.len()
    );
    let mut trained = HashSet::new();
    let mut examples = Vec::with_capacity(kept.len());
    for &index in kept {
        let leaf = tree.leaves.get(index).with_context(|| {
            format!("the tree at {} has {} leaves, none with index {index}", tree.address, tree.leaves.len())
        })?;
        let mut ids = tree.prompt_ids.clone();
        let mut trains = vec![false; ids.len()];
        for thought in tree.path(leaf) {
            let first = trained.insert(thought);
            let token_ids = &tree.thoughts[thought].token_ids;
            ids.extend_from_slice(token_ids);
            trains.resize(ids.len(), first);
        }
        if let Some(first) = trains.first_mut() {
            *first = false;
        }
        if trains.contains(&true) {
            examples.push(Example { ids, trains, source: Source::Trajectory(trajectory_ids[index]) });
        }
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;

    use super::*;
    use crate::domain::{Address, FinishReason, Leaf, Purpose, Strategy, Thought};

    fn thought(parent: Option<u32>, token_ids: &[u32]) -> Thought {
        Thought {
            parent,
            token_ids: token_ids.to_vec(),
            logprobs: vec![-1.0; token_ids.len()],
            text: String::new(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        }
    }

    fn leaf(thought: u32) -> Leaf {
        Leaf { thought, finish: FinishReason::Eos, answer: None }
    }

    /// Root thoughts 0; children 1 and 2 of 0; child 3 of 2.
    fn tree() -> Tree {
        Tree {
            address: Address::new(0, Purpose::Rollout, 1, "t", &[0]),
            strategy: Strategy::Tot,
            task_id: "t".into(),
            variant: None,
            prompt_ids: vec![1, 7, 8],
            thoughts: vec![
                thought(None, &[10, 11]),
                thought(Some(0), &[12, 2]),
                thought(Some(0), &[13]),
                thought(Some(2), &[14, 2]),
            ],
            leaves: vec![leaf(1), leaf(3), leaf(1)],
        }
    }

    #[test]
    fn the_prompt_is_masked_and_a_shared_thought_trains_once() {
        let examples = examples_from_tree(&tree(), &[0, 1], &[70, 71, 72]).unwrap();
        assert_eq!(examples[0].ids, [1, 7, 8, 10, 11, 12, 2]);
        assert_eq!(examples[0].trains, [false, false, false, true, true, true, true]);
        assert_eq!(examples[0].source, Source::Trajectory(70));
        assert_eq!(examples[1].ids, [1, 7, 8, 10, 11, 13, 14, 2]);
        assert_eq!(examples[1].trains, [false, false, false, false, false, true, true, true]);
        assert_eq!(examples[1].source, Source::Trajectory(71));
        let distinct: usize = tree().thoughts.iter().map(|t| t.token_ids.len()).sum();
        assert_eq!(examples.iter().map(Example::targets).sum::<usize>(), distinct);
    }

    #[test]
    fn a_leaf_that_adds_nothing_gives_no_example() {
        let examples = examples_from_tree(&tree(), &[0, 2], &[70, 71, 72]).unwrap();
        assert_eq!(examples.len(), 1);
        assert_refused(examples_from_tree(&tree(), &[3], &[70, 71, 72]), "none with index 3");
        assert_refused(examples_from_tree(&tree(), &[0], &[70]), "3 leaves and 1 trajectory ids");
    }

    #[test]
    fn a_solution_is_target_up_to_and_including_its_last_token() {
        let example = example_from_solution(&[1, 7], &[9, 2], "easy/3");
        assert_eq!(example.trains, [false, false, true, true]);
        assert_eq!((example.tokens(), example.targets()), (4, 2));
        assert_eq!(example.source.to_string(), "task easy/3");
        let promptless = example_from_solution(&[], &[9, 2], "x");
        assert_eq!(promptless.trains, [false, true]);
        promptless.check().unwrap();
    }
}
