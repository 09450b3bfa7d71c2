//! Nothing is lost: what a run does when its store, its lock or its neighbours in the folder are
//! not what they should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::crash::{small, verified};
use crate::sandbox::{Outcome, Sandbox};

const RUN: &str = "autodidact-run";

/// A run of small iterations; their number is one more setting.
fn run_of(iterations: &str) -> Vec<&str> {
    let mut args = small(&["run", "--policy", "scripted"]);
    // The last of two values counts.
    args.extend(["--set", iterations]);
    args
}

/// A run that outlasts every test.
fn endless() -> Vec<&'static str> {
    run_of("run.iterations=1000")
}

fn checkpoints(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join(RUN).join("checkpoints")
}

/// Every file below `dir` with the hash of its bytes, and every folder. Left out is what SQLite puts
/// next to a store when it is read, and which process had the lock.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in dir.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(snapshot(&path));
            found.insert(path, String::new());
        } else if !path.extension().is_some_and(|e| e == "sqlite-wal" || e == "sqlite-shm") {
            let bytes = if path.ends_with("lock") { Vec::new() } else { fs::read(&path).unwrap() };
            found.insert(path, blake3::hash(&bytes).to_hex().to_string());
        }
    }
    found
}

fn refused(outcome: Outcome, parts: &[&str]) {
    assert_eq!(outcome.code, Some(1), "stdout:\n{}\nstderr:\n{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
    }
}

fn forget_store(sandbox: &Sandbox) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.path().join(RUN).join(format!("store.sqlite{suffix}")));
    }
}

/// A folder with a file in it, as a checkpoint would look.
fn put(sandbox: &Sandbox, name: &str) -> PathBuf {
    let folder = checkpoints(sandbox).join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("weights"), "bytes").unwrap();
    folder
}

#[test]
fn a_missing_or_empty_store_costs_no_checkpoint() {
    let sandbox = Sandbox::new();
    sandbox.run(&run_of("run.iterations=1")).success();
    let store = sandbox.path().join(RUN).join("store.sqlite");
    forget_store(&sandbox);
    let before = snapshot(&sandbox.path().join(RUN));
    assert!(before.len() > 3, "{before:?}");
    refused(sandbox.run(&run_of("run.iterations=1")), &["reward-1-", "store.sqlite", "Put", "run.dir"]);
    refused(sandbox.run(&["gc", "--yes"]), &["store.sqlite"]);
    assert_eq!(snapshot(&sandbox.path().join(RUN)), before);
    fs::write(&store, "").unwrap();
    let before = snapshot(&sandbox.path().join(RUN));
    refused(sandbox.run(&run_of("run.iterations=1")), &["reward-1-", "is empty", "Put", "run.dir"]);
    refused(sandbox.run(&["gc", "--yes"]), &["store.sqlite"]);
    assert_eq!(snapshot(&sandbox.path().join(RUN)), before);
}

#[test]
fn an_older_copy_of_the_store_costs_no_newer_checkpoint() {
    let sandbox = Sandbox::new();
    sandbox.run(&run_of("run.iterations=1")).success();
    let store = sandbox.path().join(RUN).join("store.sqlite");
    let (older, newer) = (sandbox.path().join("older.sqlite"), sandbox.path().join("newer.sqlite"));
    fs::copy(&store, &older).unwrap();
    sandbox.run(&run_of("run.iterations=3")).success();
    let end = verified(&sandbox);
    fs::copy(&store, &newer).unwrap();
    forget_store(&sandbox);
    fs::copy(&older, &store).unwrap();
    let before = snapshot(&sandbox.path().join(RUN));
    refused(sandbox.run(&run_of("run.iterations=3")), &["reward-", "older copy", "Put", "run.dir"]);
    refused(sandbox.run(&["gc", "--yes"]), &["older copy"]);
    assert_eq!(snapshot(&sandbox.path().join(RUN)), before);
    fs::copy(&newer, &store).unwrap();
    sandbox.run(&run_of("run.iterations=3")).success();
    assert_eq!(verified(&sandbox), end);
}

