//! The lists of `inspect` through the program: trajectories, tasks, updates, events.

use serde_json::Value;

use crate::crash::small;
use crate::sandbox::Sandbox;

fn finished() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    sandbox
}

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.run(&[&["inspect", "--json"], args].concat()).success()).unwrap()
}

fn count(sandbox: &Sandbox, condition: &str) -> u64 {
    let query = format!("SELECT count(*) AS n FROM trajectory_text WHERE {condition}");
    json(sandbox, &["sql", &query])[0]["n"].as_u64().unwrap()
}

#[test]
fn trajectories_are_listed_by_what_is_asked() {
    let sandbox = finished();
    for (options, condition) in [
        (&[][..], "purpose = 'rollout'"),
        (&["--iteration", "2"], "purpose = 'rollout' AND iteration = 2"),
        (&["--kept"], "kept"),
        (&["--dropped", "--iteration", "1"], "NOT kept AND iteration = 1"),
        (&["--wrong"], "purpose = 'rollout' AND NOT \"right\""),
        (&["--kept", "--right"], "kept AND \"right\""),
        (&["--task", "relations/train/000000"], "purpose = 'rollout' AND task = 'relations/train/000000'"),
        (&["--all", "--split", "heldout"], "split = 'heldout'"),
        (&["--purpose", "bootstrap"], "purpose = 'bootstrap'"),
        (&["--all"], "1"),
    ] {
        let expected = count(&sandbox, condition);
        let page = json(&sandbox, &[&["trajectories", "--limit", "10000"], options].concat());
        assert_eq!(page["total"].as_u64(), Some(expected), "{options:?}");
        assert_eq!(page["items"].as_array().map(|items| items.len() as u64), Some(expected), "{options:?}");
        assert_eq!(page["next"], Value::Null);
    }
    assert!(count(&sandbox, "purpose = 'rollout' AND NOT \"right\"") > 0, "something is wrong");
}

#[test]
fn a_search_finds_what_was_answered() {
    let sandbox = finished();
    let all = json(&sandbox, &["trajectories", "--limit", "10000"]);
    let all = all["items"].as_array().unwrap();
    let line = all[0]["text"].as_str().unwrap().lines().next().unwrap();
    let found = json(&sandbox, &["trajectories", "--search", line, "--limit", "10000"]);
    let found = found["items"].as_array().unwrap();
    assert_eq!(found[0]["trajectory"], all[0]["trajectory"]);
    assert!(found.len() < all.len(), "{line}");
    assert!(
        found.iter().all(|item| line.split(' ').all(|word| item["text"].as_str().unwrap().contains(word)))
    );
    let none = sandbox.run(&["inspect", "trajectories", "--search", "\"nowhere* AND ("]).success();
    assert_eq!(none, "no trajectory is like that\n");
}

#[test]
fn a_list_says_how_to_see_the_rest() {
    let sandbox = finished();
    let total = count(&sandbox, "purpose = 'rollout' AND NOT \"right\"");
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["inspect", "trajectories", "--wrong", "--limit", "7"];
        if let Some(after) = &after {
            args.extend(["--after", after]);
        }
        let text = sandbox.run(&args).success();
        let ids = text.lines().skip(2).map_while(|line| line.split_whitespace().next()?.parse::<i64>().ok());
        seen.extend(ids);
        let next = "more: autodidact inspect trajectories --wrong --limit 7 --after ";
        match text.lines().last().unwrap().split_once(next) {
            Some((shown, id)) => {
                assert_eq!(shown, format!("7 of {total} · "), "{text}");
                after = Some(id.to_owned());
            }
            None => break,
        }
    }
    assert_eq!(seen.len() as u64, total);
    assert!(seen.is_sorted_by(|a, b| a < b), "each once: {seen:?}");
    // The ids that are named exist.
    let one = sandbox.run(&["inspect", "trajectories", "--kept", "--limit", "10000"]).success();
    let id = one.trim_end().rsplit(' ').next().unwrap();
    assert!(sandbox.run(&["inspect", "trajectory", id]).success().contains("kept in iteration 1"));
    let iteration = sandbox.run(&["inspect", "iteration", "1"]).success();
    let hint = iteration
        .lines()
        .find_map(|line| line.strip_prefix("look at: autodidact inspect trajectory "))
        .unwrap();
    let id = hint.split(' ').next().unwrap();
    assert!(sandbox.run(&["inspect", "trajectory", id]).success().contains("kept in iteration 1"), "{hint}");
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    let sandbox = finished();
    for (args, complaint) in [
        (&["trajectories", "--iteration", "9"][..], "run 1 has no iteration 9; its last is 2"),
        (&["steps", "--iteration", "9"], "run 1 has no iteration 9; its last is 2"),
        (&["events", "--run", "7"], "there is no run 7; the store has 1"),
        (&["task", "train/000000"], "did you mean relations/train/000000?"),
        (
            &["trajectories", "--task", "nowhere"],
            "there is no task `nowhere`; tasks have ids such as relations/",
        ),
    ] {
        let refused = sandbox.run(&[&["inspect"], args].concat());
        assert_eq!(refused.code, Some(1), "{args:?}");
        assert!(refused.stderr.contains(complaint), "{args:?}: {}", refused.stderr);
    }
    assert_eq!(sandbox.run(&["inspect", "trajectories", "--kept", "--dropped"]).code, Some(2));
    assert_eq!(sandbox.run(&["inspect", "trajectories", "--limit", "0"]).code, Some(2));
    let split = sandbox.run(&["inspect", "trajectories", "--split", "training"]).stderr;
    assert!(split.contains("is not one of easy, anchor, train, gate, heldout"), "{split}");
}

