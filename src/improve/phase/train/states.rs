//! The saved states of one training: a trainer's weights, moments and step, between two updates.

use anyhow::Result;

use super::NewCheckpoint;
use crate::domain::{Alarm, AlarmAction, AlarmRule, Phase};
use crate::improve::run::{Session, names};
use crate::policy::checkpoints;
use crate::store::{Checkpoint, CheckpointKind, StepRow};
use crate::train::Trainer;

/// The states of the training of `iteration`.
pub(super) struct States<'a> {
    pub session: &'a Session<'a>,
    pub iteration: u32,
}

impl States<'_> {
    /// Brings the trainer to the last saved state; returns the number of updates done. A state that
    /// can't be loaded is removed with an alarm, and the training starts again.
    pub(super) async fn resume(&self, trainer: &mut Trainer) -> Result<usize> {
        let run = &self.session.run;
        let stored = run.store.checkpoints(run.id).await?;
        let Some(last) = stored.iter().filter(|c| self.is_live(c)).max_by_key(|c| c.row.step) else {
            return Ok(0);
        };
        let path = run.dir.join(&last.row.path);
        match trainer.load_state(&path) {
            Ok(()) => Ok(last.row.step.unwrap_or(0) as usize),
            Err(error) => {
                let message =
                    format!("{error:#}; iteration {} is trained again from its start", self.iteration);
                let (rule, action) = (AlarmRule::TrainingState, AlarmAction::Restarted);
                let alarm = Alarm { rule, value: None, threshold: None, action, message };
                self.session.raise(Some((self.iteration, Phase::Train)), alarm).await?;
                run.store.forget_checkpoint(last.id, "damaged").await?;
                checkpoints::discard(&path)?;
                Ok(0)
            }
        }
    }

    /// Saves the trainer's state after `step` updates, with the rows of the updates since the last
    /// save.
    pub(super) async fn save(&self, trainer: &Trainer, step: usize, rows: &[StepRow]) -> Result<()> {
        let (session, run) = (self.session, &self.session.run);
        let checkpoint = NewCheckpoint {
            kind: CheckpointKind::State,
            step: step as u32,
            policy_hash: trainer.trainable().hash()?,
            parent_hash: None,
            name: names::state_name(run.arm, self.iteration, step),
        };
        checkpoint.write(session, self.iteration, rows, |dir| trainer.save_state(dir)).await?;
        // The new state is safe: the ones before it only take room.
        for old in run.store.checkpoints(run.id).await? {
            if self.is_live(&old) && old.row.step < Some(step as u32) {
                run.store.forget_checkpoint(old.id, "superseded").await?;
                session.host.milestone();
                checkpoints::discard(&run.dir.join(&old.row.path))?;
            }
        }
        Ok(())
    }

    fn is_live(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.iteration == self.iteration
            && checkpoint.row.kind == CheckpointKind::State
            && checkpoint.removed_reason.is_none()
    }
}
