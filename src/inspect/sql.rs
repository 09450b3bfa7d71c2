//! The answer to a user's own SQL as a table.

use super::render::{Style, line, visible};
use crate::store::Table;

/// Renders a query's answer; NULL is shown as such, cut answers say so.
pub fn table(answer: &Table, style: &Style) -> String {
    let header: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
    let mut table = style.table(&header, header.len());
    for row in &answer.rows {
        table.add_row(row.iter().map(|cell| cell.as_deref().map_or("NULL".to_owned(), visible)));
    }
    let mut out = String::new();
    if !answer.columns.is_empty() {
        line!(out, "{}", table.trim_fmt());
    }
    let more = if answer.truncated { ", and more: add LIMIT and OFFSET to see them" } else { "" };
    line!(out, "{} rows{more}", answer.rows.len());
    out
}
