//! Where a policy comes from: the run and iteration that have its hash.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::run::{self, RunReport};
use super::verdict::Verdict;
use crate::domain::Split;
use crate::store::{CheckpointKind, Reader, Run};

/// The run that a policy is of, and what it is there.
pub struct Origin {
    pub run: RunReport,
    /// 0 is the base policy.
    pub iteration: u32,
    /// The run's configuration.
    pub config: serde_json::Value,
    /// Tasks of each split that has any.
    pub tasks: BTreeMap<Split, usize>,
}

/// Looks for the policy in the store's runs; `None` if no run began with it or trained it.
///
/// # Errors
/// The store can't be read.
pub async fn origin(reader: &Reader, policy_hash: &str, verdict: Verdict<'_>) -> Result<Option<Origin>> {
    for run in reader.runs().await? {
        if let Some(iteration) = iteration_of(reader, &run, policy_hash).await? {
            let mut tasks = BTreeMap::new();
            for split in Split::ALL.iter().copied() {
                let count = reader.tasks(split).await?.len();
                tasks.extend((count > 0).then_some((split, count)));
            }
            let config =
                serde_json::from_str(&run.config_json).context("the run's configuration is damaged")?;
            let run = run::run(reader, run.id, verdict).await?;
            return Ok(Some(Origin { run, iteration, config, tasks }));
        }
    }
    Ok(None)
}

async fn iteration_of(reader: &Reader, run: &Run, policy_hash: &str) -> Result<Option<u32>> {
    if run.base_policy_hash == policy_hash {
        return Ok(Some(0));
    }
    let all = reader.checkpoints(run.id).await?;
    let mut candidates = all.iter().filter(|c| c.row.kind == CheckpointKind::Candidate);
    Ok(candidates.find(|c| c.row.policy_hash == policy_hash).map(|c| c.iteration))
}
