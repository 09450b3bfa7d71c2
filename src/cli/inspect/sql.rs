//! `autodidact inspect sql`: a query of the user's own, read-only and within limits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use super::super::terminal::{note, pretty};
use crate::inspect::{self, Style};
use crate::report::{self, SqlReport};
use crate::store::{EXAMPLES, Reader, TableLimits};

/// Most rows of a text, if the user asks for no other number.
const TEXT_ROWS: usize = 1000;

/// Most rows for a program, if the user asks for no other number.
const DATA_ROWS: usize = 1_000_000;

/// Most memory that the rows may take, in bytes.
const BYTES_MAX: usize = 256 << 20;

/// How long a query that doesn't stop when it is asked to may go on.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct SqlArgs {
    /// One statement that reads: SELECT, VALUES, EXPLAIN, or a pragma that only reports
    #[arg(required_unless_present = "examples", allow_hyphen_values = true)]
    query: Option<String>,
    /// Most rows to print (default: 1000 as text, 1000000 as JSON or CSV)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rows: Option<u32>,
    /// Seconds after which the query is stopped
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    seconds: u64,
    /// Print CSV; texts that a spreadsheet would run as formulas get an apostrophe before them
    #[arg(long)]
    csv: bool,
    /// Print queries to begin with: those that have rows in this store
    #[arg(long, conflicts_with_all = ["query", "csv", "rows"])]
    examples: bool,
}

/// What the query came to, as text, JSON or CSV.
pub(super) async fn perform(reader: &Reader, args: &SqlArgs, json: bool, style: &Style) -> Result<String> {
    if args.examples {
        return examples(reader, args.seconds, json).await;
    }
    ensure!(!(json && args.csv), "--json and --csv are two formats of one answer: pass one of them");
    let to_program = json || args.csv;
    let rows = args.rows.map_or(if to_program { DATA_ROWS } else { TEXT_ROWS }, |rows| rows as usize);
    let query = args.query.as_deref().unwrap_or_default();
    let report = ask(reader, query, rows, args.seconds).await?;
    if let Some(limit) = report.limit.as_ref().filter(|_| to_program) {
        note(&format!(
            "truncated: the answer has more rows; the limit was {limit} (--rows N sets another one)"
        ));
    }
    match (args.csv, json) {
        (true, _) => Ok(inspect::sql_csv(&report)?),
        (_, true) => pretty(&report),
        _ => Ok(inspect::sql(&report, style)),
    }
}

/// Asks within the limits. A thread ends the process if the query doesn't: single operations of
/// SQLite can't be stopped.
async fn ask(reader: &Reader, query: &str, rows: usize, seconds: u64) -> Result<SqlReport> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let left = end.saturating_duration_since(Instant::now()) + GRACE;
        if is_done.recv_timeout(left) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            note(&format!("error: {}", too_long(seconds)));
            std::process::exit(1);
        }
    });
    let limits = TableLimits { rows, bytes: BYTES_MAX };
    let report = report::sql(reader, query, limits, move || Instant::now() >= end).await;
    drop(done);
    report.map_err(|error| if Instant::now() >= end { error.context(too_long(seconds)) } else { error })
}

fn too_long(seconds: u64) -> String {
    format!("the query ran for more than {seconds} s: ask for less, or allow more with --seconds N")
}

/// The examples with rows in this store.
async fn examples(reader: &Reader, seconds: u64, json: bool) -> Result<String> {
    let mut found = Vec::new();
    for example in EXAMPLES {
        if !ask(reader, example.sql, 1, seconds).await?.rows.is_empty() {
            found.push(example);
        }
    }
    if json {
        let entry = |example: &&crate::store::Example| serde_json::json!({ "name": example.name, "about": example.about, "sql": example.sql });
        return pretty(&found.iter().map(entry).collect::<Vec<_>>());
    }
    let line = |example: &&crate::store::Example| {
        format!("# {}\nautodidact inspect sql {}\n", example.about, quoted(example.sql))
    };
    match found.is_empty() {
        true => Ok("no example has rows in this store yet\n".to_owned()),
        false => Ok(found.iter().map(line).collect::<Vec<_>>().join("\n")),
    }
}

/// The query as a shell takes it, and cmd.exe too where it has no quotes in it.
fn quoted(sql: &str) -> String {
    format!("\"{}\"", sql.replace('"', "\\\""))
}
