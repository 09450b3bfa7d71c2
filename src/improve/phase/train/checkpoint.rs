//! One checkpoint of a training: its folder appears, then its row is committed with the updates
//! that led to it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::improve::run::Session;
use crate::policy::checkpoints;
use crate::store::{CheckpointKind, CheckpointRow, StepRow, hash_path};

/// A checkpoint that is about to be written.
pub(super) struct NewCheckpoint {
    pub kind: CheckpointKind,
    /// Updates made so far.
    pub step: u32,
    pub policy_hash: String,
    pub parent_hash: Option<String>,
    /// Of the folder.
    pub name: String,
}

impl NewCheckpoint {
    /// Puts the folder in place through `fill`, then commits its row and those of `steps` that are
    /// not stored yet.
    pub(super) async fn write(
        self,
        session: &Session<'_>,
        iteration: u32,
        steps: &[StepRow],
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let run = &session.run;
        session.host.part("checkpoint");
        session.host.milestone();
        // The folder goes to a path too: it must not land in a run that is no longer this one.
        run.store.ensure_held()?;
        let folder = checkpoints::write(&run.dir.join(checkpoints::FOLDER).join(&self.name), fill)?;
        session.host.milestone();
        let (file_hash, bytes) = hash_path(&folder)?;
        let row = CheckpointRow {
            kind: self.kind,
            step: Some(self.step),
            policy_hash: self.policy_hash,
            parent_hash: self.parent_hash,
            path: format!("{}/{}", checkpoints::FOLDER, self.name),
            bytes,
            file_hash,
        };
        // Updates that were made again after a damaged state are stored already, bit for bit.
        let known = run.store.steps(run.id, iteration).await?;
        let last = known.iter().map(|s| s.step).max().unwrap_or(0);
        let new: Vec<StepRow> = steps.iter().filter(|r| r.step > last).cloned().collect();
        let written = run.store.write(run.id, iteration, async |unit| {
            unit.put_steps(&new).await?;
            unit.put_checkpoint(&row).await
        });
        written.await.context("cannot store the checkpoint")?;
        session.host.milestone();
        Ok(())
    }
}
