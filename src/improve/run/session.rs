//! One process's work on a run: the lock, the run, its limits, and what is in memory.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::limits::Limits;
use super::lock::RunLock;
use super::phase_cache::PhaseCache;
use super::policy_cache::PolicyCache;
use super::{Event, Host, Run};
use crate::domain::{Alarm, Phase, RunState};
use crate::improve::Outcome;
use crate::policy::Policy;
use crate::score::AuxModels;

/// Everything that a phase works with. [`Session::open`] makes one.
pub(in crate::improve) struct Session<'a> {
    pub host: &'a Host<'a>,
    pub run: Run<'a>,
    pub limits: Limits<'a>,
    pub aux_models: AuxModels,
    pub policies: PolicyCache,
    pub cache: PhaseCache,
    pub(super) _lock: Arc<RunLock>,
}

impl Session<'_> {
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
        &self,
        iteration: u32,
        phase: Phase,
        began: f64,
        note: String,
    ) -> Result<()> {
        let seconds = (self.host.seconds)() - began;
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
        store.set_run_state(run, state, stopped.as_deref(), &(self.host.now)()).await?;
        store.close().await?;
        Ok(Outcome { run, state, stopped })
    }
}
