//! The vote (self-consistency, Wang et al. 2022, arXiv:2203.11171): how many of a task's trajectories agree.
//!
//! Over variants of the task it is strongest: errors that hang on the surface stop agreeing.

use std::collections::HashMap;

use crate::domain::{Score, ScoreError, ScorerKind};

/// For each of one task's trajectories the share, among all of them, that reach the same normalised answer.
///
/// A trajectory without an answer agrees with nobody and still counts in the denominator.
pub fn vote(answers: &[Option<&str>]) -> Vec<Score> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for answer in answers.iter().flatten() {
        *counts.entry(answer).or_default() += 1;
    }
    let share = |answer: &Option<&str>| match answer {
        Some(answer) => Score::new(ScorerKind::Vote, counts[answer] as f64 / answers.len() as f64),
        None => Score::failed(ScorerKind::Vote, ScoreError::NoAnswer),
    };
    answers.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_against_everyone() {
        let values: Vec<_> = vote(&[Some("8"), None, Some("8"), Some("5")]).iter().map(|s| s.value).collect();
        assert_eq!(values, [Ok(0.5), Err(ScoreError::NoAnswer), Ok(0.5), Ok(0.25)]);
        assert!(vote(&[]).is_empty());
    }
}
