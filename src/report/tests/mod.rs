//! Reports over a store that holds one run, its random control, and everything that they can have.

pub(crate) mod fixture;
mod lists;

use serde_json::{Value, json};

use self::fixture::*;
use super::*;
use crate::domain::*;
use crate::store::{TableLimits, TrajectoryFilter, Window};

fn json(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).unwrap()
}

/// The JSON contract: names, order and values of every field are those of the files in `golden/`.
#[test]
fn the_json_is_what_it_was() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let store = &fixture.store;
        let byte = |id: u32| Some(char::from_u32(id)?.to_string());
        same(&RunsReport::gather(store).await.unwrap(), include_str!("golden/runs.json"));
        same(&run(store, fixture.run, VERDICT).await.unwrap(), include_str!("golden/run.json"));
        same(&run(store, fixture.control, VERDICT).await.unwrap(), include_str!("golden/control.json"));
        let of_iteration = iteration(store, fixture.run, 1, VERDICT).await.unwrap();
        same(&of_iteration, include_str!("golden/iteration.json"));
        let full = trajectory(store, ids[0], Some(&byte), VERDICT).await.unwrap();
        same(&full, include_str!("golden/trajectory.json"));
        let unscored = trajectory(store, ids[2], None, VERDICT).await.unwrap();
        same(&unscored, include_str!("golden/unscored.json"));
        let fixture = Fixture::new().await;
        let ids = fixture
            .store
            .write(1, 1, async |unit| unit.put_trees(Purpose::Rollout, "p", &[forked()]).await)
            .await
            .unwrap()
            .concat();
        let forked = trajectory(&fixture.store, ids[0], None, VERDICT).await.unwrap();
        same(&forked, include_str!("golden/forked.json"));
    });
}

/// Text for text, except that numbers may differ in their last digits: `ln` and `exp` are the
/// platform's.
fn same(report: &impl serde::Serialize, golden: &str) {
    let json = serde_json::to_string_pretty(report).unwrap() + "\n";
    // The name, empty within an array, and the number.
    let number = |line: &str| {
        let (name, value) = line.rsplit_once(": ").unwrap_or(("", line.trim()));
        Some((name.to_owned(), value.trim_end_matches(',').parse::<f64>().ok()?))
    };
    let equal = |(a, b): (&str, &str)| match (number(a), number(b)) {
        (Some((a, x)), Some((b, y))) => a == b && (x - y).abs() <= 1e-9 * y.abs(),
        _ => a == b,
    };
    let lines = (json.lines().count(), golden.lines().count());
    assert!(lines.0 == lines.1 && json.lines().zip(golden.lines()).all(equal), "it is now:\n{json}");
}

#[test]
fn a_run_has_its_iterations_gain_and_controls() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        let value = json(&report);
        let head = (&value["run"], &value["state"], &value["seconds"]);
        assert_eq!(head, (&json!(1), &json!("running"), &json!(8.5)));
        let first = &value["iterations"][1];
        assert_eq!(first["policy_hash"], "policy1of1");
        assert_eq!((&first["iteration"], &first["promoted"]), (&json!(1), &json!(true)));
        assert_eq!((&first["heldout"]["n"], &first["heldout"]["pass1"]), (&json!(40), &json!(0.9)));
        let counts = (&first["trajectories"], &first["kept"], &first["seconds"]);
        assert_eq!(counts, (&json!(12), &json!(8), &json!(3.0)));
        assert_eq!((&first["critic"]["auc"], &first["critic"]["ece"]), (&json!(0.875), &json!(0.0625)));
        assert_eq!(first["kept_precision"], json!({"right": 4, "n": 8, "share": 0.5}));
        assert_eq!(value["iterations"][0]["promoted"], Value::Null);
        // The last candidate was not promoted: the gain is that of the policy before it.
        let gain = report.gain.unwrap();
        assert!((gain.points - 50.0).abs() < 1e-9 && gain.lo > 30.0 && gain.hi < 70.0 && gain.n == 40);
        assert!(gain.p_value < 1e-5);
        let control = &report.controls[0];
        assert!((control.gain.unwrap().points - 10.0).abs() < 1e-9);
        assert!((control.advantage.unwrap().points - 40.0).abs() < 1e-9);
    });
}

#[test]
fn a_control_arm_says_how_far_the_loop_is_ahead() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let mut report = run(&fixture.store, fixture.control, VERDICT).await.unwrap();
        assert!((report.behind.unwrap().points - 40.0).abs() < 1e-9);
        report.seen(None);
        assert_eq!((report.state, report.worker), (State::Interrupted, None));
        let mut main = run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        assert_eq!(main.behind, None);
        let worker = Worker { pid: Some(7), last_write_s: None };
        main.seen(Some((fixture.control, worker)));
        assert_eq!((main.state, main.controls[0].state), (State::Interrupted, State::Running));
        let current = current_run(&fixture.store).await.unwrap();
        assert_eq!(current, Some(fixture.control), "of two that were begun, the later one");
    });
}

