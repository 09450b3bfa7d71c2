//! One line per iteration of a run.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use serde::Serialize;

use super::compare::{HeldOut, outcomes};
use super::verdict::{Verdict, each_attempt};
use crate::domain::{Decoding, Purpose, Split};
use crate::eval::{self, Constant};
use crate::store::{
    CriticRow, CriticStage, EvaluationRow, IterationSummary, ParityRow, PromotionRow, Reader, Run,
    TrajectoryFilter,
};

/// One iteration of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationLine {
    pub iteration: u32,
    /// The policy that this iteration measured: its candidate, promoted or not; the base for
    /// iteration 0.
    pub policy_hash: Option<String>,
    /// Null until the gate has decided, and for iteration 0.
    pub promoted: Option<bool>,
    /// That policy on held-out tasks, decoding greedily.
    pub heldout: Option<Measure>,
    /// What the gate measured.
    pub gate: Option<GateLine>,
    /// Sampled by rollouts.
    pub trajectories: i64,
    pub kept: i64,
    /// Reads gold answers, for audit only.
    pub kept_precision: Option<Precision>,
    /// The critique head on the anchor split.
    pub critic: Option<CriticLine>,
    /// Largest difference between the sampler's and the trainer's log-probability of a token, in
    /// nats.
    pub parity: Option<f64>,
    /// Optimizer updates.
    pub steps: i64,
    /// Trajectories that they were made of, and how often each was passed over on average; null
    /// without any.
    pub rows: i64,
    pub epochs: Option<f64>,
    /// Of the last update, in nats per token.
    pub loss_last: Option<f64>,
    /// Of the iteration's finished phases.
    pub seconds: f64,
}

/// Greedy accuracy with its interval, and what the answers are; shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Tasks.
    pub n: u32,
    pub pass1: f64,
    pub lo: f64,
    pub hi: f64,
    /// What answering the same to every task would score at best; null without gold answers.
    pub constant: Option<ConstantAnswer>,
    /// Answers that can be read: pass1 is this times `right_if_readable`.
    pub readable: Option<f64>,
    pub right_if_readable: Option<f64>,
    /// The most frequent answers; null is none.
    pub answers: Vec<CommonAnswer>,
    /// Entropy of the answers over the tasks, in bits.
    pub entropy_bits: Option<f64>,
}

/// The best constant answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConstantAnswer {
    pub answer: String,
    pub pass1: f64,
    /// The best constant answer of each level, if there are several.
    pub by_level: Vec<ConstantOfLevel>,
}

/// The best constant answer to the tasks of a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConstantOfLevel {
    pub level: u32,
    pub answer: String,
    pub pass1: f64,
}

/// An answer, and the share of the tasks that got it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommonAnswer {
    pub answer: Option<String>,
    pub share: f64,
}

/// The candidate against the policy before it, on the gate split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateLine {
    /// In percentage points.
    pub gain_points: f64,
    pub lo: f64,
    pub hi: f64,
    pub p_value: Option<f64>,
    /// The decision in words.
    pub reason: String,
}

/// How many of the kept trajectories have the gold answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Precision {
    pub right: usize,
    /// Kept trajectories whose task has a gold answer.
    pub n: usize,
    pub share: f64,
}

/// The critique head's calibration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CriticLine {
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub brier: Option<f64>,
    /// Trajectories it was measured on.
    pub n: u32,
    /// Whether it has a vote in the reward.
    pub voting: bool,
}

/// What the store has of a run, iteration by iteration.
pub(super) struct RunRows {
    run: i64,
    base_policy_hash: String,
    evaluations: Vec<(u32, EvaluationRow)>,
    promotions: Vec<(u32, PromotionRow)>,
    critics: Vec<(u32, CriticStage, CriticRow)>,
    parity: Vec<(u32, ParityRow)>,
    /// By iteration, the trajectories of its updates and their uses.
    learned: BTreeMap<u32, (i64, i64)>,
}

impl RunRows {
    pub(super) async fn read(reader: &Reader, run: &Run) -> Result<Self> {
        Ok(Self {
            run: run.id,
            base_policy_hash: run.base_policy_hash.clone(),
            evaluations: reader.evaluations(run.id).await?,
            promotions: reader.promotions(run.id).await?,
            critics: reader.critics(run.id).await?,
            parity: reader.parity(run.id).await?,
            learned: reader.learned(run.id).await?,
        })
    }

    /// The gate's decisions by iteration.
    pub(super) fn promotions(&self) -> &[(u32, PromotionRow)] {
        &self.promotions
    }

    /// The critique heads and the measurements of one iteration, in order.
    pub(super) fn of_iteration(self, iteration: u32) -> (Vec<(CriticStage, CriticRow)>, Vec<EvaluationRow>) {
        let critics = self.critics.into_iter().filter(|(i, ..)| *i == iteration);
        let evaluations = self.evaluations.into_iter().filter(|(i, _)| *i == iteration);
        let critics = critics.map(|(_, stage, critic)| (stage, critic)).collect();
        (critics, evaluations.map(|(_, evaluation)| evaluation).collect())
    }

