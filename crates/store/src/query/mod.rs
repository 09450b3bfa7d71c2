//! The user's own SQL: one statement that only reads, within limits.

mod denied;
mod examples;
mod sqlite;
mod value;

use anyhow::{Result, anyhow, ensure};
use libsqlite3_sys as ffi;

use super::read::Reader;
pub use examples::{EXAMPLES, Example, SEARCH};
use sqlite::{Failure, Guarded};
pub use value::Value;

/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 100_000;

/// Most memory that SQLite may use in this process: 512 MiB.
const HEAP_LIMIT: &str = "PRAGMA hard_heap_limit = 536870912";

/// How many operations of SQLite's virtual machine there are between two questions whether to stop:
/// some 10 to 20 µs.
const OPERATIONS_BETWEEN: i32 = 1000;

/// How much of an answer to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Most rows.
    pub rows: usize,
    /// Most memory for the rows, in bytes.
    pub bytes: usize,
}

/// Which limit an answer reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// [`TableLimits::rows`].
    Rows(usize),
    /// [`TableLimits::bytes`].
    Bytes(usize),
}

/// The answer to the user's own SQL.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// In the order of the SELECT. A name that occurs again gets a number: `id`, `id:2`.
    pub columns: Vec<String>,
    /// One value per column.
    pub rows: Vec<Vec<Value>>,
    /// Why there are more rows than these; `None` if these are all.
    pub cut: Option<Cut>,
}

impl Reader {
    /// Runs the user's own query. It is one statement that only reads: SELECT, VALUES, EXPLAIN of
    /// one, or a pragma that only reports.
    ///
    /// `stop` is asked again and again while the query runs, since the room reads no clock: once it
    /// returns true, the query fails.
    ///
    /// # Errors
    /// The text is no such statement, or several; it needs more memory than allowed; it was stopped.
    pub async fn sql(
        &self,
        query: &str,
        limits: TableLimits,
        mut stop: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Table> {
        let bytes = query.len();
        ensure!(bytes <= QUERY_BYTES_MAX, "the query has {bytes} bytes; at most {QUERY_BYTES_MAX} are read");
        let fail = self.fail("run the query");
        let mut db = self.pool.acquire().await.map_err(&fail)?;
        // The guard's limits stay in the connection.
        db.close_on_drop();
        sqlx::query(HEAP_LIMIT).execute(&mut *db).await.map_err(&fail)?;
        let answer = {
            let mut handle = db.lock_handle().await.map_err(&fail)?;
            handle.set_progress_handler(OPERATIONS_BETWEEN, move || !stop());
            let answer = answer(&Guarded::new(&mut handle), query, limits);
            handle.remove_progress_handler();
            answer
        };
        match answer {
            Ok(table) => Ok(table),
            Err(Refusal::Text(why)) => Err(anyhow!("couldn't run the query: {why}")),
            Err(Refusal::Failed(failure)) => Err(self.explained(failure).await),
        }
    }

    /// A failure in words, with what to do.
    async fn explained(&self, failure: Failure) -> anyhow::Error {
        let Failure { code, message, denied } = failure;
        let advice = match (denied, code) {
            (Some(deed), _) => return anyhow!("couldn't run the query: {}", self.read_only(&deed)),
            (None, ffi::SQLITE_INTERRUPT) => "it was stopped at its time limit".to_owned(),
            (None, ffi::SQLITE_NOMEM) => {
                "it needs more than 512 MiB of memory: ask for less at once, or use the sqlite3 tool"
                    .to_owned()
            }
            (None, _) if message.starts_with("no such table") => {
                let names = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE '%\\_search\\_%' \
                             ESCAPE '\\' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name";
                let names: Vec<String> =
                    sqlx::query_scalar(names).fetch_all(&self.pool).await.unwrap_or_default();
                format!("{message}; there are {}", names.join(", "))
            }
            (None, _) => message,
        };
        anyhow!("couldn't run the query: {advice}")
    }

    fn read_only(&self, deed: &str) -> String {
        format!(
            "it would {deed}, but the connection is read-only; `inspect sql` takes SELECT, VALUES, EXPLAIN and pragmas \
             that only report. To change data, copy `{}` and use the sqlite3 tool on the copy",
            self.path.display()
        )
    }
}

/// Why there is no answer.
enum Refusal {
    Text(String),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn answer(connection: &Guarded<'_>, query: &str, limits: TableLimits) -> Result<Table, Refusal> {
    let refuse = |why: &str| Err(Refusal::Text(why.to_owned()));
    if query.contains('\0') {
        return refuse("it has a zero character, where SQLite would stop to read it");
    }
    let (mut first, mut rest) = connection.prepare(query)?;
    while first.is_none() && !rest.is_empty() {
        (first, rest) = connection.prepare(rest)?;
    }
    let Some(mut statement) = first else { return refuse("it has no statement; try `--examples`") };
    while !rest.is_empty() {
        match connection.prepare(rest) {
            Ok((None, after)) => rest = after,
            Ok((Some(_), _)) | Err(_) => {
                return refuse("it has several statements; ask one at a time");
            }
        }
    }
    if !statement.only_reads() {
        return refuse("it would write a file, but `inspect sql` only reads; use the sqlite3 tool on a copy");
    }
    let (columns, mut rows, mut size) = (distinct(statement.columns()), Vec::new(), 0);
    let mut cut = None;
    while let Some(row) = statement.next()? {
        size += row.iter().map(Value::size).sum::<usize>();
        cut = match () {
            () if rows.len() == limits.rows => Some(Cut::Rows(limits.rows)),
            () if size > limits.bytes => Some(Cut::Bytes(limits.bytes)),
            () => None,
        };
        if cut.is_some() {
            break;
        }
        rows.push(row);
    }
    Ok(Table { columns, rows, cut })
}

/// The names, each of them once.
fn distinct(names: Vec<String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut unique = name.clone();
        for number in 2.. {
            if !found.contains(&unique) {
                break;
            }
            unique = format!("{name}:{number}");
        }
        found.push(unique);
    }
    found
}
