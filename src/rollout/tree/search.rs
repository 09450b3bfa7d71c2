//! One tree while it grows: its thoughts, its frontier, and where its random streams are.
//!
//! A thought samples from its own stream, whose address is the tree's address followed by the
//! sibling numbers along the thought's path, its own included. A sibling number counts the children
//! of one parent in the order in which they were added. So what a thought draws depends on its path
//! only, not on how wide the search is or on what it does in other branches.

use anyhow::{Result, ensure};

use super::frontier::{Child, Expand, Fate, Frontier, Ruling};
use super::{Path, Tools};
use crate::domain::{Address, AnswerMap, FinishReason, Leaf, PruneReason, Strategy, TaskKind, Thought, Tree};
use crate::rollout::Job;
use crate::rollout::chain::claimed;
use crate::rollout::thought::added_text;

/// The sibling number that stands for a propose prompt; no tree has this many thoughts.
const PROPOSE_PROMPT: u32 = u32::MAX;

/// A thought that may be added to a tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub token_ids: Vec<u32>,
    /// Of each token, as in [`Thought::logprobs`].
    pub logprobs: Vec<f32>,
    pub hidden_f16: Vec<u16>,
    pub finish: FinishReason,
}

/// An [`Expand`] of one of several searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expansion {
    /// Index of the search.
    pub search: usize,
    pub expand: Expand,
}

/// What a search knows of a thought beyond what the tree keeps.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// [`FinishReason::Boundary`] if the path can be continued.
    finish: FinishReason,
    /// Its number among the children of its parent.
    sibling: u32,
    /// How many children it has.
    children: u32,
}

pub(super) struct Search {
    kind: TaskKind,
    /// What answers to the variant mean for the task.
    answers: AnswerMap,
    pub tree: Tree,
    /// One for each thought of the tree.
    notes: Vec<Note>,
    /// How many first thoughts the tree has.
    root_children: u32,
    frontier: Box<dyn Frontier>,
    /// The thoughts that this round added, duplicates left out.
    pub added: Vec<u32>,
}

impl Search {
    pub(super) fn new(job: &Job, frontier: Box<dyn Frontier>) -> Self {
        let tree = Tree {
            address: job.address.clone(),
            strategy: Strategy::Tot,
            task_id: job.task_id.clone(),
            variant: job.variant.clone(),
            prompt_ids: job.prompt_ids.clone(),
            thoughts: Vec::new(),
            leaves: Vec::new(),
        };
        Self {
            kind: job.kind,
            answers: job.answers.clone(),
            tree,
            notes: Vec::new(),
            root_children: 0,
            frontier,
            added: Vec::new(),
        }
    }

    /// Names the search in errors.
    pub(super) fn name(&self) -> String {
        format!("in the search at {}", self.tree.address)
    }

    /// Indices from the first thought to `last`; none for the root.
    fn path(&self, last: Option<u32>) -> Vec<usize> {
        let leaf = |thought| Leaf { thought, finish: FinishReason::Boundary, answer: None };
        last.map(|thought| self.tree.path(&leaf(thought))).unwrap_or_default()
    }

