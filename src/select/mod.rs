//! Selection: which trajectories the policy will learn from, and why each of the others is not
//! among them.
//!
//! Pure functions. Their outcome depends on the set of trajectories, never on its order, and every
//! trajectory gets exactly one reason. [`by_reward`] is the loop's selection; [`at_random`] and
//! [`by_gold`] are its controls at the same budget, and only [`by_gold`] is passed what is right.

mod places;
mod settings;
mod verdicts;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use settings::SelectConfig;

use crate::domain::{Address, Reward, Selection, SelectionReason, Trajectory, stats};
use places::Places;
use verdicts::Verdicts;

/// The reward of each trajectory, by row id; one that isn't there has none.
pub type Rewards = HashMap<i64, Reward>;

/// What answers are worth beyond the reward.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The probability by chance of each trajectory's vote, by row id.
    pub chances: HashMap<i64, f64>,
    /// Row ids of trajectories whose answer such tasks can't have.
    pub odd: HashSet<i64>,
}

impl Answers {
    /// 1 where nothing is known.
    fn chance(&self, trajectory: i64) -> f64 {
        self.chances.get(&trajectory).copied().unwrap_or(1.0)
    }
}

/// Keeps the best `select.keep` of every task by reward, at most `select.total_max` over all tasks.
///
/// Within a task equal rewards are ranked by row id. A trajectory below `select.floor`, one whose
/// vote may be chance, and one with the text of a better one of the same task and variant is not kept
/// and takes no place. Votes are chance beyond the point at which more than `select.chance_max` of the
/// tasks with a better one are expected to be chance (Benjamini & Hochberg 1995). No answer has more
/// than `select.answer_max` of what is kept. When the total is too large the best rewards stay; among
/// equal ones those ranked higher in their task. If fewer than `select.tasks_min` tasks or
/// `select.rows_min` trajectories are left, nothing is kept. The verdicts come in order of row id.
pub fn by_reward(
    trajectories: &[Trajectory],
    rewards: &Rewards,
    answers: &Answers,
    config: &SelectConfig,
) -> Vec<Selection> {
    let mut verdicts = Verdicts::new(trajectories, rewards);
    verdicts.refuse_odd(&answers.odd);
    let mut kept = Vec::new();
    let ranked = verdicts.rank_tasks();
    let chance_max = chance_max(&verdicts, &ranked, answers, config);
    for best_first in ranked.values() {
        let mut places = Places::new(config.keep);
        for &i in best_first {
            let below = is_below(&verdicts, i, config);
            let trajectory = verdicts.trajectory(i);
            let refusal = match below {
                true => Some(SelectionReason::BelowFloor),
                false if answers.chance(trajectory.id) > chance_max => Some(SelectionReason::ByChance),
                false => places.take(&trajectory),
            };
            match refusal {
                Some(reason) => verdicts.decide(i, reason),
                None => kept.push(i),
            }
        }
    }
    kept.sort_by(|&a, &b| {
        verdicts.by_rising_reward(b, a).then_with(|| verdicts.order(a).cmp(&verdicts.order(b)))
    });
    let (kept, beyond) = within_share(&verdicts, kept, config.answer_max);
    beyond.into_iter().for_each(|i| verdicts.decide(i, SelectionReason::AnswerQuota));
    let task_of = |&i: &usize| verdicts.trajectory(i).task.id.as_str();
    let tasks: HashSet<&str> = kept.iter().take(config.total_max).map(task_of).collect();
    let refusal = if tasks.len() < config.tasks_min {
        Some(SelectionReason::TooFewTasks)
    } else if kept.len().min(config.total_max) < config.rows_min {
        Some(SelectionReason::TooFewRows)
    } else {
        None
    };
    for (place, i) in kept.into_iter().enumerate() {
        let reason = match place < config.total_max {
            true => refusal.unwrap_or(SelectionReason::Kept),
            false => SelectionReason::OverQuota,
        };
        verdicts.decide(i, reason);
    }
    verdicts.into_selections(SelectionReason::Unscorable)
}

fn is_below(verdicts: &Verdicts, i: usize, config: &SelectConfig) -> bool {
    verdicts.reward(i).is_none_or(|reward| reward < config.floor)
}