#[test]
fn a_gain_names_what_else_explains_it() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        // Every held-out task has the answer 11.
        let measure = report.iterations[1].heldout.as_ref().unwrap();
        let constant = measure.constant.as_ref().unwrap();
        assert_eq!((constant.answer.as_str(), constant.pass1), ("11", 1.0));
        assert_eq!((measure.readable, measure.right_if_readable), (Some(1.0), Some(0.9)));
        assert_eq!((measure.answers[0].answer.as_deref(), measure.answers[0].share), (Some("11"), 0.9));
        let gain = report.gain.unwrap();
        assert_eq!((gain.learned, gain.lost, gain.sharpened, gain.flip_rate), (20, 0, 0, 0.5));
        assert!((gain.format.points.abs()) < 1e-9 && (gain.substance.points - 50.0).abs() < 1e-9);
        let caution = report.caution.unwrap();
        assert_eq!(caution, "+50.0 points, but answering \"11\" to everything would score as much: 100.0 %");
    });
}

#[test]
fn a_run_that_has_just_begun_has_no_gain() {
    block_on(async {
        let fixture = Fixture::new().await;
        let report = run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        assert_eq!((report.gain, report.iterations.len(), report.controls.len()), (None, 0, 1));
        fixture.evaluate(fixture.run, 0, 16).await;
        let report = run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        assert_eq!((report.gain, report.iterations.len()), (None, 1));
        assert_eq!(report.iterations[0].policy_hash.as_deref(), Some("policy0of1"));
        let error = run(&fixture.store, 9, VERDICT).await.unwrap_err().to_string();
        assert_eq!(error, "there is no run 9; the store has 1, 2");
        let error = iteration(&fixture.store, fixture.run, 3, VERDICT).await.unwrap_err().to_string();
        assert_eq!(error, "run 1 has no iteration 3; its last is 0");
        let error = iteration(&fixture.store, fixture.control, 0, VERDICT).await.unwrap_err().to_string();
        assert_eq!(error, "run 2 has no iteration 0; it has stored nothing yet");
    });
}

#[test]
fn without_a_verdict_nothing_is_right_or_wrong() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let unknown: Verdict = &|_, _| None;
        let report = run(&fixture.store, fixture.run, unknown).await.unwrap();
        assert_eq!((report.gain, report.iterations[1].kept_precision), (None, None));
        let report = iteration(&fixture.store, fixture.run, 1, unknown).await.unwrap();
        assert_eq!((report.tasks.attempted, report.tasks.solved), (4, 0));
        assert_eq!((report.scores[0].n, report.scores[0].auc), (8, None));
        assert_eq!(trajectory(&fixture.store, ids[0], None, unknown).await.unwrap().correct, None);
    });
}

#[test]
fn runs_are_read_in_pages() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let all = RunsReport::gather(&fixture.store).await.unwrap().runs;
        let line = &all[0];
        assert_eq!((line.iterations_done, line.heldout_base, line.heldout), (2, Some(0.4), Some(0.9)));
        let first = runs(&fixture.store, Window::first(1)).await.unwrap();
        assert_eq!((&first.items[..], first.total, first.next), (&all[..1], 2, Some(1)));
        let last = runs(&fixture.store, Window { after: first.next, limit: 1 }).await.unwrap();
        assert_eq!((&last.items[..], last.total, last.next), (&all[1..], 2, None));
        let value = json(&last);
        assert_eq!((&value["total"], &value["next"]), (&json!(2), &Value::Null));
        assert_eq!(value["items"][0]["of_run"], json!(1));
    });
}

#[test]
fn trajectories_are_read_in_pages_with_their_verdicts() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let purpose = Some(Purpose::Rollout);
        let filter = TrajectoryFilter { run: Some(fixture.run), purpose, ..TrajectoryFilter::default() };
        let (mut found, mut window) = (Vec::new(), Window::first(5));
        loop {
            let page = trajectories(&fixture.store, &filter, None, window, VERDICT).await.unwrap();
            assert_eq!(page.total, 12);
            found.extend(page.items);
            match page.next {
                Some(last) => window.after = Some(last),
                None => break,
            }
        }
        assert_eq!(found.iter().map(|line| line.trajectory).collect::<Vec<_>>(), ids);
        let verdicts: Vec<_> = found[..3].iter().map(|line| line.correct).collect();
        assert_eq!(verdicts, [Some(true), Some(false), Some(false)]);
        assert_eq!((found[0].rank, found[0].reason), (Some(1), Some(SelectionReason::Kept)));
        assert_eq!(found[2].reason, Some(SelectionReason::NoAnswer));
    });
}

