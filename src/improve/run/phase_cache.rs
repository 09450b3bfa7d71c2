//! What more than one phase of an iteration reads, kept in memory so that it is read once.
//!
//! All of it can be read again from the store and the policy, and is after an interruption. It only
//! saves time.

use std::sync::Arc;

use anyhow::Result;

use super::{Graded, Run};
use crate::domain::Purpose;
use crate::store::StoredTree;

/// What was read last.
#[derive(Default)]
pub(in crate::improve) struct PhaseCache {
    /// An iteration and its trees.
    rollouts: Option<(u32, Arc<Vec<StoredTree>>)>,
    /// A policy's hash and the graded trajectories as it reads them.
    graded: Option<(String, Arc<Graded>)>,
}

impl PhaseCache {
    /// The trees of an iteration whose rollout is complete, in order of insertion.
    pub(crate) async fn rollouts(&mut self, run: &Run<'_>, iteration: u32) -> Result<Arc<Vec<StoredTree>>> {
        if let Some((known, trees)) = &self.rollouts
            && *known == iteration
        {
            return Ok(trees.clone());
        }
        let trees = Arc::new(run.store.trees(run.id, iteration, Purpose::Rollout).await?);
        self.rollouts = Some((iteration, trees.clone()));
        Ok(trees)
    }

    /// Frees the trees: nothing after selection and the preparation of training reads them.
    pub(crate) fn forget_rollouts(&mut self) {
        self.rollouts = None;
    }

    /// The graded trajectories as the policy with this hash reads them, if they are in memory.
    pub(super) fn graded(&self, policy_hash: &str) -> Option<Arc<Graded>> {
        let (hash, graded) = self.graded.as_ref()?;
        (hash == policy_hash).then(|| graded.clone())
    }

    pub(super) fn keep_graded(&mut self, policy_hash: &str, graded: Arc<Graded>) {
        self.graded = Some((policy_hash.to_owned(), graded));
    }

    /// Frees the graded trajectories: nothing after critique reads them.
    pub(crate) fn forget_graded(&mut self) {
        self.graded = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Arm;
    use crate::improve::run::{Session, graded};
    use crate::improve::tests::{World, block_on};
    use crate::policy::PolicyKind;

    #[test]
    fn what_is_in_memory_is_of_the_iteration_and_policy_that_is_asked_for() {
        let world = World::new(&[]);
        world.run();
        let host = world.host();
        block_on(async {
            let mut session =
                Session::open(&host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
            let trees = session.cache.rollouts(&session.run, 1).await.unwrap();
            assert!(!trees.is_empty());
            let again = session.cache.rollouts(&session.run, 1).await.unwrap();
            assert!(Arc::ptr_eq(&trees, &again), "read once");
            assert!(session.cache.rollouts(&session.run, 2).await.unwrap().is_empty());
            session.cache.forget_rollouts();
            let read = session.cache.rollouts(&session.run, 1).await.unwrap();
            assert!(!Arc::ptr_eq(&trees, &read) && trees == read, "the same again from the store");

            let base = session.incumbent(1).await.unwrap();
            let by_base = graded(&mut session, &base).await.unwrap();
            assert!(Arc::ptr_eq(&by_base, &graded(&mut session, &base).await.unwrap()));
            let hash = session.run.candidate_hash(1).await.unwrap();
            let candidate = session.policies.load(&session.run, &hash).await.unwrap();
            let by_candidate = graded(&mut session, &candidate).await.unwrap();
            assert!(!Arc::ptr_eq(&by_base, &by_candidate), "another policy reads them differently");
            session.cache.forget_graded();
            assert!(session.cache.graded(candidate.hash()).is_none());
        });
    }
}
