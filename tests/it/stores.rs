//! Stores that an earlier build made: this build opens, verifies and resumes them, to the same end.
//!
//! `tests/golden/stores.sh` made the files and printed the digests below, with the release build of
//! commit 46a2ea4 (version 0.1.0, schema version 2).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use autodidact::store::{Store, schema_version};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef};

use crate::crash::verified;
use crate::sandbox::Sandbox;

/// A run that died.
struct Killed {
    name: &'static str,
    /// In addition to [`SETTINGS`].
    settings: &'static [&'static str],
    /// What `verify` of the earlier build printed: of the killed run, and after the same build had
    /// resumed it.
    digests: [&'static str; 2],
}

/// Died in the rollouts of iteration 2, with one of nine trees committed.
const CHAIN: Killed = Killed {
    name: "chain",
    settings: &[],
    digests: [
        "db98b23db8a2333b46bcb681754d1d883916915593058bf53f16319ccb36148b",
        "2010f17de885a443d5cc6a230218347c09425d157064878e0d677272f50058d3",
    ],
};

/// Trees of thoughts, with values and pruned thoughts; died after they were scored, in iteration 1.
const TREES: Killed = Killed {
    name: "trees",
    settings: &[
        "run.iterations=1",
        "rollout.strategy=tot",
        "rollout.variants=1",
        "rollout.tasks=2",
        "tasks.gate=2",
        "tasks.heldout=2",
    ],
    digests: [
        "3f79e88e42a198dc9d44464af21c629533e268e9fed391c91b13a51019dff28a",
        "561a51577d05eb6a969a21ebe3203a2b053b55eba9d6469deeebb1a32817ff19",
    ],
};

/// What both runs began with; later settings win.
const SETTINGS: &[&str] = &[
    "run.iterations=2",
    "tasks.easy=8",
    "tasks.anchor=4",
    "tasks.train=6",
    "tasks.gate=4",
    "tasks.heldout=4",
    "rollout.tasks=3",
    "rollout.variants=3",
    "critic.bootstrap=8",
    "critic.epochs=2",
    "eval.samples=2",
    "eval.sampled_tasks=2",
    "engine.batch_tokens=256",
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stores")
}

/// Copies a folder; files that end in `.zst` are unpacked.
fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap();
        if entry.is_dir() {
            unpack(&entry, &to.join(name));
        } else if entry.extension().is_some_and(|e| e == "zst") {
            unpack_file(&entry, &to.join(entry.file_stem().unwrap()));
        } else {
            fs::copy(&entry, to.join(name)).unwrap();
        }
    }
}

