//! The vote (self-consistency, Wang et al. 2022, arXiv:2203.11171): how many of a task's
//! trajectories agree.
//!
//! It is strongest over variants of the task: errors that depend on the wording stop agreeing.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{Score, ScoreError, ScorerName, TaskKind, Trajectory, stats};

/// For each of one task's trajectories the share, among all of them, that reach the same normalised
/// answer.
///
/// A trajectory without an answer agrees with nobody and still counts in the denominator.
pub fn vote(answers: &[Option<&str>]) -> Vec<Score> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for answer in answers.iter().flatten() {
        *counts.entry(answer).or_default() += 1;
    }
    let share = |answer: &Option<&str>| match answer {
        Some(answer) => Score::new(ScorerName::VOTE, counts[answer] as f64 / answers.len() as f64),
        None => Score::failed(ScorerName::VOTE, ScoreError::NoAnswer),
    };
    answers.iter().map(share).collect()
}

/// The vote of each trajectory among those of its task, in order.
pub fn votes(trajectories: &[Trajectory]) -> Vec<Score> {
    let mut by_task: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, trajectory) in trajectories.iter().enumerate() {
        by_task.entry(&trajectory.task.id).or_default().push(index);
    }
    let mut votes = vec![None; trajectories.len()];
    for members in by_task.values() {
        let claimed: Vec<Option<&str>> = members.iter().map(|&i| trajectories[i].answer()).collect();
        for (&index, vote) in members.iter().zip(vote(&claimed)) {
            votes[index] = Some(vote);
        }
    }
    votes.into_iter().flatten().collect()
}

/// How often each answer was reached.
#[derive(Default)]
struct Counts<'t> {
    of_answer: HashMap<&'t str, usize>,
    all: usize,
}

impl<'t> Counts<'t> {
    fn add(&mut self, answer: Option<&'t str>) {
        self.all += 1;
        if let Some(answer) = answer {
            *self.of_answer.entry(answer).or_default() += 1;
        }
    }

    fn of(&self, answer: &str) -> usize {
        self.of_answer.get(answer).copied().unwrap_or_default()
    }
}

/// How well chance explains each trajectory's vote, in order: the probability that as many of its
/// task's trajectories reach its answer if every one draws that answer with the share that it has in
/// the other tasks of its kind (one success and one failure are added to their counts).
///
/// A policy that answers the same to everything has all votes and 1 here; so has one that answers by
/// the place of an option, once the variants have moved it.
pub fn chances(trajectories: &[Trajectory]) -> Vec<Score> {
    let mut kinds: HashMap<TaskKind, Counts> = HashMap::new();
    let mut tasks: HashMap<&str, Counts> = HashMap::new();
    for trajectory in trajectories {
        kinds.entry(trajectory.task.kind).or_default().add(trajectory.answer());
        tasks.entry(&trajectory.task.id).or_default().add(trajectory.answer());
    }
    let chance = |trajectory: &Trajectory| {
        let Some(answer) = trajectory.answer() else {
            return Score::failed(ScorerName::CHANCE, ScoreError::NoAnswer);
        };
        let (own, kind) = (&tasks[trajectory.task.id.as_str()], &kinds[&trajectory.task.kind]);
        let elsewhere = kind.of(answer) - own.of(answer);
        let share = (elsewhere + 1) as f64 / (kind.all - own.all + 2) as f64;
        Score::new(ScorerName::CHANCE, stats::binomial_tail(own.of(answer), own.all, share))
    };
    trajectories.iter().map(chance).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Owned;
    use super::*;

    #[test]
    fn silence_counts_against_everyone() {
        let values: Vec<_> = vote(&[Some("8"), None, Some("8"), Some("5")]).iter().map(|s| s.value).collect();
        assert_eq!(values, [Ok(0.5), Err(ScoreError::NoAnswer), Ok(0.5), Ok(0.25)]);
        assert!(vote(&[]).is_empty());
    }

    #[test]
    fn tasks_vote_apart_and_in_any_order() {
        let drawn = [("b", Some("8")), ("a", Some("8")), ("b", Some("5")), ("a", None), ("b", Some("8"))];
        let owned: Vec<_> = drawn
            .iter()
            .enumerate()
            .map(|(i, (task, answer))| Owned::answering(i as i64, task, *answer))
            .collect();
        let trajectories: Vec<Trajectory> = owned.iter().map(Owned::trajectory).collect();
        let values: Vec<_> = votes(&trajectories).iter().map(|s| s.value).collect();
        let third = 1.0 / 3.0;
        assert_eq!(values, [Ok(2.0 * third), Ok(0.5), Ok(third), Err(ScoreError::NoAnswer), Ok(2.0 * third)]);
    }

    /// Eight trajectories of each task, with these answers.
    fn drawn(tasks: &[[&str; 8]]) -> Vec<Owned> {
        let of = |(task, answers): (usize, &[&str; 8])| {
            let id = |i: usize| (task * 8 + i) as i64;
            let answer = |(i, a): (usize, &&str)| Owned::answering(id(i), &format!("t/{task}"), Some(a));
            answers.iter().enumerate().map(answer).collect::<Vec<_>>()
        };
        tasks.iter().enumerate().flat_map(of).collect()
    }

    fn chances_of(owned: &[Owned]) -> Vec<f64> {
        let trajectories: Vec<Trajectory> = owned.iter().map(Owned::trajectory).collect();
        chances(&trajectories).into_iter().map(|score| score.value.unwrap()).collect()
    }

    #[test]
    fn a_constant_answer_is_what_chance_explains() {
        let mut tasks = vec![["yes"; 8]; 20];
        assert!(chances_of(&drawn(&tasks)).iter().all(|&chance| chance > 0.9), "everybody agrees on it");
        // One task on which as many agree on what is rare elsewhere.
        tasks.push(["no"; 8]);
        let chances = chances_of(&drawn(&tasks));
        assert!(chances[..160].iter().all(|&chance| chance > 0.5), "{chances:?}");
        assert!(chances[160..].iter().all(|&chance| chance < 1e-9), "{chances:?}");
    }

    #[test]
    fn few_equal_answers_mean_much_where_answers_are_many() {
        let names: Vec<String> = (0..160).map(|i| i.to_string()).collect();
        let mut tasks: Vec<[&str; 8]> =
            names.chunks(8).map(|eight| std::array::from_fn(|i| eight[i].as_str())).collect();
        tasks.push(["a", "a", "a", "b", "c", "d", "e", "f"]);
        let chances = chances_of(&drawn(&tasks));
        assert!(chances[160..163].iter().all(|&chance| chance < 1e-3), "{chances:?}");
        assert!(chances[163] > 0.04, "one of eight can be chance: {chances:?}");
        let silent = Owned::answering(0, "t", None);
        assert_eq!(chances_of_one(&silent), Err(ScoreError::NoAnswer));
    }

    fn chances_of_one(owned: &Owned) -> Result<f64, ScoreError> {
        chances(&[owned.trajectory()])[0].value
    }
}
