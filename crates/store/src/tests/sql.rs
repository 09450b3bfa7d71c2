//! The user's own SQL: what it may do, and its limits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::drive::finished;
use super::*;

const LIMITS: TableLimits = TableLimits { rows: 5, bytes: 1 << 20 };

async fn ask(reader: &Reader, query: &str) -> Result<Table> {
    reader.sql(query, LIMITS, || false).await
}

async fn refusal(reader: &Reader, query: &str) -> String {
    ask(reader, query).await.expect_err(query).to_string()
}

/// Names and contents of a folder's files. SQLite's own -shm has marks of its readers.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect();
    found.sort();
    found
}

#[test]
fn values_have_their_types_and_columns_their_order() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let query = "SELECT id, NULL AS gone, 0.5 AS half, x'0102' AS raw, 'ä' AS text, 2 AS id FROM trees ORDER BY 1;";
        let two = TableLimits { rows: 2, ..LIMITS };
        let table = reader.sql(query, two, || false).await.unwrap();
        assert_eq!(table.columns, ["id", "gone", "half", "raw", "text", "id:2"]);
        let row = [
            Value::Integer(1),
            Value::Null,
            Value::Real(0.5),
            Value::Blob { bytes: 2 },
            Value::Text("ä".into()),
            Value::Integer(2),
        ];
        assert_eq!(table.rows[0], row);
        assert_eq!((table.rows.len(), table.cut), (2, Some(Cut::Rows(2))));
        let empty = ask(&reader, "SELECT id, arm FROM runs WHERE 0 -- none").await.unwrap();
        assert_eq!((empty.columns.len(), empty.rows.len(), empty.cut), (2, 0, None));
        let all =
            reader.sql("SELECT id FROM runs", TableLimits { rows: 1, ..LIMITS }, || false).await.unwrap();
        assert_eq!(all.cut, None, "as many rows as the limit are not too many");
        let wide = TableLimits { bytes: 10_000, ..LIMITS };
        let table = reader.sql("VALUES (1), (hex(zeroblob(9000))), (3)", wide, || false).await.unwrap();
        assert_eq!((table.rows.len(), table.cut), (1, Some(Cut::Bytes(10_000))));
        let odd = ask(&reader, "SELECT CAST(x'61ff62' AS TEXT) AS odd").await.unwrap();
        assert_eq!(odd.rows[0][0], Value::Text("a\u{fffd}b".into()));
    });
}

#[test]
fn one_statement_of_any_form_that_only_reads() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        for query in [
            "-- a comment\n /* and one */ ;; SELECT 1 ; -- and at the end\n ;",
            "SELECT ';' AS \"a;b\", [t.id] FROM (SELECT 1 AS [t.id]) t /* ; */ -- ;",
            "SELECT 'ä;';;\n",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT max(i) FROM n",
            "EXPLAIN SELECT * FROM trajectory_text",
            "EXPLAIN QUERY PLAN SELECT * FROM trajectory_text WHERE id = 1",
            "PRAGMA table_info(runs)",
            "PRAGMA user_version",
            "SELECT name FROM pragma_table_info('runs')",
            "SELECT rowid FROM tree_search WHERE tree_search MATCH 'chain'",
            "SELECT snippet(task_search, 0, '[', ']', '…', 5) FROM task_search('apples')",
            "SELECT value FROM json_each('[1, 2]')",
            "VALUES (1)",
        ] {
            assert!(!ask(&reader, query).await.unwrap().rows.is_empty(), "{query}");
        }
    });
}

#[test]
fn nothing_else_can_be_done() {
    block_on(async {
        let (dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let before = contents(dir.path());
        let copy = dir.path().join("copy.sqlite");
        let copy = copy.display();
        for (query, complaint) in [
            ("DELETE FROM runs", "it would delete from `runs`, but the connection is read-only"),
            ("EXPLAIN DELETE FROM runs", "it would delete from `runs`"),
            ("WITH x AS (SELECT 1) INSERT INTO events (level) SELECT 1 FROM x", "insert into `events`"),
            ("UPDATE runs SET state = 'done' RETURNING id", "update `runs`"),
            ("CREATE TEMP TABLE t (x)", "the connection is read-only"),
            ("DROP TABLE events", "the connection is read-only"),
            ("PRAGMA query_only = off", "run the pragma `query_only`"),
            ("PRAGMA user_version(7)", "run the pragma `user_version`"),
            ("PRAGMA writable_schema", "run the pragma `writable_schema`"),
            ("PRAGMA wal_checkpoint(TRUNCATE)", "run the pragma `wal_checkpoint`"),
            ("BEGIN IMMEDIATE", "begin or end a transaction"),
            ("VACUUM", "would write a file"),
            (&format!("VACUUM INTO '{copy}'"), "would write a file"),
            (&format!("ATTACH '{copy}' AS c"), "open another file"),
            ("SELECT load_extension('x')", "load_extension"),
            ("SELECT 1); PRAGMA query_only = off; SELECT (1", "near \")\""),
            ("SELECT 1; SELECT 2", "several statements"),
            ("SELECT ';' -- ;\n; SELECT 2", "several statements"),
            ("SELECT 'it''s' /* ; */ ; DELETE FROM runs", "several statements"),
            ("SELECT 1; nonsense", "several statements"),
            ("SELECT 1\0; DELETE FROM runs", "a zero character"),
            ("", "it has no statement"),
            (" -- only a comment", "it has no statement"),
            ("nonsense", "syntax error"),
            ("SELECT * FROM trajectory", "no such table: trajectory; there are alarms, "),
        ] {
            let error = refusal(&reader, query).await;
            assert!(
                error.starts_with("couldn't run the query: ") && error.contains(complaint),
                "{query}: {error}"
            );
        }
        assert_eq!(contents(dir.path()), before, "no byte of any file");
        assert_eq!(reader.runs().await.unwrap().len(), 1);
    });
}

#[test]
fn limits_hold() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let stop = move || count.fetch_add(1, Ordering::Relaxed) > 1000;
        let error = reader.sql(endless, LIMITS, stop).await.unwrap_err().to_string();
        assert!(error.contains("it was stopped at its time limit"), "{error}");
        assert!(asked.load(Ordering::Relaxed) > 1000);

        let long = format!("SELECT '{}'", "x".repeat(200_000));
        assert!(refusal(&reader, &long).await.contains("at most 100000"));
        let large = refusal(&reader, "SELECT length(randomblob(600000000))").await;
        assert!(large.contains("too big"), "{large}");
        let pattern = "SELECT 'a' LIKE (SELECT replace(hex(zeroblob(1000)), '0', 'a%'))";
        assert!(refusal(&reader, pattern).await.contains("pattern"));
        assert_eq!(ask(&reader, "SELECT 1").await.unwrap().rows.len(), 1, "the reader is fine again");
    });
}
