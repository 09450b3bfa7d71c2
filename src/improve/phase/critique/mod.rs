//! Critique: the vote over variants, the head's self-annotation and retraining, and every
//! trajectory's scores.
//!
//! A judge and a reference, if there are any, score first. Every trajectory is then reread in the
//! words of other variants. The bootstrapped head and the vote give each trajectory a probability
//! of being good; those whose predicted distribution has little entropy become labels, and the head
//! is trained again on graded and annotated trajectories together. If it then ranks the anchor set
//! too poorly it loses its vote in the reward, with an alarm.

mod judging;
#[cfg(test)]
mod tests;

use anyhow::Result;

use super::PhaseOutcome;
use super::bootstrap::{self, note, row};
use crate::data::Variants;
use crate::domain::{Address, Alarm, AlarmAction, AlarmRule, Phase, Purpose, Score, ScorerName};
use crate::improve::run::{Session, graded};
use crate::policy::Policy;
use crate::score::{self, Critic, Evidence, Formula, Labelled};
use crate::store::{CriticRow, CriticStage, Scoring};

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let policy = session.incumbent(iteration).await?;
    let stored = session.cache.rollouts(&session.run, iteration).await?;
    session.host.announce(iteration, Phase::Critique, 3 + judging::units(session, &stored));
    session.host.part("judge");
    if let Some(reason) = judging::run(session, iteration, &policy, &stored).await? {
        return Ok(PhaseOutcome::Stopped(reason));
    }
    session.host.part("reread");
    let given = judging::scores(session, iteration).await?;
    let rereads = session.run.config.critic.rereads;
    let trajectories = session.run.trajectories(&stored)?;
    let variants = Variants::new(&session.run.config.tasks);
    let evidence =
        score::gather(policy.engine(), &session.run.text, variants, rereads, &trajectories, given)?;
    session.host.advanced(1);

    let (critic, row) = head(session, iteration, &policy, &evidence).await?;
    session.host.advanced(1);
    session.cache.forget_graded();
    if !row.voting {
        mute(session, iteration, &row).await?;
    }
    session.host.part("score");
    put_scores(session, iteration, (&critic, &row), &evidence).await?;
    session.host.advanced(1);
    Ok(PhaseOutcome::Done(format!("{}, {} self-annotated", note(&row), row.annotated)))
}

/// The head that is trained on graded and self-annotated trajectories. It is stored, or fitted and
/// stored now.
async fn head(
    session: &mut Session<'_>,
    iteration: u32,
    policy: &Policy,
    evidence: &[Evidence],
) -> Result<(Critic, CriticRow)> {
    let run = session.run.id;
    if let Some(row) = session.run.store.critic(run, iteration, CriticStage::Annotated).await? {
        return Ok((Critic::from_bytes(&row.bytes)?, row));
    }
    let graded = graded(session, policy).await?;
    session.host.part("fit");
    let annotated = annotate(session, iteration, evidence).await?;
    let count = annotated.len();
    let config = &session.run.config;
    let address = Address::new(config.run.seed, Purpose::Critic, iteration, "", &[1]);
    let sets: Vec<_> = graded.easy.iter().cloned().chain(annotated).collect();
    let critic = Critic::fit(&sets, &config.critic, &address)?;
    let calibration = graded.calibration(&critic);
    let row = row(&critic, &calibration, count, calibration.trusted(config.critic.auc_min))?;
    let store = &session.run.store;
    session
        .host
        .durable(
            store.write(run, iteration, async |unit| unit.put_critic(CriticStage::Annotated, &row).await),
        )
        .await?;
    Ok((critic, row))
}

/// Raises the alarm about a head that ranks the anchor set too poorly to vote.
async fn mute(session: &Session<'_>, iteration: u32, row: &CriticRow) -> Result<()> {
    let auc_min = session.run.config.critic.auc_min;
    let message = format!(
        "iteration {iteration}: the critique head lost its vote ({}; critic.auc_min = {auc_min}): \
         the reward is `{}`",
        note(row),
        session.run.config.reward.without_head
    );
    let (rule, action) = (AlarmRule::HeadAuc, AlarmAction::HeadMuted);
    let alarm = Alarm { rule, value: row.auc, threshold: Some(auc_min), action, message };
    session.raise(Some((iteration, Phase::Critique)), alarm).await
}

/// Stores the scores of every trajectory that this scoring doesn't cover yet.
async fn put_scores(
    session: &Session<'_>,
    iteration: u32,
    (critic, row): (&Critic, &CriticRow),
    evidence: &[Evidence],
) -> Result<()> {
    let (config, store, run) = (&session.run.config, &session.run.store, session.run.id);
    let reward = &config.reward;
    let formula = Formula::parse(if row.voting { &reward.formula } else { &reward.without_head })?;
    let spec = score::reward_spec(critic, &formula, config.critic.rereads);
    let scoring = Scoring { spec: Some(&spec), ..Scoring::from(&row.hash) };
    let covered = store.scored(run, iteration, &ScorerName::REWARD, scoring).await?;
    let missing: Vec<&Evidence> = evidence.iter().filter(|e| !covered.contains(&e.id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let scores = score(critic, &formula, &missing);
    session
        .host
        .durable(store.write(run, iteration, async |unit| unit.put_scores(scoring, &scores).await))
        .await
}

/// Trajectories whose label the bootstrapped head and the vote are sure of.
async fn annotate(session: &Session<'_>, iteration: u32, evidence: &[Evidence]) -> Result<Vec<Labelled>> {
    let head = bootstrap::critic(session, iteration).await?;
    let config = &session.run.config.critic;
    let formula = Formula::parse(&config.annotation)?;
    let address = Address::new(session.run.config.run.seed, Purpose::Critic, iteration, "", &[2]);
    Ok(score::annotated(evidence, &head, &formula, config, &address))
}

/// Every scorer's score of every trajectory, the reward last.
fn score(critic: &Critic, formula: &Formula, evidence: &[&Evidence]) -> Vec<(i64, Score)> {
    let scored = |e: &&Evidence| e.scored(critic, formula).into_iter().map(|s| (e.id, s)).collect::<Vec<_>>();
    evidence.iter().flat_map(scored).collect()
}
