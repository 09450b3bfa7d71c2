//! Selection: which trajectories the policy will learn from, and why each of the others is not among them.
//!
//! Pure functions. Their outcome hangs on the set of candidates, never on its order, and every candidate gets
//! exactly one reason. [`by_reward`] is the loop's selection; [`at_random`] and [`by_gold`] are its controls at the
//! same budget, and [`by_gold`] alone is told what is right.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::SelectConfig;
use crate::domain::{Address, FinishReason, Reward, Selection, SelectionReason, stats};

/// A trajectory that may be selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Row id in the store; unique among the candidates.
    pub trajectory: i64,
    /// Id of the task.
    pub task: &'a str,
    /// Names the variant of the task it was drawn for: the same text under another variant is no duplicate.
    pub variant_key: &'a str,
    /// The completion.
    pub text: &'a str,
    pub tokens: usize,
    pub finish: FinishReason,
    pub answer: Option<&'a str>,
    pub reward: Reward,
}

impl Candidate<'_> {
    /// Why it can't be trained on whatever its reward is.
    fn defect(&self) -> Option<SelectionReason> {
        match self.answer {
            _ if !self.finish.is_complete() => Some(SelectionReason::Truncated),
            None => Some(SelectionReason::NoAnswer),
            Some(_) => None,
        }
    }

    /// The reward as a number that can be ranked.
    fn ranked_by(&self) -> Option<f64> {
        self.reward.ok().filter(|reward| reward.is_finite())
    }
}

/// Keeps the best `select.keep` of every task by reward, at most `select.total_max` over all tasks.
///
/// Within a task equal rewards are ranked by row id. A candidate below `select.floor`, or with the text of a better
/// one of the same task and variant, is not kept and takes no place. When the total is too large the best rewards
/// stay; among equal ones those ranked higher in their task. The verdicts come in order of row id.
pub fn by_reward(candidates: &[Candidate], config: &SelectConfig) -> Vec<Selection> {
    let mut verdicts = Verdicts::new(candidates);
    let mut kept = Vec::new();
    for best_first in verdicts.rank_tasks().values() {
        let mut places = Places::new(config.keep);
        for &i in best_first {
            let candidate = verdicts.candidates[i];
            let below = candidate.ranked_by().is_none_or(|reward| reward < config.floor);
            let refusal = if below { Some(SelectionReason::BelowFloor) } else { places.take(candidate) };
            match refusal {
                Some(reason) => verdicts.settle(i, reason),
                None => kept.push(i),
            }
        }
    }
    kept.sort_by(|&a, &b| {
        verdicts.by_rising_reward(b, a).then_with(|| verdicts.order(a).cmp(&verdicts.order(b)))
    });
    for (place, i) in kept.into_iter().enumerate() {
        let fits = place < config.total_max;
        verdicts.settle(i, if fits { SelectionReason::Kept } else { SelectionReason::OverQuota });
    }
    verdicts.into_selections(SelectionReason::Unscorable)
}

/// Keeps `count` complete candidates with an answer, drawn without replacement, or all of them if there are fewer.
/// The verdicts come in order of row id.
pub fn at_random(candidates: &[Candidate], count: usize, address: &Address) -> Vec<Selection> {
    let mut verdicts = Verdicts::new(candidates);
    verdicts.rank_tasks();
    for i in shuffled(verdicts.open(), address).into_iter().take(count) {
        verdicts.settle(i, SelectionReason::KeptRandom);
    }
    verdicts.into_selections(SelectionReason::NotDrawn)
}

