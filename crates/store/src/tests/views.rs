//! The views and the inspector's queries.

use sqlx::Row;

use super::drive::finished;
use super::*;

#[test]
fn every_table_and_column_is_explained() {
    let ground = include_str!("../../../../migrations/0001_ground_state.sql");
    let views = [
        include_str!("../../../../migrations/0002_views_and_search.sql"),
        include_str!("../../../../migrations/0004_views_for_tools.sql"),
        include_str!("../../../../migrations/0005_plans_and_sessions.sql"),
    ];
    let later = include_str!("../../../../migrations/0003_specs_losses_alarms.sql");
    let mut inside = false;
    for (line, before) in [ground, later].iter().flat_map(|sql| sql.lines().skip(1).zip(sql.lines())) {
        if line.starts_with("CREATE TABLE") {
            assert!(before.starts_with("--"), "{line}");
        }
        inside = line.starts_with("CREATE TABLE") || (inside && !line.starts_with(')'));
        let is_column =
            inside && line.starts_with("    ") && line.trim().starts_with(|c: char| c.is_ascii_lowercase());
        assert!(!is_column || line.contains(" -- "), "no comment: {line}");
        // Within the statement, so that SQLite keeps it in the schema.
        assert!(!before.contains("ADD COLUMN") || line.ends_with(" */;"), "no comment: {line}");
    }
    for (line, before) in views.iter().flat_map(|sql| sql.lines().skip(1).zip(sql.lines())) {
        assert!(
            !line.starts_with("CREATE V") || before.starts_with("--") || before.starts_with("CREATE V"),
            "{line}"
        );
    }
}

#[test]
fn trajectory_text() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        for stored in reader.trees(1, 1, Purpose::Rollout).await.unwrap() {
            for (id, leaf) in stored.trajectory_ids.iter().zip(&stored.tree.leaves) {
                let row = sqlx::query("SELECT * FROM trajectory_text WHERE id = ?1")
                    .bind(id)
                    .fetch_one(&reader.pool)
                    .await
                    .unwrap();
                assert_eq!(row.get::<String, _>("text"), stored.tree.completion_text(leaf));
                assert_eq!(row.get::<Option<String>, _>("answer"), leaf.answer);
                let task = reader.task(&stored.tree.task_id).await.unwrap().unwrap();
                let question = stored.tree.variant.as_ref().map_or(&task.question, |v| &v.question);
                assert_eq!(&row.get::<String, _>("question"), question);
                let detail = reader.trajectory(*id).await.unwrap().unwrap();
                let reward =
                    detail.scores.iter().rev().find(|s| s.score.scorer == ScorerName::REWARD).unwrap();
                assert_eq!(row.get::<Option<f64>, _>("reward"), reward.score.value.ok());
                assert_eq!(row.get::<String, _>("reason"), detail.selections[0].2.reason.name());
            }
        }
    });
}

#[test]
fn trajectory_tree() {
    block_on(async {
        let (_dir, store, run) = store().await;
        store
            .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &[bushy(1, 3)]).await)
            .await
            .unwrap();
        let rows = sqlx::query("SELECT * FROM trajectory_tree WHERE tree_id = 1 ORDER BY ordinal");
        let rows = rows.fetch_all(&store.pool).await.unwrap();
        let depths: Vec<i64> = rows.iter().map(|row| row.get("depth")).collect();
        assert_eq!(depths, [0, 1, 1, 2, 2, 2]);
        assert!(rows[4].get::<String, _>("line").starts_with("    Step 4"));
        assert_eq!(rows[4].get::<String, _>("pruned"), "beam");
        assert_eq!(
            (rows[3].get::<i64, _>("trajectory"), rows[3].get::<String, _>("answer")),
            (1, "42".into())
        );
        assert_eq!(rows[1].get::<f64, _>("value"), 0.242857, "rounded");
    });
}

