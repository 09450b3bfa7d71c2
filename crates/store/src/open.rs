//! Opening the file: connection settings, migrations, and clear errors for files that can't be
//! used.
//!
//! Writing is `synchronous = FULL` in WAL mode. NORMAL would survive kill -9 too, but after a power
//! cut it may forget the last commits, while files that those commits allowed to be deleted (old
//! checkpoints) stay deleted. A commit is a unit of seconds of work, so the extra fsync is not
//! noticed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};

use super::fault::explain;
use autodidact_domain::Arm;

/// `PRAGMA application_id` of a trajectory store.
const APPLICATION_ID: i64 = 0x6175_7469;

/// Every file of `migrations/`: its number, its name and its SQL. It is a list because the macro
/// that reads the folder builds sqlx and SQLite a second time, for the compiler.
pub(super) const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "ground state", include_str!("../../../migrations/0001_ground_state.sql")),
    (2, "views and search", include_str!("../../../migrations/0002_views_and_search.sql")),
    (3, "specs losses alarms", include_str!("../../../migrations/0003_specs_losses_alarms.sql")),
    (4, "views for tools", include_str!("../../../migrations/0004_views_for_tools.sql")),
    (5, "plans and sessions", include_str!("../../../migrations/0005_plans_and_sessions.sql")),
];

/// The schema this program writes: how many migrations it knows.
pub fn schema_version() -> i64 {
    MIGRATIONS.len() as i64
}

/// What a file turned out to be.
enum Found {
    /// Nothing yet: no table, no mark.
    Empty,
    /// A trajectory store of this schema version.
    Store(i64),
    /// Another program's database, with this application id.
    Foreign(i64),
}

/// The one connection that writes, on a file that is created or migrated as needed.
pub(super) async fn writer(path: &Path) -> Result<SqlitePool> {
    check_file(path)?;
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        ensure!(
            folder.is_dir(),
            "the folder `{}` doesn't exist; create it, or name another one",
            folder.display()
        );
    }
    let options = base_options(path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", "4000")
        .optimize_on_close(true, 400);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|e| explain(path, "open the trajectory store", e))?;
    match found(path, &pool).await? {
        Found::Foreign(id) => bail!(foreign(path, id)),
        Found::Store(version) if version > schema_version() => bail!(newer(path, version)),
        Found::Empty | Found::Store(_) => {}
    }
    // Only now that the file is known to be ours: the mode is kept in it.
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(&pool)
        .await
        .map_err(|e| explain(path, "switch to write-ahead logging", e))?;
    ensure!(
        mode == "wal",
        "`{}` can't use write-ahead logging (mode `{mode}`), which a run needs; put it on a local disk",
        path.display()
    );
    migrate(path, &pool).await?;
    Ok(pool)
}

/// What brings a store up to date.
pub(super) fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.map(migration).into())
}

async fn migrate(path: &Path, pool: &SqlitePool) -> Result<()> {
    migrator().run(pool).await.map_err(|e| match e {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => {
            explain(path, "create or migrate the schema", e)
        }
        other => anyhow!("couldn't migrate `{}`: {other}", path.display()),
    })
}

/// Connections that only read a store of this program's schema.
pub(super) async fn readers(path: &Path) -> Result<SqlitePool> {
    let pool = read_only(path).await?;
    match found(path, &pool).await? {
        Found::Empty => {
            bail!("`{}` is empty: no run has begun in it; start a run first", path.display())
        }
        Found::Foreign(id) => bail!(foreign(path, id)),
        Found::Store(version) if version > schema_version() => bail!(newer(path, version)),
        Found::Store(version) if version < schema_version() => bail!(
            "`{}` has schema version {version}, older than this program's {}; `autodidact run` brings it up to date",
            path.display(),
            schema_version()
        ),
        Found::Store(_) => Ok(pool),
    }
}

