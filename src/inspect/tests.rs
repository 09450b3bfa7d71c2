//! Reports over a store that holds one run, its random control, and everything they can have.

use std::future::Future;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::domain::*;
use crate::store::*;

const PLAIN: Style = Style { color: false, width: None };
const NOW: &str = "2026-11-21T22:00:00Z";
const HELDOUT: u32 = 40;
const TRAIN: u32 = 4;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn task(split: Split, n: u32) -> Task {
    Task {
        id: format!("relations/{split}/{n:06}"),
        kind: TaskKind::Relations,
        split,
        level: 9 + n % 2,
        question: "Paul minus 5 is Tina. Paul has 16. Tina?".into(),
        answer: Some("11".into()),
        solution: None,
    }
}

fn thought(parent: Option<u32>, text: &str) -> Thought {
    Thought {
        parent,
        token_ids: text.bytes().map(u32::from).collect(),
        logprobs: text.bytes().map(|b| if b == b'5' { -3.0 } else { -0.01 }).collect(),
        text: text.into(),
        hidden_f16: vec![0; 4],
        value: None,
        pruned: None,
    }
}

/// A chain for the task; the branch is the last part of its address.
fn chain(purpose: Purpose, iteration: u32, task: &Task, branch: u32, answer: Option<&str>) -> Tree {
    let last = format!("A: {}", answer.unwrap_or("\x1b[2J"));
    Tree {
        address: Address::new(7, purpose, iteration, &task.id, &[branch]),
        strategy: Strategy::Cot,
        task_id: task.id.clone(),
        variant: (branch % 2 == 1).then(|| Variant {
            address: Address::new(7, Purpose::Variant, iteration, &task.id, &[branch]),
            question: "Ana minus 5 is Tom. Ana has 16. Tom?".into(),
        }),
        prompt_ids: vec![1, 2],
        thoughts: vec![thought(None, "Paul minus 5 is Tina 11\n"), thought(Some(0), &last)],
        leaves: vec![Leaf { thought: 1, finish: FinishReason::Eos, answer: answer.map(str::to_owned) }],
    }
}

