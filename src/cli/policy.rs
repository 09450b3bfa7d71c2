//! Which policy a command works with: a checkpoint folder or GGUF file, the configured model, or one
//! that the run in `run.dir` trained. Left open, it is the one that this run promoted last.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::inspect::reader;
use crate::config::{Config, is_same_model};
use crate::domain::Arm;
use crate::improve::STORE_FILE;
use crate::policy::{Policy, PolicyKind, Use, is_adapter};
use crate::store::{CheckpointKind, Reader, Run};
use crate::text::Text;

#[derive(Args, Clone)]
pub(super) struct PolicyArgs {
    /// Checkpoint folder, GGUF file or a model of the hub (org/name), or an adapter to model.path
    /// (default: what the run in run.dir promoted last; without a run, model.path)
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["iteration", "base", "run"])]
    model: Option<PathBuf>,
    /// The name that `model` had before it was found on this disk.
    #[arg(skip)]
    hub_name: Option<String>,
    /// The configured model, as it is before any run
    #[arg(long, conflicts_with_all = ["iteration", "run"])]
    base: bool,
    /// The candidate that this iteration of the run trained
    #[arg(long, value_name = "N")]
    iteration: Option<u32>,
    /// The run, by its number in `inspect runs`; also that of a control arm (default: the loop proper)
    #[arg(long, value_name = "N")]
    run: Option<i64>,
}

/// A policy, and what to call it.
pub(super) struct Named {
    pub policy: Policy,
    /// For people: `iteration 3 of run 1`.
    pub name: String,
}

/// What the arguments and the run's folder mean together.
enum Chosen {
    /// The configured model; why, if there is a run.
    Base(Option<String>),
    Candidate {
        run: i64,
        iteration: u32,
        how: &'static str,
    },
}

impl PolicyArgs {
    /// The value of `--model`, if it is given.
    pub(super) fn model(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// Puts the folder of a model of the hub in the place of its name.
    pub(super) fn found(&mut self, folder: PathBuf) {
        self.hub_name = self.model.replace(folder).map(|name| name.display().to_string());
    }

    /// Whether the command line names a policy.
    pub(super) fn is_given(&self) -> bool {
        self.model.is_some() || self.base || self.iteration.is_some() || self.run.is_some()
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

    /// Loads the policy, to be read.
    pub(super) async fn load(&self, config: &Config, text: &Text) -> Result<Named> {
        if let Some(path) = &self.model {
            let name = self.hub_name.clone().unwrap_or_else(|| path.display().to_string());
            return Ok(Named { policy: Policy::to_read(path, config)?, name });
        }
        let dir = Path::new(&config.run.dir);
        match self.chosen(config).await? {
            Chosen::Base(why) => {
                let policy = PolicyKind::Model.base(config, text, Use::Read, None)?;
                let path = &config.model.path;
                let name = why.map_or_else(|| path.clone(), |why| format!("{path}, {why}"));
                Ok(Named { policy, name })
            }
            Chosen::Candidate { run, iteration, how } => {
                let (path, hash) = candidate(dir, &reader(config).await?, run, iteration).await?;
                let kind = PolicyKind::of_checkpoint(&path);
                let policy = kind.load(&path, config, text, Use::Read, None)?;
                ensure!(
                    policy.hash() == hash,
                    "the weights in {} have changed since iteration {iteration} wrote them; run `autodidact verify`",
                    path.display()
                );
                let name = format!("iteration {iteration} of run {run} in {}{how}", dir.display());
                Ok(Named { policy, name })
            }
        }
    }

    async fn chosen(&self, config: &Config) -> Result<Chosen> {
        let dir = Path::new(&config.run.dir);
        let asks_for_run = self.run.is_some() || self.iteration.is_some_and(|iteration| iteration > 0);
        if self.base || !(asks_for_run || dir.join(STORE_FILE).exists()) {
            return Ok(Chosen::Base(None));
        }
        let reader = reader(config).await?;
        let run = match self.run {
            Some(id) => reader.run(id).await?,
            None => reader.run_of_arm(Arm::Reward).await?,
        };
        let Some(run) = run else {
            match self.run {
                Some(id) => bail!("the store holds no run {id}; see `autodidact inspect runs`"),
                None if asks_for_run => bail!("the store holds no run yet"),
                None => return Ok(Chosen::Base(None)),
            }
        };
        let (iteration, how) = match self.iteration {
            Some(iteration) => (iteration, ""),
            None if !self.is_given() && is_of_another_model(&run, config)? => {
                let why = format!("because the run in {} is of another model", dir.display());
                return Ok(Chosen::Base(Some(why)));
            }
            None => {
                let promotions = reader.promotions(run.id).await?;
                let last = promotions.iter().rfind(|(_, row)| row.promoted);
                (last.map_or(0, |(iteration, _)| *iteration), ", which was promoted last")
            }
        };
        Ok(match iteration {
            0 => Chosen::Base(Some(format!("the base of run {} in {}", run.id, dir.display()))),
            iteration => Chosen::Candidate { run: run.id, iteration, how },
        })
    }
}

/// Whether the run began with another model or adapter than the configured one.
fn is_of_another_model(run: &Run, config: &Config) -> Result<bool> {
    let stored: serde_json::Value =
        serde_json::from_str(&run.config_json).context("the run's configuration is damaged")?;
    let differs = |key: &str, value: &str| {
        stored["model"][key]
            .as_str()
            .is_some_and(|stored| !is_same_model(&format!("model.{key}"), stored, value))
    };
    Ok(differs("path", &config.model.path) || differs("adapter", &config.model.adapter))
}

/// Folder and hash of the policy that an iteration of the run trained.
async fn candidate(dir: &Path, reader: &Reader, run: i64, iteration: u32) -> Result<(PathBuf, String)> {
    let all = reader.checkpoints(run).await?;
    let found = all.iter().find(|c| c.iteration == iteration && c.row.kind == CheckpointKind::Candidate);
    let found = found.with_context(|| format!("iteration {iteration} of run {run} has no checkpoint yet"))?;
    if let Some(reason) = &found.removed_reason {
        bail!(
            "the checkpoint of iteration {iteration} was removed ({reason}); raise checkpoints.keep next time"
        );
    }
    Ok((dir.join(&found.row.path), found.row.policy_hash.clone()))
}
