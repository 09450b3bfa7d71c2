//! Selection by example and by property.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    FinishReason, Leaf, Purpose, ScoreError, Split, Strategy as Search, Task, TaskKind, Thought, Tree,
    Variant,
};

fn config(keep: usize, floor: f64, total_max: usize) -> SelectConfig {
    SelectConfig {
        keep,
        floor,
        total_max,
        chance_max: 1.0,
        answer_max: 1.0,
        tasks_min: 1,
        rows_min: 1,
        closed_answers: true,
    }
}

fn address() -> Address {
    Address::new(3, Purpose::Selection, 1, "", &[])
}

/// A trajectory as plain values.
#[derive(Clone, Debug)]
struct Candidate {
    id: i64,
    task: &'static str,
    variant: &'static str,
    text: &'static str,
    finish: FinishReason,
    answer: Option<&'static str>,
    reward: Reward,
}

fn candidate(id: i64, task: &'static str, text: &'static str, reward: f64) -> Candidate {
    let (finish, answer) = (FinishReason::Eos, Some("1"));
    Candidate { id, task, variant: "0", text, finish, answer, reward: Ok(reward) }
}

/// Its task, and a chain of one thought.
fn drawn_as(candidate: &Candidate) -> (Task, Tree) {
    let task = Task {
        id: candidate.task.to_owned(),
        kind: TaskKind::Text,
        split: Split::Train,
        level: 1,
        question: "?".into(),
        answer: None,
        solution: None,
    };
    let thought = Thought {
        parent: None,
        token_ids: vec![1],
        logprobs: vec![0.0],
        text: candidate.text.to_owned(),
        hidden_f16: Vec::new(),
        value: None,
        pruned: None,
        visits: None,
    };
    let tree = Tree {
        address: address(),
        strategy: Search::Cot,
        task_id: task.id.clone(),
        variant: Some(Variant { address: address(), question: candidate.variant.to_owned() }),
        prompt_ids: vec![1],
        thoughts: vec![thought],
        leaves: vec![Leaf {
            thought: 0,
            finish: candidate.finish,
            answer: candidate.answer.map(str::to_owned),
        }],
    };
    (task, tree)
}

/// Hands `work` the candidates as trajectories with their rewards.
fn with<T>(candidates: &[Candidate], work: impl FnOnce(&[Trajectory], &Rewards) -> T) -> T {
    let owned: Vec<(Task, Tree)> = candidates.iter().map(drawn_as).collect();
    let trajectories: Vec<Trajectory> = candidates
        .iter()
        .zip(&owned)
        .map(|(c, (task, tree))| Trajectory { id: c.id, task, tree, leaf: &tree.leaves[0] })
        .collect();
    // A missing row and a failed reward are the same to selection: half of the failed ones are left
    // out.
    let stored = candidates.iter().filter(|c| c.reward.is_ok() || c.id % 2 == 0);
    work(&trajectories, &stored.map(|c| (c.id, c.reward)).collect())
}

fn by_reward_of(candidates: &[Candidate], config: &SelectConfig) -> Vec<Selection> {
    by_reward_and_chance(candidates, &Answers::default(), config)
}

fn by_reward_and_chance(
    candidates: &[Candidate],
    answers: &Answers,
    config: &SelectConfig,
) -> Vec<Selection> {
    with(candidates, |trajectories, rewards| by_reward(trajectories, rewards, answers, config))
}

#[test]
fn a_vote_that_chance_explains_is_not_kept_and_takes_no_place() {
    let candidates = [
        candidate(1, "a", "x", 0.9),
        candidate(2, "a", "y", 0.8),
        candidate(3, "b", "z", 0.7),
        candidate(4, "b", "u", 0.9),
    ];
    let chances = [(1, 0.06), (2, 0.05)].into();
    let answers = Answers { chances, odd: [4].into() };
    let config = SelectConfig { chance_max: 0.1, ..config(1, 0.0, 9) };
    let expected =
        [(1, Some(1), "by_chance"), (2, Some(2), "kept"), (3, Some(1), "by_chance"), (4, None, "odd_answer")];
    assert_eq!(table(&by_reward_and_chance(&candidates, &answers, &config)), expected);
}

