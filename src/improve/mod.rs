//! The loop: rollout, critique, selection, training, evaluation, promotion, and the next iteration.
//!
//! It owns no state but the store's. Every phase asks the store what is missing, does it in bounded
//! units, and commits each unit. What the loop holds in memory between phases only saves time.
//! Resuming is not a feature; it is the only way the loop runs. A control arm
//! ([`crate::domain::Arm`]) is a separate run in the same store.
//!
//! `run/` holds what every phase needs: the open session and its parts. `phase/` holds one file for
//! each phase.

mod phase;
mod run;
#[cfg(test)]
mod tests;

pub use run::{
    Cost, Event, Expected, Holder, Host, Orphan, Plan, RunLock, STORE_FILE, collect_orphans, dataset,
    ensure_explained, ensure_gradable, expected_iterations, holder, orphans, preflight, replay_notice,
    special_notice, with_tools,
};

use std::path::Path;

use anyhow::Result;

use self::phase::{PhaseOutcome, bootstrap, critique, evaluate, promote, rollout, select, train};
use self::run::{Next, Session};
use crate::config::Config;
use crate::domain::{Arm, Phase, RunState, next_phase};
use crate::policy::PolicyKind;
use crate::store;

/// How a call of [`run`] ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub run: i64,
    pub state: RunState,
    /// Why it stopped before the end; `None` when the run is done.
    pub stopped: Option<String>,
}

/// The configuration for the run that its folder holds: with what an earlier build did not know, and
/// what the run planned, as they were when it began. `None` if there is no run.
pub async fn as_begun(config: &Config) -> Option<Config> {
    let store = Path::new(&config.run.dir).join(STORE_FILE);
    let stored = if store.exists() { store::config_of_run(&store, Arm::Reward).await } else { Ok(None) };
    // A file that is no store is refused when the session opens it.
    Some(config.as_begun(&stored.unwrap_or_default()?))
}

/// Whether the run in the folder has a complete iteration, by which the next ones are planned.
///
/// # Errors
/// The store can't be read.
pub async fn is_measured(config: &Config) -> Result<bool> {
    let outline = store::outline(&Path::new(&config.run.dir).join(STORE_FILE)).await?;
    let main = outline.runs.iter().find(|run| run.arm == Arm::Reward);
    Ok(main.is_some_and(|run| run.done.contains(&(1, Phase::Promote))))
}

/// Runs `arm` to its end, or to the first limit. The same call resumes after any interruption.
///
/// # Errors
/// The run in the folder has another identity, another process works on it, the disk is full, or a
/// phase failed.
pub async fn run(host: &Host<'_>, config: &Config, kind: PolicyKind, arm: Arm) -> Result<Outcome> {
    let config = &as_begun(config).await.unwrap_or_else(|| config.clone());
    let mut session = Session::open(host, config, kind, arm).await?;
    loop {
        let Some((iteration, phase)) = next_phase(&session.run.progress().await?) else {
            match session.plan_next().await? {
                Next::Iteration => continue,
                Next::End => return session.finish().await,
                Next::TooShort(reason) => return session.stop(reason).await,
            }
        };
        if let Some(reason) = session.pause().await? {
            return session.stop(reason).await;
        }
        let began = (host.seconds)();
        let outcome = match phase {
            Phase::Bootstrap => bootstrap::run(&mut session, iteration).await?,
            Phase::Rollout => rollout::run(&mut session, iteration).await?,
            Phase::Critique => critique::run(&mut session, iteration).await?,
            Phase::Select => select::run(&mut session, iteration).await?,
            Phase::Train => train::run(&mut session, iteration).await?,
            Phase::Evaluate => evaluate::run(&mut session, iteration).await?,
            Phase::Promote => promote::run(&mut session, iteration).await?,
        };
        let note = match outcome {
            PhaseOutcome::Done(note) => note,
            PhaseOutcome::Stopped(reason) => return session.stop(reason).await,
            PhaseOutcome::RollBack { to, alarm, note } => {
                session.roll_back(iteration, &to, alarm).await?;
                note
            }
        };
        session.finish_phase(iteration, phase, began, note).await?;
    }
}