    /// The thoughts up to `last`.
    pub(super) fn path_to(&self, last: Option<u32>) -> Path<'_> {
        let thoughts = self.path(last).into_iter().map(|i| &self.tree.thoughts[i]).collect();
        Path { tree: &self.tree, thoughts }
    }

    fn path_ids(&self, last: Option<u32>) -> Vec<u32> {
        self.path_to(last).thoughts.into_iter().flat_map(|t| t.token_ids.iter().copied()).collect()
    }

    fn path_text(&self, last: Option<u32>) -> String {
        self.path_to(last).thoughts.into_iter().map(|t| t.text.as_str()).collect()
    }

    /// What the policy reads before it continues after `last`: the prompt and the path.
    pub(super) fn context_ids(&self, last: Option<u32>) -> Vec<u32> {
        [self.tree.prompt_ids.as_slice(), &self.path_ids(last)].concat()
    }

    /// Tokens that a child of `parent` may have.
    pub(super) fn tokens_left(&self, tools: &Tools, parent: Option<u32>) -> usize {
        tools.limits.tokens_max - self.path_ids(parent).len()
    }

    /// How many children `parent` has, which is the sibling number of its next one.
    fn children(&self, parent: Option<u32>) -> u32 {
        parent.map_or(self.root_children, |parent| self.notes[parent as usize].children)
    }

    /// The address of a thought's stream; the tree's own address for the root.
    fn address(&self, thought: Option<u32>) -> Address {
        let mut address = self.tree.address.clone();
        address.branch.extend(self.path(thought).into_iter().map(|i| self.notes[i].sibling));
        address
    }

    /// The streams of the children that an expansion adds.
    pub(super) fn child_addresses(&self, expand: Expand) -> Vec<Address> {
        let parent = self.address(expand.parent);
        let first = self.children(expand.parent);
        (first..first + expand.children).map(|sibling| parent.child(sibling)).collect()
    }

    /// The stream of the prompt that proposes an expansion's children. No thought samples from it.
    pub(super) fn prompt_address(&self, expand: Expand) -> Address {
        self.address(expand.parent).child(PROPOSE_PROMPT).child(self.children(expand.parent))
    }

    /// What the frontier wants to expand next; none if the search is over. An error names a request
    /// that the frontier's own extent or the state of the tree rules out.
    pub(super) fn next(&mut self, thoughts_max: usize) -> Result<Vec<Expand>> {
        let wanted = self.frontier.next(&self.tree);
        let extent = self.frontier.extent(thoughts_max);
        let children: usize = wanted.iter().map(|expand| expand.children as usize).sum();
        let thoughts = self.tree.thoughts.len() + children;
        ensure!(
            children <= extent.in_flight && thoughts <= extent.thoughts,
            "the frontier asks for {children} thoughts at once and {thoughts} in all; its limits are {} and {}",
            extent.in_flight,
            extent.thoughts
        );
        for (i, Expand { parent, children }) in wanted.iter().enumerate() {
            let once = wanted[..i].iter().all(|earlier| earlier.parent != *parent);
            ensure!(
                once && *children > 0 && parent.is_none_or(|parent| self.can_expand(parent)),
                "the frontier asks for {children} children of thought {parent:?}, which can't be expanded"
            );
        }
        Ok(wanted)
    }

    fn can_expand(&self, thought: u32) -> bool {
        self.is_open(thought) && self.notes[thought as usize].finish == FinishReason::Boundary
    }

    /// Whether the thought exists and nothing has ruled on it.
    fn is_open(&self, thought: u32) -> bool {
        let known = self.tree.thoughts.get(thought as usize);
        known.is_some_and(|known| known.pruned.is_none())
            && self.tree.leaves.iter().all(|leaf| leaf.thought != thought)
    }

    /// Appends proposals as children of `parent`. One with the text of an earlier sibling is a
    /// duplicate.
    pub(super) fn add(&mut self, tools: &Tools, parent: Option<u32>, proposals: Vec<Proposal>) -> Result<()> {
        let (before_ids, before) = (self.path_ids(parent), self.path_text(parent));
        let depth = self.path(parent).len() + 1;
        let mut siblings = self.distinct_children(parent);
        for Proposal { token_ids, logprobs, hidden_f16, finish } in proposals {
            let finish = self.limited(tools, finish, before_ids.len() + token_ids.len(), depth);
            let last = finish != FinishReason::Boundary;
            let text = added_text(tools.decode, &before_ids, &before, &token_ids, last)?;
            let duplicate = siblings.iter().any(|&sibling| {
                self.tree.thoughts[sibling as usize].text == text
                    && self.notes[sibling as usize].finish.is_complete() == finish.is_complete()
            });
            let thought = self.tree.thoughts.len() as u32;
            if !duplicate {
                siblings.push(thought);
                self.added.push(thought);
            }
            self.tree.thoughts.push(Thought {
                parent,
                token_ids,
                logprobs,
                text,
                hidden_f16,
                value: None,
                pruned: duplicate.then_some(PruneReason::Duplicate),
                visits: None,
            });
            let sibling = self.count_child(parent);
            self.notes.push(Note { finish, sibling, children: 0 });
        }
        Ok(())
    }

    /// The children of `parent` that are not duplicates.
    fn distinct_children(&self, parent: Option<u32>) -> Vec<u32> {
        let distinct = |i: &u32| {
            let thought = &self.tree.thoughts[*i as usize];
            thought.parent == parent && thought.pruned != Some(PruneReason::Duplicate)
        };
        // Parents come before their children.
        (parent.map_or(0, |parent| parent + 1)..self.tree.thoughts.len() as u32).filter(distinct).collect()
    }

    /// Gives `parent` one more child and returns the child's sibling number.
    fn count_child(&mut self, parent: Option<u32>) -> u32 {
        let children = match parent {
            Some(parent) => &mut self.notes[parent as usize].children,
            None => &mut self.root_children,
        };
        *children += 1;
        *children - 1
    }

    /// How a thought ends when its path has `tokens` tokens and `depth` thoughts: a path that no
    /// token or no thought may follow ends with it.
    fn limited(&self, tools: &Tools, finish: FinishReason, tokens: usize, depth: usize) -> FinishReason {
        if finish != FinishReason::Boundary {
            finish
        } else if tokens >= tools.limits.tokens_max {
            FinishReason::TokensMax
        } else if self.tree.prompt_ids.len() + tokens >= tools.engine.context_max() {
            FinishReason::ContextFull
        } else if depth >= tools.limits.thoughts_max {
            FinishReason::ThoughtsMax
        } else {
            finish
        }
    }

    /// Reports the round's children to the frontier and carries out its rulings.
    pub(super) fn learn(&mut self, tools: &Tools) -> Result<()> {
        let child = |thought: u32| Child {
            thought,
            value: self.tree.thoughts[thought as usize].value,
            ended: self.notes[thought as usize].finish != FinishReason::Boundary,
        };
        let children: Vec<Child> = std::mem::take(&mut self.added).into_iter().map(child).collect();
        for Ruling { thought, fate } in self.frontier.learn(&self.tree, &children) {
            ensure!(
                self.is_open(thought) && self.children(Some(thought)) == 0,
                "the frontier rules on thought {thought}, which is not open"
            );
            match fate {
                Fate::Pruned(reason) => self.tree.thoughts[thought as usize].pruned = Some(reason),
                Fate::Leaf => self.end(tools, thought),
            }
        }
        Ok(())
    }

    /// Makes a thought the end of a trajectory.
    fn end(&mut self, tools: &Tools, thought: u32) {
        let finish = match self.notes[thought as usize].finish {
            FinishReason::Boundary => FinishReason::ThoughtsMax,
            ended => ended,
        };
        let answer = claimed(tools, (self.kind, &self.answers), finish, &self.path_text(Some(thought)));
        self.tree.leaves.push(Leaf { thought, finish, answer });
    }

    /// The finished tree.
    pub(super) fn into_tree(self) -> Result<Tree> {
        ensure!(!self.tree.leaves.is_empty(), "{} the frontier made no leaf", self.name());
        Ok(self.tree)
    }
}