#[test]
fn an_iteration_has_its_reasons_scores_and_measurements() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = iteration(&fixture.store, fixture.run, 1, VERDICT).await.unwrap();
        let value = json(&report);
        assert_eq!(value["policy_hash"], "policy1of1");
        assert_eq!(
            (&value["selection"][0]["reason"], &value["selection"][0]["count"]),
            (&json!("kept"), &json!(8))
        );
        assert_eq!(value["selection"][1]["reason"], "no_answer");
        let kinds: Vec<_> = report.examples.iter().map(|example| (example.kept, example.right)).collect();
        assert_eq!(kinds, [(true, Some(true)), (true, Some(false)), (false, Some(false))]);
        assert_eq!(value["tasks"], json!({"attempted": 4, "kept": 4, "solved": 4}));
        let vote = &report.scores[0];
        assert_eq!((vote.n, vote.failed["no_answer"], vote.auc), (8, 4, Some(1.0)));
        assert_eq!(vote.quantiles.unwrap()[0], 0.9 - 0.3);
        let stages: Vec<_> = report.critics.iter().map(|critic| critic.voting).collect();
        assert_eq!((stages, report.evaluations.len()), (vec![false, true], 4));
    });
}

#[test]
fn a_trajectory_has_its_thoughts_scores_and_updates() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let report = trajectory(&fixture.store, ids[0], None, VERDICT).await.unwrap();
        assert_eq!((report.correct, report.answer.as_deref()), (Some(true), Some("11")));
        assert_eq!(report.thoughts[1].leaves, [ids[0]]);
        assert_eq!(report.steps, [StepLine { run: 1, iteration: 1, step: 3 }]);
        let silent = trajectory(&fixture.store, ids[2], None, VERDICT).await.unwrap();
        assert_eq!((silent.correct, silent.scores[0].error), (Some(false), Some(ScoreError::NoAnswer)));
        let variant = trajectory(&fixture.store, ids[1], None, VERDICT).await.unwrap();
        assert!(variant.task.variant && variant.task.question.starts_with("Ana"));
        let error = trajectory(&fixture.store, 100_000, None, VERDICT).await.unwrap_err().to_string();
        assert!(error.contains("100000"), "{error}");
    });
}

#[test]
fn token_texts_must_add_up_to_the_thought() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let byte = |id: u32| Some(char::from_u32(id)?.to_string());
        let report = trajectory(&fixture.store, ids[0], Some(&byte), VERDICT).await.unwrap();
        let texts = report.thoughts[0].token_texts.as_ref().unwrap();
        assert_eq!(texts.concat(), report.thoughts[0].text);
        let wrong = |_: u32| Some("x".to_owned());
        let report = trajectory(&fixture.store, ids[0], Some(&wrong), VERDICT).await.unwrap();
        assert_eq!(report.thoughts[0].token_texts, None);
    });
}

#[test]
fn a_path_through_a_tree_is_marked() {
    block_on(async {
        let fixture = Fixture::new().await;
        let ids = fixture
            .store
            .write(1, 1, async |unit| unit.put_trees(Purpose::Rollout, "p", &[forked()]).await)
            .await
            .unwrap()
            .concat();
        let report = trajectory(&fixture.store, ids[0], None, VERDICT).await.unwrap();
        let path: Vec<bool> = report.thoughts.iter().map(|thought| thought.on_path).collect();
        assert_eq!(path, [true, true, false, true, false]);
        assert_eq!(report.thoughts[4].leaves, [ids[1]]);
    });
}

#[test]
fn answers_to_sql_are_records() {
    block_on(async {
        let fixture = Fixture::new().await;
        let limits = TableLimits { rows: 1, bytes: 1 << 20 };
        let whole = sql(&fixture.store, "SELECT 1 AS one, NULL AS none", limits, || false).await.unwrap();
        assert_eq!(json(&whole), json!([{ "one": 1, "none": null }]));
        let cut = sql(&fixture.store, "VALUES (1), (2)", limits, || false).await.unwrap();
        assert_eq!(cut.limit.as_deref(), Some("1 row"));
        let wide = TableLimits { rows: 9, bytes: 1 << 20 };
        let query = "VALUES (hex(zeroblob(400000))), (hex(zeroblob(400000)))";
        let cut = sql(&fixture.store, query, wide, || false).await.unwrap();
        assert_eq!((cut.rows.len(), cut.limit.as_deref()), (1, Some("1 MiB")));
    });
}

#[test]
fn a_profile_belongs_to_one_run() {
    use crate::profile::{Bandwidth, Machine, Report};
    let dir = tempfile::tempdir().unwrap();
    let memory = Bandwidth { one_thread_bytes_per_s: 1.0, all_threads_bytes_per_s: 2.0 };
    let machine = Machine { threads: 2, instruction_set: "AVX2".into(), peaks: Vec::new(), memory };
    let report = Report { run: Some(3), ..Report::of(&machine, &[]) };
    let path = profile_path(dir.path(), Arm::Oracle);
    std::fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
    let read = |arm, run| measured_profile(dir.path(), arm, run);
    assert_eq!(read(Arm::Oracle, 3).unwrap(), Some(report));
    assert_eq!((read(Arm::Oracle, 4).unwrap(), read(Arm::Reward, 3).unwrap()), (None, None));
    std::fs::write(&path, "{}").unwrap();
    let error = read(Arm::Oracle, 3).unwrap_err().to_string();
    assert!(error.contains("profile-oracle.json is not a profile"), "{error}");
}
