//! Stopping anywhere leaves a legal state, and resuming ends in the same rows.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::drive::{Columns, drive, finished};
use super::*;

/// The digests a run may legally have: one per commit.
async fn legal(columns: Columns) -> (BTreeSet<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("run.db")).await.unwrap();
    let mut digests = BTreeSet::from([store.digest().await.unwrap()]);
    drive(&store, dir.path(), columns, async |store| {
        digests.insert(store.digest().await?);
        Ok(())
    })
    .await
    .unwrap();
    let last = store.digest().await.unwrap();
    (digests, last)
}

#[test]
fn the_digest_does_not_depend_on_interruptions() {
    block_on(async {
        let (_, last) = legal(Columns::All).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        let mut sessions = 0;
        loop {
            sessions += 1;
            let store = Store::open(&path).await.unwrap();
            let mut commits = 0;
            let result = drive(&store, dir.path(), Columns::All, async |_| {
                commits += 1;
                ensure!(commits <= sessions, "stopped");
                Ok(())
            })
            .await;
            drop(store);
            if result.is_ok() {
                break;
            }
            assert!(sessions < 100, "never ends: {result:?}");
        }
        assert!(sessions > 5);
        let reader = Reader::open(&path).await.unwrap();
        assert_eq!(reader.digest().await.unwrap(), last);
        assert_eq!(reader.alarms(1).await.unwrap().len(), 2, "a phase that resumes repeats no alarm");
        assert_eq!(verify(&path, dir.path()).await.unwrap().problems, Vec::<String>::new());
    });
}

/// What `autodidact verify` of commit 46a2ea4 (schema version 2) printed for a store that [`drive`]
/// had written.
const DIGEST_OF_SCHEMA_2: &str = "dbcdd36145c8d903e5956b171b9d0252bc7be57a48db3eb2ec281ede1204c5d5";

#[test]
fn the_digest_is_that_of_earlier_builds() {
    block_on(async { assert_eq!(legal(Columns::OfSchema2).await.1, DIGEST_OF_SCHEMA_2) });
}

#[test]
fn a_full_disk_anywhere_in_a_unit_leaves_nothing_of_it() {
    block_on(async {
        let (dir, store, run) = store().await;
        let before = store.digest().await.unwrap();
        let trees: Vec<_> = (0..40).map(|n| chain(Purpose::Rollout, 1, n, 15)).collect();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
        let mut failures = 0;
        for room in (0..400).step_by(7) {
            let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + room));
            sqlx::query(sql).execute(&store.writer).await.unwrap();
            match store.write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &trees).await).await
            {
                Ok(_) => break,
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(text.contains("full") && text.contains("Free space"), "{text}");
                    assert_eq!(store.digest().await.unwrap(), before);
                    assert!(store.tree_keys(run, 1, Purpose::Rollout).await.unwrap().is_empty());
                    failures += 1;
                }
            }
        }
        assert!(failures > 3, "only {failures} places were tried");
        assert_eq!(store.trees(run, 1, Purpose::Rollout).await.unwrap().len(), 40);
        assert_eq!(verify(&store.path, dir.path()).await.unwrap().problems, Vec::<String>::new());
    });
}

#[test]
fn a_unit_that_fails_leaves_nothing() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let before = store.digest().await.unwrap();
        let tree = chain(Purpose::Rollout, 1, 0, 3);
        let put = async |unit: &mut Unit| -> Result<()> {
            unit.put_trees(Purpose::Rollout, "p0", std::slice::from_ref(&tree)).await?;
            unit.finish_phase(Phase::Rollout, 1.0, "").await?;
            anyhow::bail!("stopped")
        };
        assert_eq!(store.write(run, 1, put).await.unwrap_err().to_string(), "stopped");
        assert_eq!(store.digest().await.unwrap(), before);
        assert!(store.done_phases(run).await.unwrap().is_empty());
        store
            .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &[tree]).await)
            .await
            .unwrap();
        assert_eq!(store.trees(run, 1, Purpose::Rollout).await.unwrap().len(), 1);
    });
}

const CHILD: &str = "tests::crash::child";
const CHILD_FOLDER: &str = "AUTODIDACT_TEST_STORE_CHILD";

/// Not a test: the process that the next test starts and kills.
#[test]
#[ignore = "run by kill_nine_anywhere"]
fn child() {
    let dir = PathBuf::from(std::env::var(CHILD_FOLDER).unwrap());
    block_on(async {
        let store = Store::open(&dir.join("run.db")).await.unwrap();
        drive(&store, &dir, Columns::All, async |_| {
            println!("commit");
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn kill_nine_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (legal, last) = block_on(legal(Columns::All));
    let (mut kills, mut delay) = (0, Duration::from_millis(2));
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", CHILD])
            .env(CHILD_FOLDER, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        let done = child.try_wait().unwrap();
        if done.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        if path.exists() {
            block_on(async {
                // The inspector after the crash, before anything was repaired.
                if let Ok(reader) = Reader::open(&path).await {
                    let digest = reader.digest().await.unwrap();
                    assert!(legal.contains(&digest), "an illegal state is read after {kills} kills");
                    reader.close().await.unwrap();
                }
                let store = Store::open(&path).await.unwrap();
                let digest = store.digest().await.unwrap();
                assert!(legal.contains(&digest), "an illegal state after {kills} kills");
                store.close().await.unwrap();
                let report = verify(&path, dir.path()).await.unwrap();
                assert_eq!(report.problems, Vec::<String>::new(), "after {kills} kills");
            });
        }
        if let Some(status) = done {
            assert!(status.success());
            break;
        }
        delay += Duration::from_millis(3);
        assert!(kills < 300);
    }
    assert!(kills > 3, "the child was never caught at work");
    let digest = block_on(async { Reader::open(&path).await.unwrap().digest().await.unwrap() });
    assert_eq!(digest, last);
}

#[test]
fn verification_accepts_a_finished_run() {
    block_on(async {
        let (dir, path) = finished().await;
        let report = verify(&path, dir.path()).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        assert!(report.ok && report.digest.len() == 64);
    });
}