struct Fixture {
    _dir: TempDir,
    store: Store,
    run: i64,
    control: i64,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
        let tasks = (0..HELDOUT).map(|n| task(Split::HeldOut, n));
        let tasks: Vec<Task> = tasks.chain((0..TRAIN).map(|n| task(Split::Train, n))).collect();
        store.put_tasks(&tasks).await.unwrap();
        let run = begin(&store, Arm::Reward, None).await;
        let control = begin(&store, Arm::Random, Some(run)).await;
        Self { _dir: dir, store, run, control }
    }

    /// The held-out attempts of a policy that solves the first `right` tasks: greedy ones, and sampled ones that
    /// are always wrong and must not be counted.
    async fn evaluate(&self, run: i64, iteration: u32, right: u32) {
        let mut trees = Vec::new();
        for n in 0..HELDOUT {
            let task = task(Split::HeldOut, n);
            trees.push(chain(Purpose::Evaluation, iteration, &task, 1, Some("3")));
            let answer = if n < right { "11" } else { "12" };
            trees.push(chain(Purpose::Evaluation, iteration, &task, 0, Some(answer)));
        }
        let hash = format!("policy{iteration}of{run}");
        self.store.put_trees(run, iteration, Purpose::Evaluation, &hash, &trees).await.unwrap();
        let value = f64::from(right) / f64::from(HELDOUT);
        let (lo, hi) = stats::wilson(right as usize, HELDOUT as usize, 0.95);
        for (metric, level) in [("pass@1", None), ("pass@1", Some(10)), ("pass@1", Some(9)), ("pass@4", None)]
        {
            let decoding = if metric == "pass@1" { Decoding::Greedy } else { Decoding::Sampled };
            let metric = metric.to_owned();
            let split = Split::HeldOut;
            let row = EvaluationRow {
                policy_hash: hash.clone(),
                split,
                decoding,
                metric,
                level,
                n: HELDOUT,
                value,
                lo,
                hi,
            };
            self.store.put_evaluation(run, iteration, &row).await.unwrap();
        }
        self.store.finish_phase(run, iteration, Phase::Evaluate, 2.5, "{}").await.unwrap();
    }

    /// Three rollouts per task: right and kept, wrong and kept, and one without an answer.
    async fn roll_out(&self, run: i64, iteration: u32, arm: Arm) -> Vec<i64> {
        let mut trees = Vec::new();
        for task in (0..TRAIN).map(|n| task(Split::Train, n)) {
            for (branch, answer) in [(0, Some("11")), (1, Some("12")), (2, None)] {
                trees.push(chain(Purpose::Rollout, iteration, &task, branch, answer));
            }
        }
        let ids =
            self.store.put_trees(run, iteration, Purpose::Rollout, "policy0", &trees).await.unwrap().concat();
        let (mut scores, mut selections) = (Vec::new(), Vec::new());
        for (i, &trajectory) in ids.iter().enumerate() {
            let (reason, vote) = match (i % 3, arm) {
                (2, _) => (SelectionReason::NoAnswer, Err(ScoreError::NoAnswer)),
                (i, Arm::Reward) => (SelectionReason::Kept, Ok(0.9 - 0.3 * i as f64)),
                (..) => (SelectionReason::KeptRandom, Err(ScoreError::MissingInput)),
            };
            scores.push((trajectory, Score { scorer: ScorerName::VOTE, value: vote }));
            selections.push(Selection { trajectory, rank: vote.is_ok().then_some(i as u32 % 3 + 1), reason });
        }
        self.store.put_scores(run, iteration, "critic-hash", &scores).await.unwrap();
        self.store.put_selections(run, iteration, &selections).await.unwrap();
        ids
    }

    async fn promote(&self, run: i64, iteration: u32, promoted: bool) {
        let row = PromotionRow {
            candidate_hash: format!("policy{iteration}of{run}"),
            incumbent_hash: "policy0".into(),
            promoted,
            gain_points: 12.5,
            lo: 3.0,
            hi: 20.0,
            p_value: Some(0.01),
            reason: "no regression".into(),
        };
        self.store.put_promotion(run, iteration, &row).await.unwrap();
        self.store.finish_phase(run, iteration, Phase::Promote, 0.5, "{}").await.unwrap();
    }

    /// The loop gains 50 points in iteration 1 and is not promoted in iteration 2; the control gains 10.
    async fn complete() -> (Self, Vec<i64>) {
        let fixture = Self::new().await;
        fixture.evaluate(fixture.run, 0, 16).await;
        fixture.evaluate(fixture.control, 0, 16).await;
        let ids = fixture.roll_out(fixture.run, 1, Arm::Reward).await;
        let critic = CriticRow {
            hash: "critic-hash".into(),
            bytes: vec![1],
            auc: Some(0.875),
            ece: Some(0.0625),
            brier: None,
            anchor_n: 100,
            annotated: 30,
            voting: true,
        };
        fixture.store.put_critic(fixture.run, 1, CriticStage::Annotated, &critic).await.unwrap();
        let bootstrap = CriticRow { auc: Some(0.5), voting: false, ..critic };
        fixture.store.put_critic(fixture.run, 1, CriticStage::Bootstrap, &bootstrap).await.unwrap();
        let step = StepRow { step: 3, loss: 0.5, examples: vec![ids[0]], ..StepRow::default() };
        fixture.store.put_steps(fixture.run, 1, &[step]).await.unwrap();
        fixture
            .store
            .put_parity(fixture.run, 1, &ParityRow { max_abs_diff: 2e-6, tokens: 640 })
            .await
            .unwrap();
        fixture.evaluate(fixture.run, 1, 36).await;
        fixture.promote(fixture.run, 1, true).await;
        fixture.evaluate(fixture.run, 2, 30).await;
        fixture.promote(fixture.run, 2, false).await;
        fixture.roll_out(fixture.control, 1, Arm::Random).await;
        fixture.evaluate(fixture.control, 1, 20).await;
        fixture.promote(fixture.control, 1, true).await;
        (fixture, ids)
    }
}

async fn begin(store: &Store, arm: Arm, of_run: Option<i64>) -> i64 {
    let run = NewRun {
        arm,
        of_run,
        seed: 7,
        iterations: 2,
        config_json: json!({"gate": {"confidence": 0.9}}).to_string(),
        config_hash: "c0".into(),
        tokenizer_hash: "t0".into(),
        base_policy_hash: "policy0".into(),
        engine_version: "0.1.0".into(),
        started_at: NOW.into(),
    };
    store.begin_run(&run).await.unwrap()
}

fn json(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).unwrap()
}

