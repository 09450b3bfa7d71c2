//! What a bench measured, as a document: tables, with the machine, the date and the command.
//!
//! `--json FILE` after a bench's `--` writes the document; `docs/performance/` keeps one for each
//! machine and bench, and `cargo bench --bench pages` renders them as `docs/performance.md`. The
//! document knows nothing about what its figures mean.

// Each bench, and the page that shows the documents, uses a part of this file.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The results of one bench on one machine.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// Name of the bench: which section of the page shows it.
    pub bench: String,
    /// `None`: not recorded.
    pub machine: Option<String>,
    /// `None`: not recorded.
    pub date: Option<String>,
    /// `None`: there is no single command.
    pub command: Option<String>,
    /// Paragraphs of Markdown.
    pub notes: Vec<String>,
    pub tables: Vec<Table>,
}

/// Rows with a value for each column: a text, a number, or null for what wasn't measured.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

impl Results {
    /// Empty results of `bench`, measured now, on this machine, by this process.
    pub(crate) fn of(bench: &str) -> Self {
        let is_own = |arg: &String| arg != "--bench";
        let mut args: Vec<String> = std::env::args().skip(1).filter(is_own).collect();
        if let Some(at) = args.iter().position(|arg| arg == "--json") {
            args.drain(at..args.len().min(at + 2));
        }
        // Absolute paths mean nothing on another machine.
        let shown = |part: &str| if part.starts_with('/') { "PATH".to_owned() } else { part.to_owned() };
        let shown = |arg: &String| arg.split(',').map(shown).collect::<Vec<_>>().join(",");
        let args: Vec<String> = args.iter().map(shown).collect();
        let rest = if args.is_empty() { String::new() } else { format!(" -- {}", args.join(" ")) };
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self {
            bench: bench.to_owned(),
            machine: Some(machine()),
            date: Some(now.chars().take(10).collect()),
            command: Some(format!("cargo bench --bench {bench}{rest}")),
            notes: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Adds a row to the table `title`, which begins with its first row.
    pub(crate) fn row(&mut self, title: &str, cells: &[(&str, Value)]) {
        let known = self.tables.iter().position(|table| table.title == title);
        let at = known.unwrap_or_else(|| {
            let columns = cells.iter().map(|(name, _)| (*name).to_owned()).collect();
            self.tables.push(Table { title: title.to_owned(), columns, rows: Vec::new() });
            self.tables.len() - 1
        });
        self.tables[at].rows.push(cells.iter().map(|(_, value)| value.clone()).collect());
    }

    /// Writes the file that `--json FILE` asks for, if it does.
    pub(crate) fn write_if_asked(&self) -> Result<()> {
        let Some(path) = std::env::args().skip_while(|arg| arg != "--json").nth(1) else {
            return Ok(());
        };
        std::fs::write(&path, self.text()?).with_context(|| format!("cannot write {path}"))
    }

    /// Reads a document and checks that every row fits its table.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let results: Self = serde_json::from_str(&text).with_context(|| format!("in {name}"))?;
        for table in &results.tables {
            let width = table.columns.len();
            let fits = table.rows.iter().all(|row| row.len() == width);
            ensure!(fits, "in {name}: a row of `{}` doesn't have {width} values", table.title);
        }
        Ok(results)
    }

    /// The document as JSON, a line for each row.
    fn text(&self) -> Result<String> {
        let lines = |items: Vec<String>, indent: &str| match items.is_empty() {
            true => "[]".to_owned(),
            false => {
                format!("[\n{indent}  {}\n{indent}]", items.join(&format!(",\n{indent}  ")))
            }
        };
        let table = |table: &Table| -> Result<String> {
            let rows: Result<Vec<_>, _> = table.rows.iter().map(serde_json::to_string).collect();
            Ok(format!(
                "{{\n      \"title\": {},\n      \"columns\": {},\n      \"rows\": {}\n    }}",
                json!(table.title),
                json!(table.columns),
                lines(rows?, "      ")
            ))
        };
        let tables = self.tables.iter().map(table).collect::<Result<Vec<_>>>()?;
        let notes = self.notes.iter().map(|note| json!(note).to_string()).collect();
        let mut out = String::from("{\n");
        for (key, value) in [
            ("bench", json!(self.bench)),
            ("machine", json!(self.machine)),
            ("date", json!(self.date)),
            ("command", json!(self.command)),
        ] {
            writeln!(out, "  \"{key}\": {value},")?;
        }
        writeln!(out, "  \"notes\": {},", lines(notes, "  "))?;
        writeln!(out, "  \"tables\": {}\n}}", lines(tables, "  "))?;
        Ok(out)
    }
}

/// A measured number, rounded to four significant digits; null if it isn't finite.
pub(crate) fn figure(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { json!(0) } else { Value::Null };
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    // Through text, so that 0.1 stays 0.1; large numbers are rounded to whole tens and hundreds.
    let rounded = match usize::try_from(digits) {
        Ok(digits) => format!("{value:.digits$}").parse().unwrap_or(value),
        Err(_) => (value / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
    };
    json!(rounded)
}

/// Arguments that are no options, without the file of `--json`.
pub(crate) fn positional() -> Vec<String> {
    let mut args = std::env::args().skip(1);
    let mut found = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => drop(args.next()),
            option if option.starts_with("--") => {}
            _ => found.push(arg),
        }
    }
    found
}

/// Processor, instruction sets that the kernels use, and threads.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|have| have == flag);
    let mut sets: Vec<&str> = Vec::new();
    sets.extend(["avx512f", "avx2"].iter().position(|set| has(set)).map(|at| ["AVX-512", "AVX2"][at]));
    sets.extend(has("amx_bf16").then_some("AMX with tiles of bf16"));
    let processor = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let threads = rayon::current_num_threads();
    let mut parts = vec![processor, format!("{threads} thread{}", if threads == 1 { "" } else { "s" })];
    parts.extend(sets.into_iter().map(str::to_owned));
    parts.join(", ")
}