#[test]
fn iteration_summaries() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let [zero, one] = &reader.iteration_summaries(1).await.unwrap()[..] else { panic!() };
        assert_eq!((zero.trees, zero.steps, zero.promoted, zero.heldout_pass1), (0, 0, None, Some(0.25)));
        assert_eq!((one.trees, one.trajectories), (12, 16));
        assert_eq!((one.kept, one.steps, one.loss_last), (8, 2, Some(0.5)));
        assert_eq!((one.promoted, one.gain_points, one.heldout_pass1), (Some(true), Some(25.0), Some(0.5)));
        assert_eq!((one.critic_auc, one.seconds), (Some(0.875), 7.0 * 1.5));
        let rewards: Vec<f64> = reader
            .scores(1, 1)
            .await
            .unwrap()
            .iter()
            .filter_map(|(_, s)| s.value.ok().filter(|_| s.scorer == ScorerName::REWARD))
            .collect();
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        assert!((one.reward_mean.unwrap() - mean).abs() < 1e-6, "rounded");
    });
}

#[test]
fn lists_and_search() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let list = async |filter: TrajectoryFilter| {
            let found = reader.trajectories(&filter, Window::first(1000)).await.unwrap();
            assert!(found.rows.is_sorted_by_key(|l| l.id) && found.next.is_none());
            assert_eq!(reader.trajectory_count(&filter).await.unwrap(), found.rows.len() as u64);
            found.rows
        };
        let all = list(TrajectoryFilter::default()).await;
        assert_eq!(all.len(), 16 + 2 * 12 + 1);
        let rollout = TrajectoryFilter {
            run: Some(1),
            iteration: Some(1),
            purpose: Some(Purpose::Rollout),
            ..Default::default()
        };
        assert_eq!(list(rollout.clone()).await.len(), 16);
        let kept = list(TrajectoryFilter { kept: Some(true), ..Default::default() }).await;
        assert_eq!(kept.len(), 8);
        assert!(kept.iter().all(|l| l.reason == Some(SelectionReason::Kept) && l.reward.is_some()));
        assert_eq!(list(TrajectoryFilter { kept: Some(false), ..rollout.clone() }).await.len(), 8);
        let of_task = TrajectoryFilter { task_id: Some(task(1, Split::Train).id), ..rollout.clone() };
        assert!(
            list(of_task)
                .await
                .iter()
                .all(|l| l.task_id.ends_with("000001") && l.gold.as_deref() == Some("1"))
        );

        let search = async |words: &str| {
            list(TrajectoryFilter { search: Some(words.into()), ..rollout.clone() }).await
        };
        // Punctuation separates words, whatever it means to FTS5.
        assert_eq!(search("\"chain 7\" -Step*").await, search("chain 7 step").await);
        let found = search("chain 15").await;
        // One trajectory has 15 in its thoughts; the other has it as its answer.
        let tasks: Vec<&str> = found.iter().map(|l| &l.task_id[l.task_id.len() - 6..]).collect();
        assert_eq!(tasks, ["000002", "000003"]);
        assert_eq!(search("42").await.len(), 6, "answers, by tree");
        // The question of a task finds every attempt at it.
        let asked = search("3 more apples than Bert").await;
        assert_eq!(asked.len(), rollout_of(&reader, 3).await);
        assert!(search("nowhere").await.is_empty() && search(" ").await.is_empty());
        assert!(search("AND OR NOT ( * \" ^ : NEAR").await.is_empty(), "no syntax error");
        let heldout = TrajectoryFilter { split: Some(Split::HeldOut), ..Default::default() };
        assert!(list(heldout).await.is_empty());
        let train = TrajectoryFilter { split: Some(Split::Train), ..rollout.clone() };
        assert_eq!(list(train).await.len(), 16);
    });
}

