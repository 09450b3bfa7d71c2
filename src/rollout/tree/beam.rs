//! Breadth-first search by beam (Yao et al. 2023, arXiv:2305.10601, algorithm 1).
//!
//! In every round each thought of the beam gets `proposals` children. They are ranked by value
//! (ties by index, thoughts without a value last) and the best are kept, as many as the beam has
//! places. A kept thought whose path ended becomes a leaf and keeps its place for good, so a tree
//! has at most `beam` leaves. Left out of the paper: voting across states.

use super::frontier::{Child, Expand, Extent, Fate, Frontier, Ruling};
use crate::domain::{PruneReason, Tree};
use crate::rollout::TreeConfig;

pub(super) struct Beam {
    /// Children of each thought of the beam.
    proposals: u32,
    /// Places in the beam.
    places: usize,
    value_floor: f64,
    /// Thoughts to expand; `None` is the root.
    open: Vec<Option<u32>>,
}

impl Beam {
    pub(super) fn new(config: &TreeConfig) -> Self {
        let TreeConfig { proposals, beam, value_floor, .. } = *config;
        Self { proposals, places: beam as usize, value_floor, open: vec![None] }
    }
}

impl Frontier for Beam {
    fn extent(&self, thoughts_max: usize) -> Extent {
        let in_flight = self.places * self.proposals as usize;
        Extent { in_flight, leaves: self.places, thoughts: in_flight.saturating_mul(thoughts_max) }
    }

    fn next(&mut self, _: &Tree) -> Vec<Expand> {
        let expand = |parent| Expand { parent, children: self.proposals };
        std::mem::take(&mut self.open).into_iter().map(expand).collect()
    }

    fn learn(&mut self, tree: &Tree, children: &[Child]) -> Vec<Ruling> {
        let mut ranked = children.to_vec();
        ranked.sort_by(|a, b| {
            let value = |child: &Child| child.value.unwrap_or(f32::NEG_INFINITY);
            value(b).total_cmp(&value(a)).then(a.thought.cmp(&b.thought))
        });
        let places = self.places.saturating_sub(tree.leaves.len());
        let mut rulings = Vec::with_capacity(ranked.len());
        for (rank, Child { thought, value, ended }) in ranked.into_iter().enumerate() {
            let below = value.is_some_and(|value| f64::from(value) < self.value_floor);
            // The best child passes the floor if the tree has no leaf yet, so a search never ends
            // without one.
            let only = rank == 0 && tree.leaves.is_empty();
            let fate = if rank >= places {
                Fate::Pruned(PruneReason::Beam)
            } else if below && !only {
                Fate::Pruned(PruneReason::Value)
            } else if ended {
                Fate::Leaf
            } else {
                self.open.push(Some(thought));
                continue;
            };
            rulings.push(Ruling { thought, fate });
        }
        rulings
    }
}