/// Connections that only read a store of this program's schema or an older one; `None` if no table
/// is made yet.
pub(super) async fn any_version(path: &Path) -> Result<Option<SqlitePool>> {
    let pool = read_only(path).await?;
    match found(path, &pool).await? {
        Found::Empty => Ok(None),
        Found::Foreign(id) => bail!(foreign(path, id)),
        Found::Store(version) if version > schema_version() => bail!(newer(path, version)),
        Found::Store(_) => Ok(Some(pool)),
    }
}

/// The `config_json` of the last run of an arm, if one has begun. It also reads a file that is
/// still empty or not migrated yet, as after a first start that was interrupted.
pub async fn config_of_run(path: &Path, arm: Arm) -> Result<Option<String>> {
    let Some(pool) = any_version(path).await? else { return Ok(None) };
    let config = sqlx::query_scalar("SELECT config_json FROM runs WHERE arm = ?1 ORDER BY id DESC LIMIT 1")
        .bind(arm.name())
        .fetch_optional(&pool)
        .await
        .map_err(|e| explain(path, "read a run's configuration", e))?;
    close(pool).await?;
    Ok(config)
}

/// Connections that work while a run is writing, and never change the file.
async fn read_only(path: &Path) -> Result<SqlitePool> {
    ensure!(
        path.exists(),
        "there is no trajectory store at `{}`; start a run first, or name the right file",
        path.display()
    );
    check_file(path)?;
    let options = base_options(path).create_if_missing(false).read_only(true).pragma("query_only", "on");
    match connect(options.clone()).await {
        // A closed store in a read-only folder: SQLite can't create the -shm file that it needs. No
        // program can be writing there, so the file is read without one.
        Err(e) if super::fault::code(&e).is_some_and(|c| c & 0xff == 14) && !has_wal(path) => {
            connect(options.immutable(true)).await
        }
        other => other,
    }
    .map_err(|e| explain(path, "open the trajectory store", e))
}

fn base_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(30))
        .pragma("temp_store", "memory")
        .pragma("cache_size", "-32768")
        .pragma("trusted_schema", "off")
        // Rows come from the connection's thread. A larger buffer lets the two threads wait less
        // often.
        .row_buffer_size(1024)
        .disable_statement_logging()
}

async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(4)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
}

fn has_wal(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name).metadata().is_ok_and(|m| m.len() > 0)
}

/// Refuses what SQLite would misread: a folder, or a file too short for a header.
fn check_file(path: &Path) -> Result<()> {
    let Ok(meta) = path.metadata() else { return Ok(()) };
    ensure!(meta.is_file(), "`{}` is not a file; name the store's file, not its folder", path.display());
    ensure!(
        meta.len() == 0 || meta.len() >= 512,
        "`{}` has only {} bytes: it is not a SQLite database, or it was cut off; put a copy back or move it away",
        path.display(),
        meta.len()
    );
    Ok(())
}

async fn found(path: &Path, pool: &SqlitePool) -> Result<Found> {
    let (id, version, tables): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id),
                (SELECT user_version FROM pragma_user_version),
                (SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations')",
    )
    .fetch_one(pool)
    .await
    .map_err(|e| explain(path, "read the header", e))?;
    Ok(match (id, tables) {
        (APPLICATION_ID, _) => Found::Store(version),
        // sqlx's own table may be the only one, after a crash before the first migration.
        (0, 0) => Found::Empty,
        _ => Found::Foreign(id),
    })
}

fn newer(path: &Path, version: i64) -> String {
    format!(
        "`{}` has schema version {version}, newer than this program's {}; use the program that wrote it, or a newer one",
        path.display(),
        schema_version()
    )
}

fn foreign(path: &Path, id: i64) -> String {
    format!(
        "`{}` is another program's database (application id {id}); name another file for the trajectory store",
        path.display()
    )
}

/// Closes a pool that writes or reads. The last one to close checkpoints the write-ahead log.
pub(super) async fn close(pool: SqlitePool) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(60), pool.close())
        .await
        .context("the trajectory store didn't close within 60 s")
}
