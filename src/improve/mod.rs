//! The loop: rollout, critique, selection, training, evaluation, promotion, and round again.
//!
//! It owns no state but the store's: every phase asks the store what is missing, does it in bounded units, and
//! commits each unit. What it remembers between phases saves time alone. Resuming is not a feature; it is the only way
//! the loop runs. Control arms ([`crate::domain::Arm`]) are runs of their own beside the loop proper, in the same store.

mod adapter;
mod aux_models;
mod bootstrap;
mod checkpoints;
mod critique;
mod evaluate;
mod export;
mod gate;
mod host;
mod judging;
mod lock;
mod memory;
mod needs;
mod orphans;
mod pace;
mod policy;
mod promote;
mod recall;
mod rollouts;
mod selection;
mod session;
mod tasks;
mod training;

pub use adapter::{is_adapter, trainable};
pub use aux_models::check_aux_models;
pub use checkpoints::{FOLDER as CHECKPOINTS_FOLDER, ensure_space, write as write_checkpoint};
pub use export::{ExportFormat, export};
pub use host::{Event, Host};
pub use lock::RunLock;
pub use memory::{Lengths, advice as memory_advice, memory_needed};
pub use orphans::{Orphan, collect as collect_orphans, ensure_explained, orphans};
pub use policy::{ModelPolicy, Policy, PolicyKind, Use, with_tools};
pub use session::{STORE_FILE, Session};
pub use tasks::{check_tasks, dataset, ensure_gradable, replay_notice};

use anyhow::Result;

use crate::config::Config;
use crate::domain::{Arm, Phase, RunState, next_phase};

/// How a session of the loop ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub run: i64,
    pub state: RunState,
    /// Why it stopped before the end; `None` when the run is done.
    pub stopped: Option<String>,
}

/// What a phase came to.
pub(crate) enum Flow {
    /// Complete, with a line about it.
    Done(String),
    /// Stopped between two units, for this reason.
    Stopped(String),
}

/// Runs `arm` to its end, or to the first limit; the same call goes on after any interruption.
pub async fn run(host: &Host<'_>, config: &Config, kind: PolicyKind, arm: Arm) -> Result<Outcome> {
    let mut session = Session::open(host, config, kind, arm).await?;
    while let Some((iteration, phase)) = next_phase(&session.progress().await?) {
        if let Some(reason) = session.limit_reached()? {
            return session.stop(reason).await;
        }
        session.begin_phase();
        let flow = match phase {
            Phase::Bootstrap => bootstrap::perform(&mut session, iteration).await?,
            Phase::Rollout => rollouts::perform(&mut session, iteration).await?,
            Phase::Critique => critique::perform(&mut session, iteration).await?,
            Phase::Select => selection::perform(&mut session, iteration).await?,
            Phase::Train => training::perform(&mut session, iteration).await?,
            Phase::Evaluate => evaluate::perform(&mut session, iteration).await?,
            Phase::Promote => promote::perform(&mut session, iteration).await?,
        };
        match flow {
            Flow::Done(note) => session.finish_phase(iteration, phase, note).await?,
            Flow::Stopped(reason) => return session.stop(reason).await,
        }
    }
    session.finish().await
}
