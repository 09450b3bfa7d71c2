//! Training of the seed model on replayed solutions: interrupted, damaged, and never interrupted.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use super::*;
use crate::domain::Arm;
use crate::improve::tests::{World, block_on};
use crate::policy::PolicyKind;
use crate::store::StepRow;

/// Four updates of a few short examples, with a state after the second.
const FOUR_STEPS: &[(&str, &str)] = &[
    ("train.steps", "4"),
    ("train.step_tokens", "64"),
    ("train.micro_batch_tokens", "64"),
    ("train.checkpoint_steps", "2"),
];

/// Carries out the plan without kept trajectories.
async fn train_replay(session: &Session<'_>, incumbent: &Policy) -> Training {
    let plan = plan(session, 1, incumbent, Vec::new()).await.unwrap();
    assert_eq!(plan.schedule.len(), 4);
    train(&plan).await.unwrap()
}

fn complete(training: Training) -> Candidate {
    match training {
        Training::Complete(candidate) => candidate,
        Training::Stopped(reason) => panic!("{reason}"),
    }
}

fn numbers(rows: &[StepRow]) -> Vec<u32> {
    rows.iter().map(|row| row.step).collect()
}

/// The candidate of a training that nothing interrupts, and that saves no states.
static UNINTERRUPTED: LazyLock<String> = LazyLock::new(|| {
    let world = World::new(&[FOUR_STEPS, &[("train.checkpoint_steps", "0")]].concat());
    let host = world.host();
    block_on(async {
        let mut session = Session::open(&host, &world.config, PolicyKind::Model, Arm::Reward).await.unwrap();
        let base = session.incumbent(1).await.unwrap();
        let candidate = complete(train_replay(&session, &base).await);
        assert_eq!(numbers(&candidate.steps), [1, 2, 3, 4]);
        assert_ne!(candidate.policy.hash(), base.hash());
        assert_eq!(base.hash(), session.run.base_policy_hash, "the incumbent stays as it is");
        candidate.policy.hash().to_owned()
    })
});

#[test]
fn a_stopped_training_resumes_from_its_state_to_the_same_candidate() {
    // Read before there is a runtime: it makes its own.
    let expected = UNINTERRUPTED.as_str();
    let world = World::new(FOUR_STEPS);
    let host = world.host();
    block_on(async {
        let mut session = Session::open(&host, &world.config, PolicyKind::Model, Arm::Reward).await.unwrap();
        let base = session.incumbent(1).await.unwrap();
        world.stop.store(true, Ordering::Relaxed);
        let Training::Stopped(reason) = train_replay(&session, &base).await else { panic!("not stopped") };
        assert_eq!(reason, "stopped on request");
        world.stop.store(false, Ordering::Relaxed);
        let stored = session.run.store.steps(session.run.id, 1).await.unwrap();
        assert_eq!(numbers(&stored), [1, 2]);
        let candidate = complete(train_replay(&session, &base).await);
        assert_eq!(candidate.policy.hash(), expected);
        assert_eq!(numbers(&candidate.steps), [3, 4], "the first two are not made again");
        save(&session, 1, &base, &candidate).await.unwrap();
        let stored = session.run.store.steps(session.run.id, 1).await.unwrap();
        assert_eq!(numbers(&stored), [1, 2, 3, 4]);
        let row = session.run.candidate(1).await.unwrap().unwrap().row;
        assert_eq!(row.policy_hash, expected);
        assert_eq!(row.parent_hash.as_deref(), Some(base.hash()));
        assert!(world.warnings().iter().all(|message| !message.contains("trained again")));
    });
}

#[test]
fn a_damaged_state_is_trained_again_to_the_same_candidate() {
    // Read before there is a runtime: it makes its own.
    let expected = UNINTERRUPTED.as_str();
    let world = World::new(FOUR_STEPS);
    let host = world.host();
    block_on(async {
        let mut session = Session::open(&host, &world.config, PolicyKind::Model, Arm::Reward).await.unwrap();
        let base = session.incumbent(1).await.unwrap();
        world.stop.store(true, Ordering::Relaxed);
        assert!(matches!(train_replay(&session, &base).await, Training::Stopped(_)));
        world.stop.store(false, Ordering::Relaxed);
        let (store, run) = (&session.run.store, session.run.id);
        let state = store.checkpoints(run).await.unwrap().remove(0);
        let folder = session.run.dir.join(&state.row.path);
        for entry in folder.read_dir().unwrap() {
            std::fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
        world.shown();
        let candidate = complete(train_replay(&session, &base).await);
        assert_eq!(candidate.policy.hash(), expected);
        let warnings = world.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].ends_with("; iteration 1 is trained again from its start"), "{warnings:?}");
        let rows = store.checkpoints(run).await.unwrap();
        assert_eq!(rows[0].removed_reason.as_deref(), Some("damaged"));
        // The updates that were stored before are not stored twice.
        save(&session, 1, &base, &candidate).await.unwrap();
        assert_eq!(numbers(&store.steps(run, 1).await.unwrap()), [1, 2, 3, 4]);
    });
}

#[test]
fn an_empty_schedule_gives_the_incumbent() {
    let world = World::new(FOUR_STEPS);
    let host = world.host();
    block_on(async {
        let mut session = Session::open(&host, &world.config, PolicyKind::Model, Arm::Reward).await.unwrap();
        let base = session.incumbent(1).await.unwrap();
        let mut plan = plan(&session, 1, &base, Vec::new()).await.unwrap();
        (plan.replay, plan.schedule) = (Vec::new(), Vec::new());
        let candidate = complete(train(&plan).await.unwrap());
        assert_eq!(candidate.policy.hash(), base.hash());
        assert!(candidate.steps.is_empty());
    });
}
