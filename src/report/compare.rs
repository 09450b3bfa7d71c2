//! One policy against another on the same held-out tasks, and against cheaper explanations.
//!
//! Everything here reads gold answers.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde::Serialize;

use super::verdict::{Verdict, each_attempt};
use crate::domain::stats::Interval;
use crate::domain::{Address, Purpose, Split, Task, stats};
use crate::eval::{self, Answered, Constant, Readable};
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
    /// The part that more readable answers explain.
    pub format: Part,
    /// The rest: being right more often among readable answers.
    pub substance: Part,
    /// Tasks that were wrong before and are right after.
    pub learned: usize,
    /// Tasks that were right before and are wrong after.
    pub lost: usize,
    /// Of the learned ones, those that a sample of the policy before already solved.
    pub sharpened: usize,
    /// Learned and lost tasks over all.
    pub flip_rate: f64,
}

/// A part of a gain, in percentage points, with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    pub points: f64,
    pub lo: f64,
    pub hi: f64,
}

impl From<Interval> for Part {
    /// Of shares.
    fn from(shares: Interval) -> Self {
        let Interval { mean, lo, hi } = shares.scaled(100.0);
        Self { points: mean, lo, hi }
    }
}

/// The held-out tasks, and what can be had without ability.
pub(super) struct HeldOut {
    tasks: HashMap<String, Task>,
    readable: Readable,
    pub(super) constant: Option<Constant>,
}

impl HeldOut {
    pub(super) async fn read(reader: &Reader, verdict: Verdict<'_>) -> Result<Self> {
        let tasks = reader.tasks(Split::HeldOut).await?;
        let readable = Readable::of(tasks.iter());
        let constant = eval::best_constant(tasks.iter(), verdict);
        Ok(Self {
            tasks: tasks.into_iter().map(|task| (task.id.clone(), task)).collect(),
            readable,
            constant,
        })
    }

    /// The best constant answer to the tasks of each level, if there are several levels.
    pub(super) fn constant_by_level(&self, verdict: Verdict<'_>) -> BTreeMap<u32, Constant> {
        let mut levels: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
        for task in self.tasks.values() {
            levels.entry(task.level).or_default().push(task);
        }
        let several = levels.len() > 1;
        let best = |(level, tasks): (u32, Vec<&Task>)| {
            Some((level, eval::best_constant(tasks.iter().copied(), verdict)?))
        };
        levels.into_iter().filter(|_| several).filter_map(best).collect()
    }

    /// Whether the best constant answer is right for a task; `None` where that isn't known.
    fn constant_is_right(&self, task: &str, verdict: Verdict<'_>) -> Option<bool> {
        verdict(self.tasks.get(task)?, Some(&self.constant.as_ref()?.answer))
    }
}

/// How a policy did on one held-out task.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) greedy: Answered,
    /// Whether a sampled attempt was right; `None` if none was made.
    sampled: Option<bool>,
}

/// How a policy did on each held-out task, by task id.
pub(super) type Outcomes = BTreeMap<String, Outcome>;

/// An attempt: its branch, its answer and whether that is right.
type Attempt = (Vec<u32>, Option<String>, Option<bool>);

/// The outcomes of the policy that the iteration measured. The greedy attempt at a task is the one
/// whose address has the first branch; the others are samples.
pub(super) async fn outcomes(
    reader: &Reader,
    verdict: Verdict<'_>,
    heldout: &HeldOut,
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
    let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    each_attempt(reader, verdict, &filter, |line, right| {
        let attempt = (line.address.branch.clone(), line.answer.clone(), right());
        attempts.entry(line.task_id.clone()).or_default().push(attempt);
    })
    .await?;
    let outcome = |(task, mut attempts): (String, Vec<Attempt>)| {
        attempts.sort_by(|a, b| a.0.cmp(&b.0));
        let mut attempts = attempts.into_iter();
        let (_, answer, right) = attempts.next()?;
        let greedy = Answered { readable: heldout.readable.is(answer.as_deref()), right: right?, answer };
        let sampled = attempts.map(|(.., right)| right == Some(true)).reduce(|a, b| a || b);
        Some((task, Outcome { greedy, sampled }))
    };
    Ok(attempts.into_iter().filter_map(outcome).collect())
}

