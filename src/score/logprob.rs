//! Log-probabilities as scores: how sure the policy was of what it drew.

use crate::domain::{Score, ScoreError, ScorerName, Thought};

/// Mean and lowest log-probability of a trajectory's tokens, in nats.
pub fn logprob_scores(thoughts: &[&Thought]) -> [Score; 2] {
    let logprobs = || thoughts.iter().flat_map(|t| &t.logprobs).map(|&l| f64::from(l));
    let n = logprobs().count();
    if n == 0 {
        return [ScorerName::LOGPROB_MEAN, ScorerName::LOGPROB_MIN]
            .map(|kind| Score::failed(kind, ScoreError::MissingInput));
    }
    // A NaN must not vanish in the minimum.
    let lowest = logprobs().fold(0.0, |low, l| if l < low || l.is_nan() { l } else { low });
    [
        Score::new(ScorerName::LOGPROB_MEAN, logprobs().sum::<f64>() / n as f64),
        Score::new(ScorerName::LOGPROB_MIN, lowest),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_and_the_lowest() {
        let thought = |logprobs: &[f32]| Thought {
            parent: None,
            token_ids: vec![7; logprobs.len()],
            logprobs: logprobs.to_vec(),
            text: String::new(),
            hidden_f16: Vec::new(),
            value: None,
            pruned: None,
            visits: None,
        };
        let [mean, low] = logprob_scores(&[&thought(&[-0.5, -1.5]), &thought(&[-4.0, 0.0])]);
        assert_eq!((mean.value, low.value), (Ok(-1.5), Ok(-4.0)));
        assert_eq!(logprob_scores(&[]).map(|s| s.value), [Err(ScoreError::MissingInput); 2]);
        let broken = logprob_scores(&[&thought(&[f32::NAN, -1.0])]);
        assert_eq!(broken.map(|s| s.value), [Err(ScoreError::NonFinite); 2]);
    }
}
