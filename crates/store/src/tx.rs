//! A write transaction that always ends, by its commit or by closing the connection.
//!
//! SQLite rolls a transaction back when the disk is full or fails. The driver's own transaction
//! doesn't expect that and would leave the connection unusable. A transaction that wasn't committed
//! therefore closes its connection, and the pool opens another one.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};

pub(super) struct Tx {
    db: PoolConnection<Sqlite>,
    committed: bool,
}

impl Tx {
    /// IMMEDIATE takes the write lock now: a later upgrade could fail with "busy" halfway.
    pub(super) async fn begin(pool: &SqlitePool) -> sqlx::Result<Self> {
        // From here on dropping means rolling back, also if this future is dropped while it waits.
        let mut tx = Self { db: pool.acquire().await?, committed: false };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *tx).await?;
        Ok(tx)
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        sqlx::query("COMMIT").execute(&mut *self).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.committed {
            self.db.close_on_drop();
        }
    }
}

impl Deref for Tx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.db
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.db
    }
}