#[test]
fn a_task_has_its_answers_by_iteration() {
    let sandbox = finished();
    let task = "relations/train/000000";
    let report = json(&sandbox, &["task", task]);
    assert_eq!((&report["task"], &report["split"]), (&task.into(), &"train".into()));
    let attempts = report["attempts"].as_array().unwrap();
    assert!(!attempts.is_empty());
    for group in attempts {
        let of = |condition: &str| {
            let (iteration, purpose) = (&group["iteration"], &group["purpose"]);
            let purpose = purpose.as_str().unwrap();
            count(
                &sandbox,
                &format!(
                    "task = '{task}' AND iteration = {iteration} AND purpose = '{purpose}' AND {condition}"
                ),
            )
        };
        assert_eq!(group["n"].as_u64(), Some(of("1")));
        assert_eq!(group["right"].as_u64(), Some(of("\"right\"")));
        assert_eq!(group["kept"].as_u64(), Some(of("kept")));
        let answers = group["answers"].as_array().unwrap();
        let share: f64 = answers.iter().map(|answer| answer["share"].as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-9);
        let counts: Vec<u64> = answers.iter().map(|answer| answer["n"].as_u64().unwrap()).collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    }
    let text = sandbox.run(&["inspect", "task", task]).success();
    for part in
        [report["question"].as_str().unwrap(), "gold ", "share %", "inspect trajectories --all --task"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn updates_are_spread_or_all() {
    let sandbox = finished();
    let steps = json(&sandbox, &["steps"]);
    let total = steps["steps"].as_array().unwrap().len();
    let stored = json(&sandbox, &["sql", "SELECT count(*) AS n, max(step) AS last FROM steps"]);
    assert_eq!(stored[0]["n"].as_u64(), Some(total as u64));
    let text = sandbox.run(&["inspect", "steps", "--limit", "1"]).success();
    match total {
        0 => assert_eq!(text, "run 1: no updates\n"),
        _ => assert!(text.contains("loss in nats"), "{text}"),
    }
}

#[test]
fn events_are_beginning_alarms_and_end() {
    let sandbox = finished();
    let report = json(&sandbox, &["events"]);
    let events = report["events"].as_array().unwrap();
    assert_eq!((&events[0]["kind"], &events[events.len() - 1]["kind"]), (&"began".into(), &"done".into()));
    let stored = json(&sandbox, &["sql", "SELECT count(*) AS n FROM alarms"]);
    let alarms = events.iter().filter(|event| event["kind"] == "alarm");
    assert_eq!(Some(alarms.clone().count() as u64), stored[0]["n"].as_u64());
    assert!(alarms.clone().all(|alarm| alarm["rule"].is_string() && alarm["action"].is_string()));
    let phases = report["phases"].as_array().unwrap();
    let last = phases.last().unwrap();
    assert_eq!((&last["iteration"], &last["phase"]), (&2.into(), &"promote".into()));
    assert!(phases.iter().all(|phase| !phase["note"].as_str().unwrap().starts_with('{')), "{phases:?}");
    let text = sandbox.run(&["inspect", "events", "--limit", "1"]).success();
    assert!(text.starts_with("run 1 · reward · done\n") && text.contains("evaluate"), "{text}");
    assert_eq!(text.contains("earlier events are left out"), events.len() > 1, "{text}");
}
