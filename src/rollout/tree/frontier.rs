//! The frontier of a search: which thoughts of one tree are expanded next, and which are given up.
//!
//! A frontier sees one tree and no policy, scorer or text. The driver (`tree/mod.rs`) asks the
//! frontiers of all trees in rounds, so that one round is one engine call and one scorer call,
//! whatever the frontiers are. [`Beam`](super::beam::Beam) is the one implementation. Others fit
//! the trait as it is:
//!
//! - depth-first: `next` pops the newest thought of a stack; `learn` pushes the children above the
//!   floor, the best one last, and rules on everything still open when its budget is spent;
//! - best-first: `next` pops the highest values of a heap; `learn` pushes all children and, when
//!   the budget is spent, rules on what is left in the heap;
//! - UCT: `next` walks down by mean value and visits, both its own state, to a thought that has
//!   room for one more child (a thought may be expanded again in a later round; its new children
//!   get the next sibling numbers); `learn` adds the values along the paths.

use crate::domain::{PruneReason, Tree};

/// A thought to expand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expand {
    /// Index of a thought that is open (not pruned, not a leaf, not ended); `None` is the root.
    pub parent: Option<u32>,
    /// How many children to propose; at least 1.
    pub children: u32,
}

/// A thought that was added in this round. Duplicates of a sibling are not reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Child {
    /// Its index in [`Tree::thoughts`].
    pub thought: u32,
    /// The value of its path, a probability of being good so far; `None` if the scorer gave none.
    pub value: Option<f32>,
    /// Whether its path ended, by itself or at a limit: it can't be expanded.
    pub ended: bool,
}

/// What becomes of an open thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is the end of a trajectory. A path that had not ended is cut there and claims no answer.
    Leaf,
    /// It is given up: no trajectory passes it.
    Pruned(PruneReason),
}

/// A decision about one thought, of this round or of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub thought: u32,
    pub fate: Fate,
}

/// How large one tree can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Most sequences that are drawn at the same time.
    pub in_flight: usize,
    /// Most trajectories.
    pub leaves: usize,
    /// Most thoughts, pruned ones included.
    pub thoughts: usize,
}

/// The state of one tree's search.
///
/// A frontier is a function of its tree only: no clock, no randomness, no other tree. When the
/// search is over the tree has at least one leaf, and every thought is a leaf, pruned, or has a
/// child.
pub(super) trait Frontier: Send {
    /// The largest tree that this frontier grows when a trajectory has at most `thoughts_max`
    /// thoughts. The driver stops with an error if the frontier asks for more.
    fn extent(&self, thoughts_max: usize) -> Extent;

    /// The thoughts to expand in the next round, each at most once. Empty means that the search is
    /// over; it then stays empty.
    fn next(&mut self, tree: &Tree) -> Vec<Expand>;

    /// Takes in the children of a round, in the order of `next`, and rules on open thoughts. Leaves
    /// are added to the tree in the order of the rulings. A thought without a ruling stays open.
    /// There are no children if all were duplicates, or if `next` asked for none.
    fn learn(&mut self, tree: &Tree, children: &[Child]) -> Vec<Ruling>;
}
