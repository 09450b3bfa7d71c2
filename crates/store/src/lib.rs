//! The trajectory store: one SQLite file that is the run's memory, training set and record. All SQL
//! is here.
//!
//! Contract: one [`Store`] writes, over a single connection. Any number of [`Reader`]s read the
//! same file, also while it writes. Rows are written in [`Unit`]s: a committed unit survives kill
//! -9 and power cuts, and an uncommitted one leaves nothing. Ground state is appended and never
//! changed. A run resumes by reading what is stored.
//!
//! It knows nothing about models, scoring or the loop, and reads no clock: times come from the
//! caller.
//!
//! Full-text search covers every tree's thoughts and answers and every task's question. A variant's
//! question is left out, because it repeats its task's. The index costs under a tenth of an
//! insertion (`benches/store.rs`). `migrations/` holds the commented schema and the views.
//!
//! Unsafe code is in `query/sqlite.rs` only, where a user's own SQL is compiled under SQLite's
//! authorizer.

mod alarm;
mod begin;
mod blob;
mod browse;
mod canon;
mod decode;
mod describe;
mod digest;
mod fault;
mod guard;
mod open;
mod outline;
mod query;
mod read;
mod rows;
mod scoring;
mod tx;
mod unit;
mod verify;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use sqlx::sqlite::SqlitePool;

pub use self::describe::{BOOKKEEPING_TABLE, Column, Relation, relations};
pub use self::digest::hash_path;
pub use self::open::{config_of_run, schema_version};
pub use self::outline::{CheckpointOutline, Outline, RunOutline, outline};
pub use self::query::{Cut, EXAMPLES, Example, SEARCH, Table, TableLimits, Value};
pub use self::read::Reader;
pub use self::rows::*;
pub use self::unit::Unit;
pub use self::verify::{CHECKS, Checked, VerifyReport, verify, verify_with};
use fault::explain;
use guard::Guard;

/// Writes a trajectory store.
pub struct Store {
    writer: SqlitePool,
    reader: Reader,
    path: PathBuf,
    guard: Arc<Guard>,
}

impl std::ops::Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the file for writing; creates it, or brings an older schema up to date.
    ///
    /// # Errors
    /// A newer schema, another program's database, a damaged or unreadable file, a folder that may
    /// only be read.
    pub async fn open(path: &Path) -> Result<Self> {
        let writer = open::writer(path).await?;
        let reader = Reader::open(path).await?;
        let last = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM units").fetch_one(&writer).await;
        let guard = Guard::new(path, last.map_err(|e| explain(path, "find the last unit", e))?)?;
        Ok(Self { writer, reader, path: path.to_owned(), guard: Arc::new(guard) })
    }

    /// Asks `held` before each write. If `held` returns an error, nothing is written; the error
    /// states why this process may no longer write.
    pub fn hold(&self, held: impl Fn() -> Result<()> + Send + Sync + 'static) {
        self.guard.hold(Box::new(held));
    }

    /// Whether this process may still write: the file at the path is the one that was opened, and
    /// [`Store::hold`]'s holder agrees. Every write asks this; ask it too before writing files that
    /// belong to the store's rows.
    pub fn ensure_held(&self) -> Result<()> {
        self.guard.check()
    }

    /// The read-only side; sees what is committed.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Closes the connections and folds the write-ahead log into the file. Dropping the store is
    /// safe too: the next program that opens the file folds the log in.
    pub async fn close(self) -> Result<()> {
        self.reader.close().await?;
        open::close(self.writer).await
    }

    /// Writes rows of one iteration in one transaction, a [`Unit`]: `rows` writes them, and what it
    /// returns is returned once they are committed.
    ///
    /// # Errors
    /// Those of `rows`, and of the disk. Nothing of the unit exists then.
    pub async fn write<T>(
        &self,
        run: i64,
        iteration: u32,
        rows: impl AsyncFnOnce(&mut Unit) -> Result<T>,
    ) -> Result<T> {
        let mut unit =
            Unit::begin(&self.writer, self.path.clone(), self.guard.clone(), run, iteration).await?;
        let written = rows(&mut unit).await?;
        unit.commit().await?;
        Ok(written)
    }

    /// Marks a checkpoint's file as deleted. Call it before deleting: a crash between the two
    /// leaves a file that no row needs, never a row without its file.
    pub async fn forget_checkpoint(&self, id: i64, reason: &str) -> Result<()> {
        self.guard.check()?;
        let done =
            sqlx::query("UPDATE checkpoints SET removed_reason = coalesce(removed_reason, ?1) WHERE id = ?2")
                .bind(reason)
                .bind(id)
                .execute(&self.writer)
                .await
                .map_err(|e| explain(&self.path, "forget a checkpoint", e))?;
        ensure!(done.rows_affected() == 1, "there is no checkpoint {id} in `{}`", self.path.display());
        Ok(())
    }

    /// Records a message; `now` is RFC 3339.
    pub async fn put_event(&self, run: Option<i64>, level: &str, message: &str, now: &str) -> Result<()> {
        self.guard.check()?;
        sqlx::query("INSERT INTO events (run, level, message, at) VALUES (?1, ?2, ?3, ?4)")
            .bind(run)
            .bind(level)
            .bind(message)
            .bind(now)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|e| explain(&self.path, "record an event", e))
    }
}

#[cfg(test)]
mod tests;
