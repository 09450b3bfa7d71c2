//! `autodidact inspect`: terminal reports about a run, read-only, also while it is live.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Common, block_on, colour, profile};
use crate::config::Config;
use crate::domain::Arm;
use crate::improve::{PolicyKind, STORE_FILE};
use crate::inspect::{self, RunReport, Style};
use crate::profile::Report;
use crate::store::{self, Reader, Table};

/// Most rows that `inspect sql` prints.
const SQL_ROWS_MAX: usize = 1000;

#[derive(Args)]
pub struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every run in the store: the loop proper and its control arms
    Runs,
    /// One run, iteration by iteration
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
    /// A query of your own, read-only; the views trajectory_text, trajectory_tree and iteration_summary are made
    /// for it
    Sql { query: String },
}

impl InspectArgs {
    /// Whether what is shown has tokens in it.
    pub fn needs_tokenizer(&self) -> bool {
        matches!(self.what, What::Trajectory { .. })
    }
}

pub fn perform(common: &Common, config: &Config, args: &InspectArgs) -> Result<ExitCode> {
    block_on(async {
        let (reader, style) = (reader(config).await?, style());
        let json = common.json;
        let text = match &args.what {
            What::Runs => {
                let report = inspect::runs(&reader).await?;
                if json { pretty(&report)? } else { report.render(&style) }
            }
            What::Run { run } => {
                let report = inspect::run(&reader, run_or_main(&reader, *run).await?).await?;
                // A report is no worse for lacking what was written beside the store.
                let profile = profile::of_run(config, report.arm, report.run).unwrap_or_else(|error| {
                    eprintln!("warning: {}", super::chain(&error));
                    None
                });
                match (json, profile) {
                    (true, profile) => pretty(&RunWithProfile { report, profile })?,
                    (false, Some(p)) => report.render(&style) + "\n" + &inspect::profile(&p, &style),
                    (false, None) => report.render(&style),
                }
            }
            What::Iteration { iteration, run } => {
                let run = run_or_main(&reader, *run).await?;
                let report = inspect::iteration(&reader, run, *iteration).await?;
                if json { pretty(&report)? } else { report.render(&style) }
            }
            What::Trajectory { id } => {
                let text = PolicyKind::Model.text(config)?;
                let report =
                    inspect::trajectory(&reader, *id, Some(&|token| text.decode(&[token]).ok())).await?;
                if json { pretty(&report)? } else { report.render(&style) }
            }
            What::Sql { query } => {
                let answer = reader.sql(query, SQL_ROWS_MAX).await?;
                if json { pretty(&records(&answer))? } else { inspect::table(&answer, &style) }
            }
        };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A run's report, and where its time went if that was measured.
#[derive(serde::Serialize)]
pub struct RunWithProfile {
    #[serde(flatten)]
    pub report: RunReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Report>,
}

/// One object per row; values are texts or null.
fn records(table: &Table) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let record = |row: &Vec<Option<String>>| {
        table.columns.iter().cloned().zip(row.iter().map(|v| serde_json::json!(v))).collect()
    };
    table.rows.iter().map(record).collect()
}

/// JSON as every report prints it.
pub fn pretty<T: serde::Serialize>(report: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Colour if a terminal wants it, and its width.
pub fn style() -> Style {
    Style { color: colour(), width: comfy_table::Table::new().width() }
}

/// The store of the configured run, for reading.
pub async fn reader(config: &Config) -> Result<Reader> {
    Reader::open(&Path::new(&config.run.dir).join(STORE_FILE)).await
}

/// The configuration that the run in `run.dir` began with, if there is one.
pub fn begun_with(config: &Config) -> Result<Option<serde_json::Value>> {
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
