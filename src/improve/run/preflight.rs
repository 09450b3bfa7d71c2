//! What would refuse a run of a configuration in its folder, found without starting it. Writes
//! nothing.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::identity::{Identity, tasks_hash};
use super::lock::holder;
use super::tasks::check_tasks;
use super::{STORE_FILE, aux_models, orphans};
use crate::config::Config;
use crate::domain::{Arm, Task};
use crate::policy::Policy;
use crate::store::{Reader, config_of_run};
use crate::text::Text;

/// Every reason why a run would be refused, in the words of its error.
pub async fn preflight(config: &Config, text: &Text, base: &Policy, tasks: &[Task]) -> Vec<String> {
    let dir = Path::new(&config.run.dir);
    let begun = crate::improve::as_begun(config).await.unwrap_or_else(|| config.clone());
    let aux_models = aux_models::load(config, base, text);
    let mut checks = vec![
        check_tasks(tasks, text, base.engine().context_max()),
        aux_models.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}")),
        writable(dir),
        free(dir),
        orphans::ensure_explained(dir).await,
    ];
    if let Ok(aux_models) = &aux_models {
        let identity = tasks_hash(tasks).map(|tasks| Identity {
            config: &begun,
            tokenizer: text.hash().to_owned(),
            base_policy: base.hash().to_owned(),
            tasks,
            aux_models: aux_models.identity(text),
        });
        checks.push(match identity {
            Ok(identity) => resumable(dir, &identity).await,
            Err(error) => Err(error),
        });
    }
    checks.into_iter().filter_map(|check| Some(format!("{:#}", check.err()?))).collect()
}

/// Refuses a folder in which nothing may be written, or that can't be made.
fn writable(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    ensure!(there.is_dir(), "run.dir = {:?}: {} is no folder; choose another one", dir, there.display());
    #[cfg(unix)]
    {
        use rustix::fs::Access;
        rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(std::io::Error::from)
            .with_context(|| {
                format!("{} can't be written to: choose another folder with --set run.dir=…", there.display())
            })?;
    }
    Ok(())
}

/// Refuses a folder that another process works on.
fn free(dir: &Path) -> Result<()> {
    if let Some(holder) = holder(dir)? {
        let process = holder.pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        bail!("{process} is working on the run in {}: wait for it, or stop it", dir.display());
    }
    Ok(())
}

/// Refuses a store whose run began with other settings, tasks, models or prompts.
async fn resumable(dir: &Path, identity: &Identity<'_>) -> Result<()> {
    let store = dir.join(STORE_FILE);
    if !store.exists() {
        return Ok(());
    }
    match Reader::open(&store).await {
        Ok(reader) => match reader.run_of_arm(Arm::Reward).await? {
            Some(run) => identity.check(&run),
            None => Ok(()),
        },
        // A run brings an older schema up to date; its settings can be read before.
        Err(error) => match config_of_run(&store, Arm::Reward).await {
            Ok(stored) => stored.map_or(Ok(()), |stored| identity.check_settings(&stored)),
            Err(_) => Err(error),
        },
    }
}
