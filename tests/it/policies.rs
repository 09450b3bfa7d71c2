//! Which policy a command means: the promoted one of the run's folder, unless another is named.

use serde_json::Value;

use crate::crash::small;
use crate::sandbox::Sandbox;

fn eval(sandbox: &Sandbox, args: &[&str]) -> Value {
    let out = sandbox.run(&[&["eval", "--json", "--tasks", "4"], args].concat()).success();
    serde_json::from_str(&out).unwrap()
}

/// The hash of each iteration's policy, and the last promoted iteration.
fn policies(sandbox: &Sandbox) -> (Vec<String>, usize) {
    let report: Value = serde_json::from_str(&sandbox.run(&["inspect", "run", "--json"]).success()).unwrap();
    let iterations = report["iterations"].as_array().unwrap();
    let hashes = iterations.iter().map(|row| row["policy_hash"].as_str().unwrap().to_owned()).collect();
    let promoted = iterations.iter().rposition(|row| row["promoted"] == true).unwrap_or(0);
    (hashes, promoted)
}

#[test]
fn a_runs_folder_means_its_promoted_policy() {
    let sandbox = Sandbox::new();
    let embedded = eval(&sandbox, &[]);
    assert_eq!(embedded["policy"], "embedded", "no run yet: {embedded}");
    assert_eq!(embedded, eval(&sandbox, &["--base"]));
    for args in [["eval", "--iteration=1"], ["eval", "--run=1"]] {
        assert_eq!(sandbox.run(&args).code, Some(1), "{args:?}");
    }

    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    let (hashes, promoted) = policies(&sandbox);
    assert!(promoted > 0, "something was promoted");
    let named = eval(&sandbox, &[]);
    let name = format!("iteration {promoted} of run 1 in autodidact-run, which was promoted last");
    assert_eq!((&named["policy"], &named["policy_hash"]), (&name.into(), &hashes[promoted].clone().into()));
    let first = eval(&sandbox, &["--iteration", "1"]);
    assert_eq!(first["policy_hash"], hashes[1], "{first}");
    assert_eq!(first["policy"], "iteration 1 of run 1 in autodidact-run");
    assert_eq!(eval(&sandbox, &["--base"])["policy_hash"], embedded["policy_hash"]);
    let text = sandbox.run(&["eval", "--tasks", "4"]).success();
    assert!(
        text.starts_with(&format!("policy {:.10} · iteration {promoted} of run 1", hashes[promoted])),
        "{text}"
    );

    let missing = sandbox.run(&["eval", "--run", "7"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("no run 7; see `autodidact inspect runs`"), "{}", missing.stderr);
    assert_eq!(sandbox.run(&["eval", "--base", "--iteration", "1"]).code, Some(2));

    sandbox.run(&small(&["run", "--policy", "scripted", "--control", "random"])).success();
    let arm = eval(&sandbox, &["--run", "2", "--iteration", "1"]);
    assert_eq!(arm["policy"], "iteration 1 of run 2 in autodidact-run", "{arm}");
}
