//! Critique: the vote over variants, the head's self-annotation and retraining, and every trajectory's scores.
//!
//! A judge and a reference, if there are any, give their scores first. Every trajectory is reread in the words of other variants. The bootstrapped head and the vote then give each
//! trajectory a probability of being good; those whose predicted distribution has little entropy become labels, and
//! the head is trained again on graded and annotated trajectories together. If it then ranks the anchor set too poorly
//! it loses its vote in the reward, loudly.

use std::collections::BTreeMap;

use anyhow::Result;

use super::bootstrap::{self, note, row};
use super::rereading::{Told, reread};
use super::{Flow, Policy, Session, judging};
use crate::critic::{self, Critic, Formula, Labelled};
use crate::domain::{Address, Phase, Purpose, Reward, Score, ScorerKind};
use crate::store::{CriticStage, StoredTree};

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let policy = session.load(&session.incumbent_hash(iteration).await?).await?;
    let run = session.run.id;
    let stored = session.rollouts(iteration).await?;
    session.announce(iteration, Phase::Critique, 3 + judging::units(session, &stored));
    session.host.part("judge");
    if let Some(reason) = judging::perform(session, iteration, &policy, &stored).await? {
        return Ok(Flow::Stopped(reason));
    }
    session.host.part("reread");
    let mut trajectories = trajectories(session, &policy, &stored)?;
    let mut given = judging::scores(session, iteration).await?;
    trajectories.iter_mut().for_each(|t| t.given = given.remove(&t.id).unwrap_or_default());
    session.host.advanced(1);

    let (critic, row) = match session.store.critic(run, iteration, CriticStage::Annotated).await? {
        Some(row) => (Critic::from_bytes(&row.bytes)?, row),
        None => {
            let graded = session.graded(&policy).await?;
            session.host.part("fit");
            let annotated = annotate(session, iteration, &trajectories).await?;
            let count = annotated.len();
            let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[1]);
            let sets: Vec<_> = graded.easy.iter().cloned().chain(annotated).collect();
            let critic = Critic::fit(&sets, &session.config.critic, &address)?;
            let calibration = graded.calibration(&critic);
            let voting = calibration.auc.is_some_and(|auc| auc >= session.config.critic.auc_min);
            let row = row(&critic, &calibration, count, voting)?;
            session.host.milestone();
            session.store.put_critic(run, iteration, CriticStage::Annotated, &row).await?;
            session.host.milestone();
            (critic, row)
        }
    };
    session.host.advanced(1);
    session.forget_graded();
    if !row.voting {
        let message = format!(
            "iteration {iteration}: the critique head lost its vote ({}; critic.auc_min = {}): the reward is `{}`",
            note(&row),
            session.config.critic.auc_min,
            session.config.reward.without_head
        );
        session.warn(message).await?;
    }
    session.host.part("score");
    let stored = session.store.scores(run, iteration).await?;
    if !stored.iter().any(|(_, score)| score.scorer == ScorerKind::Reward) {
        let scores = score(session, &critic, row.voting, &trajectories)?;
        session.host.milestone();
        session.store.put_scores(run, iteration, &row.hash, &scores).await?;
        session.host.milestone();
    }
    session.host.advanced(1);
    Ok(Flow::Done(format!("{}, {} self-annotated", note(&row), row.annotated)))
}

/// One leaf of a stored tree, as the critics see it.
struct Trajectory {
    id: i64,
    /// [`critic::features`] of its thoughts.
    features: Vec<Vec<f32>>,
    /// The scores that need no head: log-probabilities and the vote among those of its task.
    scores: Vec<Score>,
    /// The scores of models beside the policy, stored when they were asked.
    given: Vec<Score>,
}

impl Trajectory {
    /// The scores to be stored, the head's among them.
    fn scores(&self, critic: &Critic) -> Vec<Score> {
        critic.scores(&self.features).into_iter().chain(self.scores.iter().copied()).collect()
    }

    /// The value of a formula over all scores.
    fn eval(&self, formula: &Formula, critic: &Critic) -> Reward {
        formula.eval(&[self.scores(critic), self.given.clone()].concat())
    }
}

fn trajectories(session: &Session, policy: &Policy, stored: &[StoredTree]) -> Result<Vec<Trajectory>> {
    let (mut ids, mut told, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for StoredTree { tree, trajectory_ids, .. } in stored {
        let task = session.task(&tree.task_id)?;
        let question = tree.variant.as_ref().map_or(&task.question, |variant| &variant.question);
        for (leaf, &id) in tree.leaves.iter().zip(trajectory_ids) {
            let thoughts = tree.path(leaf).into_iter().map(|i| &tree.thoughts[i]).collect();
            ids.push(id);
            answers.push((tree.task_id.as_str(), leaf.answer.as_deref()));
            told.push(Told { task, question, address: &tree.address, thoughts });
        }
    }
    let rereadings = reread(session, policy, &told)?;
    let mut trajectories = Vec::with_capacity(ids.len());
    for (((id, told), rereadings), vote) in ids.into_iter().zip(told).zip(rereadings).zip(votes(&answers)) {
        let features = told.thoughts.iter().zip(&rereadings).map(|(t, r)| critic::features(t, r)).collect();
        let mut scores = critic::logprob_scores(&told.thoughts).to_vec();
        scores.extend([critic::reread_score(&rereadings), vote]);
        trajectories.push(Trajectory { id, features, scores, given: Vec::new() });
    }
    Ok(trajectories)
}

/// The vote of each (task, answer) among those of its task, in order.
fn votes(answers: &[(&str, Option<&str>)]) -> Vec<Score> {
    let mut by_task: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (task, _)) in answers.iter().enumerate() {
        by_task.entry(task).or_default().push(index);
    }
    let mut votes = vec![None; answers.len()];
    for members in by_task.values() {
        let said: Vec<Option<&str>> = members.iter().map(|&i| answers[i].1).collect();
        for (&index, vote) in members.iter().zip(critic::vote(&said)) {
            votes[index] = Some(vote);
        }
    }
    votes.into_iter().flatten().collect()
}

/// Trajectories whose label the bootstrapped head and the vote are sure of.
async fn annotate(
    session: &Session<'_>,
    iteration: u32,
    trajectories: &[Trajectory],
) -> Result<Vec<Labelled>> {
    let head = bootstrap::critic(session, iteration).await?;
    let formula = Formula::parse(&session.config.critic.annotation)?;
    let predicted: Vec<Reward> = trajectories.iter().map(|t| t.eval(&formula, &head)).collect();
    let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[2]);
    let labels = critic::annotate(&predicted, &session.config.critic, &address);
    let labelled = |(trajectory, label): (&Trajectory, Option<f32>)| {
        let thoughts = trajectory.features.clone();
        Some(Labelled { thoughts, good: Some(label?), criteria: None, weight: 1.0 })
    };
    Ok(trajectories.iter().zip(labels).filter_map(labelled).collect())
}

/// Every scorer's score of every trajectory, the reward last.
fn score(
    session: &Session,
    critic: &Critic,
    voting: bool,
    trajectories: &[Trajectory],
) -> Result<Vec<(i64, Score)>> {
    let config = &session.config.reward;
    let formula = Formula::parse(if voting { &config.formula } else { &config.without_head })?;
    let mut rows = Vec::new();
    for trajectory in trajectories {
        let scores = trajectory.scores(critic);
        let reward = Score { scorer: ScorerKind::Reward, value: trajectory.eval(&formula, critic) };
        rows.extend(scores.into_iter().chain([reward]).map(|s| (trajectory.id, s)));
    }
    Ok(rows)
}
