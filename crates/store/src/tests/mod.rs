//! Tests of the store, and the fixtures they share.

mod crash;
mod damage;
mod drive;
mod faults;
mod migrations;
mod round_trip;
mod sql;
mod tools;
mod views;
mod writers;

use std::future::Future;

use tempfile::TempDir;

use super::*;
use autodidact_domain::*;

/// Runs on a current-thread runtime, as the program does.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

const NOW: &str = "2026-11-21T22:00:00Z";

fn new_run(arm: Arm) -> NewRun {
    NewRun {
        arm,
        of_run: None,
        seed: u64::MAX - 1,
        iterations: 2,
        config_json: r#"{"run":{"seed":7}}"#.into(),
        config_hash: "c0".into(),
        tokenizer_hash: "t0".into(),
        base_policy_hash: "p0".into(),
        engine_version: "0.1.0".into(),
        started_at: NOW.into(),
    }
}

fn task(n: u32, split: Split) -> Task {
    Task {
        id: format!("relations/{split}/{n:06}"),
        kind: TaskKind::Relations,
        split,
        level: 3,
        question: format!("Anna has {n} more apples than Bert."),
        answer: Some(n.to_string()),
        solution: (split == Split::Easy).then(|| format!("Bert has 1. Anna has {}.", n + 1)),
    }
}

/// A chain of `len` thoughts; everything in it follows from `n`.
fn chain(purpose: Purpose, iteration: u32, n: u32, len: u32) -> Tree {
    let task = task(n % 4, Split::Train);
    let thoughts = (0..len).map(|i| Thought {
        parent: i.checked_sub(1),
        token_ids: (0..10).map(|t| n * 31 + i * 7 + t).collect(),
        logprobs: (0..10).map(|t| -((n + i + t) as f32) / 97.0).collect(),
        text: format!("Step {i} of chain {n}: {} + {i} = {}. ", n, n + i),
        hidden_f16: (0..8).map(|h| (n * 13 + i * 5 + h) as u16).collect(),
        value: None,
        pruned: None,
        visits: None,
    });
    Tree {
        address: Address::new(7, purpose, iteration, &task.id, &[n]),
        strategy: Strategy::Cot,
        variant: (n % 2 == 1).then(|| Variant {
            address: Address::new(7, Purpose::Variant, iteration, &task.id, &[n]),
            question: format!("Carl has {n} more pears than Dora."),
        }),
        task_id: task.id,
        prompt_ids: (0..20).map(|t| t + n).collect(),
        thoughts: thoughts.collect(),
        leaves: vec![Leaf {
            thought: len - 1,
            finish: FinishReason::Eos,
            answer: Some((n + len).to_string()),
        }],
    }
}

/// A tree of thoughts with three leaves, one branch pruned.
fn bushy(iteration: u32, n: u32) -> Tree {
    let mut tree = chain(Purpose::Rollout, iteration, n, 6);
    tree.strategy = Strategy::Tot;
    for (i, parent) in [None, Some(0), Some(0), Some(1), Some(2), Some(2)].into_iter().enumerate() {
        tree.thoughts[i].parent = parent;
        tree.thoughts[i].value = Some(0.1 + i as f32 / 7.0);
    }
    tree.thoughts[4].pruned = Some(PruneReason::Beam);
    tree.leaves = [(3, FinishReason::Eos), (4, FinishReason::Boundary), (5, FinishReason::TokensMax)]
        .map(|(thought, finish)| Leaf { thought, finish, answer: (thought == 3).then(|| "42".into()) })
        .into();
    tree
}

/// An open store with tasks and one run.
async fn store() -> (TempDir, Store, i64) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("run.db")).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|n| task(n, Split::Train))
        .chain([task(0, Split::Easy), task(0, Split::HeldOut)])
        .collect();
    store.put_tasks(&tasks).await.unwrap();
    let run = store.begin_run(&new_run(Arm::Reward)).await.unwrap();
    (dir, store, run)
}