/// The highest chance with which a trajectory may be kept.
fn chance_max(
    verdicts: &Verdicts,
    ranked: &BTreeMap<&str, Vec<usize>>,
    answers: &Answers,
    config: &SelectConfig,
) -> f64 {
    if config.chance_max >= 1.0 {
        return 1.0;
    }
    let least = |members: &Vec<usize>| {
        let open = members.iter().filter(|&&i| !is_below(verdicts, i, config));
        open.map(|&i| answers.chance(verdicts.trajectory(i).id)).min_by(f64::total_cmp)
    };
    let best: Vec<f64> = ranked.values().filter_map(least).collect();
    stats::discovered(&best, verdicts.tasks(), config.chance_max).unwrap_or(-1.0)
}

/// Divides what may be kept, best first, so that no answer has more than `share` of the first part,
/// which is as large as that allows. An answer may have one place in any case.
fn within_share(verdicts: &Verdicts, kept: Vec<usize>, share: f64) -> (Vec<usize>, Vec<usize>) {
    let answer = |i: usize| verdicts.trajectory(i).answer();
    let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
    kept.iter().for_each(|&i| *counts.entry(answer(i)).or_default() += 1);
    let places = |total: usize| ((share * total as f64 + 1e-9) as usize).max(1);
    let fits =
        |total: &usize| counts.values().map(|&count| count.min(places(*total))).sum::<usize>() >= *total;
    let each = (0..=kept.len()).rev().find(fits).map_or(0, places);
    let mut taken: HashMap<Option<&str>, usize> = HashMap::new();
    kept.into_iter().partition(|&i| {
        let taken = taken.entry(answer(i)).or_default();
        *taken += 1;
        *taken <= each
    })
}

/// Keeps `count` complete trajectories with an answer that isn't among the `odd` ones, drawn without
/// replacement, or all of them if there are fewer. The verdicts come in order of row id, with ranks
/// by reward where there is one.
pub fn at_random(
    trajectories: &[Trajectory],
    rewards: &Rewards,
    odd: &HashSet<i64>,
    count: usize,
    address: &Address,
) -> Vec<Selection> {
    let mut verdicts = Verdicts::new(trajectories, rewards);
    verdicts.refuse_odd(odd);
    verdicts.rank_tasks();
    for i in shuffled(verdicts.open(), address).into_iter().take(count) {
        verdicts.decide(i, SelectionReason::KeptRandom);
    }
    verdicts.into_selections(SelectionReason::NotDrawn)
}

/// Keeps right trajectories, drawn without replacement: at most `select.keep` of a task, and
/// `count` (and at most `select.total_max`) over all tasks, without duplicates. The verdicts come
/// in order of row id.
pub fn by_gold(
    trajectories: &[Trajectory],
    rewards: &Rewards,
    is_right: impl Fn(&Trajectory) -> bool,
    count: usize,
    config: &SelectConfig,
    address: &Address,
) -> Vec<Selection> {
    let mut verdicts = Verdicts::new(trajectories, rewards);
    verdicts.rank_tasks();
    let mut left = count.min(config.total_max);
    let mut places: HashMap<&str, Places> = HashMap::new();
    for i in shuffled(verdicts.open(), address) {
        let trajectory = verdicts.trajectory(i);
        if !is_right(&trajectory) {
            verdicts.decide(i, SelectionReason::Wrong);
            continue;
        }
        let of_task = places.entry(&trajectory.task.id).or_insert_with(|| Places::new(config.keep));
        let reason = match of_task.take(&trajectory) {
            Some(refusal) => refusal,
            None if left == 0 => SelectionReason::OverQuota,
            None => {
                left -= 1;
                SelectionReason::KeptOracle
            }
        };
        verdicts.decide(i, reason);
    }
    verdicts.into_selections(SelectionReason::NotDrawn)
}

/// A uniform permutation (Fisher and Yates), drawn from `address`.
fn shuffled(mut items: Vec<usize>, address: &Address) -> Vec<usize> {
    let mut stream = address.stream();
    for end in (1..items.len()).rev() {
        items.swap(end, stats::uniform(&mut stream, end + 1));
    }
    items
}

#[cfg(test)]
mod tests;
