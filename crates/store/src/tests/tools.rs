//! What other tools find in the file: views for joins, and full-text indexes.

use sqlx::{AssertSqlSafe, Row};

use super::drive::finished;
use super::*;

#[test]
fn a_row_of_trajectory_text_has_what_joins_need() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let rows = sqlx::query("SELECT * FROM trajectory_text").fetch_all(&reader.pool).await.unwrap();
        assert_eq!(rows.len(), 16 + 2 * 12 + 1);
        for row in &rows {
            let detail = reader.trajectory(row.get("id")).await.unwrap().unwrap();
            assert_eq!(row.get::<i64, _>("tree_id"), detail.tree.tree_row);
            assert_eq!(row.get::<String, _>("arm"), "reward");
            assert_eq!(row.get::<String, _>("split"), detail.task.split.name());
            assert_eq!(row.get::<u32, _>("level"), detail.task.level);
            assert_eq!(row.get::<String, _>("policy"), detail.tree.policy_hash);
            let verdict = detail.selections.last().map(|(_, _, selection)| selection);
            assert_eq!(row.get::<Option<bool>, _>("kept"), verdict.map(|v| v.reason.is_kept()));
            assert_eq!(row.get::<Option<u32>, _>("rank"), verdict.and_then(|v| v.rank));
            let answer = &detail.tree.tree.leaves[detail.leaf].answer;
            assert_eq!(row.get::<Option<bool>, _>("right"), Some(*answer == detail.task.answer));
        }
    });
}

/// Only what text decides: where the program compares values, a difference decides nothing.
#[test]
fn an_answer_is_right_or_wrong_where_text_decides() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let cases = [
            (TaskKind::Relations, Some("7"), Some("7"), Some(true)),
            (TaskKind::Relations, Some("7"), Some("8"), Some(false)),
            (TaskKind::Relations, Some("7"), None, Some(false)),
            (TaskKind::Relations, None, Some("7"), None),
            (TaskKind::Number, Some("70"), Some("7"), Some(false)),
            (TaskKind::Number, Some("7,000"), Some("7000"), None),
            (TaskKind::Math, Some("1/2"), Some("0.5"), None),
            (TaskKind::Math, Some("1/2"), Some("1/2"), Some(true)),
            (TaskKind::Game24, Some("(1+2)*8"), Some("8*3"), None),
            (TaskKind::Code, Some("x"), None, None),
        ];
        let tasks = cases.iter().zip(0..).map(|((kind, gold, _, _), n)| Task {
            id: format!("case/{n:06}"),
            kind: *kind,
            answer: gold.map(str::to_owned),
            ..task(0, Split::Train)
        });
        let tasks: Vec<Task> = tasks.collect();
        store.put_tasks(&tasks).await.unwrap();
        let trees: Vec<Tree> = cases
            .iter()
            .zip(&tasks)
            .map(|((_, _, answer, _), task)| {
                let mut tree = chain(Purpose::Rollout, 1, 0, 1);
                tree.address = Address::new(7, Purpose::Rollout, 1, &task.id, &[0]);
                tree.task_id = task.id.clone();
                tree.leaves[0].answer = answer.map(str::to_owned);
                tree
            })
            .collect();
        store.write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &trees).await).await.unwrap();
        let found: Vec<Option<bool>> =
            sqlx::query_scalar("SELECT \"right\" FROM trajectory_text ORDER BY id")
                .fetch_all(&store.pool)
                .await
                .unwrap();
        assert_eq!(found, cases.map(|(_, _, _, right)| right));
    });
}

#[test]
fn a_column_per_scorer() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let rows = sqlx::query("SELECT * FROM trajectory_scores").fetch_all(&reader.pool).await.unwrap();
        assert_eq!(rows.len(), 16, "the scored ones only");
        for row in &rows {
            let detail = reader.trajectory(row.get("id")).await.unwrap().unwrap();
            for scorer in ScorerName::BUILT_IN {
                let latest = detail.scores.iter().rev().find(|s| s.score.scorer == scorer);
                let latest = latest.and_then(|s| s.score.value.ok());
                let found: Option<f64> = row.get(scorer.as_str());
                assert_eq!(found.is_some(), latest.is_some(), "{scorer}");
                let distance = found.unwrap_or(0.0) - latest.unwrap_or(0.0);
                assert!(distance.abs() < 1e-6, "{scorer}: rounded");
            }
        }
    });
}

#[test]
fn a_line_of_a_tree_is_one_line() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let mut tree = bushy(1, 3);
        tree.thoughts[1].text = "\nfirst\r\nsecond\n".into();
        store
            .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &[tree]).await)
            .await
            .unwrap();
        let line: String = sqlx::query_scalar("SELECT line FROM trajectory_tree WHERE ordinal = 1")
            .fetch_one(&store.pool)
            .await
            .unwrap();
        assert_eq!(line, "  first ⏎ second");
    });
}

/// As datasette and sqlite-utils look for it.
#[test]
fn other_tools_find_the_full_text_indexes() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        for (table, word) in [("tasks", "apples"), ("tree_document", "chain")] {
            let index: String = sqlx::query_scalar(
                "SELECT name FROM sqlite_master WHERE rootpage = 0 AND sql LIKE '%VIRTUAL TABLE%USING FTS%content=\"' || ?1 || '\"%'",
            )
            .bind(table)
            .fetch_one(&reader.pool)
            .await
            .unwrap();
            let joined = format!(
                "SELECT count(*) FROM {table} WHERE rowid IN (SELECT rowid FROM {index} WHERE {index} MATCH ?1)"
            );
            let found: i64 =
                sqlx::query_scalar(AssertSqlSafe(joined)).bind(word).fetch_one(&reader.pool).await.unwrap();
            assert!(found > 0, "{table}");
        }
    });
}

/// What is written later is indexed like what a migration found.
#[test]
fn indexes_are_whole() {
    block_on(async {
        let (_dir, path) = finished().await;
        let store = Store::open(&path).await.unwrap();
        for index in ["tree_search", "task_search"] {
            let check = format!("INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)");
            sqlx::query(AssertSqlSafe(check)).execute(&store.writer).await.unwrap();
        }
    });
}