fn unpack_file(from: &Path, to: &Path) {
    let mut packed = File::open(from).unwrap();
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(&mut packed).unwrap().read_to_end(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

/// A folder with what the dead run left, and the store's file in it.
fn killed(run: &Killed) -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let dir = sandbox.path().join("autodidact-run");
    unpack(&golden().join(run.name).join("killed"), &dir);
    let store = dir.join("store.sqlite");
    (sandbox, store)
}

fn resume(sandbox: &Sandbox, run: &Killed) {
    let settings = SETTINGS.iter().chain(run.settings);
    let set = settings.flat_map(|pair| ["--set", pair]);
    let args: Vec<&str> = ["run", "--policy", "scripted"].into_iter().chain(set).collect();
    sandbox.run(&args).success();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_store_of_an_earlier_build_opens_and_verifies() {
    for run in [&CHAIN, &TREES] {
        let (sandbox, path) = killed(run);
        // Readers change nothing, so they name the command that brings the file up to date.
        let refused = sandbox.run(&["verify"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let older = format!("schema version 2, older than this program's {}", schema_version());
        assert!(refused.stderr.contains(&older), "{}", refused.stderr);
        assert!(refused.stderr.contains("`autodidact run`"), "{}", refused.stderr);
        block_on(async { Store::open(&path).await.unwrap().close().await.unwrap() });
        assert_eq!(verified(&sandbox), run.digests[0], "{}: the same rows, the same digest", run.name);
        // What the migration indexed again is found, and the views read rows that were there before.
        let listed = sandbox.run(&["inspect", "trajectories", "--all", "--json"]).success();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let line = listed["items"][0]["text"].as_str().unwrap().lines().next().unwrap().to_owned();
        let found = sandbox.run(&["inspect", "trajectories", "--all", "--search", &line, "--json"]).success();
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["items"][0], listed["items"][0], "{}: {line}", run.name);
    }
}

#[test]
fn a_run_of_an_earlier_build_resumes_to_the_same_end() {
    for run in [&CHAIN, &TREES] {
        let (sandbox, path) = killed(run);
        resume(&sandbox, run);
        verified(&sandbox);
        // Scores that this build made name their spec, and one scorer is new. Without these the digest is that of the earlier build, although the units' own hashes
        // cover them.
        block_on(async {
            let mut db =
                SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path)).await.unwrap();
            sqlx::raw_sql("UPDATE scorings SET spec = NULL; DELETE FROM specs; DELETE FROM scores WHERE scorer = 'chance'")
                .execute(&mut db)
                .await
                .unwrap();
            db.close().await.unwrap();
        });
        let report = sandbox.run(&["verify", "--json"]).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["digest"], run.digests[1], "{}: {report}", run.name);
    }
}

/// Clocks, durations, and the units that rows were written in.
const FREE: &[&str] = &["changed_at", "seconds", "unit"];

/// Tables that are not ground state, and the units. SQLite's own are left out by name.
const SKIPPED: &[&str] = &["_sqlx_migrations", "events", "units"];

#[test]
fn every_ground_row_equals_that_of_the_earlier_build() {
    let (sandbox, path) = killed(&CHAIN);
    let earlier = sandbox.path().join("end.sqlite");
    unpack_file(&golden().join("chain/end.sqlite.zst"), &earlier);
    resume(&sandbox, &CHAIN);
    block_on(async {
        let (mut earlier, mut now) = (connect(&earlier).await, connect(&path).await);
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'
             AND name NOT LIKE '%\\_search\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )
        .fetch_all(&mut earlier)
        .await
        .unwrap();
        let mut compared = 0;
        for table in tables.iter().filter(|t| !SKIPPED.contains(&t.as_str())) {
            let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?1)")
                .bind(table)
                .fetch_all(&mut earlier)
                .await
                .unwrap();
            let columns: Vec<String> = columns.into_iter().filter(|c| !FREE.contains(&c.as_str())).collect();
            let expected = rows(&mut earlier, table, &columns).await;
            let mut found = rows(&mut now, table, &columns).await;
            found.retain(|row| !row.contains("scorer = chance,"));
            assert!(found == expected, "{table}: {:#?}", found.symmetric_difference(&expected));
            compared += expected.len();
        }
        assert!(compared > 300, "{compared} rows");
    });
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path).read_only(true)).await.unwrap()
}

/// The rows as text, values bit for bit.
async fn rows(db: &mut SqliteConnection, table: &str, columns: &[String]) -> BTreeSet<String> {
    let sql = format!("SELECT {} FROM {table}", columns.join(", "));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(db).await.unwrap();
    rows.iter()
        .map(|row| {
            let cell = |i: usize| {
                let value = row.try_get_raw(i).unwrap();
                let text = match value.type_info().name() {
                    _ if value.is_null() => "NULL".to_owned(),
                    "INTEGER" => row.get::<i64, _>(i).to_string(),
                    "REAL" => format!("{:?}", row.get::<f64, _>(i)),
                    "BLOB" => format!("{:?}", row.get::<Vec<u8>, _>(i)),
                    _ => row.get::<String, _>(i),
                };
                format!("{} = {text}", row.columns()[i].name())
            };
            (0..row.columns().len()).map(cell).collect::<Vec<_>>().join(", ")
        })
        .collect()
}
