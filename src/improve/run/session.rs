//! One process's work on a run: the lock, the run, its limits, and what is in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::limits::Limits;
use super::lock::{Beat, RunLock};
use super::phase_cache::PhaseCache;
use super::policy_cache::PolicyCache;
use super::timetable::{self, Cost, Slot};
use super::{Event, Host, Run};
use crate::domain::{Alarm, Phase, RunState, Split};
use crate::improve::Outcome;
use crate::policy::Policy;
use crate::score::AuxModels;
use crate::store::Store;

/// Everything that a phase works with. [`Session::open`] makes one.
pub(in crate::improve) struct Session<'a> {
    pub host: &'a Host<'a>,
    pub run: Run<'a>,
    pub limits: Limits<'a>,
    pub worked: Worked,
    pub aux_models: AuxModels,
    pub policies: PolicyCache,
    pub cache: PhaseCache,
    pub(super) _lock: Arc<RunLock>,
}

/// How long processes have worked on a run.
pub(in crate::improve) struct Worked {
    /// The row of this session.
    session: i64,
    /// Seconds of the sessions before this one.
    before: f64,
    /// When this session began, in the host's seconds.
    began: f64,
    /// Seconds that earlier sessions worked on the phase that this one continues.
    carried: f64,
}

impl Worked {
    /// A session that began at `began`. What a process that was killed had worked since its last unit
    /// is in the lock's file.
    pub(super) async fn begin(
        host: &Host<'_>,
        store: &Store,
        lock: &Arc<RunLock>,
        (run, began): (i64, f64),
    ) -> Result<Self> {
        if let Some(Beat { session, seconds }) = lock.left() {
            store.extend_session(run, session, seconds).await?;
        }
        let before = store.worked_seconds(run).await?;
        let of_phases: f64 = store.phases(run).await?.iter().map(|row| row.seconds).sum();
        let session = store.begin_session(run, &(host.now)()).await?;
        let carried = (before - of_phases).max(0.0);
        let held = Arc::downgrade(lock);
        (host.keep_alive)(Box::new(move |seconds| {
            // A disk that is full must not end a unit: it only costs a killed session some seconds.
            let _advisory = held.upgrade().map(|lock| lock.beat(Beat { session, seconds: seconds - began }));
        }));
        Ok(Self { session, before, began, carried })
    }
}

/// What comes after the last iteration that was begun.
pub(in crate::improve) enum Next {
    /// Another iteration, which is planned now.
    Iteration,
    /// Nothing: the run has all its iterations.
    End,
    /// Nothing, and none was made: the reason.
    TooShort(String),
}

