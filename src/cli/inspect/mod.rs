//! `autodidact inspect`: terminal reports about a run, read-only, also while it is live.

mod datasette;
mod list;
mod sql;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use self::datasette::DatasetteArgs;
use self::list::ListArgs;
use self::sql::SqlArgs;
use super::terminal::{colour, note, pretty, print};
use super::{Common, block_on};
use crate::answer;
use crate::config::Config;
use crate::domain::Arm;
use crate::improve::{self, STORE_FILE};
use crate::inspect::{self, Style};
use crate::policy::PolicyKind;
use crate::report::{self, RunWithProfile, RunsReport, Verdict, Worker};
use crate::store::{self, Reader};

/// Columns below which `COLUMNS` is not believed.
const WIDTH_MIN: u16 = 20;

#[derive(Args)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Every run in the store: the loop proper and its control arms
    Runs,
    /// One run, iteration by iteration; the default
    Run {
        /// Id of the run (default: the loop proper)
        run: Option<i64>,
    },
    /// One iteration: why trajectories were kept or dropped, scores, evaluations
    Iteration {
        iteration: u32,
        /// Id of the run (default: the loop proper)
        #[arg(long)]
        run: Option<i64>,
    },
    /// One trajectory: its thoughts, scores, and why it was kept
    Trajectory { id: i64 },
    /// A list of trajectories: of an iteration, of a task, the kept ones, the wrong ones, or what a search finds
    Trajectories(ListArgs),
    /// One task: its question, and what each iteration answered
    Task {
        id: String,
        /// Id of the run (default: the loop proper)
        #[arg(long)]
        run: Option<i64>,
    },
    /// Optimizer updates: loss, learning rate, gradient norm, tokens
    Steps {
        /// Only this iteration
        #[arg(long, value_name = "N")]
        iteration: Option<u32>,
        /// Id of the run (default: the loop proper)
        #[arg(long)]
        run: Option<i64>,
        /// Most updates to show, evenly spread; JSON has all
        #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// What happened: beginning and end, alarms, messages, finished phases
    Events {
        /// Only this iteration
        #[arg(long, value_name = "N")]
        iteration: Option<u32>,
        /// Id of the run (default: the loop proper)
        #[arg(long)]
        run: Option<i64>,
        /// Most events to show, the latest ones; JSON has all
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// A query of your own, read-only; the views trajectory_text, trajectory_scores, trajectory_tree and
    /// iteration_summary are made for it
    Sql(SqlArgs),
    /// Write metadata for datasette, and show the command that starts it on this store
    Datasette(DatasetteArgs),
}

impl InspectArgs {
    /// Whether what is shown has tokens in it.
    pub(super) fn needs_tokenizer(&self) -> bool {
        matches!(self.what, Some(What::Trajectory { .. }))
    }
}

pub(super) fn perform(common: &Common, config: &Config, args: &InspectArgs) -> Result<ExitCode> {
    block_on(async {
        let (reader, style) = (reader(config).await?, style());
        let json = common.json;
        let text = match args.what.as_ref().unwrap_or(&What::Run { run: None }) {
            What::Runs => {
                let mut report = RunsReport::gather(&reader).await?;
                report.seen(working_on(config, &reader).await?.map(|(run, _)| run));
                if json { pretty(&report)? } else { inspect::runs(&report, &style) }
            }
            What::Run { run } => {
                let run = run_or_main(&reader, *run).await?;
                let mut report = report::run(&reader, run, VERDICT).await?;
                report.seen(working_on(config, &reader).await?);
                let report = with_profile(config, report);
                if json { pretty(&report)? } else { run_text(&report, &style) }
            }
            What::Iteration { iteration, run } => {
                let run = run_or_main(&reader, *run).await?;
                let report = report::iteration(&reader, run, *iteration, VERDICT).await?;
                if json { pretty(&report)? } else { inspect::iteration(&report, &style) }
            }
            What::Trajectory { id } => {
                let text = PolicyKind::Model.text(config)?;
                let token_text = |token| text.decode(&[token]).ok();
                let report = report::trajectory(&reader, *id, Some(&token_text), VERDICT).await?;
                if json { pretty(&report)? } else { inspect::trajectory(&report, &style) }
            }
            What::Trajectories(args) => list::perform(&reader, args, json, &style).await?,
            What::Task { id, run } => {
                let run = run_or_main(&reader, *run).await?;
                let report = report::task(&reader, run, id, VERDICT).await?;
                if json { pretty(&report)? } else { inspect::task(&report, &style) }
            }
            What::Steps { iteration, run, limit } => {
                let run = run_or_main(&reader, *run).await?;
                let report = report::steps(&reader, run, *iteration).await?;
                if json { pretty(&report)? } else { inspect::steps(&report, *limit as usize, &style) }
            }
            What::Events { iteration, run, limit } => {
                let run = run_or_main(&reader, *run).await?;
                let report = report::events(&reader, run, *iteration).await?;
                if json { pretty(&report)? } else { inspect::events(&report, *limit as usize, &style) }
            }
            What::Datasette(args) => datasette::perform(reader.path(), args, json)?,
            What::Sql(args) => sql::perform(&reader, args, json, &style).await?,
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// How reports learn who was right: they compare no answers themselves.
pub(super) const VERDICT: Verdict<'static> = &answer::is_right;

/// The run that a process is working on now, and that process.
async fn working_on(config: &Config, reader: &Reader) -> Result<Option<(i64, Worker)>> {
    let dir = Path::new(&config.run.dir);
    let Some(holder) = improve::holder(dir)? else { return Ok(None) };
    // What was written last is in the store's log, if there is one.
    let written = [format!("{STORE_FILE}-wal"), STORE_FILE.to_owned()]
        .iter()
        .filter_map(|name| dir.join(name).metadata().ok()?.modified().ok()?.elapsed().ok())
        .min();
    let worker = Worker { pid: holder.pid, last_write_s: written.map(|age| age.as_secs()) };
    Ok(report::current_run(reader).await?.map(|run| (run, worker)))
}

/// The report with the run's profile, if there is one. A report is still whole without it.
fn with_profile(config: &Config, report: report::RunReport) -> RunWithProfile {
    let profile = report::measured_profile(Path::new(&config.run.dir), report.arm, report.run);
    let profile = profile.unwrap_or_else(|error| {
        note(&format!("warning: {}", super::chain(&error)));
        None
    });
    RunWithProfile { report, profile }
}

/// A run's report as text, and where its time went if that was measured.
pub(super) fn run_text(run: &RunWithProfile, style: &Style) -> String {
    let mut text = inspect::run(&run.report, style);
    if let Some(profile) = &run.profile {
        text += "\n";
        text += &inspect::profile(profile, style);
    }
    text
}

/// Colour if a terminal wants it, and its width; elsewhere that of `COLUMNS`, if it is set.
pub(super) fn style() -> Style {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width >= WIDTH_MIN);
    Style { color: colour(), width: comfy_table::Table::new().width().or_else(columns) }
}

/// The store of the configured run, for reading.
pub(super) async fn reader(config: &Config) -> Result<Reader> {
    Reader::open(&Path::new(&config.run.dir).join(STORE_FILE)).await
}

/// The configuration that the run in `run.dir` began with, if there is one.
pub(super) fn begun_with(config: &Config) -> Result<Option<serde_json::Value>> {
    let path = Path::new(&config.run.dir).join(STORE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let stored = block_on(store::config_of_run(&path, Arm::Reward))?;
    Ok(stored.map(|json| serde_json::from_str(&json)).transpose()?)
}

async fn run_or_main(reader: &Reader, run: Option<i64>) -> Result<i64> {
    match run {
        Some(run) => Ok(run),
        None => Ok(reader.run_of_arm(Arm::Reward).await?.context("the store holds no run yet")?.id),
    }
}
