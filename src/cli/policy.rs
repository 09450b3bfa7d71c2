//! Which policy a command works with: a checkpoint folder or GGUF file, an iteration of the run, or
//! the configured model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::config::Config;
use crate::domain::Arm;
use crate::policy::{Policy, PolicyKind, Use, is_adapter};
use crate::store::{CheckpointKind, Reader};
use crate::text::Text;

#[derive(Args, Clone)]
pub(super) struct PolicyArgs {
    /// Checkpoint folder, GGUF file or a model of the hub (org/name), or an adapter to model.path
    /// (default: model.path of the configuration)
    #[arg(long, value_name = "MODEL", conflicts_with = "iteration")]
    model: Option<PathBuf>,
    /// The candidate that this iteration of the run trained
    #[arg(long, value_name = "N")]
    pub iteration: Option<u32>,
}

impl PolicyArgs {
    /// Whether the command line names a policy.
    pub(super) fn is_given(&self) -> bool {
        self.model.is_some() || self.iteration.is_some()
    }

    /// The value of `--model`, if it is given.
    pub(super) fn model_mut(&mut self) -> Option<&mut PathBuf> {
        self.model.as_mut()
    }

    /// The same, with `iteration` if `--iteration` is not given.
    pub(super) fn or_iteration(&self, iteration: Option<u32>) -> Self {
        Self { model: self.model.clone(), iteration: self.iteration.or(iteration) }
    }

    /// Tokenizer and prompts that belong to the policy.
    pub(super) fn text(&self, config: &Config) -> Result<Text> {
        let mut config = config.clone();
        if let Some(dir) = self.model.as_ref().filter(|dir| !is_adapter(dir)) {
            config.model.path = dir.display().to_string();
            config.model.snapshot = None;
        }
        PolicyKind::Model.text(&config)
    }

    pub(super) async fn load(&self, config: &Config, text: &Text) -> Result<Policy> {
        match (&self.model, self.iteration) {
            (Some(path), _) => Policy::to_read(path, config),
            (None, None | Some(0)) => PolicyKind::Model.base(config, text, Use::Read, None),
            (None, Some(iteration)) => {
                let (dir, hash) =
                    candidate(config, &super::inspect::reader(config).await?, iteration).await?;
                let policy = PolicyKind::Model.load(&dir, config, text, Use::Read, None)?;
                ensure!(
                    policy.hash() == hash,
                    "the weights in {} have changed since iteration {iteration} wrote them; run `autodidact verify`",
                    dir.display()
                );
                Ok(policy)
            }
        }
    }
}

/// Folder and hash of the policy that an iteration of the run trained.
async fn candidate(config: &Config, reader: &Reader, iteration: u32) -> Result<(PathBuf, String)> {
    let run = reader.run_of_arm(Arm::Reward).await?.context("the store holds no run yet")?;
    let all = reader.checkpoints(run.id).await?;
    let found = all.iter().find(|c| c.iteration == iteration && c.row.kind == CheckpointKind::Candidate);
    let found =
        found.with_context(|| format!("iteration {iteration} of run {} has no checkpoint yet", run.id))?;
    if let Some(reason) = &found.removed_reason {
        anyhow::bail!(
            "the checkpoint of iteration {iteration} was removed ({reason}); raise checkpoints.keep next time"
        );
    }
    Ok((Path::new(&config.run.dir).join(&found.row.path), found.row.policy_hash.clone()))
}
