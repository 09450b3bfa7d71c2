//! Files that can't be used: each error states what happened and what to do.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::drive::finished;
use super::*;

async fn execute(path: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

/// The errors of both doors, which must name the file.
async fn errors(path: &Path) -> [String; 2] {
    let [store, reader] =
        [Store::open(path).await.err(), Reader::open(path).await.err()].map(|e| format!("{:#}", e.unwrap()));
    assert!(store.contains(&*path.to_string_lossy()), "{store}");
    assert!(reader.contains(&*path.to_string_lossy()), "{reader}");
    [store, reader]
}

#[test]
fn another_schema() {
    block_on(async {
        let (_dir, path) = finished().await;
        execute(&path, "PRAGMA user_version = 99").await;
        for error in errors(&path).await {
            let newer = format!("version 99, newer than this program's {}", schema_version());
            assert!(error.contains(&newer), "{error}");
        }
        execute(&path, "PRAGMA user_version = 1").await;
        let error = Reader::open(&path).await.err().unwrap().to_string();
        assert!(error.contains("older") && error.contains("autodidact run"), "{error}");
        let config = config_of_run(&path, Arm::Reward).await.unwrap();
        assert!(config.is_some(), "a run that brings it up to date reads how it began");
        std::fs::write(&path, "").unwrap();
        assert_eq!(config_of_run(&path, Arm::Reward).await.unwrap(), None, "cut off before the first table");
    });
}

#[test]
fn not_ours() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        for (bytes, text) in [(5000, "not a SQLite database"), (100, "has only 100 bytes")] {
            std::fs::write(&path, "x".repeat(bytes)).unwrap();
            for error in errors(&path).await {
                assert!(error.contains(text) && error.contains("move"), "{error}");
            }
            assert_eq!(std::fs::read(&path).unwrap().len(), bytes, "left as it was");
        }
        std::fs::remove_file(&path).unwrap();
        execute(&path, "CREATE TABLE notes (text TEXT)").await;
        let before = std::fs::read(&path).unwrap();
        for error in errors(&path).await {
            assert!(error.contains("another program's database"), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "left as it was");
    });
}

#[test]
fn nothing_there() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        let error = Reader::open(&path).await.err().unwrap().to_string();
        assert!(error.contains("no trajectory store") && !path.exists(), "{error}");
        let error = verify(&path, dir.path()).await.err().unwrap().to_string();
        assert!(error.contains("no trajectory store"), "{error}");
        let error = Store::open(&dir.path().join("a/b.db")).await.err().unwrap().to_string();
        assert!(error.contains("doesn't exist; create it"), "{error}");
        let error = Store::open(dir.path()).await.err().unwrap().to_string();
        assert!(error.contains("is not a file"), "{error}");

        // A crash at creation leaves an empty file, which the same command fills.
        std::fs::write(&path, "").unwrap();
        let error = Reader::open(&path).await.err().unwrap().to_string();
        assert!(error.contains("is empty") && error.contains("start a run"), "{error}");
        Store::open(&path).await.unwrap().close().await.unwrap();
        Reader::open(&path).await.unwrap();
    });
}

#[test]
fn a_damaged_file() {
    block_on(async {
        let (_dir, path) = finished().await;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100..4096].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        for error in errors(&path).await {
            assert!(error.contains("damaged") && error.contains("copy"), "{error}");
        }
        let (_dir, path) = finished().await;
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = match Reader::open(&path).await {
            Ok(reader) => reader.digest().await.err().unwrap(),
            Err(error) => error,
        };
        assert!(format!("{error:#}").contains("malformed"), "{error:#}");
    });
}

/// Root can write to any folder but such a one.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_may_not_be_written() {
    block_on(async {
        let error = Store::open(Path::new("/proc/autodidact-run.db")).await.err().unwrap().to_string();
        assert!(error.contains("can't be opened") && error.contains("folder"), "{error}");
    });
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    block_on(async {
        let (dir, path) = finished().await;
        let digest = Reader::open(&path).await.unwrap().digest().await.unwrap();
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&path, 0o444);
        mode(dir.path(), 0o555);
        let reader = Reader::open(&path).await.unwrap();
        assert_eq!(reader.digest().await.unwrap(), digest);
        // Root may write regardless.
        let writable = std::fs::write(dir.path().join("probe"), "").is_ok();
        if !writable {
            let error = Store::open(&path).await.err().unwrap().to_string();
            assert!(error.contains("may only be read") && error.contains("permission"), "{error}");
        }
        mode(dir.path(), 0o755);
    });
}

