//! Critique: the vote over variants, the head's self-annotation and retraining, and every
//! trajectory's scores.
//!
//! A judge and a reference, if there are any, score first. Every trajectory is then reread in the
//! words of other variants. The bootstrapped head and the vote give each trajectory a probability
//! of being good; those whose predicted distribution has little entropy become labels, and the head
//! is trained again on graded and annotated trajectories together. If it then ranks the anchor set
//! too poorly it loses its vote in the reward, with a warning.

use anyhow::Result;

use super::bootstrap::{self, note, row};
use super::{Flow, Session, judging};
use crate::domain::{Address, Phase, Purpose, Score, ScorerName, Trajectory};
use crate::score::{self, Critic, Evidence, Formula, Labelled};
use crate::store::{CriticStage, Scoring, StoredTree};

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
    let given = judging::scores(session, iteration).await?;
    let rereads = session.config.critic.rereads;
    let trajectories = trajectories(session, &stored)?;
    let evidence = score::gather(policy.engine(), &session.text, rereads, &trajectories, given)?;
    session.host.advanced(1);

    let (critic, row) = match session.store.critic(run, iteration, CriticStage::Annotated).await? {
        Some(row) => (Critic::from_bytes(&row.bytes)?, row),
        None => {
            let graded = session.graded(&policy).await?;
            session.host.part("fit");
            let annotated = annotate(session, iteration, &evidence).await?;
            let count = annotated.len();
            let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[1]);
            let sets: Vec<_> = graded.easy.iter().cloned().chain(annotated).collect();
            let critic = Critic::fit(&sets, &session.config.critic, &address)?;
            let calibration = graded.calibration(&critic);
            let voting = calibration.auc.is_some_and(|auc| auc >= session.config.critic.auc_min);
            let row = row(&critic, &calibration, count, voting)?;
            session.host.milestone();
            session
                .store
                .write(run, iteration, async |unit| unit.put_critic(CriticStage::Annotated, &row).await)
                .await?;
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
    let covered = session.store.scored(run, iteration, &ScorerName::REWARD, &row.hash).await?;
    let missing: Vec<&Evidence> = evidence.iter().filter(|e| !covered.contains(&e.id)).collect();
    if !missing.is_empty() {
        let config = &session.config.reward;
        let formula = Formula::parse(if row.voting { &config.formula } else { &config.without_head })?;
        let scores = score(&critic, &formula, &missing);
        let spec = score::reward_spec(&critic, &formula, session.config.critic.rereads);
        let scoring = Scoring { spec: Some(&spec), ..Scoring::from(&row.hash) };
        session.host.milestone();
        session.store.write(run, iteration, async |unit| unit.put_scores(scoring, &scores).await).await?;
        session.host.milestone();
    }
    session.host.advanced(1);
    Ok(Flow::Done(format!("{}, {} self-annotated", note(&row), row.annotated)))
}

/// Every trajectory of these trees, in order.
pub(super) fn trajectories<'t>(
    session: &'t Session<'_>,
    stored: &'t [StoredTree],
) -> Result<Vec<Trajectory<'t>>> {
    let mut trajectories = Vec::new();
    for StoredTree { tree, trajectory_ids, .. } in stored {
        let task = session.task(&tree.task_id)?;
        let leaves = tree.leaves.iter().zip(trajectory_ids);
        trajectories.extend(leaves.map(|(leaf, &id)| Trajectory { id, task, tree, leaf }));
    }
    Ok(trajectories)
}

/// Trajectories whose label the bootstrapped head and the vote are sure of.
async fn annotate(session: &Session<'_>, iteration: u32, evidence: &[Evidence]) -> Result<Vec<Labelled>> {
    let head = bootstrap::critic(session, iteration).await?;
    let config = &session.config.critic;
    let formula = Formula::parse(&config.annotation)?;
    let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[2]);
    Ok(score::annotated(evidence, &head, &formula, config, &address))
}

/// Every scorer's score of every trajectory, the reward last.
fn score(critic: &Critic, formula: &Formula, evidence: &[&Evidence]) -> Vec<(i64, Score)> {
    let scored = |e: &&Evidence| e.scored(critic, formula).into_iter().map(|s| (e.id, s)).collect::<Vec<_>>();
    evidence.iter().flat_map(scored).collect()
}
