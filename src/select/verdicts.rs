//! The verdicts of selection on a set of trajectories, as they are decided one by one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::Rewards;
use crate::domain::{Selection, SelectionReason, Trajectory};

/// Why a trajectory can't be trained on, whatever its reward is.
fn defect(trajectory: &Trajectory) -> Option<SelectionReason> {
    match trajectory.answer() {
        _ if !trajectory.leaf.finish.is_complete() => Some(SelectionReason::Truncated),
        None => Some(SelectionReason::NoAnswer),
        Some(_) => None,
    }
}

/// What has been decided so far. An index means a place among the trajectories in order of row id.
pub(super) struct Verdicts<'t> {
    trajectories: Vec<Trajectory<'t>>,
    /// Rewards that can be ranked.
    rewards: Vec<Option<f64>>,
    ranks: Vec<Option<u32>>,
    reasons: Vec<Option<SelectionReason>>,
}

impl<'t> Verdicts<'t> {
    /// Trajectories with a defect are decided from the start.
    pub(super) fn new(trajectories: &[Trajectory<'t>], rewards: &Rewards) -> Self {
        let mut trajectories = trajectories.to_vec();
        trajectories.sort_by_key(|t| t.id);
        let rankable = |t: &Trajectory| rewards.get(&t.id)?.ok().filter(|reward| reward.is_finite());
        let rewards = trajectories.iter().map(rankable).collect();
        let reasons = trajectories.iter().map(defect).collect();
        Self { ranks: vec![None; trajectories.len()], trajectories, rewards, reasons }
    }

    pub(super) fn trajectory(&self, i: usize) -> Trajectory<'t> {
        self.trajectories[i]
    }

    /// The reward as a number that can be ranked.
    pub(super) fn reward(&self, i: usize) -> Option<f64> {
        self.rewards[i]
    }

    /// How many tasks the trajectories are of.
    pub(super) fn tasks(&self) -> usize {
        self.trajectories.iter().map(|t| t.task.id.as_str()).collect::<HashSet<_>>().len()
    }

    /// Decides open trajectories whose answer can't be one.
    pub(super) fn refuse_odd(&mut self, odd: &HashSet<i64>) {
        for i in self.open() {
            if odd.contains(&self.trajectories[i].id) {
                self.decide(i, SelectionReason::OddAnswer);
            }
        }
    }

    /// Trajectories without a reason yet.
    pub(super) fn open(&self) -> Vec<usize> {
        (0..self.trajectories.len()).filter(|&i| self.reasons[i].is_none()).collect()
    }

    /// Ranks the open trajectories that have a reward within their tasks; returns each task's, best
    /// first.
    pub(super) fn rank_tasks(&mut self) -> BTreeMap<&'t str, Vec<usize>> {
        let mut tasks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for i in self.open() {
            if self.rewards[i].is_some() {
                tasks.entry(&self.trajectories[i].task.id).or_default().push(i);
            }
        }
        for best_first in tasks.values_mut() {
            // A stable sort: equal rewards stay in order of row id.
            best_first.sort_by(|&a, &b| self.by_rising_reward(b, a));
            for (rank, &i) in best_first.iter().enumerate() {
                self.ranks[i] = Some(rank as u32 + 1);
            }
        }
        tasks
    }

    pub(super) fn by_rising_reward(&self, a: usize, b: usize) -> Ordering {
        let reward = |i: usize| self.rewards[i].unwrap_or(f64::NEG_INFINITY);
        // Adding 0 makes -0 equal to 0, which differ for `total_cmp`.
        (reward(a) + 0.0).total_cmp(&(reward(b) + 0.0))
    }

    /// How trajectories of equal reward are ordered across tasks.
    pub(super) fn order(&self, i: usize) -> (Option<u32>, i64) {
        (self.ranks[i], self.trajectories[i].id)
    }

    pub(super) fn decide(&mut self, i: usize, reason: SelectionReason) {
        self.reasons[i] = Some(reason);
    }

    /// Trajectories that nothing was decided about get `otherwise`.
    pub(super) fn into_selections(self, otherwise: SelectionReason) -> Vec<Selection> {
        let verdicts = self.trajectories.iter().zip(self.ranks).zip(self.reasons);
        verdicts
            .map(|((trajectory, rank), reason)| {
                Selection::new(trajectory.id, rank, reason.unwrap_or(otherwise))
            })
            .collect()
    }
}
