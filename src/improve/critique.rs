//! Critique: the vote over variants, the head's self-annotation and retraining, and every trajectory's scores.
//!
//! The bootstrapped head and the vote give each trajectory a probability of being good; those whose predicted
//! distribution has little entropy become labels, and the head is trained again on graded and annotated
//! trajectories together. If it then ranks the anchor set too poorly it loses its vote in the reward, loudly.

use std::collections::BTreeMap;

use anyhow::Result;

use super::bootstrap::{self, Graded, note, row};
use super::{Flow, Session};
use crate::critic::{self, Critic, Formula, Labelled};
use crate::domain::{Address, Phase, Purpose, Reward, Score, ScorerKind, Thought};
use crate::store::{CriticStage, StoredTree};

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let policy = session.load(&session.incumbent_hash(iteration).await?).await?;
    let run = session.run.id;
    session.announce(iteration, Phase::Critique, 2);
    let stored = session.store.trees(run, iteration, Purpose::Rollout).await?;
    let trajectories = trajectories(&stored);
    let votes = votes(&trajectories);

    let (critic, row) = match session.store.critic(run, iteration, CriticStage::Annotated).await? {
        Some(row) => (Critic::from_bytes(&row.bytes)?, row),
        None => {
            let graded = Graded::read(session, &policy).await?;
            let annotated = annotate(session, iteration, &trajectories, &votes).await?;
            let count = annotated.len();
            let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[1]);
            let sets = [graded.easy.as_slice(), &annotated].concat();
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
    session.host.advanced();
    if !row.voting {
        let message = format!(
            "iteration {iteration}: the critique head lost its vote ({}; critic.auc_min = {}): the reward is `{}`",
            note(&row),
            session.config.critic.auc_min,
            session.config.reward.without_head
        );
        session.warn(message).await?;
    }
    if session.store.scores(run, iteration).await?.is_empty() {
        let scores = score(session, &critic, row.voting, &trajectories, &votes)?;
        session.host.milestone();
        session.store.put_scores(run, iteration, &row.hash, &scores).await?;
        session.host.milestone();
    }
    session.host.advanced();
    Ok(Flow::Done(format!("{}, {} self-annotated", note(&row), row.annotated)))
}

/// One leaf of a stored tree.
struct Trajectory<'t> {
    id: i64,
    task: &'t str,
    thoughts: Vec<&'t Thought>,
    answer: Option<&'t str>,
}

fn trajectories(stored: &[StoredTree]) -> Vec<Trajectory<'_>> {
    let of_tree = |s| {
        let stored: &StoredTree = s;
        let of_leaf = |(leaf, &id)| {
            let leaf: &crate::domain::Leaf = leaf;
            Trajectory {
                id,
                task: stored.tree.task_id.as_str(),
                thoughts: stored.tree.path(leaf).into_iter().map(|i| &stored.tree.thoughts[i]).collect(),
                answer: leaf.answer.as_deref(),
            }
        };
        stored.tree.leaves.iter().zip(&stored.trajectory_ids).map(of_leaf)
    };
    stored.iter().flat_map(of_tree).collect()
}

/// Each trajectory's vote among those of its task, in order.
fn votes(trajectories: &[Trajectory]) -> Vec<Score> {
    let mut by_task: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, trajectory) in trajectories.iter().enumerate() {
        by_task.entry(trajectory.task).or_default().push(index);
    }
    let mut votes = vec![None; trajectories.len()];
    for members in by_task.values() {
        let answers: Vec<Option<&str>> = members.iter().map(|&i| trajectories[i].answer).collect();
        for (&index, vote) in members.iter().zip(critic::vote(&answers)) {
            votes[index] = Some(vote);
        }
    }
    votes.into_iter().flatten().collect()
}

/// Trajectories whose label the bootstrapped head and the vote are sure of.
async fn annotate(
    session: &Session<'_>,
    iteration: u32,
    trajectories: &[Trajectory<'_>],
    votes: &[Score],
) -> Result<Vec<Labelled>> {
    let head = bootstrap::critic(session, iteration).await?;
    let formula = Formula::parse(&session.config.critic.annotation)?;
    let predicted: Vec<Reward> =
        trajectories.iter().zip(votes).map(|(t, vote)| formula.eval(&all_scores(&head, t, *vote))).collect();
    let labels = critic::annotate(&predicted, session.config.critic.entropy_max_bits);
    let labelled = |(trajectory, label): (&Trajectory, Option<f32>)| {
        let thoughts = trajectory.thoughts.iter().map(|t| critic::features(t)).collect();
        Some(Labelled { thoughts, good: Some(label?), criteria: None, weight: 1.0 })
    };
    Ok(trajectories.iter().zip(labels).filter_map(labelled).collect())
}

fn all_scores(critic: &Critic, trajectory: &Trajectory, vote: Score) -> Vec<Score> {
    let mut scores = critic.scores(&trajectory.thoughts).to_vec();
    scores.extend(critic::logprob_scores(&trajectory.thoughts));
    scores.push(vote);
    scores
}

/// Every scorer's score of every trajectory, the reward last.
fn score(
    session: &Session<'_>,
    critic: &Critic,
    voting: bool,
    trajectories: &[Trajectory<'_>],
    votes: &[Score],
) -> Result<Vec<(i64, Score)>> {
    let config = &session.config.reward;
    let formula = Formula::parse(if voting { &config.formula } else { &config.without_head })?;
    let mut rows = Vec::new();
    for (trajectory, vote) in trajectories.iter().zip(votes) {
        let scores = all_scores(critic, trajectory, *vote);
        let reward = Score { scorer: ScorerKind::Reward, value: formula.eval(&scores) };
        rows.extend(scores.into_iter().chain([reward]).map(|s| (trajectory.id, s)));
    }
    Ok(rows)
}