    /// The line of one iteration.
    pub(super) async fn line(
        &self,
        reader: &Reader,
        verdict: Verdict<'_>,
        tasks: &HeldOut,
        summary: &IterationSummary,
    ) -> Result<IterationLine> {
        let iteration = summary.iteration;
        let promotion = self.promotion(iteration);
        let heldout = match self.heldout(iteration) {
            Some(row) => Some(self.measure(reader, verdict, tasks, iteration, row).await?),
            None => None,
        };
        Ok(IterationLine {
            iteration,
            policy_hash: self.policy_hash(iteration),
            promoted: promotion.map(|p| p.promoted),
            heldout,
            gate: promotion.map(|p| GateLine {
                gain_points: p.gain_points,
                lo: p.lo,
                hi: p.hi,
                p_value: p.p_value,
                reason: p.reason.clone(),
            }),
            trajectories: summary.trajectories,
            kept: summary.kept,
            kept_precision: precision(reader, verdict, self.run, iteration).await?,
            critic: self.critic(iteration),
            parity: self.parity.iter().find(|(i, _)| *i == iteration).map(|(_, p)| p.max_abs_diff),
            steps: summary.steps,
            rows: self.learned(iteration).0,
            epochs: Some(self.learned(iteration)).filter(|(rows, _)| *rows > 0).map(|(rows, uses)| {
                let thousandths = (1000.0 * uses as f64 / rows as f64).round();
                thousandths / 1000.0
            }),
            loss_last: summary.loss_last,
            seconds: summary.seconds,
        })
    }

    async fn measure(
        &self,
        reader: &Reader,
        verdict: Verdict<'_>,
        tasks: &HeldOut,
        iteration: u32,
        row: &EvaluationRow,
    ) -> Result<Measure> {
        let outcomes = outcomes(reader, verdict, tasks, self.run, iteration).await?;
        let profile = eval::profile(outcomes.values().map(|outcome| &outcome.greedy));
        let of_level = |(level, Constant { answer, pass1 })| ConstantOfLevel { level, answer, pass1 };
        let constant = tasks.constant.clone().map(|Constant { answer, pass1 }| ConstantAnswer {
            answer,
            pass1,
            by_level: tasks.constant_by_level(verdict).into_iter().map(of_level).collect(),
        });
        let answers = profile.iter().flat_map(|profile| profile.answers.clone());
        Ok(Measure {
            n: row.n,
            pass1: row.value,
            lo: row.lo,
            hi: row.hi,
            constant,
            readable: profile.as_ref().map(|profile| profile.readable),
            right_if_readable: profile.as_ref().and_then(|profile| profile.right_if_readable),
            answers: answers.map(|(answer, share)| CommonAnswer { answer, share }).collect(),
            entropy_bits: profile.as_ref().map(|profile| profile.entropy_bits),
        })
    }

    /// Trajectories that the iteration's updates were made of, and their uses.
    fn learned(&self, iteration: u32) -> (i64, i64) {
        self.learned.get(&iteration).copied().unwrap_or((0, 0))
    }

    fn promotion(&self, iteration: u32) -> Option<&PromotionRow> {
        self.promotions.iter().find(|(i, _)| *i == iteration).map(|(_, promotion)| promotion)
    }

    /// Greedy pass@1 on the held-out split, every level together.
    fn heldout(&self, iteration: u32) -> Option<&EvaluationRow> {
        let wanted = (Split::HeldOut, Decoding::Greedy, "pass@1", None);
        let mut of_iteration = self.evaluations.iter().filter(|(i, _)| *i == iteration).map(|(_, e)| e);
        of_iteration.find(|e| (e.split, e.decoding, e.metric.as_str(), e.level) == wanted)
    }

    fn policy_hash(&self, iteration: u32) -> Option<String> {
        let candidate = self.promotion(iteration).map(|p| &p.candidate_hash);
        let measured = self.heldout(iteration).map(|e| &e.policy_hash);
        let base = (iteration == 0).then_some(&self.base_policy_hash);
        candidate.or(measured).or(base).cloned()
    }

    /// The head that scored: the annotated one if there is one, else the bootstrapped one.
    fn critic(&self, iteration: u32) -> Option<CriticLine> {
        let of_stage = |stage| self.critics.iter().find(|(i, s, _)| (*i, *s) == (iteration, stage));
        let (_, _, head) = of_stage(CriticStage::Annotated).or_else(|| of_stage(CriticStage::Bootstrap))?;
        Some(CriticLine {
            auc: head.auc,
            ece: head.ece,
            brier: head.brier,
            n: head.anchor_n,
            voting: head.voting,
        })
    }
}

/// One line per iteration that has begun.
pub(super) async fn lines(
    reader: &Reader,
    verdict: Verdict<'_>,
    tasks: &HeldOut,
    (run, rows): (i64, &RunRows),
) -> Result<Vec<IterationLine>> {
    let mut lines = Vec::new();
    for summary in reader.iteration_summaries(run).await? {
        lines.push(rows.line(reader, verdict, tasks, &summary).await?);
    }
    Ok(lines)
}

/// The trajectories that the iteration sampled for training.
pub(super) fn rollouts(run: i64, iteration: u32) -> TrajectoryFilter {
    TrajectoryFilter {
        run: Some(run),
        iteration: Some(iteration),
        purpose: Some(Purpose::Rollout),
        ..TrajectoryFilter::default()
    }
}

/// The trajectories that the iteration's selection kept.
pub(super) async fn kept(reader: &Reader, run: i64, iteration: u32) -> Result<HashSet<i64>> {
    let selections = reader.selections(run, iteration).await?;
    Ok(selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect())
}

/// How right selection was; `None` if it kept nothing that can be checked.
async fn precision(
    reader: &Reader,
    verdict: Verdict<'_>,
    run: i64,
    iteration: u32,
) -> Result<Option<Precision>> {
    let kept = kept(reader, run, iteration).await?;
    if kept.is_empty() {
        return Ok(None);
    }
    let (mut right, mut n) = (0, 0);
    each_attempt(reader, verdict, &rollouts(run, iteration), |line, verdict| {
        if let Some(is_right) = kept.contains(&line.id).then(verdict).flatten() {
            n += 1;
            right += usize::from(is_right);
        }
    })
    .await?;
    Ok((n > 0).then(|| Precision { right, n, share: right as f64 / n as f64 }))
}
