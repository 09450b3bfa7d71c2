//! Bad input: a clear error, the right exit code, nothing lost and nothing half-written.

use std::fs;
use std::process::Stdio;

use crate::crash::{small, verified};
use crate::sandbox::{Outcome, Sandbox};

/// The program must have ended with an error whose text holds all of `parts`.
fn refused(outcome: Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, Some(code), "stdout:\n{}\nstderr:\n{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

fn is_empty(sandbox: &Sandbox) -> bool {
    sandbox.path().read_dir().unwrap().count() == 0
}

#[test]
fn a_bad_configuration_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    refused(
        sandbox.run(&["run", "--set", "rollout.temprature=1"]),
        1,
        &["rollout.temprature", "temperature"],
    );
    refused(sandbox.run(&["run", "--set", "rollout.temperature=-1"]), 1, &["rollout.temperature", "-1"]);
    refused(sandbox.run(&["run", "--set", "train.steps=\"many\""]), 1, &["steps", "many"]);
    refused(sandbox.run(&["run", "--set", "nonsense"]), 2, &["nonsense", "KEY=VALUE"]);
    refused(sandbox.run(&["run", "--config", "absent.toml"]), 1, &["absent.toml"]);
    refused(sandbox.run(&["run", "--set", "reward.formula=\"vote + honesty\""]), 1, &["honesty"]);
    refused(sandbox.run(&["run", "--no-such-flag"]), 2, &["--no-such-flag"]);
    refused(sandbox.run(&["run", "--set", "model.path=\"absent\""]), 1, &["absent"]);
    refused(
        sandbox.run(&["run", "--set", "tasks.kind=\"file\"", "--set", "tasks.file=\"absent.jsonl\""]),
        1,
        &["absent.jsonl"],
    );
    let left: Vec<_> = sandbox.path().read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    let stores = left.iter().filter(|p| p.join("store.sqlite").exists()).count();
    assert_eq!(stores, 0, "{left:?}");
}

#[test]
fn nothing_to_look_at_is_said_and_nothing_is_created() {
    let sandbox = Sandbox::new();
    for args in [&["inspect", "runs"][..], &["inspect", "run"], &["inspect", "trajectory", "1"], &["verify"]]
    {
        refused(sandbox.run(args), 1, &["store.sqlite"]);
    }
    assert!(is_empty(&sandbox));
}

#[test]
fn a_store_that_is_none_is_refused_and_left_alone() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path().join("autodidact-run");
    fs::create_dir(&dir).unwrap();
    let store = dir.join("store.sqlite");
    fs::write(&store, "this is a diary, not a database".repeat(100)).unwrap();
    let before = fs::read(&store).unwrap();
    refused(sandbox.run(&small(&["run", "--policy", "scripted"])), 1, &["store.sqlite"]);
    refused(sandbox.run(&["inspect", "runs"]), 1, &["store.sqlite"]);
    assert_eq!(fs::read(&store).unwrap(), before);
}

