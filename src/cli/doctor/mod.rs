//! `autodidact doctor`: the machine, the configuration, and what a run will need, measured by a
//! short probe.
//!
//! [`diagnosis`] gathers, [`text`] writes for the terminal, `--json` prints what was gathered.

mod diagnosis;
mod forecast;
mod probe;
mod suggest;
mod text;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Common;
use super::hub::{self, HubReport};
use super::inspect::style;
use crate::cli::terminal::{pretty, print};
use crate::config::Config;
use probe::Budget;

pub(super) use diagnosis::memory_free;

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Take minutes instead of seconds: measure at full size what is extrapolated otherwise
    #[arg(long)]
    measure: bool,
}

/// Prints the diagnosis; exit code 1 when a run could not work.
pub(super) fn perform(common: &Common, mut config: Config, args: &DoctorArgs) -> Result<ExitCode> {
    let hub = hub::look(&mut config)?;
    if !hub.iter().all(HubReport::is_cached) {
        return not_cached(common, &hub);
    }
    let budget = if args.measure { Budget::FULL } else { Budget::QUICK };
    let diagnosis = diagnosis::diagnose(&config, hub, budget)?;
    match common.json {
        true => print(&pretty(&diagnosis)?)?,
        false => print(&text::text(&config, &diagnosis, common.verbose, &style()))?,
    }
    Ok(if diagnosis.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Without the model nothing can be measured, and fetching it is for the commands that use it.
fn not_cached(common: &Common, hub: &[HubReport]) -> Result<ExitCode> {
    match common.json {
        true => print(&pretty(&serde_json::json!({ "hub": hub, "problems": [] }))?)?,
        false => print(&text::not_cached(hub))?,
    }
    Ok(ExitCode::SUCCESS)
}
