//! The answer to a user's own SQL.

use anyhow::Result;
use serde::{Serialize, Serializer};

use crate::store::{Reader, Table};

/// Rows of texts. As JSON it is one object per row; values are texts or null.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlReport {
    pub columns: Vec<String>,
    /// `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there were more rows than asked for.
    pub truncated: bool,
}

/// Runs the user's own query, which can only read; at most `rows_max` rows come back.
///
/// # Errors
/// If it is not one SELECT, fails, or needs more work than the store allows.
pub async fn sql(reader: &Reader, query: &str, rows_max: usize) -> Result<SqlReport> {
    let Table { columns, rows, truncated } = reader.sql(query, rows_max).await?;
    Ok(SqlReport { columns, rows, truncated })
}

impl Serialize for SqlReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = |row: &Vec<Option<String>>| -> serde_json::Map<String, serde_json::Value> {
            self.columns.iter().cloned().zip(row.iter().map(|v| serde_json::json!(v))).collect()
        };
        serializer.collect_seq(self.rows.iter().map(record))
    }
}
