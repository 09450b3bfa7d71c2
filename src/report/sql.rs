//! The answer to a user's own SQL.

use anyhow::Result;
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::store::{Cut, Reader, Table, TableLimits, Value};

/// Rows as SQLite types them.
///
/// As JSON a whole answer is an array with one object per row, in the SELECT's order: integers and
/// reals are numbers, texts are strings, and a blob is `{"blob_bytes": n}`. An answer that was cut
/// is an object instead, `{"truncated": true, "limit": "10 rows", "rows": […]}`, so that no program
/// takes it for the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlReport {
    /// Each name once.
    pub columns: Vec<String>,
    /// One cell per column.
    pub rows: Vec<Vec<SqlCell>>,
    /// The limit that there were more rows than; `None` if these are all.
    pub limit: Option<String>,
}

/// A value of the user's own query.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlCell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A real number.
    Real(f64),
    /// A text.
    Text(String),
    /// A blob of this many bytes.
    Blob(usize),
}

/// Runs the user's own query, which can only read. `stop` is asked again and again while it runs.
///
/// # Errors
/// It is not one reading statement, fails, needs too much memory, or was stopped.
pub async fn sql(
    reader: &Reader,
    query: &str,
    limits: TableLimits,
    stop: impl FnMut() -> bool + Send + 'static,
) -> Result<SqlReport> {
    let Table { columns, rows, cut } = reader.sql(query, limits, stop).await?;
    let rows = rows.into_iter().map(|row| row.into_iter().map(SqlCell::from).collect()).collect();
    let limit = cut.map(|cut| match cut {
        Cut::Rows(1) => "1 row".to_owned(),
        Cut::Rows(rows) => format!("{rows} rows"),
        Cut::Bytes(bytes) => format!("{} MiB", bytes >> 20),
    });
    Ok(SqlReport { columns, rows, limit })
}

impl From<Value> for SqlCell {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(number),
            Value::Real(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text),
            Value::Blob { bytes } => Self::Blob(bytes),
        }
    }
}

impl Serialize for SqlReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = Rows(self);
        let Some(limit) = &self.limit else { return rows.serialize(serializer) };
        let mut cut = serializer.serialize_struct("SqlReport", 3)?;
        cut.serialize_field("truncated", &true)?;
        cut.serialize_field("limit", limit)?;
        cut.serialize_field("rows", &rows)?;
        cut.end()
    }
}

struct Rows<'a>(&'a SqlReport);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows.iter().map(|row| Row(&self.0.columns, row)))
    }
}

struct Row<'a>(&'a [String], &'a [SqlCell]);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

impl Serialize for SqlCell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            // JSON has no infinity, and SQLite no NaN.
            Self::Real(number) if number.is_infinite() => serializer.collect_str(number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Blob(bytes) => {
                let mut blob = serializer.serialize_map(Some(1))?;
                blob.serialize_entry("blob_bytes", bytes)?;
                blob.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_types_order_and_whether_it_is_whole() {
        let row = [
            SqlCell::Integer(i64::MAX),
            SqlCell::Null,
            SqlCell::Real(0.5),
            SqlCell::Real(f64::NEG_INFINITY),
            SqlCell::Text("7".into()),
            SqlCell::Blob(12),
        ];
        let columns = ["z", "y", "x", "w", "v", "a"].map(str::to_owned).to_vec();
        let whole = SqlReport { columns, rows: vec![row.to_vec()], limit: None };
        let rows = r#"[{"z":9223372036854775807,"y":null,"x":0.5,"w":"-inf","v":"7","a":{"blob_bytes":12}}]"#;
        assert_eq!(serde_json::to_string(&whole).unwrap(), rows);
        let cut = SqlReport { limit: Some("1 row".into()), ..whole };
        let expected = format!(r#"{{"truncated":true,"limit":"1 row","rows":{rows}}}"#);
        assert_eq!(serde_json::to_string(&cut).unwrap(), expected);
    }
}