/// Keeps right candidates, drawn without replacement: at most `select.keep` of a task, and `count` (and at most
/// `select.total_max`) over all tasks, without duplicates. The verdicts come in order of row id.
///
/// # Panics
/// If `correct` doesn't tell of every candidate.
pub fn by_gold(
    candidates: &[Candidate],
    correct: &[bool],
    count: usize,
    config: &SelectConfig,
    address: &Address,
) -> Vec<Selection> {
    assert_eq!(candidates.len(), correct.len(), "candidates and verdicts on them differ in number");
    let right: HashMap<i64, bool> =
        candidates.iter().map(|c| c.trajectory).zip(correct.iter().copied()).collect();
    let mut verdicts = Verdicts::new(candidates);
    verdicts.rank_tasks();
    let mut left = count.min(config.total_max);
    let mut places: HashMap<&str, Places> = HashMap::new();
    for i in shuffled(verdicts.open(), address) {
        let candidate = verdicts.candidates[i];
        if !right[&candidate.trajectory] {
            verdicts.settle(i, SelectionReason::Wrong);
            continue;
        }
        let reason =
            match places.entry(candidate.task).or_insert_with(|| Places::new(config.keep)).take(candidate) {
                Some(refusal) => refusal,
                None if left == 0 => SelectionReason::OverQuota,
                None => {
                    left -= 1;
                    SelectionReason::KeptOracle
                }
            };
        verdicts.settle(i, reason);
    }
    verdicts.into_selections(SelectionReason::NotDrawn)
}

/// The places that one task has, and the texts that have taken one.
struct Places<'a> {
    free: usize,
    taken: HashSet<(&'a str, String)>,
}

impl<'a> Places<'a> {
    fn new(free: usize) -> Self {
        Self { free, taken: HashSet::new() }
    }

    /// Gives the candidate a place, or says why it can't have one.
    fn take(&mut self, candidate: &Candidate<'a>) -> Option<SelectionReason> {
        let key = (candidate.variant_key, normalised(candidate.text));
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

/// What has been decided so far. An index means a place in `candidates`, which are in order of row id.
struct Verdicts<'c, 'a> {
    candidates: Vec<&'c Candidate<'a>>,
    ranks: Vec<Option<u32>>,
    reasons: Vec<Option<SelectionReason>>,
}

impl<'c, 'a> Verdicts<'c, 'a> {
    /// Candidates with a defect are settled from the start.
    fn new(candidates: &'c [Candidate<'a>]) -> Self {
        let mut candidates: Vec<_> = candidates.iter().collect();
        candidates.sort_by_key(|c| c.trajectory);
        let reasons = candidates.iter().map(|c| c.defect()).collect();
        Self { ranks: vec![None; candidates.len()], candidates, reasons }
    }

    /// Candidates without a reason yet.
    fn open(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|&i| self.reasons[i].is_none()).collect()
    }

    /// Ranks the open candidates that have a reward within their tasks; gives each task's, best first.
    fn rank_tasks(&mut self) -> BTreeMap<&'a str, Vec<usize>> {
        let mut tasks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for i in self.open() {
            if self.candidates[i].ranked_by().is_some() {
                tasks.entry(self.candidates[i].task).or_default().push(i);
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

    fn by_rising_reward(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let reward = |i: usize| self.candidates[i].ranked_by().unwrap_or(f64::NEG_INFINITY);
        // Adding 0 makes -0 equal to 0, which `total_cmp` would tell apart.
        (reward(a) + 0.0).total_cmp(&(reward(b) + 0.0))
    }

    /// How candidates of equal reward are ordered across tasks.
    fn order(&self, i: usize) -> (Option<u32>, i64) {
        (self.ranks[i], self.candidates[i].trajectory)
    }

    fn settle(&mut self, i: usize, reason: SelectionReason) {
        self.reasons[i] = Some(reason);
    }

    /// Candidates that nothing was decided about get `otherwise`.
    fn into_selections(self, otherwise: SelectionReason) -> Vec<Selection> {
        let verdicts = self.candidates.iter().zip(self.ranks).zip(self.reasons);
        verdicts
            .map(|((candidate, rank), reason)| Selection {
                trajectory: candidate.trajectory,
                rank,
                reason: reason.unwrap_or(otherwise),
            })
            .collect()
    }
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
