//! Verification notices what changed, whatever it is.

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef};

use super::drive::finished;
use super::*;

/// A connection that lets anything be written.
async fn lawless(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .pragma("ignore_check_constraints", "on")
        .pragma("writable_schema", "off");
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn execute(path: &Path, sql: &'static str) {
    let mut db = lawless(path).await;
    sqlx::query(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

/// Columns whose change is no damage: clocks, durations, what may change, order of insertion, and
/// ids that no row refers to.
const FREE: &[&str] = &[
    "runs.iterations",
    "runs.state_reason",
    "runs.changed_at",
    "tasks.seq",
    "trajectories.id",
    "selections.id",
    "evaluations.id",
    "checkpoints.id",
    "checkpoints.removed_reason",
    "alarms.id",
    "phases.seconds",
    "phases.detail",
    "plans.seconds",
    "plans.left_seconds",
];

/// (table, what names one row)
const TABLES: &[(&str, &str)] = &[
    ("runs", "id"),
    ("tasks", "seq"),
    ("units", "id"),
    ("trees", "id"),
    ("thoughts", "tree_id, ordinal"),
    ("trajectories", "id"),
    ("specs", "hash"),
    ("scorings", "id"),
    ("scores", "trajectory, scorer, scoring"),
    ("selections", "id"),
    ("steps", "run, iteration, step"),
    ("step_losses", "run, iteration, step, name"),
    ("step_examples", "run, iteration, step, ordinal"),
    ("evaluations", "id"),
    ("critics", "run, iteration, stage"),
    ("checkpoints", "id"),
    ("parity", "run, iteration"),
    ("promotions", "run, iteration"),
    ("phases", "run, iteration, phase"),
    ("plans", "run, iteration"),
    ("alarms", "id"),
];

/// The new value's SQL for a cell; a blob loses one bit.
fn changed(row: &SqliteRow, column: usize) -> String {
    let value = row.try_get_raw(column).unwrap();
    let kind = value.type_info().name().to_owned();
    match kind.as_str() {
        _ if value.is_null() => match row.columns()[column].name() {
            "parent" | "rank" | "level" | "step" | "of_run" | "trajectory" | "regrade" | "visits"
            | "pair_of" | "iteration" => "1".into(),
            "value" | "ece" | "p_value" | "weight" | "threshold" => "0.5".into(),
            _ => "'x'".into(),
        },
        "INTEGER" => {
            let value = row.get::<i64, _>(column);
            // Flags have no third value.
            if matches!(row.columns()[column].name(), "voting" | "promoted" | "replayable") {
                (1 - value).to_string()
            } else {
                (value + 1000).to_string()
            }
        }
        "REAL" => format!("{:?}", row.get::<f64, _>(column) + 0.125),
        "TEXT" => {
            let text = row.get::<String, _>(column);
            // One character, the last.
            let kept: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
            format!("'{}~'", kept.replace('\'', "''"))
        }
        "BLOB" => {
            let mut bytes = row.get::<Vec<u8>, _>(column);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("x'{hex}'")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_cell_that_matters_is_watched() {
    block_on(async {
        let (dir, path) = finished().await;
        let copy = dir.path().join("copy.db");
        let (mut tried, mut unnoticed) = (0, Vec::new());
        for (table, key) in TABLES {
            let mut db = lawless(&path).await;
            let all = format!("SELECT * FROM {table} ORDER BY {key}");
            let rows = sqlx::query(AssertSqlSafe(all)).fetch_all(&mut db).await.unwrap();
            db.close().await.unwrap();
            assert!(!rows.is_empty(), "{table}");
            let width = rows[0].columns().len();
            for (column, place) in (0..width).map(|c| (c, (c * 7 + 3) % rows.len())) {
                let name = format!("{table}.{}", rows[0].columns()[column].name());
                if FREE.contains(&name.as_str()) {
                    continue;
                }
                std::fs::copy(&path, &copy).unwrap();
                let mut db = lawless(&copy).await;
                let sql = format!(
                    "UPDATE {table} SET {} = {} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {place})",
                    rows[0].columns()[column].name(),
                    changed(&rows[place], column),
                );
                let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut db).await;
                db.close().await.unwrap();
                assert_eq!(done.unwrap_or_else(|e| panic!("{sql}: {e}")).rows_affected(), 1, "{sql}");
                tried += 1;
                if verify(&copy, dir.path()).await.unwrap().ok {
                    unnoticed.push(sql);
                }
            }
        }
        assert!(unnoticed.is_empty(), "{} of {tried} unnoticed: {unnoticed:#?}", unnoticed.len());
        assert!(tried > 100, "{tried}");
    });
}

#[test]
fn every_lost_row_is_noticed() {
    block_on(async {
        let (dir, path) = finished().await;
        let copy = dir.path().join("copy.db");
        // Nothing refers to an alarm, nor to every unit and task.
        let watched = |table: &str| !matches!(table, "units" | "tasks" | "alarms");
        for (table, key) in TABLES.iter().filter(|(table, _)| watched(table)) {
            std::fs::copy(&path, &copy).unwrap();
            let mut db = lawless(&copy).await;
            let sql = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT 1)"
            );
            sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
            assert!(!verify(&copy, dir.path()).await.unwrap().ok, "a row of {table}");
        }
    });
}

#[test]
fn damaged_pages_are_reported_not_fatal() {
    block_on(async {
        let (dir, path) = finished().await;
        let good = std::fs::read(&path).unwrap();
        let pages = good.len() / 4096;
        let (mut noticed, mut tried) = (0, 0);
        for page in (2..pages).step_by(3) {
            let mut bad = good.clone();
            bad[page * 4096 + 8..page * 4096 + 600].fill(0xa5);
            let copy = dir.path().join("copy.db");
            std::fs::write(&copy, bad).unwrap();
            tried += 1;
            // Opening reads few pages. If one of those is damaged, it returns an error that reports
            // it.
            match verify(&copy, dir.path()).await {
                Ok(report) => noticed += usize::from(!report.ok),
                Err(error) => {
                    assert!(format!("{error:#}").contains("damaged"), "{error:#}");
                    noticed += 1;
                }
            }
        }
        // Free pages may hold anything.
        assert!(tried > 10 && noticed * 10 > tried * 9, "{noticed} of {tried}");
    });
}

#[test]
fn files_of_checkpoints_are_hashed_again() {
    block_on(async {
        let (dir, path) = finished().await;
        let file = dir.path().join("checkpoints/candidate-2/model.safetensors");
        std::fs::write(&file, vec![3; 100]).unwrap();
        let report = verify(&path, dir.path()).await.unwrap();
        assert!(
            report.problems.len() == 1 && report.problems[0].contains("isn't what was committed"),
            "{report:?}"
        );
        std::fs::remove_dir_all(dir.path().join("checkpoints/candidate-2")).unwrap();
        let report = verify(&path, dir.path()).await.unwrap();
        assert!(report.problems.len() == 1 && report.problems[0].contains("candidate-2"), "{report:?}");

        let store = Store::open(&path).await.unwrap();
        let id = store.checkpoints(1).await.unwrap().last().unwrap().id;
        let digest = store.digest().await.unwrap();
        store.forget_checkpoint(id, "retention").await.unwrap();
        assert_eq!(store.digest().await.unwrap(), digest, "what was removed since is no ground state");
        store.close().await.unwrap();
        let report = verify(&path, dir.path()).await.unwrap();
        assert!(report.problems.len() == 1 && report.problems[0].contains("can't be resumed"), "{report:?}");
    });
}

#[test]
fn phases_out_of_order_and_phases_without_rows_are_noticed() {
    block_on(async {
        let (dir, path) = finished().await;
        execute(&path, "DELETE FROM phases WHERE phase = 'critique'").await;
        let problems = verify(&path, dir.path()).await.unwrap().problems;
        let order = problems.iter().filter(|p| p.contains("a phase before it isn't")).count();
        assert_eq!(order, 4, "{problems:?}");
        execute(&path, "DELETE FROM evaluations WHERE iteration = 0").await;
        let problems = verify(&path, dir.path()).await.unwrap().problems;
        assert!(
            problems.iter().any(|p| p.contains("evaluate of iteration 0 is finished, but left no")),
            "{problems:?}"
        );
    });
}

#[test]
fn many_problems_are_counted() {
    block_on(async {
        let (dir, path) = finished().await;
        execute(&path, "UPDATE trees SET content_hash = zeroblob(32)").await;
        let problems = verify(&path, dir.path()).await.unwrap().problems;
        assert!(problems.iter().any(|p| p.contains("more problems like these")), "{problems:?}");
        assert!(problems.len() < 60);
    });
}
