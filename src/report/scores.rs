//! How each scorer's numbers are spread over the trajectories of an iteration.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::domain::{Score, ScorerName, stats};

/// Bins of a score's histogram.
const BINS: usize = 10;

/// How one scorer's numbers are spread over the iteration's rollout trajectories.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreDistribution {
    pub scorer: ScorerName,
    /// Trajectories with a number.
    pub n: usize,
    /// Trajectories without one, by error class.
    pub failed: BTreeMap<&'static str, usize>,
    pub mean: Option<f64>,
    /// Quantiles 0, .25, .5, .75 and 1.
    pub quantiles: Option<[f64; 5]>,
    /// Counts in ten bins of equal width from the least to the greatest.
    pub histogram: Vec<usize>,
    /// How well it separates right answers from wrong ones. Reads gold answers, for audit only.
    pub auc: Option<f64>,
}

/// One distribution per scorer that scored any of the sampled trajectories; of repeated scores the
/// last counts.
///
/// `verdicts` has every sampled trajectory, with its verdict if there is one.
pub(super) fn distributions(
    scores: &[(i64, Score)],
    verdicts: &HashMap<i64, Option<bool>>,
) -> Vec<ScoreDistribution> {
    let mut latest: BTreeMap<ScorerName, BTreeMap<i64, Score>> = BTreeMap::new();
    for (trajectory, score) in scores.iter().filter(|(trajectory, _)| verdicts.contains_key(trajectory)) {
        latest.entry(score.scorer.clone()).or_default().insert(*trajectory, score.clone());
    }
    latest.into_iter().map(|(scorer, scores)| distribution(scorer, &scores, verdicts)).collect()
}

fn distribution(
    scorer: ScorerName,
    scores: &BTreeMap<i64, Score>,
    verdicts: &HashMap<i64, Option<bool>>,
) -> ScoreDistribution {
    let mut failed = BTreeMap::new();
    for error in scores.values().filter_map(|score| score.value.err()) {
        *failed.entry(error.name()).or_insert(0) += 1;
    }
    let graded = scores.iter().filter_map(|(id, score)| {
        let right = verdicts.get(id).copied().flatten()?;
        Some((score.value.ok()?, right))
    });
    let (numbers, labels): (Vec<f64>, Vec<bool>) = graded.unzip();
    let mut values: Vec<f64> = scores.values().filter_map(|score| score.value.ok()).collect();
    values.sort_by(f64::total_cmp);
    let known = !values.is_empty();
    ScoreDistribution {
        scorer,
        n: values.len(),
        failed,
        mean: known.then(|| values.iter().sum::<f64>() / values.len() as f64),
        quantiles: known.then(|| [0.0, 0.25, 0.5, 0.75, 1.0].map(|q| stats::quantile(&values, q))),
        histogram: histogram(&values),
        auc: stats::auc(&numbers, &labels),
    }
}

/// Counts in [`BINS`] bins of equal width between the first and the last of sorted values.
fn histogram(sorted: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; BINS];
    let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else { return counts };
    let width = (greatest - least) / BINS as f64;
    for value in sorted {
        let bin = if width > 0.0 { ((value - least) / width) as usize } else { 0 };
        counts[bin.min(BINS - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ScoreError;

    #[test]
    fn histograms_count_everything() {
        assert_eq!(histogram(&[]), [0; 10]);
        assert_eq!(histogram(&[0.5; 4]), [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(histogram(&[0.0, 0.1, 0.95, 1.0]), [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn of_repeated_scores_the_last_counts_and_failures_are_no_numbers() {
        let score = |value| Score { scorer: ScorerName::VOTE, value };
        let scores = [
            (1, score(Ok(0.1))),
            (1, score(Ok(0.9))),
            (2, score(Ok(0.5))),
            (3, score(Err(ScoreError::NoAnswer))),
            // Not one of the sampled trajectories.
            (9, score(Ok(0.0))),
        ];
        let verdicts = HashMap::from([(1, Some(true)), (2, Some(false)), (3, Some(false)), (4, None)]);
        let [vote] = &distributions(&scores, &verdicts)[..] else { panic!("one scorer") };
        assert_eq!((vote.n, vote.failed["no_answer"], vote.mean), (2, 1, Some(0.7)));
        assert_eq!((vote.quantiles.unwrap()[0], vote.auc), (0.5, Some(1.0)));
    }
}