#[test]
fn what_no_row_names_stays_until_it_is_collected() {
    let sandbox = Sandbox::new();
    sandbox.run(&run_of("run.iterations=1")).success();
    let others = [put(&sandbox, "notes"), put(&sandbox, ".notes.tmp"), put(&sandbox, "reward-1-mine")];
    let unnamed = put(&sandbox, "reward-1-0123456789abcdef");
    let temporary = put(&sandbox, ".reward-1-0123456789abcdef.tmp");
    let later = put(&sandbox, ".reward-9-0123456789abcdef.tmp");
    sandbox.run(&run_of("run.iterations=2")).success();
    let there = |paths: &[PathBuf]| paths.iter().all(|path| path.join("weights").exists());
    assert!(there(&others) && there(&[unnamed.clone(), later.clone()]));
    assert!(!temporary.exists());

    let report: Value = serde_json::from_str(&sandbox.run(&["verify", "--json"]).success()).unwrap();
    assert_eq!(report["orphans"].as_array().unwrap().len(), 5, "{report}");
    let digest = verified(&sandbox);
    let text = sandbox.run(&["verify"]).success();
    assert!(text.contains("note: the store does not name checkpoints/notes (5 bytes)\n"), "{text}");
    assert!(text.contains("reward-1-0123456789abcdef (5 bytes); see `autodidact gc`"), "{text}");

    for args in [&["gc"][..], &["gc", "--dry-run"]] {
        let text = sandbox.run(args).success();
        assert!(text.contains("checkpoints/reward-1-0123456789abcdef (5 bytes)"), "{text}");
        assert!(!text.contains("notes") && text.contains("10 bytes; `autodidact gc --yes`"), "{text}");
    }
    assert!(there(&[unnamed.clone(), later.clone()]));
    assert_eq!(sandbox.run(&["gc", "--dry-run", "--yes"]).code, Some(2));
    let report: Value = serde_json::from_str(&sandbox.run(&["gc", "--yes", "--json"]).success()).unwrap();
    assert_eq!((&report["removed"], &report["bytes"]), (&true.into(), &10.into()), "{report}");
    assert!(there(&others) && !unnamed.exists() && !later.exists());
    assert_eq!(verified(&sandbox), digest);
    assert!(sandbox.run(&["gc"]).success().contains("nothing to remove"));
}

#[test]
fn without_a_run_nothing_is_collected_or_created() {
    let sandbox = Sandbox::new();
    refused(sandbox.run(&["gc", "--yes"]), &["store.sqlite", "run.dir"]);
    assert_eq!(sandbox.path().read_dir().unwrap().count(), 0);
}

/// Starts a run, and waits until it has committed something.
fn started(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut child = sandbox
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let began = Instant::now();
    while checkpoints(sandbox).read_dir().map_or(0, Iterator::count) == 0 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "{:?}", child.wait_with_output());
        assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint yet");
    }
    child
}

/// How the run ended, which must be soon.
fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the run goes on: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// The run must have stopped with an error about `part`; the same command resumes it.
fn stopped_by(sandbox: &Sandbox, child: Child, part: &str) {
    let output = ended(child);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(part) && stderr.contains("replaced"), "{stderr}");
    verified(sandbox);
    let mut brief = endless();
    brief.extend(["--set", "run.wall_clock_max_s=1"]);
    let outcome = sandbox.run(&brief);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    verified(sandbox);
}

#[test]
fn files_that_come_and_go_end_no_run() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path().join(RUN);
    fs::create_dir_all(dir.join("checkpoints")).unwrap();
    // What may not be read: the superuser reads it all the same.
    fs::create_dir(dir.join("lost+found")).unwrap();
    #[cfg(unix)]
    fs::set_permissions(dir.join("lost+found"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // What is somebody else's doesn't count, however large it is.
    fs::File::create(dir.join("backup.tar")).unwrap().set_len(1 << 40).unwrap();
    let over = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let swaps: Vec<PathBuf> = (0..500).map(|n| dir.join(format!(".{n}.swp"))).collect();
            while !over.load(Ordering::Relaxed) {
                swaps.iter().for_each(|path| fs::write(path, "").unwrap());
                let folder = dir.join("checkpoints/rsync");
                fs::create_dir_all(folder.join("below")).unwrap();
                fs::remove_dir_all(folder).unwrap();
                swaps.iter().for_each(|path| fs::remove_file(path).unwrap());
            }
        });
        let outcome = sandbox.run(&run_of("run.iterations=6"));
        over.store(true, Ordering::Relaxed);
        outcome
    });
    outcome.success();
    verified(&sandbox);
}