#[test]
fn a_run_has_its_iterations_gain_and_controls() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = run(&fixture.store, fixture.run).await.unwrap();
        let value = json(&report);
        assert_eq!(
            (&value["run"], &value["state"], &value["seconds"]),
            (&json!(1), &json!("running"), &json!(8.5))
        );
        let first = &value["iterations"][1];
        assert_eq!(first["policy_hash"], "policy1of1");
        assert_eq!((&first["iteration"], &first["promoted"]), (&json!(1), &json!(true)));
        assert_eq!((&first["heldout"]["n"], &first["heldout"]["pass1"]), (&json!(40), &json!(0.9)));
        assert_eq!(
            (&first["trajectories"], &first["kept"], &first["seconds"]),
            (&json!(12), &json!(8), &json!(3.0))
        );
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
        let text = report.render(&PLAIN);
        for part in [
            "+50.0",
            "90.0 [",
            "0.88/0.06/–",
            "2.0e-6",
            "random",
            "reads gold",
            "next: bootstrap of iteration 1",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    });
}

#[test]
fn a_run_that_has_just_begun_has_no_gain() {
    block_on(async {
        let fixture = Fixture::new().await;
        let report = run(&fixture.store, fixture.run).await.unwrap();
        assert_eq!((report.gain, report.iterations.len(), report.controls.len()), (None, 0, 1));
        fixture.evaluate(fixture.run, 0, 16).await;
        let report = run(&fixture.store, fixture.run).await.unwrap();
        assert_eq!((report.gain, report.iterations.len()), (None, 1));
        assert_eq!(report.iterations[0].policy_hash.as_deref(), Some("policy0of1"));
        report.render(&Style { color: true, width: Some(20) });
        let error = run(&fixture.store, 9).await.unwrap_err().to_string();
        assert_eq!(error, "there is no run 9; the store has 1, 2");
        let error = iteration(&fixture.store, fixture.run, 3).await.unwrap_err().to_string();
        assert_eq!(error, "run 1 has no iteration 3; its last is 0");
    });
}

#[test]
fn runs_are_listed() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = runs(&fixture.store).await.unwrap();
        let line = &report.runs[0];
        assert_eq!((line.iterations_done, line.heldout_base, line.heldout), (2, Some(0.4), Some(0.9)));
        let text = report.render(&PLAIN);
        for part in ["40.0 → 90.0", "random (control of 1)", "2 of 2"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(
            RunsReport { runs: Vec::new() }.render(&PLAIN),
            "no runs yet; `autodidact run` begins one\n"
        );
    });
}

#[test]
fn an_iteration_shows_why_and_how_well() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let report = iteration(&fixture.store, fixture.run, 1).await.unwrap();
        let value = json(&report);
        assert_eq!(value["policy_hash"], "policy1of1");
        assert_eq!(
            value["selection"],
            json!([{"reason": "kept", "count": 8}, {"reason": "no_answer", "count": 4}])
        );
        assert_eq!(value["tasks"], json!({"attempted": 4, "kept": 4, "solved": 4}));
        let vote = &report.scores[0];
        assert_eq!((vote.n, vote.failed["no_answer"], vote.auc), (8, 4, Some(1.0)));
        assert_eq!(vote.quantiles.unwrap()[0], 0.9 - 0.3);
        let text = report.render(&PLAIN);
        for part in
            ["promoted: gate gain +12.5", "9: 90.0  10: 90.0", "pass@4", "annotated", "1.000", "█        █"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        iteration(&fixture.store, fixture.run, 0).await.unwrap().render(&PLAIN);
    });
}

#[test]
fn a_trajectory_tells_its_story() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let report = trajectory(&fixture.store, ids[0], None).await.unwrap();
        assert_eq!((report.correct, report.answer.as_deref()), (Some(true), Some("11")));
        assert_eq!(report.thoughts[1].leaves, [ids[0]]);
        assert_eq!(report.steps, [StepLine { run: 1, iteration: 1, step: 3 }]);
        let text = report.render(&PLAIN);
        for part in [
            "Paul minus 5 is Tina 11",
            "right (reads gold)",
            "vote",
            "0.9000",
            "kept in",
            "steps 3 of iteration 1",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
        // A variant shows the words it was asked in; output of a policy can't command the terminal.
        let silent = trajectory(&fixture.store, ids[2], None).await.unwrap();
        assert_eq!((silent.correct, silent.scores[0].error), (Some(false), Some(ScoreError::NoAnswer)));
        assert!(silent.render(&PLAIN).contains("A: \\u{1b}[2J"));
        let variant = trajectory(&fixture.store, ids[1], None).await.unwrap();
        assert!(variant.task.variant && variant.task.question.starts_with("Ana"));
        let error = trajectory(&fixture.store, 100_000, None).await.unwrap_err().to_string();
        assert!(error.contains("100000"), "{error}");
    });
}