/// The rate is one over tasks: the more of them agree, the less improbable each may be.
#[test]
fn more_agreeing_tasks_allow_higher_chances() {
    let tasks = ["a", "b", "c", "d"];
    let kept = |chances: &[f64]| {
        let candidates: Vec<Candidate> = (0..4).map(|i| candidate(i as i64, tasks[i], "x", 0.9)).collect();
        let chances = chances.iter().enumerate().map(|(i, &chance)| (i as i64, chance)).collect();
        let config = SelectConfig { chance_max: 0.2, ..config(1, 0.0, 9) };
        let answers = Answers { chances, odd: HashSet::new() };
        let selections = by_reward_and_chance(&candidates, &answers, &config);
        selections.iter().filter(|s| s.reason.is_kept()).count()
    };
    assert_eq!(kept(&[0.05, 0.5, 0.5, 0.5]), 1);
    assert_eq!(kept(&[0.06, 0.5, 0.5, 0.5]), 0);
    assert_eq!(kept(&[0.15, 0.15, 0.15, 0.5]), 3);
    assert_eq!(kept(&[0.2; 4]), 4);
    assert_eq!(kept(&[]), 0, "what isn't known is chance");
}

#[test]
fn no_answer_has_more_than_its_share() {
    let answering = |id, answer| {
        let task = ["a", "b", "c", "d", "e", "f"][id as usize % 6];
        Candidate { answer: Some(answer), ..candidate(id, task, "x", 1.0 - id as f64 / 10.0) }
    };
    let candidates = [
        answering(0, "yes"),
        answering(1, "yes"),
        answering(2, "no"),
        answering(3, "yes"),
        answering(4, "yes"),
        answering(5, "no"),
    ];
    let kept = |share: f64, tasks_min: usize| {
        let config = SelectConfig { answer_max: share, tasks_min, ..config(9, 0.0, 9) };
        let selections = by_reward_of(&candidates, &config);
        selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect::<Vec<_>>()
    };
    assert_eq!(kept(1.0, 6), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(0.5, 1), [0, 1, 2, 5], "the best of each");
    assert_eq!(kept(0.6, 1), [0, 1, 2, 3, 5]);
    assert_eq!(kept(0.01, 1), [0, 2], "one in any case");
    assert_eq!(kept(0.5, 5), [0; 0], "of too few tasks");
    let reasons = |rows_min: usize| {
        let config = SelectConfig { answer_max: 0.5, rows_min, ..config(9, 0.0, 9) };
        by_reward_of(&candidates, &config).iter().map(|s| s.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(4).iter().filter(|reason| reason.is_kept()).count(), 4);
    assert_eq!(reasons(5).iter().filter(|r| **r == SelectionReason::TooFewRows).count(), 4, "too few rows");
}

fn at_random_of(candidates: &[Candidate], count: usize, address: &Address) -> Vec<Selection> {
    with(candidates, |trajectories, rewards| {
        at_random(trajectories, rewards, &HashSet::new(), count, address)
    })
}

fn by_gold_of(
    candidates: &[Candidate],
    is_right: impl Fn(i64) -> bool,
    count: usize,
    config: &SelectConfig,
) -> Vec<Selection> {
    with(candidates, |trajectories, rewards| {
        by_gold(trajectories, rewards, |t| is_right(t.id), count, config, &address())
    })
}

fn table(selections: &[Selection]) -> Vec<(i64, Option<u32>, &'static str)> {
    selections.iter().map(|s| (s.trajectory, s.rank, s.reason.name())).collect()
}

#[test]
fn every_reason_by_example() {
    let mut cut = candidate(8, "a", "h", 0.99);
    cut.finish = FinishReason::TokensMax;
    let mut silent = candidate(9, "a", "i", 0.99);
    silent.answer = None;
    let mut unscored = candidate(10, "a", "j", 0.0);
    unscored.reward = Err(ScoreError::MissingInput);
    let mut other_variant = candidate(3, "a", "same text", 0.8);
    other_variant.variant = "1";
    let candidates = [
        candidate(1, "a", "same text", 0.9),
        candidate(2, "a", "same \n text ", 0.9),
        other_variant,
        candidate(4, "a", "d", 0.7),
        candidate(5, "a", "e", 0.3),
        candidate(6, "b", "f", 0.8),
        candidate(7, "b", "g", 0.5),
        cut,
        silent,
        unscored,
    ];
    let expected = [
        (1, Some(1), "kept"),
        (2, Some(2), "duplicate"),
        // As good as 6, but second of its task: 6 takes the last place of the quota.
        (3, Some(3), "over_quota"),
        (4, Some(4), "below_keep"),
        (5, Some(5), "below_floor"),
        (6, Some(1), "kept"),
        (7, Some(2), "over_quota"),
        (8, None, "truncated"),
        (9, None, "no_answer"),
        (10, None, "unscorable"),
    ];
    assert_eq!(table(&by_reward_of(&candidates, &config(2, 0.4, 2))), expected);
}

#[test]
fn ties_go_to_the_lower_row() {
    let candidates = [candidate(2, "a", "x", 0.0), candidate(1, "a", "y", -0.0), candidate(3, "a", "z", 0.0)];
    let kept = table(&by_reward_of(&candidates, &config(1, 0.0, 9)));
    assert_eq!(kept, [(1, Some(1), "kept"), (2, Some(2), "below_keep"), (3, Some(3), "below_keep")]);
}

#[test]
fn random_draws_are_uniform_over_candidates() {
    let candidates: Vec<_> = (0..6).map(|i| candidate(i, "a", "x", 0.5)).collect();
    let mut drawn = [0; 6];
    for branch in 0..3000 {
        let address = Address { branch: vec![branch], ..address() };
        for (count, selection) in drawn.iter_mut().zip(at_random_of(&candidates, 2, &address)) {
            *count += i32::from(selection.reason.is_kept());
        }
    }
    // 1000 expected of each, one standard deviation about 26.
    assert!(drawn.iter().all(|count| (870..1130).contains(count)), "{drawn:?}");
}

#[test]
fn gold_keeps_only_what_is_right() {
    let candidates: Vec<_> = (0..8)
        .map(|i| candidate(i, if i < 5 { "a" } else { "b" }, ["p", "q", "r", "s", "p"][i as usize % 5], 0.1))
        .collect();
    let correct = [true, true, true, false, true, true, false, true];
    let reasons = by_gold_of(&candidates, |id| correct[id as usize], 3, &config(2, 0.9, 100));
    let count = |reason| reasons.iter().filter(|s| s.reason == reason).count();
    assert_eq!(count(SelectionReason::Wrong), 2);
    assert_eq!(count(SelectionReason::KeptOracle), 3);
    let none = by_gold_of(&candidates, |_| false, 3, &config(2, 0.0, 9));
    assert!(none.iter().all(|s| !s.reason.is_kept()));
}

/// A candidate as plain values: (task, variant, text, finish, answered, reward in tenths or none).
type Drawn = (u8, u8, u8, usize, bool, Option<u8>);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    prop::collection::vec(
        (
            0u8..4,
            0u8..2,
            0u8..4,
            0usize..FinishReason::ALL.len(),
            prop::bool::weighted(0.8),
            prop::option::weighted(0.8, 0u8..11),
        ),
        0..40,
    )
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn candidates(drawn: &[Drawn]) -> Vec<Candidate> {
    let build = |(i, &(task, variant, text, finish, answered, reward)): (usize, &Drawn)| Candidate {
        id: i as i64 * 3 + 1,
        task: NAMES[usize::from(task)],
        variant: NAMES[usize::from(variant)],
        text: NAMES[usize::from(text)],
        // Mostly complete: four of six finish reasons are not.
        finish: if i % 3 == 0 { FinishReason::ALL[finish] } else { FinishReason::Eos },
        answer: answered.then_some("7"),
        reward: reward.map(|r| f64::from(r) / 10.0).ok_or(ScoreError::NonFinite),
    };
    drawn.iter().enumerate().map(build).collect()
}

/// The three selections of the same candidates.
fn all_three(candidates: &[Candidate], config: &SelectConfig, count: usize) -> [Vec<Selection>; 3] {
    [
        by_reward_of(candidates, config),
        at_random_of(candidates, count, &address()),
        by_gold_of(candidates, |id| id % 2 == 0, count, config),
    ]
}

proptest! {
    #[test]
    fn every_candidate_gets_one_reason_in_any_order(
        drawn in drawn(), keep in 1usize..4, floor in 0.0f64..1.0, total in 1usize..12, count in 0usize..12, turn in 0usize..40,
    ) {
        let (candidates, config) = (candidates(&drawn), config(keep, floor, total));
        let mut turned = candidates.clone();
        turned.reverse();
        if !turned.is_empty() {
            let middle = turn % turned.len();
            turned.rotate_left(middle);
        }
        let selections = all_three(&candidates, &config, count);
        prop_assert_eq!(&all_three(&turned, &config, count), &selections);
        for selection in selections {
            let ids: Vec<i64> = selection.iter().map(|s| s.trajectory).collect();
            prop_assert_eq!(ids, candidates.iter().map(|c| c.id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_limits_hold(
        drawn in drawn(), keep in 1usize..4, floor in 0.0f64..1.0, total in 1usize..12, count in 0usize..12,
    ) {
        let (candidates, config) = (candidates(&drawn), config(keep, floor, total));
        let [reward, random, gold] = all_three(&candidates, &config, count);
        let kept = |selections: &[Selection]| -> Vec<Candidate> {
            candidates.iter().zip(selections).filter(|(_, s)| s.reason.is_kept()).map(|(c, _)| c.clone()).collect()
        };
        for (selection, limit) in [(&reward, total), (&gold, total.min(count))] {
            let kept = kept(selection);
            prop_assert!(kept.len() <= limit);
            for name in NAMES {
                prop_assert!(kept.iter().filter(|c| c.task == name).count() <= keep);
            }
            let texts: HashSet<_> = kept.iter().map(|c| (c.task, c.variant, c.text)).collect();
            prop_assert_eq!(texts.len(), kept.len());
        }
        prop_assert!(kept(&reward).iter().all(|c| c.reward.is_ok_and(|r| r >= floor)));
        let usable = candidates.iter().filter(|c| c.finish.is_complete() && c.answer.is_some()).count();
        prop_assert_eq!(kept(&random).len(), count.min(usable));
        for c in [kept(&reward), kept(&random), kept(&gold)].concat() {
            prop_assert!(c.finish.is_complete() && c.answer.is_some());
        }
    }

    #[test]
    fn nothing_kept_is_worse_than_what_the_quota_dropped(drawn in drawn(), total in 1usize..12) {
        let candidates = candidates(&drawn);
        let selections = by_reward_of(&candidates, &config(2, 0.0, total));
        let rewards = |reason| -> Vec<f64> {
            let of = candidates.iter().zip(&selections).filter(|(_, s)| s.reason == reason);
            of.filter_map(|(c, _)| c.reward.ok()).collect()
        };
        let (kept, dropped) = (rewards(SelectionReason::Kept), rewards(SelectionReason::OverQuota));
        prop_assert!(kept.iter().all(|k| dropped.iter().all(|d| k >= d)));
        prop_assert!(dropped.is_empty() || kept.len() == total);
    }
}
