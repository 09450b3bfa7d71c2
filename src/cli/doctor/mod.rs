//! `autodidact doctor`: the machine, the configuration, and what a run will need, measured by a
//! short probe.
//!
//! [`diagnosis`] gathers, [`text`] writes for the terminal, `--json` prints what was gathered.

mod diagnosis;
mod forecast;
mod plan;
mod probe;
mod suggest;
mod text;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Common;
use super::block_on;
use super::hub::{self, HubReport};
use super::inspect::style;
use crate::cli::terminal::{pretty, print};
use crate::config::Config;
use crate::improve::{self, Expected};
use crate::policy::{PolicyKind, Use};

pub(super) use diagnosis::{blunt_gate, memory_free};
pub(super) use probe::{Budget, rates};

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Take minutes instead of seconds: measure at full size what is extrapolated otherwise
    #[arg(long)]
    measure: bool,
    /// Show how a run would use this many hours (short for --set run.hours=…)
    #[arg(long, value_name = "HOURS")]
    hours: Option<f64>,
}

impl DoctorArgs {
    /// The hours that are asked for.
    pub(super) fn hours(&self) -> Option<f64> {
        self.hours
    }
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

/// What a probe before a run with hours gives.
#[derive(Default)]
pub(super) struct Fitted {
    /// A line about how the hours are used, for a run that is new.
    pub line: Option<String>,
    pub expected: Option<Expected>,
}

/// The configuration with what is measured made to fit `run.hours`, and what that takes. A run that is
/// in its folder keeps what it planned.
///
/// # Errors
/// If the model or the tasks can't be loaded, or the probe fails.
pub(super) fn fit_hours(config: &Config) -> Result<(Config, Fitted)> {
    if config.run.hours == 0.0 {
        return Ok((config.clone(), Fitted::default()));
    }
    let begun = block_on(async { Ok(improve::as_begun(config).await) })?;
    if let Some(begun) = &begun
        && block_on(improve::is_measured(config))?
    {
        return Ok((begun.clone(), Fitted::default()));
    }
    let (config, is_new) = (begun.as_ref().unwrap_or(config), begun.is_none());
    let text = PolicyKind::Model.text(config)?;
    let policy = PolicyKind::Model.base(config, &text, Use::Train, None)?;
    let tasks = improve::dataset(config)?.tasks;
    let rates = probe::rates(config, &text, &policy, &tasks, Budget::QUICK)?;
    if !is_new {
        let expected = Some(plan::expected(config, &tasks, &rates));
        return Ok((config.clone(), Fitted { line: None, expected }));
    }
    let (config, plan) = plan::plan(config, &tasks, &rates);
    let expected = Some(plan::expected(&config, &improve::dataset(&config)?.tasks, &rates));
    Ok((config, Fitted { line: Some(plan.line()), expected }))
}

/// Without the model nothing can be measured, and fetching it is for the commands that use it.
fn not_cached(common: &Common, hub: &[HubReport]) -> Result<ExitCode> {
    match common.json {
        true => print(&pretty(&serde_json::json!({ "hub": hub, "problems": [] }))?)?,
        false => print(&text::not_cached(hub))?,
    }
    Ok(ExitCode::SUCCESS)
}
