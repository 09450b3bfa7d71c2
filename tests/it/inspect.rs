//! The JSON contract of `inspect`, as the program prints it: which fields every report has, in which order.
//! The values are compared in the library's own tests, over rows that are the same on every machine.

use crate::crash::small;
use crate::sandbox::Sandbox;

/// The fields of indented JSON as paths, each once, in order of their first appearance.
fn fields(json: &str) -> Vec<String> {
    // What is open: the path that leads there, and whether it is an array.
    let mut open: Vec<(String, bool)> = Vec::new();
    let mut found: Vec<String> = Vec::new();
    for line in json.lines().map(str::trim) {
        if line.starts_with(['}', ']']) {
            open.pop();
            continue;
        }
        let (outer, in_array) = open.last().cloned().unwrap_or_default();
        let (path, value) = match line.split_once("\": ").filter(|_| !in_array) {
            Some((name, value)) => (format!("{outer}.{}", name.trim_start_matches('"')), value),
            None => (outer, line),
        };
        if !in_array && !path.is_empty() && !found.contains(&path) {
            found.push(path.clone());
        }
        match value {
            "{" => open.push((path, false)),
            "[" => open.push((path + "[]", true)),
            _ => {}
        }
    }
    found
}

#[test]
fn every_report_keeps_its_fields_in_their_order() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    sandbox.run(&small(&["run", "--policy", "scripted", "--control", "random"])).success();
    let sql = "SELECT 1 AS second, NULL AS first";
    for (args, golden) in [
        (&["runs"][..], include_str!("../golden/inspect/runs.txt")),
        (&["run"], include_str!("../golden/inspect/run.txt")),
        (&["iteration", "1"], include_str!("../golden/inspect/iteration.txt")),
        (&["trajectory", "1"], include_str!("../golden/inspect/trajectory.txt")),
        (&["trajectories"], include_str!("../golden/inspect/trajectories.txt")),
        (&["task", "relations/train/000000"], include_str!("../golden/inspect/task.txt")),
        (&["steps"], include_str!("../golden/inspect/steps.txt")),
        (&["events"], include_str!("../golden/inspect/events.txt")),
        (&["sql", sql], "[].second\n[].first\n"),
    ] {
        let json = sandbox.run(&[&["inspect", "--json"], args].concat()).success();
        let now = fields(&json).join("\n") + "\n";
        assert_eq!(now, golden, "inspect {}", args[0]);
    }
    let plain = sandbox.run(&["inspect"]).success();
    assert_eq!(plain, sandbox.run(&["inspect", "run"]).success(), "`run` is what is shown by default");
    let refused = sandbox.run(&["inspect", "iteration", "9"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("run 1 has no iteration 9; its last is 2"), "{}", refused.stderr);
}

#[test]
fn fields_are_read_from_indented_json() {
    let json = "{\n  \"a\": [\n    {\n      \"b\": \"x\\\": y\",\n      \"c\": null\n    },\n    {\n      \"b\": {}\n    }\n  ],\n  \
                \"d\": [\n    1,\n    \"e\\\": {\"\n  ]\n}\n";
    assert_eq!(fields(json), [".a", ".a[].b", ".a[].c", ".d"]);
}
