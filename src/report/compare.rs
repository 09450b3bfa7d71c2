//! One policy against another on the same held-out tasks.
//!
//! Everything here reads gold answers.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::verdict::{Verdict, each_attempt};
use crate::domain::{Address, Purpose, Split, stats};
use crate::store::{PromotionRow, Reader, Run, TrajectoryFilter};

/// How much better one policy is than another on the same held-out tasks, decoding greedily.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// Difference of pass@1, in percentage points.
    pub points: f64,
    /// Lower end of its interval (paired bootstrap).
    pub lo: f64,
    pub hi: f64,
    /// Tasks compared.
    pub n: usize,
    /// Of McNemar's exact test.
    pub p_value: f64,
}

/// Whether each held-out task was solved, by task id.
pub(super) type Outcomes = BTreeMap<String, bool>;

/// The greedy attempt at one task.
struct Greedy {
    branch: Vec<u32>,
    right: Option<bool>,
}

/// The outcomes of the policy that the iteration measured: the greedy attempt at every held-out
/// task, which is the one whose address has the first branch.
pub(super) async fn heldout(
    reader: &Reader,
    verdict: Verdict<'_>,
    run: i64,
    iteration: u32,
) -> Result<Outcomes> {
    let filter = TrajectoryFilter {
        run: Some(run),
        iteration: Some(iteration),
        purpose: Some(Purpose::Evaluation),
        split: Some(Split::HeldOut),
        ..TrajectoryFilter::default()
    };
    let mut greedy: BTreeMap<String, Greedy> = BTreeMap::new();
    each_attempt(reader, verdict, &filter, |line, right| {
        let branch = &line.address.branch;
        if greedy.get(&line.task_id).is_none_or(|known| *branch < known.branch) {
            greedy.insert(line.task_id.clone(), Greedy { branch: branch.clone(), right: right() });
        }
    })
    .await?;
    Ok(greedy.into_iter().filter_map(|(task, attempt)| Some((task, attempt.right?))).collect())
}

/// The iteration whose candidate is the policy now; 0 if no candidate was ever promoted.
pub(super) fn policy_iteration(promotions: &[(u32, PromotionRow)]) -> u32 {
    promotions.iter().filter(|(_, p)| p.promoted).map(|(iteration, _)| *iteration).max().unwrap_or(0)
}

/// The gain of `after` over `before` on the tasks that both attempted; `None` if there are none.
pub(super) fn gain(run: &Run, before: &Outcomes, after: &Outcomes) -> Option<Gain> {
    let pairs: Vec<(bool, bool)> =
        before.iter().filter_map(|(task, b)| Some((*b, *after.get(task)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let (b, a): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(b, a)| (f64::from(b), f64::from(a))).unzip();
    let address = Address::new(run.seed, Purpose::Evaluation, 0, "gain", &[]);
    let interval = stats::paired_bootstrap(&b, &a, confidence(run), &address).scaled(100.0);
    let count = |pair: (bool, bool)| pairs.iter().filter(|p| **p == pair).count();
    Some(Gain {
        points: interval.mean,
        lo: interval.lo,
        hi: interval.hi,
        n: pairs.len(),
        p_value: stats::mcnemar_exact(count((true, false)), count((false, true))),
    })
}

/// The two-sided level of the run's intervals.
pub(super) fn confidence(run: &Run) -> f64 {
    let config: serde_json::Value = serde_json::from_str(&run.config_json).unwrap_or_default();
    let level = config.pointer("/gate/confidence").and_then(serde_json::Value::as_f64);
    level.filter(|level| 0.0 < *level && *level < 1.0).unwrap_or(0.95)
}
