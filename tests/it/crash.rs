//! Dying in every gap between two writes, and going on with the same command.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A loop of two iterations without weights, small enough to be run dozens of times.
pub(crate) const SMALL: &[&str] = &[
    "run.iterations=2",
    "tasks.easy=24",
    "tasks.anchor=12",
    "tasks.train=12",
    "tasks.gate=12",
    "tasks.heldout=16",
    "rollout.tasks=6",
    "rollout.variants=4",
    "critic.bootstrap=24",
    "critic.epochs=4",
    "eval.samples=2",
    "eval.sampled_tasks=6",
];

/// `args` with the small settings.
pub(crate) fn small<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(SMALL.iter().flat_map(|&pair| ["--set", pair])).collect()
}

/// Digest of the store, which must check out.
pub(crate) fn verified(sandbox: &Sandbox) -> String {
    let report: Value = serde_json::from_str(&sandbox.run(&["verify", "--json"]).success()).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    report["digest"].as_str().unwrap().to_owned()
}

/// The first start was cut off before it had made a table.
#[test]
fn a_run_begins_in_an_empty_store() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("autodidact-run");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("store.sqlite"), "").unwrap();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    verified(&sandbox);
}

#[test]
fn every_crash_resumes_to_the_same_end() {
    let clean = Sandbox::new();
    clean.run(&small(&["run", "--policy", "scripted"])).success();
    let end = verified(&clean);

    let mut died = 0;
    for moment in 1.. {
        let sandbox = Sandbox::new();
        let moment = moment.to_string();
        let first = sandbox.run(&small(&["run", "--policy", "scripted", "--crash-at", &moment]));
        if first.code == Some(0) {
            break;
        }
        assert_eq!(first.code, None, "died otherwise than asked: {}", first.stderr);
        died += 1;
        if moment.parse::<u32>().unwrap() > 1 {
            // What was committed before the crash is whole.
            verified(&sandbox);
        }
        sandbox.run(&small(&["run", "--policy", "scripted"])).success();
        assert_eq!(verified(&sandbox), end, "resumed after dying at moment {moment}");
        let checkpoints = sandbox.path().join("autodidact-run/checkpoints").read_dir().unwrap();
        let names: Vec<_> = checkpoints.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|n| !n.starts_with('.')), "left over: {names:?}");
    }
    assert!(died > 30, "only {died} moments to die at were found");
}

#[test]
fn dying_over_and_over_ends_the_same() {
    let clean = Sandbox::new();
    clean.run(&small(&["run", "--policy", "scripted"])).success();
    let sandbox = Sandbox::new();
    let mut deaths = 0;
    // Every session gets a little further: the third write of each is its last.
    while sandbox.run(&small(&["run", "--policy", "scripted", "--crash-at", "3"])).code != Some(0) {
        deaths += 1;
        assert!(deaths < 200, "no progress between crashes");
    }
    assert!(deaths > 5);
    assert_eq!(verified(&sandbox), verified(&clean));
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    let end = verified(&sandbox);
    sandbox.run(&small(&["resume", "--policy", "scripted"])).success();
    assert_eq!(verified(&sandbox), end);
    let report: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    assert_eq!(report["state"], "done");
    // More iterations may be asked for; they come on top.
    let mut more = small(&["run", "--policy", "scripted"]);
    more.extend(["--set", "run.iterations=3"]);
    sandbox.run(&more).success();
    let report: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    assert_eq!(report["iterations"].as_array().unwrap().len(), 4);
}
