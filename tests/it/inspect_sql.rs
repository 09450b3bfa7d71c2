//! `inspect sql` through the program: what it prints, what it refuses, and its limits.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::crash::small;
use crate::sandbox::{Outcome, Sandbox};

fn finished() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    sandbox
}

fn ask(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.run(&[&["inspect", "sql"], args].concat())
}

/// Every file below the run's folder with its contents; SQLite's marks of readers left out.
fn contents(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![sandbox.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    found.retain(|name, _| !name.ends_with("-shm") && !name.ends_with("-wal"));
    found
}

#[test]
fn json_keeps_types_and_order_and_states_what_was_cut() {
    let sandbox = finished();
    let query =
        "SELECT 2 AS b, 0.5 AS a, NULL AS c, x'00ff' AS d, '7' AS e UNION ALL VALUES (1, 1.0, 2, 3, 4)";
    let whole = ask(&sandbox, &[query, "--json"]).success();
    let rows: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(rows[0], json!({"b": 2, "a": 0.5, "c": null, "d": {"blob_bytes": 2}, "e": "7"}));
    let places = ["\"b\"", "\"a\"", "\"c\"", "\"d\"", "\"e\""].map(|name| whole.find(name).unwrap());
    assert!(places.is_sorted(), "{whole}");
    let cut = ask(&sandbox, &["SELECT id FROM trajectories ORDER BY id", "--rows", "2", "--json"]);
    assert!(
        cut.stderr.contains("truncated: the answer has more rows; the limit was 2 rows"),
        "{}",
        cut.stderr
    );
    let cut: Value = serde_json::from_str(&cut.success()).unwrap();
    assert_eq!(cut, json!({"truncated": true, "limit": "2 rows", "rows": [{"id": 1}, {"id": 2}]}));
    let many =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n";
    let all: Value = serde_json::from_str(&ask(&sandbox, &[many, "--json"]).success()).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(5000), "no limit of the text's 1000");
    let text = ask(&sandbox, &[many]).success();
    assert!(text.ends_with(
        "1000 rows, and more: the limit was 1000 rows; add LIMIT and OFFSET to the query, or pass --rows N\n"
    ));
    assert!(ask(&sandbox, &["SELECT 1"]).success().ends_with("\n1 row\n"));
}

#[test]
fn csv_is_safe_to_open() {
    let sandbox = finished();
    let query = "SELECT '=cmd()' AS \"@name\", -5 AS n, 'a,\"b\"' AS t, NULL AS z, '-2+3' AS f";
    let csv = ask(&sandbox, &[query, "--csv"]).success();
    assert_eq!(csv, "'@name,n,t,z,f\n'=cmd(),-5,\"a,\"\"b\"\"\",,'-2+3\n");
    let cut = ask(&sandbox, &["VALUES (1), (2)", "--csv", "--rows", "1"]);
    assert_eq!((cut.stdout.as_str(), cut.code), ("column1\n1\n", Some(0)));
    assert!(cut.stderr.contains("truncated"), "{}", cut.stderr);
    let both = ask(&sandbox, &["SELECT 1", "--csv", "--json"]).stderr;
    assert!(both.contains("--json and --csv are two formats of one answer: pass one of them"), "{both}");
}

