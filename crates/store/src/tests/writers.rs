//! Of two writers one goes on; and what is stored can be outlined without writing.

use super::drive::finished;
use super::*;

#[test]
fn the_first_to_commit_goes_on_and_the_other_never_does() {
    block_on(async {
        let (dir, first, run) = store().await;
        let second = Store::open(&dir.path().join("run.db")).await.unwrap();
        let trees: Vec<_> = (0..4).map(|n| chain(Purpose::Rollout, 1, n, 5)).collect();
        let put = async |store: &Store, n: usize| {
            store
                .write(run, 1, async |unit| {
                    unit.put_trees(Purpose::Rollout, "p0", std::slice::from_ref(&trees[n])).await
                })
                .await
        };
        // A unit that isn't committed is none.
        second.write(run, 1, async |_| -> Result<()> { anyhow::bail!("stopped") }).await.unwrap_err();
        put(&second, 0).await.unwrap();
        for n in [1, 2] {
            let error = put(&first, n).await.unwrap_err().to_string();
            assert!(error.contains("another process has written") && error.contains("run.db"), "{error}");
        }
        put(&second, 1).await.unwrap();
        assert_eq!(first.tree_keys(run, 1, Purpose::Rollout).await.unwrap().len(), 2);
    });
}

#[test]
fn who_holds_the_run_is_asked_before_each_write() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let before = store.digest().await.unwrap();
        let lose = async |_: &mut Unit| {
            store.hold(|| anyhow::bail!("no longer"));
            Ok(())
        };
        let alarm = drive::alarm(AlarmRule::Memory, None);
        let errors = [
            store.write(run, 1, lose).await.err(),
            store.write(run, 1, async |_| Ok(())).await.err(),
            store.put_alarm(run, None, None, &alarm, NOW).await.err(),
            store.put_event(Some(run), "info", "x", NOW).await.err(),
            store.set_run_state(run, RunState::Done, None, NOW).await.err(),
            store.set_run_iterations(run, 9).await.err(),
            store.forget_checkpoint(1, "x").await.err(),
            store.begin_run(&new_run(Arm::Oracle)).await.err(),
            store.put_tasks(&[task(9, Split::Train)]).await.err(),
        ];
        for error in errors {
            assert_eq!(error.unwrap().to_string(), "no longer");
        }
        assert_eq!(store.digest().await.unwrap(), before);
    });
}

#[cfg(unix)]
#[test]
fn a_replaced_file_is_not_written_to() {
    block_on(async {
        let (dir, store, run) = store().await;
        let path = dir.path().join("run.db");
        std::fs::rename(&path, dir.path().join("moved.db")).unwrap();
        let error = store.write(run, 1, async |_| Ok(())).await.err().unwrap().to_string();
        assert!(error.contains("run.db") && error.contains("replaced"), "{error}");
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        let error = store.put_event(Some(run), "info", "x", NOW).await.unwrap_err().to_string();
        assert!(error.contains("replaced"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    });
}

#[test]
fn an_outline_names_every_checkpoint_and_how_far_each_run_came() {
    block_on(async {
        let (dir, path) = finished().await;
        let store = Store::open(&path).await.unwrap();
        let rows = store.checkpoints(1).await.unwrap();
        let seen = outline(&path).await.unwrap();
        assert_eq!(seen.runs[0].arm, Arm::Reward);
        assert_eq!(seen.runs[0].done, store.done_phases(1).await.unwrap());
        let trained = rows.iter().filter(|c| c.row.kind == CheckpointKind::Candidate).map(|c| c.iteration);
        assert_eq!(Some(seen.runs[0].trained), trained.max());
        let paths: Vec<&str> = rows.iter().map(|c| c.row.path.as_str()).collect();
        assert_eq!(seen.checkpoints.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), paths);
        store.forget_checkpoint(rows[0].id, "retention").await.unwrap();
        assert!(outline(&path).await.unwrap().checkpoints[0].removed);

        // Of nothing there is an empty one, and nothing is made.
        let absent = dir.path().join("absent.db");
        assert_eq!(outline(&absent).await.unwrap(), Outline::default());
        assert!(!absent.exists());
        std::fs::write(&absent, "").unwrap();
        assert_eq!(outline(&absent).await.unwrap(), Outline::default());
        assert_eq!(std::fs::read(&absent).unwrap(), b"");
        std::fs::write(&absent, "this is a diary".repeat(100)).unwrap();
        assert!(outline(&absent).await.unwrap_err().to_string().contains("absent.db"));
    });
}