impl Session<'_> {
    /// Why the session must end before the next unit, if it must. Stores how long it has worked.
    pub(crate) async fn pause(&self) -> Result<Option<String>> {
        let seconds = (self.host.seconds)() - self.worked.began;
        self.run.store.set_session_seconds(self.worked.session, seconds).await?;
        self.limits.reached()
    }

    /// Plans another iteration of a run with hours, if there is time for one.
    pub(crate) async fn plan_next(&mut self) -> Result<Next> {
        let hours = self.run.config.run.hours;
        if hours == 0.0 || self.run.of_run.is_some() {
            return Ok(Next::End);
        }
        let done = self.run.iterations;
        let worked = self.worked.before + (self.host.seconds)() - self.worked.began;
        let (left, cost) = (hours * 3600.0 - worked, self.cost(done).await?);
        let tasks_max = self.run.rollout_counts(done + 1).await?.pop().unwrap_or(0);
        let (store, run) = (&self.run.store, self.run.id);
        let Some(Slot { plan, iterations }) =
            timetable::next(left, cost, (tasks_max, self.run.config.train.steps))
        else {
            store.set_run_iterations(run, done).await?;
            let smallest = timetable::least(cost, tasks_max) / 60.0;
            return Ok(if done > 0 {
                Next::End
            } else {
                Next::TooShort(format!(
                    "run.hours = {hours} leaves {:.1} minutes after the base was measured, and an iteration takes \
                     {smallest:.1} or more; give more hours, or a lower tasks.measured_max in another folder",
                    left.max(0.0) / 60.0
                ))
            });
        };
        let iteration = done + 1;
        self.host.durable(store.write(run, iteration, async |unit| unit.put_plan(&plan).await)).await?;
        store.set_run_iterations(run, done + iterations).await?;
        self.run.iterations = iteration;
        (self.host.on_event)(Event::Planned {
            iteration,
            tasks: plan.tasks,
            seconds: plan.seconds,
            left_seconds: left,
            iterations: done + iterations,
        });
        Ok(Next::Iteration)
    }

    /// What the next iteration costs, from the `done` ones, the probe, or measuring the base.
    async fn cost(&self, done: u32) -> Result<Cost> {
        let (run, config) = (&self.run, self.run.config);
        let phases = run.store.phases(run.id).await?;
        let mut sizes = BTreeMap::new();
        for (iteration, tasks) in (1..).zip(run.rollout_counts(done).await?) {
            sizes.insert(iteration, (tasks, run.store.steps(run.id, iteration).await?.len()));
        }
        let expected = self.host.expected.as_ref();
        if let Some(cost) = Cost::measured(&phases, &sizes) {
            // Where nothing was kept, nobody has seen an update.
            let step = if cost.step > 0.0 { cost.step } else { expected.map_or(0.0, |e| e.cost.step) };
            return Ok(Cost { step, ..cost });
        }
        let seconds: f64 = phases.iter().filter(|row| row.iteration == 0).map(|row| row.seconds).sum();
        if let Some(expected) = expected {
            return Ok(Cost::corrected(expected, seconds));
        }
        let heldout = run.tasks(Split::HeldOut).len();
        let sampled = config.eval.sampled_tasks.min(heldout) * config.eval.samples as usize;
        let drawn = run.tasks(Split::Gate).len() + heldout + sampled;
        let each = (config.rollout.variants * config.rollout.samples) as usize;
        let graded =
            config.critic.bootstrap.min(run.tasks(Split::Easy).len()) + run.tasks(Split::Anchor).len();
        Ok(Cost::guessed(seconds, drawn, each, graded))
    }

    /// The policy that `iteration` starts from, in memory.
    pub(crate) async fn incumbent(&mut self, iteration: u32) -> Result<Arc<Policy>> {
        let hash = self.run.incumbent_hash(iteration).await?;
        self.policies.load(&self.run, &hash).await
    }

    /// Stores a message for the user, and shows it.
    pub(super) async fn warn(&self, message: String) -> Result<()> {
        self.run.store.put_event(Some(self.run.id), "warning", &message, &(self.host.now)()).await?;
        (self.host.on_event)(Event::Warning { message });
        Ok(())
    }

    /// Stores an alarm of a phase, or of the session if no phase is given, and shows it. A phase that was interrupted
    /// after it raised an alarm raises the same one again: it is stored and shown once.
    pub(crate) async fn raise(&self, at: Option<(u32, Phase)>, alarm: Alarm) -> Result<()> {
        let (iteration, phase) = at.unzip();
        let (store, now) = (&self.run.store, (self.host.now)());
        let is_new = store.put_alarm(self.run.id, iteration, phase, &alarm, &now).await?;
        if is_new || at.is_none() {
            self.warn(alarm.message).await?;
        }
        Ok(())
    }

    /// Goes back to the policy `to` after `iteration` refused its candidate, and raises the alarm
    /// about it.
    ///
    /// # Errors
    /// The stored decision would start the next iteration from another policy.
    pub(crate) async fn roll_back(&self, iteration: u32, to: &str, alarm: Alarm) -> Result<()> {
        let next = self.run.incumbent_hash(iteration + 1).await?;
        ensure!(
            next == to,
            "iteration {iteration} was rolled back to policy {to:.16}, but the store names {next:.16} as the next \
             incumbent"
        );
        self.raise(Some((iteration, Phase::Promote)), alarm).await
    }

    /// Stores that a phase is complete; `began` is when it started, in the host's seconds.
    pub(crate) async fn finish_phase(
        &mut self,
        iteration: u32,
        phase: Phase,
        began: f64,
        note: String,
    ) -> Result<()> {
        let seconds = (self.host.seconds)() - began + std::mem::take(&mut self.worked.carried);
        let detail = serde_json::json!({ "note": note }).to_string();
        let (store, run) = (&self.run.store, self.run.id);
        self.host
            .durable(
                store.write(run, iteration, async |unit| unit.finish_phase(phase, seconds, &detail).await),
            )
            .await?;
        (self.host.on_event)(Event::PhaseDone { iteration, phase, seconds, note });
        if Phase::plan(self.run.arm, iteration).last() == Some(&phase) {
            (self.host.on_event)(Event::IterationDone { iteration });
        }
        Ok(())
    }

    /// Ends the session before the run is complete.
    pub(crate) async fn stop(self, reason: String) -> Result<Outcome> {
        self.close(RunState::Stopped, Some(reason)).await
    }

    /// Ends the session of a complete run.
    pub(crate) async fn finish(self) -> Result<Outcome> {
        self.close(RunState::Done, None).await
    }

    async fn close(self, state: RunState, stopped: Option<String>) -> Result<Outcome> {
        let (store, run) = (self.run.store, self.run.id);
        let seconds = (self.host.seconds)() - self.worked.began;
        store.set_session_seconds(self.worked.session, seconds).await?;
        store.set_run_state(run, state, stopped.as_deref(), &(self.host.now)()).await?;
        store.close().await?;
        Ok(Outcome { run, state, stopped })
    }
}
