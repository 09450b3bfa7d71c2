//! The places that each task has among the kept trajectories, and duplicates.

use std::collections::HashSet;

use crate::domain::{SelectionReason, Trajectory};

/// The places that one task has, and the texts that have taken one.
pub(super) struct Places<'a> {
    free: usize,
    /// A variant's question (empty for the task's own) and a text: the same text under another
    /// variant is no duplicate.
    taken: HashSet<(&'a str, String)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(free: usize) -> Self {
        Self { free, taken: HashSet::new() }
    }

    /// Gives the trajectory a place, or returns why it can't have one.
    pub(super) fn take(&mut self, trajectory: &Trajectory<'a>) -> Option<SelectionReason> {
        let variant = trajectory.tree.variant.as_ref().map_or("", |variant| &variant.question);
        let key = (variant, normalised(&trajectory.text()));
        if self.taken.contains(&key) {
            return Some(SelectionReason::Duplicate);
        }
        if self.free == 0 {
            return Some(SelectionReason::BelowKeep);
        }
        self.free -= 1;
        self.taken.insert(key);
        None
    }
}

/// Text without differences in blank space.
fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
