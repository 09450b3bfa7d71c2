//! The vote (self-consistency, Wang et al. 2022, arXiv:2203.11171): how many of a task's
//! trajectories agree.
//!
//! It is strongest over variants of the task: errors that depend on the wording stop agreeing.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{Score, ScoreError, ScorerName, Trajectory};

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
}
