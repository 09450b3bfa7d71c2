//! Who was right: gold answers by task, held-out outcomes by policy, and the gain of one policy over another.
//!
//! Everything here reads gold answers.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde::Serialize;

use crate::domain::{Address, Arm, Purpose, Split, Task, stats};
use crate::score;
use crate::store::{PromotionRow, Reader, Run, TrajectoryFilter, TrajectoryLine};

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

/// Every task in the store, to tell right answers from wrong ones.
pub(super) struct Gold {
    tasks: HashMap<String, Task>,
}

impl Gold {
    pub(super) async fn load(reader: &Reader) -> Result<Self> {
        let mut tasks = HashMap::new();
        for &split in Split::ALL {
            tasks.extend(reader.tasks(split).await?.into_iter().map(|task| (task.id.clone(), task)));
        }
        Ok(Self { tasks })
    }

    /// `None` if the task has nothing to compare with.
    pub(super) fn is_right(&self, line: &TrajectoryLine) -> Option<bool> {
        score::grade(self.tasks.get(&line.task_id)?, line.answer.as_deref()).correct()
    }

    fn split(&self, task_id: &str) -> Option<Split> {
        self.tasks.get(task_id).map(|task| task.split)
    }
}

/// Every trajectory of one purpose that an iteration drew.
pub(super) async fn lines(
    reader: &Reader,
    run: i64,
    iteration: u32,
    purpose: Purpose,
) -> Result<Vec<TrajectoryLine>> {
    let filter = TrajectoryFilter {
        run: Some(run),
        iteration: Some(iteration),
        purpose: Some(purpose),
        ..TrajectoryFilter::default()
    };
    reader.trajectories(&filter, u32::MAX, 0).await
}

/// The outcomes of the policy that the iteration measured: the greedy attempt at every held-out task, which is
/// the one whose address has the first branch.
pub(super) async fn heldout(reader: &Reader, gold: &Gold, run: i64, iteration: u32) -> Result<Outcomes> {
    let mut greedy: BTreeMap<String, TrajectoryLine> = BTreeMap::new();
    for line in lines(reader, run, iteration, Purpose::Evaluation).await? {
        if gold.split(&line.task_id) != Some(Split::HeldOut) {
            continue;
        }
        let earlier =
            greedy.get(&line.task_id).is_some_and(|known| known.address.branch <= line.address.branch);
        if !earlier {
            greedy.insert(line.task_id.clone(), line);
        }
    }
    Ok(greedy.into_iter().filter_map(|(task, line)| Some((task, gold.is_right(&line)?))).collect())
}

/// The iteration whose candidate is the policy now, 0 if no candidate was ever promoted.
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

/// How a run is called in a sentence.
pub(super) fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::Reward => "the loop",
        Arm::Random => "random selection",
        Arm::Oracle => "selection by gold answers",
        Arm::EasyOnly => "labelled easy tasks alone",
    }
}
