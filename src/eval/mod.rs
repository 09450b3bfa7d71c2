//! Measuring a policy on tasks: graded completions in, pass@1, pass@k and maj@k with intervals out.
//!
//! This module is pure: it neither samples nor stores. pass@1 has a Wilson interval (Wilson 1927);
//! pass@k is the unbiased estimator of Chen et al. 2021 (arXiv:2107.03374); maj@k is the share of
//! tasks whose most frequent answer among k samples is right (Wang et al. 2022, arXiv:2203.11171).

mod explain;

pub use explain::{Answered, Constant, Parts, Profile, Readable, best_constant, parts, profile};

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::stats;
use crate::domain::{Decoding, Split, Task};

/// The answers drawn for one task, each with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempts<'a> {
    pub task: &'a Task,
    /// One entry per trajectory: the normalised answer, and whether it equals the gold one.
    pub answers: Vec<(Option<String>, bool)>,
}

/// One figure about a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub split: Split,
    pub decoding: Decoding,
    /// `pass@1`, `pass@4`, `maj@4`, …
    pub metric: String,
    /// `None` for the whole split.
    pub level: Option<u32>,
    /// How many tasks the figure is computed from.
    pub tasks: usize,
    /// Share in [0, 1].
    pub value: f64,
    /// Ends of the 95 % interval.
    pub lo: f64,
    pub hi: f64,
}

/// Level of every interval reported.
pub const CONFIDENCE: f64 = 0.95;

/// pass@1 for the whole split and for each of its levels, from one greedy trajectory per task.
pub fn greedy(split: Split, attempts: &[Attempts]) -> Vec<Figure> {
    let mut groups: BTreeMap<Option<u32>, (usize, usize)> = BTreeMap::new();
    for attempt in attempts {
        let right = usize::from(attempt.answers.first().is_some_and(|(_, right)| *right));
        for level in [None, Some(attempt.task.level)] {
            let group = groups.entry(level).or_default();
            *group = (group.0 + right, group.1 + 1);
        }
    }
    groups
        .into_iter()
        .map(|(level, (right, tasks))| {
            let (lo, hi) = stats::wilson(right, tasks, CONFIDENCE);
            let value = right as f64 / tasks as f64;
            let metric = "pass@1".to_owned();
            Figure { split, decoding: Decoding::Greedy, metric, level, tasks, value, lo, hi }
        })
        .collect()
}

/// pass@k for k = 1, 2, 4, … n and maj@n for the whole split, from n sampled trajectories per task.
pub fn sampled(split: Split, attempts: &[Attempts]) -> Vec<Figure> {
    let n = attempts.iter().map(|a| a.answers.len()).min().unwrap_or(0);
    if n == 0 {
        return Vec::new();
    }
    let mut ks: BTreeSet<usize> = (0..).map(|e| 1 << e).take_while(|k| *k <= n).collect();
    ks.insert(n);
    let figure = |metric: String, values: Vec<f64>| {
        let (value, lo, hi) = mean_with_interval(&values);
        Figure { split, decoding: Decoding::Sampled, metric, level: None, tasks: values.len(), value, lo, hi }
    };
    let mut figures: Vec<_> = ks
        .into_iter()
        .map(|k| {
            let right = |a: &Attempts| a.answers.iter().filter(|(_, right)| *right).count();
            let values = attempts.iter().map(|a| stats::pass_at_k(a.answers.len(), right(a), k)).collect();
            figure(format!("pass@{k}"), values)
        })
        .collect();
    let majority = attempts.iter().map(|a| f64::from(u8::from(majority_is_right(&a.answers[..n])))).collect();
    figures.push(figure(format!("maj@{n}"), majority));
    figures
}

/// Whether the most frequent answer is right. The first seen wins a tie; trajectories without an
/// answer don't vote.
fn majority_is_right(answers: &[(Option<String>, bool)]) -> bool {
    let mut counts: Vec<(&str, bool, usize)> = Vec::new();
    for (answer, right) in answers {
        let Some(answer) = answer else { continue };
        match counts.iter_mut().find(|(seen, _, _)| *seen == answer) {
            Some(entry) => entry.2 += 1,
            None => counts.push((answer, *right, 1)),
        }
    }
    let best = counts.iter().map(|c| c.2).max();
    counts.iter().find(|c| Some(c.2) == best).is_some_and(|c| c.1)
}

/// Mean over tasks with the normal approximation of its 95 % interval, clipped to [0, 1].
fn mean_with_interval(values: &[f64]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let half = 1.959_963_984_540_054 * (variance / n).sqrt();
    (mean, (mean - half).max(0.0), (mean + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TaskKind;

    fn task(level: u32) -> Task {
        Task {
            id: format!("t/{level}"),
            kind: TaskKind::Text,
            split: Split::HeldOut,
            level,
            question: "q".into(),
            answer: Some("1".into()),
            solution: None,
        }
    }

    fn answers(texts: &[&str]) -> Vec<(Option<String>, bool)> {
        texts.iter().map(|t| ((!t.is_empty()).then(|| t.to_string()), *t == "1")).collect()
    }

    #[test]
    fn greedy_counts_per_level_and_whole() {
        let (a, b) = (task(1), task(2));
        let attempts = [
            Attempts { task: &a, answers: answers(&["1"]) },
            Attempts { task: &b, answers: answers(&["2"]) },
            Attempts { task: &b, answers: answers(&["1"]) },
        ];
        let figures = greedy(Split::HeldOut, &attempts);
        let value = |level| figures.iter().find(|f| f.level == level).map(|f| (f.tasks, f.value));
        assert_eq!(value(None), Some((3, 2.0 / 3.0)));
        assert_eq!(value(Some(1)), Some((1, 1.0)));
        assert_eq!(value(Some(2)), Some((2, 0.5)));
        assert!(figures.iter().all(|f| f.lo <= f.value && f.value <= f.hi));
    }

    #[test]
    fn sampled_reports_pass_at_k_and_majority() {
        let t = task(1);
        let attempts = [
            Attempts { task: &t, answers: answers(&["1", "1", "2", ""]) },
            Attempts { task: &t, answers: answers(&["2", "2", "1", "3"]) },
        ];
        let figures = sampled(Split::HeldOut, &attempts);
        let value = |name: &str| figures.iter().find(|f| f.metric == name).map(|f| f.value);
        assert_eq!(value("pass@1"), Some((0.5 + 0.25) / 2.0));
        assert_eq!(value("pass@4"), Some(1.0));
        assert_eq!(value("maj@4"), Some(0.5));
    }

    #[test]
    fn a_tie_goes_to_the_first_seen() {
        assert!(majority_is_right(&answers(&["1", "2", "2", "1"])));
        assert!(!majority_is_right(&answers(&["2", "1", "1", "2"])));
        assert!(!majority_is_right(&answers(&["", ""])));
    }
}