#[test]
fn heat_is_shown_token_by_token_where_texts_are_known() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let byte = |id: u32| Some(char::from_u32(id)?.to_string());
        let color = Style { color: true, width: None };
        let report = trajectory(&fixture.store, ids[0], Some(&byte)).await.unwrap();
        let text = report.render(&color);
        assert!(text.contains("Paul minus \x1b[31m5\x1b[0m is Tina 11\n"), "{text:?}");
        // Texts that don't add up to the thought's are not shown.
        let wrong = |_: u32| Some("x".to_owned());
        let report = trajectory(&fixture.store, ids[0], Some(&wrong)).await.unwrap();
        assert_eq!(report.thoughts[0].token_texts, None);
    });
}

/// A tree of thoughts with a fork, one side of it pruned.
fn forked() -> Tree {
    let mut tree = chain(Purpose::Rollout, 1, &task(Split::Train, 0), 0, Some("11"));
    tree.strategy = Strategy::Tot;
    tree.thoughts =
        [(None, "root\n"), (Some(0), "left\n"), (Some(0), "right\n"), (Some(1), "A: 11"), (Some(2), "A: 12")]
            .map(|(parent, text)| Thought { value: Some(0.5), ..thought(parent, text) })
            .into();
    tree.thoughts[2].pruned = Some(PruneReason::Beam);
    tree.leaves = [(3, "11"), (4, "12")]
        .map(|(thought, answer)| Leaf { thought, finish: FinishReason::Eos, answer: Some(answer.into()) })
        .into();
    tree
}

/// The JSON contract: names, order and values of every field are those of the files in `golden/`.
#[test]
fn the_json_is_what_it_was() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let store = &fixture.store;
        let byte = |id: u32| Some(char::from_u32(id)?.to_string());
        same(&runs(store).await.unwrap(), include_str!("golden/runs.json"));
        same(&run(store, fixture.run).await.unwrap(), include_str!("golden/run.json"));
        same(&run(store, fixture.control).await.unwrap(), include_str!("golden/control.json"));
        same(&iteration(store, fixture.run, 1).await.unwrap(), include_str!("golden/iteration.json"));
        same(&trajectory(store, ids[0], Some(&byte)).await.unwrap(), include_str!("golden/trajectory.json"));
        let unscored = trajectory(store, ids[2], None).await.unwrap();
        same(&unscored, include_str!("golden/unscored.json"));
        let fixture = Fixture::new().await;
        let ids = fixture.store.put_trees(1, 1, Purpose::Rollout, "p", &[forked()]).await.unwrap().concat();
        same(&trajectory(&fixture.store, ids[0], None).await.unwrap(), include_str!("golden/forked.json"));
    });
}

/// Text for text, except that numbers may differ in their last digits: `ln` and `exp` are the platform's.
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
fn a_tree_is_an_outline_that_indents_at_forks_alone() {
    block_on(async {
        let fixture = Fixture::new().await;
        let ids = fixture.store.put_trees(1, 1, Purpose::Rollout, "p", &[forked()]).await.unwrap().concat();
        let report = trajectory(&fixture.store, ids[0], None).await.unwrap();
        let text = report.render(&PLAIN);
        let outline: Vec<&str> = text.lines().filter_map(|line| line.split("0.50  ").nth(1)).collect();
        let other = format!("   A: 12  ↳ trajectory {}", ids[1]);
        assert_eq!(outline, ["root", "├─ left", "│  A: 11", "└─ right  ✗ pruned: beam", &other]);
        assert_eq!(
            report.thoughts.iter().map(|t| t.on_path).collect::<Vec<_>>(),
            [true, true, false, true, false]
        );
    });
}

#[test]
fn answers_to_sql_are_tables() {
    block_on(async {
        let fixture = Fixture::new().await;
        let answer = fixture.store.sql("select id, of_run from runs", 1).await.unwrap();
        let text = table(&answer, &PLAIN);
        assert!(text.contains("NULL") && text.contains("1 rows, and more"), "{text}");
    });
}