#[test]
fn every_example_has_rows() {
    let sandbox = finished();
    let examples: Value = serde_json::from_str(&ask(&sandbox, &["--examples", "--json"]).success()).unwrap();
    let examples = examples.as_array().unwrap();
    let names: Vec<&str> = examples.iter().map(|example| example["name"].as_str().unwrap()).collect();
    for expected in ["kept", "iterations", "reasons", "scores", "hard_tasks", "levels", "time", "a_tree"] {
        assert!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    let text = ask(&sandbox, &["--examples"]).success();
    for example in examples {
        let sql = example["sql"].as_str().unwrap();
        let rows: Value = serde_json::from_str(&ask(&sandbox, &[sql, "--json"]).success()).unwrap();
        let row = rows[0].as_object().unwrap_or_else(|| panic!("no rows: {sql}"));
        let known = row.values().filter(|value| !value.is_null()).count();
        assert!(known * 2 > row.len(), "mostly NULL: {row:?}");
        assert!(text.contains(&sql.replace('"', "\\\"")), "{text}");
    }
}

#[test]
fn what_writes_is_refused_and_nothing_is_written() {
    let sandbox = finished();
    let before = contents(&sandbox);
    for (query, complaint) in [
        ("DELETE FROM runs", "it would delete from `runs`, but the connection is read-only"),
        ("SELECT 1); PRAGMA query_only = off; VACUUM INTO 'copy.sqlite'; SELECT (1", "syntax error"),
        ("SELECT 1; VACUUM INTO 'copy.sqlite'", "it has several statements"),
        ("VACUUM INTO 'copy.sqlite'", "it would write a file"),
        ("ATTACH 'copy.sqlite' AS c", "it would open another file, `copy.sqlite`"),
        ("PRAGMA query_only = off", "it would run the pragma `query_only`"),
        ("SELECT nowhere FROM runs", "no such column: nowhere"),
        ("SELECT * FROM run", "no such table: run; there are alarms, "),
    ] {
        let refused = ask(&sandbox, &[query]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{query}");
        let start = "error: couldn't run the query: ";
        assert!(refused.stderr.starts_with(start), "{query}: {}", refused.stderr);
        assert!(refused.stderr.contains(complaint), "{query}: {}", refused.stderr);
    }
    assert!(ask(&sandbox, &["DELETE FROM runs"]).stderr.contains("use the sqlite3 tool on the copy"));
    assert_eq!(contents(&sandbox).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(contents(&sandbox) == before, "no byte of any file");
    for query in
        ["EXPLAIN QUERY PLAN SELECT * FROM runs", "-- first\nPRAGMA table_info(runs);", "VALUES (1) ;"]
    {
        ask(&sandbox, &[query]).success();
    }
    assert_eq!(ask(&sandbox, &[]).code, Some(2), "a query or --examples");
}

#[test]
fn the_time_limit_holds_for_queries_and_for_single_operations() {
    let sandbox = finished();
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let single = "SELECT instr(zeroblob(60000000), zeroblob(30000000) || x'01')";
    for query in [endless, single] {
        let began = Instant::now();
        let stopped = ask(&sandbox, &[query, "--seconds", "1"]);
        assert_eq!(stopped.code, Some(1), "{stopped:?}");
        assert!(
            stopped.stderr.contains("ran for more than 1 s: ask for less, or allow more"),
            "{}",
            stopped.stderr
        );
        assert!(began.elapsed().as_secs() < 20, "{query}");
    }
}

/// The limit is the process's, so it is tested in a process that does nothing else.
#[test]
fn the_limit_of_memory_holds() {
    let sandbox = finished();
    let sorted = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
                  SELECT length(b) FROM (SELECT zeroblob(40000000) || i AS b FROM n ORDER BY b)";
    let refused = ask(&sandbox, &[sorted]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("it needs more than 512 MiB of memory"), "{}", refused.stderr);
    let large = ask(&sandbox, &["SELECT length(randomblob(600000000))"]).stderr;
    assert!(large.contains("too big"), "{large}");
}

#[test]
fn datasette_gets_its_metadata() {
    let sandbox = finished();
    let text = sandbox.run(&["inspect", "datasette"]).success();
    let store = format!("autodidact-run{}store.sqlite", std::path::MAIN_SEPARATOR);
    assert!(text.contains(&format!("datasette {store} --metadata autodidact-run")), "{text}");
    let path = sandbox.path().join("autodidact-run/datasette.json");
    let metadata: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let database = &metadata["databases"]["store"];
    for (_, query) in database["queries"].as_object().unwrap() {
        let sql = query["sql"].as_str().unwrap().replace(":words", "'minus'");
        ask(&sandbox, &[&sql, "--json"]).success();
    }
    let tables = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE '%search%' AND name NOT LIKE 'sqlite%'";
    let tables: Value = serde_json::from_str(&ask(&sandbox, &[tables, "--json"]).success()).unwrap();
    for table in tables.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()) {
        let described = &database["tables"][table];
        let columns = format!("SELECT name FROM pragma_table_info('{table}')");
        let columns: Value = serde_json::from_str(&ask(&sandbox, &[&columns, "--json"]).success()).unwrap();
        let hidden = described["hidden"] == true && described["columns"].is_null();
        for column in columns.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()) {
            assert!(hidden || described["columns"][column].is_string(), "{table}.{column}");
        }
    }
    // The command writes its own file again, and no other one.
    sandbox.run(&["inspect", "datasette"]).success();
    fs::write(&path, "{}").unwrap();
    let refused = sandbox.run(&["inspect", "datasette"]);
    assert!(
        refused.stderr.contains("was not written by this command; name another file with --out"),
        "{refused:?}"
    );
    let other = sandbox.run(&["inspect", "datasette", "--out", "my file.json"]).success();
    assert!(other.contains("--metadata 'my file.json'"), "{other}");
}
