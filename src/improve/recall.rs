//! What more than one phase of an iteration reads: kept in memory between them, so that it is read once.
//!
//! All of it can be had again from the store and the policy, and is after an interruption. It saves time alone.

use std::sync::Arc;

use anyhow::Result;

use super::bootstrap::Graded;
use super::{Policy, Session};
use crate::domain::Purpose;
use crate::store::StoredTree;

/// What was read last.
#[derive(Default)]
pub(super) struct Recall {
    /// An iteration and its trees.
    rollouts: Option<(u32, Arc<Vec<StoredTree>>)>,
    /// The hash of a policy and what it makes of the graded trajectories.
    graded: Option<(String, Arc<Graded>)>,
}

impl Session<'_> {
    /// The trees of an iteration whose rollout is complete, in order of insertion.
    pub(super) async fn rollouts(&mut self, iteration: u32) -> Result<Arc<Vec<StoredTree>>> {
        if let Some((known, trees)) = &self.recall.rollouts
            && *known == iteration
        {
            return Ok(trees.clone());
        }
        let trees = Arc::new(self.store.trees(self.run.id, iteration, Purpose::Rollout).await?);
        self.recall.rollouts = Some((iteration, trees.clone()));
        Ok(trees)
    }

    /// The graded trajectories as this policy sees them.
    pub(super) async fn graded(&mut self, policy: &Policy) -> Result<Arc<Graded>> {
        if let Some((hash, graded)) = &self.recall.graded
            && hash == policy.hash()
        {
            return Ok(graded.clone());
        }
        let graded = Arc::new(Graded::read(self, policy).await?);
        self.recall.graded = Some((policy.hash().to_owned(), graded.clone()));
        Ok(graded)
    }

    /// Makes room for what comes after critique.
    pub(super) fn forget_graded(&mut self) {
        self.recall.graded = None;
    }

    /// Makes room for what comes after selection.
    pub(super) fn forget_rollouts(&mut self) {
        self.recall.rollouts = None;
    }
}
