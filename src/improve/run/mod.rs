//! A run while it is worked on: what is fixed, what limits it, and what is held in memory between
//! phases.
//!
//! A [`Session`] is the sum of these parts. A phase takes the session; its helpers take the parts
//! that they need.

mod aux_models;
mod draw;
mod folder;

mod graded;
mod host;
mod identity;
mod limits;
mod lock;
pub(super) mod names;
mod needs;
mod open;
mod orphans;
mod pace;
mod phase_cache;
mod policy_cache;
mod preflight;
pub(super) mod retention;
mod session;
mod tasks;
mod timetable;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub(super) use self::aux_models::search_prompts;
pub use self::draw::with_tools;
pub(super) use self::draw::{commit, draw_chains, draw_in_units, missing, plain_job, read_given, tools};
pub(super) use self::graded::{DRAWN_IN, Graded, graded};
pub use self::host::{Event, Host, Plan};
pub use self::lock::{Holder, RunLock, holder};
pub use self::orphans::{Orphan, collect as collect_orphans, ensure_explained, orphans};
pub use self::preflight::preflight;
pub(super) use self::session::{Next, Session};
pub use self::tasks::{dataset, ensure_gradable, replay_notice, special_notice};
pub use self::timetable::{Cost, Expected, expected_iterations};
use crate::config::Config;
use crate::domain::{Arm, Progress, Split, Task, Trajectory};
use crate::store::{Checkpoint, CheckpointKind, Store, StoredTree};
use crate::text::Text;

/// The store's file within the run's folder.
pub const STORE_FILE: &str = "store.sqlite";

/// What is fixed while a session lasts: the store, the run's row in it, and what the configuration
/// names.
pub(super) struct Run<'a> {
    pub store: Store,
    pub config: &'a Config,
    pub text: Text,
    pub arm: Arm,
    /// The row's key.
    pub id: i64,
    /// The run whose budget a control arm spends; `None` for the loop proper.
    pub of_run: Option<i64>,
    /// Iterations that it is to have; with hours, those that were begun.
    pub iterations: u32,
    /// Hash of the policy that the run starts from.
    pub base_policy_hash: String,
    /// The run's folder.
    pub dir: PathBuf,
    /// Tasks by the name of their split, each in the dataset's order.
    tasks: BTreeMap<&'static str, Vec<Task>>,
}

impl Run<'_> {
    /// The tasks of a split, in the dataset's order.
    pub(super) fn tasks(&self, split: Split) -> &[Task] {
        self.tasks.get(split.name()).map_or(&[], Vec::as_slice)
    }

    /// The task with this id, whatever its split.
    pub(super) fn task(&self, id: &str) -> Result<&Task> {
        let found = self.tasks.values().flatten().find(|t| t.id == id);
        found.with_context(|| format!("the store names the task `{id}`, which the dataset no longer has"))
    }

    /// Every trajectory of these trees, in order.
    pub(super) fn trajectories<'t>(&'t self, stored: &'t [StoredTree]) -> Result<Vec<Trajectory<'t>>> {
        let mut trajectories = Vec::new();
        for StoredTree { tree, trajectory_ids, .. } in stored {
            let task = self.task(&tree.task_id)?;
            let leaves = tree.leaves.iter().zip(trajectory_ids);
            trajectories.extend(leaves.map(|(leaf, &id)| Trajectory { id, task, tree, leaf }));
        }
        Ok(trajectories)
    }

    /// How many train tasks each of the first `iterations` iterations rolls out: as planned, for a
    /// run with hours and its control arms; else as configured. No more than there are.
    pub(super) async fn rollout_counts(&self, iterations: u32) -> Result<Vec<usize>> {
        let plans = self.store.plans(self.of_run.unwrap_or(self.id)).await?;
        let configured = self.config.rollout.tasks;
        let count = |i: u32| plans.get(&i).map_or(configured, |plan| plan.tasks as usize);
        Ok((1..=iterations).map(|i| count(i).min(self.tasks(Split::Train).len())).collect())
    }

    /// Most updates of an iteration: as planned, or as configured.
    pub(super) async fn steps_max(&self, iteration: u32) -> Result<u32> {
        let plans = self.store.plans(self.of_run.unwrap_or(self.id)).await?;
        let configured = self.config.train.steps;
        Ok(plans.get(&iteration).map_or(configured, |plan| plan.steps.min(configured)))
    }

    /// The phases that the store has as complete.
    pub(super) async fn progress(&self) -> Result<Progress> {
        let done = self.store.done_phases(self.id).await?;
        Ok(Progress { arm: self.arm, iterations: self.iterations, done })
    }

    /// Hash of the policy that `iteration` starts from: the last promoted candidate before it, or
    /// the base.
    pub(super) async fn incumbent_hash(&self, iteration: u32) -> Result<String> {
        let promotions = self.store.promotions(self.id).await?;
        let last = promotions.into_iter().rfind(|(i, p)| *i < iteration && p.promoted);
        Ok(last.map_or_else(|| self.base_policy_hash.clone(), |(_, p)| p.candidate_hash))
    }

    /// The checkpoint of the policy that `iteration` trained, removed or not; `None` if it isn't
    /// trained yet.
    pub(super) async fn candidate(&self, iteration: u32) -> Result<Option<Checkpoint>> {
        let all = self.store.checkpoints(self.id).await?;
        let is_candidate = |c: &Checkpoint| c.row.kind == CheckpointKind::Candidate;
        Ok(all.into_iter().find(|c| c.iteration == iteration && is_candidate(c)))
    }

    /// Hash of the policy that `iteration` trained.
    pub(super) async fn candidate_hash(&self, iteration: u32) -> Result<String> {
        let found = self.candidate(iteration).await?;
        Ok(found
            .with_context(|| format!("iteration {iteration} has no candidate checkpoint"))?
            .row
            .policy_hash)
    }
}
