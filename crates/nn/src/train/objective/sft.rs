//! Supervised fine-tuning: the mean −log-probability of the update's targets, each of which weighs the same.
//!
//! On what selection kept this is rejection-sampling fine-tuning (RAFT, Dong et al. 2023; ReST-EM, Singh et al. 2024).

use super::{LossParts, Member};

/// The part's name: negative log-likelihood.
const NLL: &str = "nll";

pub(super) fn evaluate(group: &[Member], targets: usize, parts: &mut LossParts) -> Vec<f32> {
    let nll = parts.entry(NLL).or_default();
    let slope = (-1.0 / targets as f64) as f32;
    let mut slopes = Vec::new();
    for member in group {
        for &logprob in member.logprobs {
            *nll -= f64::from(logprob);
            slopes.push(slope);
        }
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::example_from_solution;

    #[test]
    fn every_target_of_the_update_weighs_the_same() {
        let (a, b) = (example_from_solution(&[1], &[2, 3], "a"), example_from_solution(&[1], &[2], "b"));
        let group =
            [Member { example: &a, logprobs: &[-0.5, -1.5] }, Member { example: &b, logprobs: &[-4.0] }];
        let mut parts = LossParts::from([(NLL, 1.0)]);
        assert_eq!(evaluate(&group, 8, &mut parts), [-0.125; 3]);
        assert_eq!(parts, LossParts::from([(NLL, 7.0)]));
    }
}