#[test]
fn what_may_not_be_stored() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let before = store.digest().await.unwrap();
        let good = chain(Purpose::Rollout, 1, 0, 3);
        let put = async |tree: Tree| {
            store
                .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &[tree]).await)
                .await
                .map_err(|e| format!("{e:#}"))
                .unwrap_err()
        };
        let mut tree = good.clone();
        tree.thoughts[1].logprobs.pop();
        assert!(put(tree).await.contains("thought 1 has 10 token ids but 9"));
        let mut tree = good.clone();
        tree.thoughts[1].parent = Some(1);
        assert!(put(tree).await.contains("parent 1"));
        let mut tree = good.clone();
        tree.thoughts[1].value = Some(f32::NAN);
        assert!(put(tree).await.contains("NaN"));
        let mut tree = good.clone();
        tree.leaves[0].thought = 3;
        assert!(put(tree).await.contains("leaf 0 ends at thought 3 of 3"));
        let mut tree = good.clone();
        tree.leaves.clear();
        assert!(put(tree).await.contains("no leaf"));
        let mut tree = good.clone();
        tree.task_id = "nobody".into();
        assert!(put(tree).await.contains("isn't stored"));
        let error = store
            .write(run, 1, async |unit| {
                unit.put_trees(Purpose::Rollout, "p0", &[good.clone(), good.clone()]).await
            })
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&good.address.to_string()) && error.contains("twice"), "{error}");

        let scores = [(99, Score::new(ScorerName::HEAD, 0.5))];
        let error = store
            .write(run, 1, async |unit| unit.put_scores("h", &scores).await)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("isn't stored"), "{error}");
        let nan = [(1, Score { scorer: ScorerName::HEAD, value: Ok(f64::NAN) })];
        let error =
            store.write(run, 1, async |unit| unit.put_scores("h", &nan).await).await.unwrap_err().to_string();
        assert!(error.contains("the head score of trajectory 1 is NaN"), "{error}");
        let error = store
            .write(run + 5, 1, async |unit| unit.finish_phase(Phase::Train, 1.0, "").await)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("run {}", run + 5)), "{error}");
        assert_eq!(store.digest().await.unwrap(), before, "nothing half-written");
    });
}

#[test]
fn nothing_is_stored_twice() {
    block_on(async {
        let (dir, path) = finished().await;
        let store = Store::open(&path).await.unwrap();
        let before = store.digest().await.unwrap();
        let tree = chain(Purpose::Rollout, 1, 0, 5);
        let errors = [
            store
                .write(1, 1, async |unit| {
                    unit.put_trees(Purpose::Rollout, "p0", std::slice::from_ref(&tree)).await
                })
                .await
                .err(),
            store
                .write(1, 1, async |unit| {
                    unit.put_scores("h1", &[(20, Score::new(ScorerName::HEAD, 0.5))]).await
                })
                .await
                .err(),
            store
                .write(1, 1, async |unit| {
                    unit.put_selections(&[Selection::new(20, None, SelectionReason::Kept)]).await
                })
                .await
                .err(),
            store
                .write(1, 1, async |unit| unit.put_steps(&[StepRow { step: 2, ..StepRow::default() }]).await)
                .await
                .err(),
            store
                .write(1, 1, async |unit| unit.put_critic(CriticStage::Annotated, &drive::critic("h")).await)
                .await
                .err(),
            store
                .write(1, 0, async |unit| unit.put_evaluations(&[drive::evaluation("p0", None)]).await)
                .await
                .err(),
            store.write(1, 1, async |unit| unit.put_promotion(&drive::promotion()).await).await.err(),
            store
                .write(1, 1, async |unit| unit.put_parity(&ParityRow { max_abs_diff: 0.0, tokens: 0 }).await)
                .await
                .err(),
            store.write(1, 1, async |unit| unit.finish_phase(Phase::Train, 0.0, "").await).await.err(),
        ];
        for error in errors {
            let error = error.unwrap().to_string();
            assert!(
                error.contains("already stored") && error.contains("1, iteration")
                    || error.contains("already stored; ask"),
                "{error}"
            );
        }
        let error = store
            .write(1, 1, async |unit| {
                unit.put_trees(Purpose::Rollout, "p0", std::slice::from_ref(&tree)).await
            })
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&tree.address.to_string()), "{error}");
        // Another scorer may score again.
        assert_eq!(store.digest().await.unwrap(), before);
        store
            .write(1, 1, async |unit| unit.put_scores("h2", &[(20, Score::new(ScorerName::HEAD, 0.5))]).await)
            .await
            .unwrap();
        store.close().await.unwrap();
        assert_eq!(verify(&path, dir.path()).await.unwrap().problems, Vec::<String>::new());
    });
}