#[test]
fn a_damaged_store_is_noticed() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    let store = sandbox.path().join("autodidact-run/store.sqlite");
    let mut bytes = fs::read(&store).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|b| *b ^= 0x5a);
    fs::write(&store, &bytes).unwrap();
    let outcome = sandbox.run(&["verify"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    fs::write(&store, &bytes[..bytes.len() / 3]).unwrap();
    let outcome = sandbox.run(&["verify"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn a_damaged_checkpoint_is_noticed() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    let checkpoints = sandbox.path().join("autodidact-run/checkpoints");
    let folder = checkpoints.read_dir().unwrap().next().unwrap().unwrap().path();
    let file = folder.read_dir().unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[3] ^= 1;
    fs::write(&file, bytes).unwrap();
    let outcome = sandbox.run(&["verify", "--json"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("checkpoints/"), "{}", outcome.stdout);
}

#[test]
fn another_configuration_is_refused_and_names_the_difference() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    let before = verified(&sandbox);
    let mut other = small(&["run", "--policy", "scripted"]);
    other.extend(["--set", "rollout.temperature=0.9"]);
    refused(sandbox.run(&other), 1, &["rollout.temperature", "0.9", "run.dir"]);
    assert_eq!(verified(&sandbox), before);
}

#[test]
fn a_control_arm_runs_first_what_it_is_compared_with() {
    let sandbox = Sandbox::new();
    let random = small(&["run", "--policy", "scripted", "--control", "random"]);
    let arm = sandbox.run(&[random.as_slice(), &["--set", "run.iterations=1"]].concat());
    assert!(arm.stderr.contains("which comes first"), "{}", arm.stderr);
    let text = arm.success();
    assert!(text.contains("run 2 done") && text.contains("run 1 (the loop)"), "{text}");
    // The arm follows its run, whatever is asked for.
    let main = small(&["run", "--policy", "scripted"]);
    sandbox.run(&[main.as_slice(), &["--set", "run.iterations=2"]].concat()).success();
    let text = sandbox.run(&[random.as_slice(), &["--set", "run.iterations=7"]].concat()).success();
    assert!(text.contains("run 2 done") && text.contains("2 of 2 iterations"), "{text}");
    // Fewer than there are removes none.
    let text = sandbox.run(&[main.as_slice(), &["--set", "run.iterations=1"]].concat()).success();
    assert!(text.contains("2 of 2 iterations") && text.contains("asks for fewer than the 2"), "{text}");
    // Several arms end with the loop's report, next to them.
    let both = sandbox.run(&[main.as_slice(), &["--control", "random,easy-only"]].concat()).success();
    assert!(both.contains("run 1 done") && both.contains("against easy-only"), "{both}");
    refused(sandbox.run(&["run", "--control", "magic"]), 2, &["magic", "easy-only"]);
}

#[test]
fn two_processes_cannot_share_a_run() {
    let sandbox = Sandbox::new();
    let mut long = small(&["run", "--policy", "scripted"]);
    long.extend(["--set", "run.iterations=1000"]);
    let mut first = sandbox
        .command(&long)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lock = sandbox.path().join("autodidact-run/store.sqlite");
    while !lock.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(first.try_wait().unwrap().is_none(), "the first run has ended already");
    }
    refused(sandbox.run(&long), 1, &["another process"]);
    // Looking is allowed meanwhile, as soon as the store is set up.
    let sees = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        sandbox.run(&["inspect", "run"]).code == Some(0)
    });
    assert!(sees, "{:?}", sandbox.run(&["inspect", "run"]));
    assert!(first.try_wait().unwrap().is_none(), "the first run was disturbed");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_read_only_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let dir = sandbox.path().join("sealed");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write anywhere: nothing to test then.
    if fs::write(dir.join("probe"), "").is_ok() {
        return;
    }
    let mut args = small(&["run", "--policy", "scripted"]);
    args.extend(["--set", "run.dir=\"sealed/run\""]);
    refused(sandbox.run(&args), 1, &["sealed"]);
}

#[test]
fn the_wall_clock_limit_stops_resumably() {
    let sandbox = Sandbox::new();
    let mut brief = small(&["run", "--policy", "scripted"]);
    brief.extend(["--set", "run.wall_clock_max_s=1", "--set", "run.iterations=200"]);
    let outcome = sandbox.run(&brief);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stdout.contains("wall_clock_max_s"), "{}", outcome.stdout);
    verified(&sandbox);
}

#[test]
fn ctrl_c_finishes_the_unit_and_stops_resumably() {
    let sandbox = Sandbox::new();
    let mut long = small(&["run", "--policy", "scripted"]);
    long.extend(["--set", "run.iterations=400"]);
    let child = sandbox.command(&long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !sandbox.path().join("autodidact-run/store.sqlite").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let interrupt =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    verified(&sandbox);
}

/// A file system of its own that is taken off again; `None` where this process may not mount one.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn of(dir: std::path::PathBuf, mib: u32) -> Option<Self> {
        fs::create_dir_all(&dir).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", dir.to_str()?]).then_some(Self(dir))
    }

    fn grow(&self, mib: u32) {
        assert!(mount(&["-o", &format!("remount,size={mib}m"), self.0.to_str().unwrap()]));
    }
}

fn mount(args: &[&str]) -> bool {
    std::process::Command::new("mount").args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_with_an_error_and_loses_nothing() {
    let clean = Sandbox::new();
    clean.run(&small(&["run", "--policy", "scripted"])).success();
    let sandbox = Sandbox::new();
    // A unit is begun with 64 MiB free: the first ones fit, later ones do not.
    let Some(disk) = Tmpfs::of(sandbox.path().join("autodidact-run"), 65) else { return };
    refused(sandbox.run(&small(&["run", "--policy", "scripted"])), 1, &["disk is full", "MiB"]);
    disk.grow(200);
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    assert_eq!(verified(&sandbox), verified(&clean));
}
