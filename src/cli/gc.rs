//! `autodidact gc`: lists or removes checkpoints of the run's folder that no row of the store
//! names.
//!
//! Contract: without `--yes` it removes nothing and needs no lock. It removes only what this
//! program's names mark as its own, and it refuses a folder whose store is missing, empty or older
//! than the checkpoints.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use super::terminal::{note, pretty, print};
use super::{Common, block_on};
use crate::config::Config;
use crate::improve::{self, Orphan, RunLock, STORE_FILE};

#[derive(Args)]
#[command(
    after_help = "A crash may leave a checkpoint that the store does not name. A run keeps it: it is removed only \
                        by this command. Files and folders that are not checkpoints of this program are never removed."
)]
pub(super) struct GcArgs {
    /// List what would be removed, with sizes, and remove nothing (the default)
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Remove what is listed
    #[arg(long)]
    yes: bool,
}

/// Prints `{"removed", "bytes", "orphans"}` or a line per orphan.
///
/// # Errors
/// No store, a store that holds no run or is older than the checkpoints, a run that is live (with
/// `--yes`).
pub(super) fn perform(common: &Common, config: &Config, args: &GcArgs) -> Result<ExitCode> {
    let dir = Path::new(&config.run.dir);
    let store = dir.join(STORE_FILE);
    // The lock's file must not be the first thing in a folder that holds no run.
    ensure!(
        store.exists(),
        "there is no trajectory store at `{}`; name the folder with --set run.dir=…",
        store.display()
    );
    let found: Vec<Orphan> = if args.yes {
        let _lock = RunLock::take(dir, &|message| note(&message))?;
        block_on(improve::collect_orphans(dir))?
    } else {
        block_on(async {
            improve::ensure_explained(dir).await?;
            Ok(improve::orphans(dir).await?.into_iter().filter(|orphan| orphan.own).collect())
        })?
    };
    let bytes: u64 = found.iter().map(|orphan| orphan.bytes).sum();
    if common.json {
        let json = serde_json::json!({ "removed": args.yes, "bytes": bytes, "orphans": found });
        print(&pretty(&json)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if args.yes { "removed" } else { "would remove" };
    for orphan in &found {
        print(&format!("{verb} {} ({} bytes)\n", orphan.path, orphan.bytes))?;
    }
    print(&match (found.len(), args.yes) {
        (0, _) => "nothing to remove: the store names every checkpoint\n".to_owned(),
        (count, true) => format!("{count} removed, {bytes} bytes\n"),
        (count, false) => format!("{count} found, {bytes} bytes; `autodidact gc --yes` removes them\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