#[test]
fn lists_come_in_windows() {
    block_on(async {
        let (_dir, path) = finished().await;
        let reader = Reader::open(&path).await.unwrap();
        let filter = TrajectoryFilter { kept: Some(true), ..Default::default() };
        let all = reader.trajectories(&filter, Window::first(CHUNK_ROWS_MAX)).await.unwrap().rows;
        assert_eq!(all.len(), 8);
        for limit in [1, 3, 4, 7, 8] {
            let (mut found, mut window) = (Vec::new(), Window::first(limit));
            loop {
                let chunk = reader.trajectories(&filter, window).await.unwrap();
                assert!(chunk.rows.len() <= limit as usize);
                found.extend(chunk.rows);
                match chunk.next {
                    Some(last) => window.after = Some(last),
                    None => break,
                }
            }
            assert_eq!(found, all, "in windows of {limit}");
        }
        let none = Window { after: Some(all[7].id), limit: 5 };
        assert_eq!(reader.trajectories(&filter, none).await.unwrap(), Chunk { rows: Vec::new(), next: None });
        for (limit, complaint) in [(0, "at least one row"), (CHUNK_ROWS_MAX + 1, "at most 10000")] {
            let error = reader.trajectories(&filter, Window::first(limit)).await.unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
            let error = reader.runs_within(Window::first(limit)).await.unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    });
}

#[test]
fn runs_come_in_windows_and_by_what_they_control() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let control = |arm| NewRun { of_run: Some(run), ..new_run(arm) };
        for arm in [Arm::Random, Arm::Oracle] {
            store.begin_run(&control(arm)).await.unwrap();
        }
        let ids = |runs: &[Run]| runs.iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(store.run_count().await.unwrap(), 3);
        let first = store.runs_within(Window::first(2)).await.unwrap();
        assert_eq!((ids(&first.rows), first.next), (vec![1, 2], Some(2)));
        let last = store.runs_within(Window { after: first.next, limit: 2 }).await.unwrap();
        assert_eq!((ids(&last.rows), last.next), (vec![3], None));
        assert_eq!(ids(&store.controls(run).await.unwrap()), [2, 3]);
        assert!(store.controls(2).await.unwrap().is_empty());
    });
}

#[test]
fn tasks_are_found_by_their_ids() {
    block_on(async {
        let (_dir, store, _) = store().await;
        let wanted = [task(1, Split::Train), task(0, Split::HeldOut)];
        let ids = wanted.iter().map(|task| task.id.as_str()).chain(["nowhere"]);
        let found = store.tasks_by_id(ids).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(wanted.iter().all(|task| found.get(&task.id) == Some(task)));
    });
}

async fn rollout_of(reader: &Reader, n: u32) -> usize {
    let trees = reader.trees(1, 1, Purpose::Rollout).await.unwrap();
    trees.iter().filter(|t| t.tree.task_id == task(n, Split::Train).id).map(|t| t.trajectory_ids.len()).sum()
}

#[test]
fn readers_see_commits_while_a_run_writes() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let reader = Reader::open(store.path()).await.unwrap();
        let count = async || reader.tree_keys(run, 1, Purpose::Rollout).await.unwrap().len();
        let trees: Vec<_> = (0..20).map(|n| chain(Purpose::Rollout, 1, n, 5)).collect();
        let put = async |unit: &mut Unit| {
            unit.put_trees(Purpose::Rollout, "p0", &trees).await?;
            assert_eq!(count().await, 0, "not committed yet");
            reader.digest().await
        };
        let digest = store.write(run, 1, put).await.unwrap();
        assert_eq!(count().await, 20);
        assert_ne!(reader.digest().await.unwrap(), digest);
        // Many readings at once, and verification of a store that is open.
        let (one, two) = (reader.clone(), reader.clone());
        let a = tokio::spawn(async move { one.trees(run, 1, Purpose::Rollout).await });
        let b = tokio::spawn(async move { two.iteration_summaries(run).await });
        let c = verify(store.path(), Path::new(".")).await;
        assert_eq!((a.await.unwrap().unwrap().len(), b.await.unwrap().unwrap().len()), (20, 1));
        assert_eq!(c.unwrap().problems, Vec::<String>::new());
    });
}

#[test]
fn queries_stay_quick() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let trees: Vec<_> = (0..3000).map(|n| chain(Purpose::Rollout, 1, n, 3)).collect();
        store.write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &trees).await).await.unwrap();
        // Generous: a missing index would cost a hundred times more on a loaded machine.
        let started = std::time::Instant::now();
        for id in 1..50 {
            store.trajectory(id * 50).await.unwrap().unwrap();
            sqlx::query("SELECT text FROM trajectory_text WHERE id = ?1")
                .bind(id)
                .fetch_one(&store.pool)
                .await
                .unwrap();
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    });
}
