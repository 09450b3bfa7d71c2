//! The answer to a user's own SQL as a table.

use super::render::{Style, line, visible};
use crate::report::SqlReport;

/// The rows as text. NULL is shown as such; the last line states whether rows were cut off.
pub fn sql(report: &SqlReport, style: &Style) -> String {
    let header: Vec<&str> = report.columns.iter().map(String::as_str).collect();
    let mut table = style.table(&header, header.len());
    for row in &report.rows {
        table.add_row(row.iter().map(|cell| cell.as_deref().map_or("NULL".to_owned(), visible)));
    }
    let mut out = String::new();
    if !report.columns.is_empty() {
        line!(out, "{}", table.trim_fmt());
    }
    let more = if report.truncated { ", and more: add LIMIT and OFFSET to see them" } else { "" };
    line!(out, "{} rows{more}", report.rows.len());
    out
}
