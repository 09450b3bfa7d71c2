//! A store that holds one run, its random control, and everything that they can have.

use std::future::Future;

use serde_json::json;
use tempfile::TempDir;

use crate::domain::*;
use crate::store::*;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

const NOW: &str = "2026-11-21T22:00:00Z";
const HELDOUT: u32 = 40;
const TRAIN: u32 = 4;

pub(crate) fn task(split: Split, n: u32) -> Task {
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

pub(crate) fn thought(parent: Option<u32>, text: &str) -> Thought {
    Thought {
        parent,
        token_ids: text.bytes().map(u32::from).collect(),
        logprobs: text.bytes().map(|b| if b == b'5' { -3.0 } else { -0.01 }).collect(),
        text: text.into(),
        hidden_f16: vec![0; 4],
        value: None,
        pruned: None,
        visits: None,
    }
}

/// A chain for the task; the branch is the last part of its address.
pub(crate) fn chain(
    purpose: Purpose,
    iteration: u32,
    task: &Task,
    branch: u32,
    answer: Option<&str>,
) -> Tree {
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

pub(crate) struct Fixture {
    _dir: TempDir,
    pub(crate) store: Store,
    pub(crate) run: i64,
    pub(crate) control: i64,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
        let tasks = (0..HELDOUT).map(|n| task(Split::HeldOut, n));
        let tasks: Vec<Task> = tasks.chain((0..TRAIN).map(|n| task(Split::Train, n))).collect();
        store.put_tasks(&tasks).await.unwrap();
        let run = begin(&store, Arm::Reward, None).await;
        let control = begin(&store, Arm::Random, Some(run)).await;
        Self { _dir: dir, store, run, control }
    }

    /// The held-out attempts of a policy that solves the first `right` tasks: greedy ones, and
    /// sampled ones that are always wrong and must not be counted.
    pub(crate) async fn evaluate(&self, run: i64, iteration: u32, right: u32) {
        let mut trees = Vec::new();
        for n in 0..HELDOUT {
            let task = task(Split::HeldOut, n);
            trees.push(chain(Purpose::Evaluation, iteration, &task, 1, Some("3")));
            let answer = if n < right { "11" } else { "12" };
            trees.push(chain(Purpose::Evaluation, iteration, &task, 0, Some(answer)));
        }
        let hash = format!("policy{iteration}of{run}");
        self.store
            .write(run, iteration, async |unit| unit.put_trees(Purpose::Evaluation, &hash, &trees).await)
            .await
            .unwrap();
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
            self.store
                .write(run, iteration, async |unit| unit.put_evaluations(std::slice::from_ref(&row)).await)
                .await
                .unwrap();
        }
        self.store
            .write(run, iteration, async |unit| unit.finish_phase(Phase::Evaluate, 2.5, "{}").await)
            .await
            .unwrap();
    }

    /// Three rollouts per task: right and kept, wrong and kept, and one without an answer.
    pub(crate) async fn roll_out(&self, run: i64, iteration: u32, arm: Arm) -> Vec<i64> {
        let mut trees = Vec::new();
        for task in (0..TRAIN).map(|n| task(Split::Train, n)) {
            for (branch, answer) in [(0, Some("11")), (1, Some("12")), (2, None)] {
                trees.push(chain(Purpose::Rollout, iteration, &task, branch, answer));
            }
        }
        let ids = self
            .store
            .write(run, iteration, async |unit| unit.put_trees(Purpose::Rollout, "policy0", &trees).await)
            .await
            .unwrap()
            .concat();
        let (mut scores, mut selections) = (Vec::new(), Vec::new());
        for (i, &trajectory) in ids.iter().enumerate() {
            let (reason, vote) = match (i % 3, arm) {
                (2, _) => (SelectionReason::NoAnswer, Err(ScoreError::NoAnswer)),
                (i, Arm::Reward) => (SelectionReason::Kept, Ok(0.9 - 0.3 * i as f64)),
                (..) => (SelectionReason::KeptRandom, Err(ScoreError::MissingInput)),
            };
            scores.push((trajectory, Score { scorer: ScorerName::VOTE, value: vote }));
            selections.push(Selection::new(trajectory, vote.is_ok().then_some(i as u32 % 3 + 1), reason));
        }
        self.store
            .write(run, iteration, async |unit| unit.put_scores("critic-hash", &scores).await)
            .await
            .unwrap();
        self.store.write(run, iteration, async |unit| unit.put_selections(&selections).await).await.unwrap();
        ids
    }

    pub(crate) async fn promote(&self, run: i64, iteration: u32, promoted: bool) {
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
        self.store.write(run, iteration, async |unit| unit.put_promotion(&row).await).await.unwrap();
        self.store
            .write(run, iteration, async |unit| unit.finish_phase(Phase::Promote, 0.5, "{}").await)
            .await
            .unwrap();
    }

    /// The loop gains 50 points in iteration 1 and is not promoted in iteration 2; the control
    /// gains 10.
    pub(crate) async fn complete() -> (Self, Vec<i64>) {
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
        fixture
            .store
            .write(fixture.run, 1, async |unit| unit.put_critic(CriticStage::Annotated, &critic).await)
            .await
            .unwrap();
        let bootstrap = CriticRow { auc: Some(0.5), voting: false, ..critic };
        fixture
            .store
            .write(fixture.run, 1, async |unit| unit.put_critic(CriticStage::Bootstrap, &bootstrap).await)
            .await
            .unwrap();
        let step = StepRow { step: 3, loss: 0.5, examples: vec![ids[0]], ..StepRow::default() };
        fixture.store.write(fixture.run, 1, async |unit| unit.put_steps(&[step]).await).await.unwrap();
        fixture
            .store
            .write(fixture.run, 1, async |unit| {
                unit.put_parity(&ParityRow { max_abs_diff: 2e-6, tokens: 640 }).await
            })
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

pub(crate) async fn begin(store: &Store, arm: Arm, of_run: Option<i64>) -> i64 {
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

/// A tree of thoughts with a fork, one side of it pruned.
pub(crate) fn forked() -> Tree {
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

/// A verdict by equality with the gold answer; an attempt without an answer is wrong.
pub(crate) const VERDICT: crate::report::Verdict<'static> =
    &|task: &Task, answer: Option<&str>| task.answer.as_deref().map(|gold| answer == Some(gold));
