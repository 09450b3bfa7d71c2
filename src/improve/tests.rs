//! Runs within this process, for the tests of the loop and of its parts.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::run::Session;
use super::{Event, Host, Outcome, STORE_FILE, run};
use crate::config::Config;
use crate::domain::{Alarm, AlarmAction, AlarmRule, Arm, Phase, RunState};
use crate::policy::PolicyKind;
use crate::store::Store;

/// A loop of one iteration that takes a moment.
const SMALL: &[(&str, &str)] = &[
    ("run.iterations", "1"),
    ("tasks.easy", "24"),
    ("tasks.anchor", "12"),
    ("tasks.train", "12"),
    ("tasks.gate", "12"),
    ("tasks.heldout", "16"),
    ("rollout.tasks", "6"),
    ("rollout.variants", "2"),
    ("critic.bootstrap", "24"),
    ("critic.epochs", "2"),
    ("eval.samples", "2"),
    ("eval.sampled_tasks", "6"),
];

/// A folder, a configuration, and a host whose clock and stop request the test sets.
pub(super) struct World {
    _dir: TempDir,
    pub config: Config,
    pub stop: AtomicBool,
    clock: Arc<AtomicU64>,
    /// Seconds that pass when a phase begins.
    pub phase_seconds: Arc<AtomicU64>,
    events: Arc<Mutex<Vec<Event>>>,
    now: Box<dyn Fn() -> String + Send + Sync>,
    seconds: Box<dyn Fn() -> f64 + Send + Sync>,
    memory_free: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl World {
    /// The small loop, changed by `pairs`.
    pub(super) fn new(pairs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run").display().to_string();
        let all = SMALL.iter().chain(pairs).map(|(key, value)| (key.to_string(), value.to_string()));
        let all: Vec<_> = all.chain([("run.dir".to_owned(), folder)]).collect();
        let (clock, events) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (ticking, watching) = (clock.clone(), events.clone());
        let phase_seconds = Arc::new(AtomicU64::new(0));
        let (each, passing) = (phase_seconds.clone(), clock.clone());
        Self {
            _dir: dir,
            config: Config::load(None, &all).unwrap(),
            stop: AtomicBool::new(false),
            clock,
            phase_seconds,
            events,
            now: Box::new(|| "2026-01-01T00:00:00Z".to_owned()),
            seconds: Box::new(move || ticking.load(Ordering::Relaxed) as f64),
            memory_free: Box::new(|| None),
            on_event: Box::new(move |event| {
                if matches!(event, Event::PhaseStarted { .. }) {
                    passing.fetch_add(each.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                watching.lock().unwrap().push(event);
            }),
        }
    }

    pub(super) fn host(&self) -> Host<'_> {
        Host {
            now: &*self.now,
            seconds: &*self.seconds,
            memory_free: &*self.memory_free,
            keep_alive: &|_| (),
            expected: None,
            stop: &self.stop,
            on_event: &*self.on_event,
            crash_at: 0,
            milestones: AtomicU64::new(0),
        }
    }

    /// Lets `seconds` pass.
    pub(super) fn wait(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// What was shown since the last call.
    pub(super) fn shown(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// The warnings that were shown since the last call.
    pub(super) fn warnings(&self) -> Vec<String> {
        let message = |event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        };
        self.shown().into_iter().filter_map(message).collect()
    }

    /// Runs the loop with the scripted policy.
    pub(super) fn run(&self) -> Outcome {
        block_on(run(&self.host(), &self.config, PolicyKind::Scripted, Arm::Reward)).unwrap()
    }
}

/// Waits for a future of the store.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn a_refused_candidate_is_rolled_back_and_the_base_stays() {
    let world = World::new(&[("gate.regression_points", "101")]);
    let outcome = world.run();
    assert_eq!((outcome.state, outcome.stopped), (RunState::Done, None));
    let shown = world.shown();
    let alarm = shown.iter().position(|event| {
        matches!(event, Event::Warning { message } if message.starts_with("iteration 1: rolled back: regression"))
    });
    let promoted = shown
        .iter()
        .position(|event| matches!(event, Event::PhaseDone { phase: Phase::Promote, note, .. } if note.starts_with("regression")));
    assert!(alarm.unwrap() < promoted.unwrap(), "the alarm comes before the phase's end");
    let host = world.host();
    block_on(async {
        let session = Session::open(&host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
        let base = session.run.base_policy_hash.clone();
        assert_eq!(session.run.incumbent_hash(2).await.unwrap(), base);
        let events = session.run.store.events(Some(session.run.id), 100).await.unwrap();
        let stored = events.iter().filter(|event| event.message.contains("rolled back"));
        assert_eq!(stored.count(), 1, "the alarm is stored once");
        // A phase can't roll back to a policy that the store doesn't continue with.
        let alarm = Alarm {
            rule: AlarmRule::Gate,
            value: None,
            threshold: None,
            action: AlarmAction::RolledBack,
            message: "rolled back".into(),
        };
        let candidate = session.run.candidate_hash(1).await.unwrap();
        assert_ne!(candidate, base);
        let error = session.roll_back(1, &candidate, alarm.clone()).await.unwrap_err().to_string();
        assert!(error.contains("rolled back to policy") && error.contains(&base[..16]), "{error}");
        session.roll_back(1, &base, alarm).await.unwrap();
    });
}

#[test]
fn a_stop_request_ends_the_session_and_the_same_call_resumes() {
    let world = World::new(&[]);
    world.stop.store(true, Ordering::Relaxed);
    let outcome = world.run();
    assert_eq!(outcome.state, RunState::Stopped);
    assert_eq!(outcome.stopped.as_deref(), Some("stopped on request"));
    assert!(!world.shown().iter().any(|event| matches!(event, Event::PhaseStarted { .. })));
    world.stop.store(false, Ordering::Relaxed);
    let outcome = world.run();
    assert_eq!((outcome.state, outcome.stopped), (RunState::Done, None));
    let shown = world.shown();
    let resumed =
        |event: &Event| matches!(event, Event::Started { run, resumed: true, .. } if *run == outcome.run);
    assert!(shown.iter().any(resumed));
    assert!(
        !shown
            .iter()
            .any(|event| matches!(event, Event::Warning { message } if message.contains("rolled back")))
    );
}

#[test]
fn nothing_kept_raises_an_alarm_and_the_loop_continues() {
    let world = World::new(&[("select.floor", "2")]);
    assert_eq!(world.run().state, RunState::Done);
    let warnings = world.warnings();
    let nothing = warnings.iter().filter(|message| message.starts_with("iteration 1: nothing was kept of "));
    assert_eq!(nothing.count(), 1, "{warnings:?}");
}

#[test]
fn a_head_that_could_not_be_measured_loses_its_vote() {
    // One anchor trajectory is either right or wrong: nothing can be ranked.
    let world = World::new(&[("tasks.anchor", "1"), ("critic.corrupted", "0")]);
    assert_eq!(world.run().state, RunState::Done);
    let warnings = world.warnings();
    assert!(
        warnings.iter().any(|message| message.contains("the critique head lost its vote")),
        "{warnings:?}"
    );
}

/// The planned iterations of the run in the world's folder, with their tasks; and how many the run is
/// to have.
fn plans(world: &World) -> (Vec<(u32, u32)>, u32) {
    block_on(async {
        let store = Store::open(&Path::new(&world.config.run.dir).join(STORE_FILE)).await.unwrap();
        let plans = store.plans(1).await.unwrap();
        let run = store.run_of_arm(Arm::Reward).await.unwrap().unwrap();
        (plans.into_iter().map(|(iteration, plan)| (iteration, plan.tasks)).collect(), run.iterations)
    })
}

#[test]
fn a_run_with_hours_makes_iterations_until_its_time_is_used() {
    // 200 seconds. Measuring takes 10, and so does each of the seven phases of an iteration.
    let mut world = World::new(&[("run.hours", "0.0556"), ("rollout.tasks", "12")]);
    world.phase_seconds.store(10, Ordering::Relaxed);
    assert_eq!(world.run().state, RunState::Done);
    let (made, iterations) = plans(&world);
    assert!((2..=3).contains(&iterations) && made.len() == iterations as usize, "{made:?} of {iterations}");
    assert!(made.iter().all(|(_, tasks)| (8..=12).contains(tasks)), "{made:?}");
    let worked = world.clock.load(Ordering::Relaxed);
    assert!((130..=200).contains(&worked), "{worked}");
    let mut planned = world.shown().into_iter().filter_map(|event| match event {
        Event::Planned { iteration, iterations, .. } => Some((iteration, iterations)),
        _ => None,
    });
    assert_eq!(planned.next_back(), Some((iterations, iterations)), "the last one is known as the last");
    // The same again has nothing to do, however late it is; more hours have.
    world.wait(100_000);
    assert_eq!(world.run().state, RunState::Done);
    assert_eq!(plans(&world), (made.clone(), iterations));
    world.config.run.hours *= 2.0;
    assert_eq!(world.run().state, RunState::Done);
    let (more, _) = plans(&world);
    assert!(more.len() > made.len() && more.starts_with(&made), "{more:?} after {made:?}");
}

#[test]
fn an_interrupted_iteration_ends_as_it_was_planned_and_the_pause_does_not_count() {
    let world = World::new(&[("run.hours", "0.0556"), ("rollout.tasks", "12")]);
    world.phase_seconds.store(10, Ordering::Relaxed);
    let host = world.host();
    let stopping = |event: Event| {
        if matches!(event, Event::PhaseStarted { phase: Phase::Critique, .. }) {
            world.stop.store(true, Ordering::Relaxed);
        }
        (host.on_event)(event);
    };
    let stopped = Host { on_event: &stopping, ..world.host() };
    let outcome = block_on(run(&stopped, &world.config, PolicyKind::Scripted, Arm::Reward)).unwrap();
    assert_eq!(outcome.state, RunState::Stopped);
    let (first, _) = plans(&world);
    assert_eq!(first.len(), 1);
    world.wait(100_000);
    world.stop.store(false, Ordering::Relaxed);
    assert_eq!(world.run().state, RunState::Done);
    let (made, iterations) = plans(&world);
    assert!(iterations >= 2 && made.starts_with(&first), "{made:?}");
}

#[test]
fn hours_that_do_not_suffice_stop_the_run_with_what_it_takes() {
    let world = World::new(&[("run.hours", "0.01")]);
    world.phase_seconds.store(30, Ordering::Relaxed);
    let outcome = world.run();
    assert_eq!(outcome.state, RunState::Stopped);
    let reason = outcome.stopped.unwrap();
    assert!(reason.contains("run.hours = 0.01 leaves 0.1 minutes") && reason.contains("or more"), "{reason}");
}