/// The iteration whose candidate is the policy now; 0 if no candidate was ever promoted.
pub(super) fn policy_iteration(promotions: &[(u32, PromotionRow)]) -> u32 {
    promotions.iter().filter(|(_, p)| p.promoted).map(|(iteration, _)| *iteration).max().unwrap_or(0)
}

/// The gain of `after` over `before` on the tasks that both attempted; `None` if there are none.
pub(super) fn gain(run: &Run, before: &Outcomes, after: &Outcomes) -> Option<Gain> {
    let pairs: Vec<(&Outcome, &Outcome)> =
        before.iter().filter_map(|(task, before)| Some((before, after.get(task)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let right = |of: &[&Answered]| of.iter().map(|one| f64::from(one.right)).collect::<Vec<_>>();
    let (before, after): (Vec<&Answered>, Vec<&Answered>) =
        pairs.iter().map(|(before, after)| (&before.greedy, &after.greedy)).unzip();
    let address = |name| Address::new(run.seed, Purpose::Evaluation, 0, name, &[]);
    let level = confidence(run);
    let interval =
        stats::paired_bootstrap(&right(&before), &right(&after), level, &address("gain")).scaled(100.0);
    let parts = eval::parts(&before, &after, level, &address("parts"));
    let learns = |(before, after): &&(&Outcome, &Outcome)| !before.greedy.right && after.greedy.right;
    let learned = pairs.iter().filter(learns).count();
    let lost = pairs.iter().filter(|(before, after)| before.greedy.right && !after.greedy.right).count();
    Some(Gain {
        points: interval.mean,
        lo: interval.lo,
        hi: interval.hi,
        n: pairs.len(),
        p_value: stats::mcnemar_exact(lost, learned),
        format: parts.format.into(),
        substance: parts.substance.into(),
        learned,
        lost,
        sharpened: pairs.iter().filter(learns).filter(|(before, _)| before.sampled == Some(true)).count(),
        flip_rate: (learned + lost) as f64 / pairs.len() as f64,
    })
}

/// What else would explain a gain, in a sentence; `None` if nothing that is looked for does.
pub(super) fn caution(
    run: &Run,
    verdict: Verdict<'_>,
    heldout: &HeldOut,
    (gain, now): (&Gain, &Outcomes),
) -> Option<String> {
    if gain.points <= 0.0 {
        return None;
    }
    if let Some(constant) = &heldout.constant {
        let pairs = now.iter().filter_map(|(task, outcome)| {
            Some((f64::from(heldout.constant_is_right(task, verdict)?), f64::from(outcome.greedy.right)))
        });
        let (same, own): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let address = Address::new(run.seed, Purpose::Evaluation, 0, "constant", &[]);
        if !own.is_empty() && stats::paired_bootstrap(&same, &own, confidence(run), &address).lo <= 0.0 {
            return Some(format!(
                "{:+.1} points, but answering {:?} to everything would score as much: {:.1} %",
                gain.points,
                constant.answer,
                100.0 * constant.pass1
            ));
        }
    }
    (gain.lo > 0.0 && gain.substance.lo <= 0.0).then(|| {
        format!(
            "{:+.1} points, but {:+.1} of them are a readable form of answers, and the rest is not clear of 0",
            gain.points, gain.format.points
        )
    })
}

/// The two-sided level of the run's intervals.
pub(super) fn confidence(run: &Run) -> f64 {
    let config: serde_json::Value = serde_json::from_str(&run.config_json).unwrap_or_default();
    let level = config.pointer("/gate/confidence").and_then(serde_json::Value::as_f64);
    level.filter(|level| 0.0 < *level && *level < 1.0).unwrap_or(0.95)
}
