//! Critique: the vote over variants, the head's self-annotation and retraining, and every
//! trajectory's scores.
//!
//! A judge and a reference, if there are any, score first. Every trajectory is then reread in the
//! words of other variants. The bootstrapped head and the vote give each trajectory a probability
//! of being good; those whose predicted distribution has little entropy become labels, and the head
//! is trained again on graded and annotated trajectories together. If it then ranks the anchor set
//! too poorly it loses its vote in the reward, with an alarm.

mod judging;

use anyhow::Result;

use super::PhaseOutcome;
use super::bootstrap::{self, note, row};
use crate::domain::{Address, Alarm, AlarmAction, AlarmRule, Phase, Purpose, Score, ScorerName};
use crate::improve::run::{Session, graded};
use crate::score::{self, Critic, Evidence, Formula, Labelled};
use crate::store::{CriticStage, Scoring};

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let policy = session.incumbent(iteration).await?;
    let run = session.run.id;
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
    let evidence = score::gather(policy.engine(), &session.run.text, rereads, &trajectories, given)?;
    session.host.advanced(1);

    let (critic, row) =
        match session.run.store.critic(run, iteration, CriticStage::Annotated).await? {
            Some(row) => (Critic::from_bytes(&row.bytes)?, row),
            None => {
                let graded = graded(session, &policy).await?;
                session.host.part("fit");
                let annotated = annotate(session, iteration, &evidence).await?;
                let count = annotated.len();
                let address = Address::new(session.run.config.run.seed, Purpose::Critic, iteration, "", &[1]);
                let sets: Vec<_> = graded.easy.iter().cloned().chain(annotated).collect();
                let critic = Critic::fit(&sets, &session.run.config.critic, &address)?;
                let calibration = graded.calibration(&critic);
                let voting = calibration.auc.is_some_and(|auc| auc >= session.run.config.critic.auc_min);
                let row = row(&critic, &calibration, count, voting)?;
                let store = &session.run.store;
                session
                    .host
                    .durable(store.write(run, iteration, async |unit| {
                        unit.put_critic(CriticStage::Annotated, &row).await
                    }))
                    .await?;
                (critic, row)
            }
        };
    session.host.advanced(1);
    session.cache.forget_graded();
    if !row.voting {
        let message = format!(
            "iteration {iteration}: the critique head lost its vote ({}; critic.auc_min = {}): the reward is `{}`",
            note(&row),
            session.run.config.critic.auc_min,
            session.run.config.reward.without_head
        );
        let threshold = Some(session.run.config.critic.auc_min);
        let (rule, action) = (AlarmRule::HeadAuc, AlarmAction::HeadMuted);
        let alarm = Alarm { rule, value: row.auc, threshold, action, message };
        session.raise(Some((iteration, Phase::Critique)), alarm).await?;
    }
    session.host.part("score");
    let config = &session.run.config.reward;
    let formula = Formula::parse(if row.voting { &config.formula } else { &config.without_head })?;
    let spec = score::reward_spec(&critic, &formula, rereads);
    let scoring = Scoring { spec: Some(&spec), ..Scoring::from(&row.hash) };
    let store = &session.run.store;
    let covered = store.scored(run, iteration, &ScorerName::REWARD, scoring).await?;
    let missing: Vec<&Evidence> = evidence.iter().filter(|e| !covered.contains(&e.id)).collect();
    if !missing.is_empty() {
        let scores = score(&critic, &formula, &missing);
        session
            .host
            .durable(store.write(run, iteration, async |unit| unit.put_scores(scoring, &scores).await))
            .await?;
    }
    session.host.advanced(1);
    Ok(PhaseOutcome::Done(format!("{}, {} self-annotated", note(&row), row.annotated)))
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
