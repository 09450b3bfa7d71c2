//! Trajectories that tests of this room score.

use crate::domain::{
    Address, FinishReason, Leaf, Purpose, Split, Strategy, Task, TaskKind, Thought, Trajectory, Tree,
};

/// A chain of thought with all that a [`Trajectory`] borrows.
pub(super) struct Owned {
    pub id: i64,
    pub task: Task,
    pub tree: Tree,
}

impl Owned {
    /// A chain of these thoughts, without tokens, that claims no answer.
    pub(super) fn thinking(id: i64, question: &str, texts: &[&str]) -> Self {
        let task = Task {
            id: "t/1".into(),
            kind: TaskKind::Text,
            split: Split::Train,
            level: 1,
            question: question.to_owned(),
            answer: None,
            solution: None,
        };
        let thought = |(i, text): (usize, &&str)| Thought {
            parent: (i as u32).checked_sub(1),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            text: (*text).to_owned(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        };
        let tree = Tree {
            address: Address::new(7, Purpose::Rollout, 1, &task.id, &[id as u32]),
            strategy: Strategy::Cot,
            task_id: task.id.clone(),
            variant: None,
            prompt_ids: Vec::new(),
            thoughts: texts.iter().enumerate().map(thought).collect(),
            leaves: vec![Leaf {
                thought: texts.len().saturating_sub(1) as u32,
                finish: FinishReason::Eos,
                answer: None,
            }],
        };
        Self { id, task, tree }
    }

    /// An attempt at this task that claims this answer.
    pub(super) fn answering(id: i64, task: &str, answer: Option<&str>) -> Self {
        let mut owned = Self::thinking(id, "?", &["."]);
        (owned.task.id, owned.tree.task_id) = (task.to_owned(), task.to_owned());
        owned.tree.leaves[0].answer = answer.map(str::to_owned);
        owned
    }

    /// The same with one token of this log-probability in each thought, and a hidden state.
    pub(super) fn drawn_with(mut self, logprob: f32) -> Self {
        for thought in &mut self.tree.thoughts {
            (thought.token_ids, thought.logprobs) = (vec![1], vec![logprob]);
            thought.hidden_f16 = [logprob, 1.0, -1.0].map(|h| half::f16::from_f32(h).to_bits()).to_vec();
        }
        self
    }

    pub(super) fn trajectory(&self) -> Trajectory<'_> {
        Trajectory { id: self.id, task: &self.task, tree: &self.tree, leaf: &self.tree.leaves[0] }
    }
}
