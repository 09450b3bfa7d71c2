//! Trees of thoughts to store, and a store to put them in.

use autodidact::domain::*;
use autodidact::store::*;

const NOW: &str = "2026-11-21T22:00:00Z";
/// Of a thought.
pub(crate) const TOKENS: u32 = 16;

/// The `n`-th chain of thoughts of its iteration; each thought has `hidden` hidden values.
pub(crate) fn chain(iteration: u32, n: u32, thoughts: u32, hidden: u32) -> Tree {
    const NAMES: [&str; 16] = [
        "Anna", "Bert", "Carl", "Dora", "Emil", "Fay", "Gus", "Hope", "Ivan", "Jude", "Kim", "Lea", "Max",
        "Nia", "Olaf", "Pia",
    ];
    let task = format!("relations/train/{:06}", n % 1000);
    let thought = |i: u32| {
        let name = |k: u32| NAMES[((n * 7 + i * 3 + k * 5) % 16) as usize];
        Thought {
            parent: i.checked_sub(1),
            token_ids: (0..TOKENS).map(|t| (n * 31 + i * 7 + t) % 4096).collect(),
            logprobs: (0..TOKENS).map(|t| -((n + i + t) as f32) / 97.0).collect(),
            text: format!(
                "{} has {} more than {}, so {} has {}. ",
                name(0),
                i + 2,
                name(1),
                name(0),
                n % 97 + i
            ),
            hidden_f16: (0..hidden).map(|h| (n * 13 + i * 5 + h) as u16).collect(),
            value: None,
            pruned: None,
            visits: None,
        }
    };
    Tree {
        address: Address::new(7, Purpose::Rollout, iteration, &task, &[n / 1000]),
        strategy: Strategy::Cot,
        variant: Some(Variant {
            address: Address::new(7, Purpose::Variant, iteration, &task, &[n / 1000]),
            question: format!("{} has {} apples. How many has {}?", NAMES[(n % 16) as usize], n, NAMES[3]),
        }),
        task_id: task,
        prompt_ids: (0..60).collect(),
        thoughts: (0..thoughts).map(thought).collect(),
        leaves: vec![Leaf {
            thought: thoughts - 1,
            finish: FinishReason::Eos,
            answer: Some((n % 97).to_string()),
        }],
    }
}

fn tasks() -> Vec<Task> {
    (0..1000)
        .map(|n| Task {
            id: format!("relations/train/{n:06}"),
            kind: TaskKind::Relations,
            split: Split::Train,
            level: 1 + n % 9,
            question: format!("Question {n}: Anna has {n} apples more than Bert. How many has Carl?"),
            answer: Some((n % 97).to_string()),
            solution: None,
        })
        .collect()
}

/// An empty store in a folder, and a run of it.
pub(crate) async fn open(folder: &std::path::Path) -> (Store, i64) {
    let store = Store::open(&folder.join("run.db")).await.expect("a store");
    store.put_tasks(&tasks()).await.expect("tasks");
    let run = NewRun {
        arm: Arm::Reward,
        of_run: None,
        seed: 7,
        iterations: 10,
        config_json: "{}".into(),
        config_hash: "c".into(),
        tokenizer_hash: "t".into(),
        base_policy_hash: "p".into(),
        engine_version: "0".into(),
        started_at: NOW.into(),
    };
    let run = store.begin_run(&run).await.expect("a run");
    (store, run)
}