#[test]
fn a_start_waits_for_a_process_that_is_ending() {
    let sandbox = Sandbox::new();
    sandbox.run(&run_of("run.iterations=1")).success();
    let lock = fs::File::open(sandbox.path().join(RUN).join("lock")).unwrap();
    lock.lock().unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        drop(lock);
    });
    let outcome = sandbox.run(&run_of("run.iterations=1"));
    ending.join().unwrap();
    assert_eq!(outcome.stderr.matches("waiting for another process to let go").count(), 1, "{outcome:?}");
    outcome.success();
}

#[test]
fn a_start_right_after_a_kill_resumes() {
    let sandbox = Sandbox::new();
    let mut brief = endless();
    brief.extend(["--set", "run.wall_clock_max_s=1"]);
    for _ in 0..3 {
        let mut child = started(&sandbox, &endless());
        child.kill().unwrap();
        // Not waited for: a supervisor doesn't either.
        let outcome = sandbox.run(&brief);
        child.wait().unwrap();
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
    }
    verified(&sandbox);
}

#[cfg(unix)]
#[test]
fn without_its_lock_file_a_run_is_still_alone() {
    let sandbox = Sandbox::new();
    let mut first = started(&sandbox, &endless());
    fs::remove_file(sandbox.path().join(RUN).join("lock")).unwrap();
    refused(sandbox.run(&endless()), &["another process", "waiting"]);
    refused(sandbox.run(&["gc", "--yes"]), &["another process"]);
    assert!(first.try_wait().unwrap().is_none(), "the first run was disturbed");
    first.kill().unwrap();
    first.wait().unwrap();
    verified(&sandbox);
}

#[cfg(unix)]
#[test]
fn a_run_whose_lock_is_replaced_stops_before_it_commits() {
    let sandbox = Sandbox::new();
    let first = started(&sandbox, &endless());
    let lock = sandbox.path().join(RUN).join("lock");
    fs::write(sandbox.path().join("other"), "").unwrap();
    fs::rename(sandbox.path().join("other"), lock).unwrap();
    stopped_by(&sandbox, first, "lock");
}

#[cfg(unix)]
#[test]
fn a_run_whose_store_is_replaced_stops_before_it_commits() {
    let sandbox = Sandbox::new();
    let first = started(&sandbox, &endless());
    let store = sandbox.path().join(RUN).join("store.sqlite");
    let copy = sandbox.path().join("copy.sqlite");
    let bytes = fs::read(&store).unwrap();
    fs::write(&copy, &bytes).unwrap();
    fs::rename(&copy, &store).unwrap();
    let output = ended(first);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("store.sqlite") && stderr.contains("replaced"), "{stderr}");
    assert!(fs::read(&store).unwrap() == bytes, "what was put there was written to");
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_is_moved_stops_and_leaves_the_next_one_alone() {
    let sandbox = Sandbox::new();
    let first = started(&sandbox, &endless());
    let dir = sandbox.path().join(RUN);
    fs::rename(&dir, sandbox.path().join("moved")).unwrap();
    fs::create_dir(&dir).unwrap();
    let output = ended(first);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(dir.read_dir().unwrap().count(), 0, "{stderr}");
    fs::remove_dir(&dir).unwrap();
    fs::rename(sandbox.path().join("moved"), &dir).unwrap();
    verified(&sandbox);
}

#[cfg(unix)]
#[test]
fn a_new_folder_is_its_owners_and_an_old_one_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let sandbox = Sandbox::new();
    sandbox.run(&run_of("run.iterations=1")).success();
    assert_eq!(mode(&sandbox.path().join(RUN)), 0o700);
    let shared = Sandbox::new();
    fs::create_dir(shared.path().join(RUN)).unwrap();
    fs::set_permissions(shared.path().join(RUN), fs::Permissions::from_mode(0o755)).unwrap();
    shared.run(&run_of("run.iterations=1")).success();
    assert_eq!(mode(&shared.path().join(RUN)), 0o755);
}

#[test]
fn threads_of_the_environment_are_bounded() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["inspect", "runs"]).env("RAYON_NUM_THREADS", "5000").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("RAYON_NUM_THREADS = 5000: at most 1024"), "{error}");
}
