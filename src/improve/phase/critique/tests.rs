//! The critique of a small loop: once, twice, and with a head that ranks poorly.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::domain::Arm;
use crate::improve::phase::rollout;
use crate::improve::tests::{World, block_on};
use crate::policy::PolicyKind;

/// Rolls out the first iteration and critiques it.
async fn critiqued<'a>(host: &'a crate::improve::Host<'a>, world: &'a World) -> Session<'a> {
    let mut session = Session::open(host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
    bootstrap::run(&mut session, 1).await.unwrap();
    rollout::run(&mut session, 1).await.unwrap();
    run(&mut session, 1).await.unwrap();
    session
}

/// Every score of the first iteration.
async fn scores(session: &Session<'_>) -> Vec<(i64, Score)> {
    session.run.store.scores(session.run.id, 1).await.unwrap()
}

/// The ids of the trajectories that the first iteration rolled out.
async fn rolled_out(session: &mut Session<'_>) -> HashSet<i64> {
    let trees = session.cache.rollouts(&session.run, 1).await.unwrap();
    trees.iter().flat_map(|tree| tree.trajectory_ids.clone()).collect()
}

#[test]
fn every_trajectory_has_one_reward_made_of_its_own_scores() {
    let world = World::new(&[("reward.formula", "0.5 * head + 0.5 * vote")]);
    let host = world.host();
    block_on(async {
        let mut session = critiqued(&host, &world).await;
        let mut by_id: HashMap<i64, HashMap<String, Option<f64>>> = HashMap::new();
        for (id, score) in scores(&session).await {
            let name = score.scorer.as_str().to_owned();
            let value = score.value.ok();
            assert!(by_id.entry(id).or_default().insert(name, value).is_none(), "{id} twice");
        }
        assert_eq!(by_id.keys().copied().collect::<HashSet<_>>(), rolled_out(&mut session).await);
        for (id, named) in by_id {
            let (Some(head), Some(vote)) = (named["head"], named["vote"]) else { continue };
            let reward = named["reward"].unwrap();
            assert!((reward - (head + vote) / 2.0).abs() < 1e-12, "{id}: {named:?}");
        }
    });
}

#[test]
fn a_head_that_ranks_poorly_is_muted_by_one_alarm() {
    // It sees hardly anything but noise.
    let noise = [("critic.noise", "1000")];
    let settings = [&noise[..], &[("critic.auc_min", "1"), ("reward.formula", "head")]];
    let world = World::new(&settings.concat());
    let host = world.host();
    block_on(async {
        let mut session = critiqued(&host, &world).await;
        let id = session.run.id;
        let row = session.run.store.critic(id, 1, CriticStage::Annotated).await.unwrap().unwrap();
        assert!(!row.voting && row.auc.unwrap() < 1.0, "{:?}", row.auc);
        let before = scores(&session).await;
        let named = |name: &ScorerName| -> Vec<_> {
            let named = before.iter().filter(|(_, score)| score.scorer == *name);
            named.map(|(id, score)| (*id, score.value)).collect()
        };
        assert!(!named(&ScorerName::VOTE).is_empty());
        assert_eq!(named(&ScorerName::REWARD), named(&ScorerName::VOTE), "`without_head` is the vote");

        // Again, as after a crash before the phase was marked as done.
        run(&mut session, 1).await.unwrap();
        assert_eq!(scores(&session).await, before);
        let again = session.run.store.critic(id, 1, CriticStage::Annotated).await.unwrap().unwrap();
        assert_eq!(again.hash, row.hash);
        let alarms = session.run.store.alarms(id).await.unwrap();
        let muted = alarms.iter().filter(|row| row.alarm.action == AlarmAction::HeadMuted);
        assert_eq!(muted.count(), 1);
    });
}
