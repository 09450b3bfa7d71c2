mod prompts;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::{FinishReason, PruneReason, Purpose, ScoreError, Scorer, Strategy, Thought};
use crate::engine::scripted::{Play, Script, Scripted};

const EOS: u32 = 2;
const NEWLINE: u32 = 10;

/// A byte is its own token; below 4 are specials.
fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

pub(super) fn decode(ids: &[u32]) -> Result<String> {
    let bytes: Vec<u8> = ids.iter().filter(|&&id| id > 3).map(|&id| id as u8).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn ended(text: &str) -> Vec<u32> {
    [ids(text), vec![EOS]].concat()
}

fn answer(_: TaskKind, text: &str) -> Option<String> {
    text.rsplit_once("A: ").map(|(_, answer)| answer.to_owned())
}

/// The right path is one of many: whoever draws whole completions rarely gets it.
pub(super) fn play() -> Play {
    let wrong =
        ["a1\nb2\nc9\nA: 9", "a1\nb8\nc8\nA: 8", "a7\nb7\nc7\nA: 7", "a1\nA: 1", "a6\nb6\nc6\nd6\nA: 6"];
    Play { solution: ended("a1\nb2\nc3\nA: 3"), wrong: wrong.iter().map(|w| ended(w)).collect() }
}

pub(super) fn policy(skill: f64, prompts: u32) -> Scripted {
    let plays: BTreeMap<_, _> = (0..prompts).map(|i| (vec![1, 200 + i], play())).collect();
    Scripted::new(Script::table(plays), skill).unwrap()
}

pub(super) fn jobs(count: u32) -> Vec<Job> {
    let job = |i: u32| Job {
        task_id: format!("t/{i}"),
        kind: TaskKind::Text,
        variant: None,
        answers: AnswerMap::new(),
        prompt_ids: vec![1, 200 + i],
        address: Address::new(0, Purpose::Rollout, 1, &format!("t/{i}"), &[0]),
    };
    (0..count).map(job).collect()
}

pub(super) fn stops() -> Stops {
    Stops { eos_ids: vec![EOS], boundary_ids: vec![NEWLINE], ..Stops::default() }
}

pub(super) fn limits() -> Limits {
    let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    Limits { sampling, tokens_max: 100, thoughts_max: 10 }
}

pub(super) fn with_tools<R>(engine: &dyn Generate, limits: Limits, f: impl FnOnce(&Tools) -> R) -> R {
    let stops = stops();
    f(&Tools { engine, decode: &decode, stops: &stops, limits, answer: &answer, on_tokens: &|_| () })
}

/// Knows the right thoughts; a wrong path is worth little, and less the longer.
pub(super) struct Judge;

impl Scorer for Judge {
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>> {
        let value = |path: &Vec<&Thought>| {
            let text: String = path.iter().map(|t| t.text.as_str()).collect();
            if "a1\nb2\nc3\nA: 3".starts_with(&text) { 0.9 } else { 0.2 }
        };
        paths.iter().map(|p| Ok(value(p))).collect()
    }
}

struct Silent;

impl Scorer for Silent {
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>> {
        paths.iter().map(|_| Err(ScoreError::MissingInput)).collect()
    }
}

pub(super) fn tree_config(proposals: u32, beam: u32) -> TreeConfig {
    let (propose, value) = (Propose::Sample, ValueBy::Head);
    TreeConfig { proposals, beam, value_floor: 0.0, propose, value }
}

/// Searches with sampled proposals, valued by `scorer`.
fn trees(tools: &Tools, jobs: &[Job], config: &TreeConfig, scorer: &dyn Scorer) -> Result<Vec<Tree>> {
    search(tools, jobs, config, &Guide { valuing: Valuing::Scorer(scorer), proposing: None })
}

pub(super) fn assert_sound(tree: &Tree, stops: &Stops, decode: Decode) {
    assert!(!tree.leaves.is_empty());
    for (i, thought) in tree.thoughts.iter().enumerate() {
        assert!(thought.parent.is_none_or(|p| (p as usize) < i), "parents come first");
        assert!(!thought.token_ids.is_empty());
        assert_eq!(thought.token_ids.len(), thought.logprobs.len());
        let children = tree.thoughts.iter().filter(|t| t.parent == Some(i as u32)).count();
        let leaf = tree.leaves.iter().any(|l| l.thought == i as u32);
        assert!(thought.pruned.is_none() || (children == 0 && !leaf), "a pruned thought goes nowhere");
        assert!(!leaf || children == 0, "a leaf has no children");
        assert!(thought.pruned.is_some() || children > 0 || leaf, "every kept thought goes on or ends");
        let inner = &thought.token_ids[..thought.token_ids.len() - 1];
        assert!(!inner.iter().any(|id| stops.boundary_ids.contains(id)));
    }
    for leaf in &tree.leaves {
        assert_eq!(tree.completion_text(leaf), decode(&tree.completion_ids(leaf)).unwrap());
    }
}

#[test]
fn a_chain_is_a_tree_with_one_branch() {
    let policy = policy(1.0, 1);
    let drawn = AtomicUsize::new(0);
    let tree = with_tools(&policy, limits(), |tools| {
        let count = |n| {
            drawn.fetch_add(n, Ordering::Relaxed);
        };
        chains(&Tools { on_tokens: &count, ..*tools }, &jobs(1)).unwrap().remove(0)
    });
    assert_sound(&tree, &stops(), &decode);
    assert_eq!(tree.strategy, Strategy::Cot);
    let texts: Vec<_> = tree.thoughts.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, ["a1\n", "b2\n", "c3\n", "A: 3"]);
    assert_eq!(tree.leaves.len(), 1);
    assert_eq!((tree.leaves[0].finish, tree.leaves[0].answer.as_deref()), (FinishReason::Eos, Some("3")));
    assert_eq!(tree.completion_ids(&tree.leaves[0]), play().solution);
    assert!(tree.thoughts.iter().all(|t| t.hidden_f16.len() == 8 && t.value.is_none()));
    assert_eq!(drawn.into_inner(), tree.drawn_tokens());
}

#[test]
fn a_cut_chain_claims_nothing() {
    let policy = policy(1.0, 1);
    let cut = Limits { thoughts_max: 2, ..limits() };
    let tree = with_tools(&policy, cut, |tools| chains(tools, &jobs(1)).unwrap().remove(0));
    assert_eq!(tree.thoughts.len(), 2);
    assert_eq!((tree.leaves[0].finish, tree.leaves[0].answer.as_deref()), (FinishReason::ThoughtsMax, None));
    let short = Limits { tokens_max: 7, ..limits() };
    let tree = with_tools(&policy, short, |tools| chains(tools, &jobs(1)).unwrap().remove(0));
    assert_eq!((tree.leaves[0].finish, tree.drawn_tokens()), (FinishReason::TokensMax, 7));
    assert_sound(&tree, &stops(), &decode);
}

#[test]
fn search_finds_what_chains_miss() {
    let policy = policy(0.1, 40);
    let right = |trees: &[Tree]| {
        trees.iter().filter(|t| t.leaves.iter().any(|l| l.answer.as_deref() == Some("3"))).count()
    };
    let config = tree_config(6, 2);
    let (cot, tot) = with_tools(&policy, limits(), |tools| {
        (chains(tools, &jobs(40)).unwrap(), trees(tools, &jobs(40), &config, &Judge).unwrap())
    });
    assert!(right(&cot) <= 10, "{}", right(&cot));
    assert!(right(&tot) >= 30, "{}", right(&tot));
    for tree in &tot {
        assert_sound(tree, &stops(), &decode);
        assert!(tree.leaves.len() <= 2);
        assert!(
            tree.thoughts.iter().all(|t| t.value.is_some() != (t.pruned == Some(PruneReason::Duplicate)))
        );
    }
    let reasons: Vec<_> = tot.iter().flat_map(|t| &t.thoughts).filter_map(|t| t.pruned).collect();
    assert!(reasons.contains(&PruneReason::Beam) && reasons.contains(&PruneReason::Duplicate));
}

#[test]
fn a_tree_does_not_depend_on_the_other_jobs() {
    let policy = policy(0.3, 6);
    let config = tree_config(3, 2);
    with_tools(&policy, limits(), |tools| {
        let together = trees(tools, &jobs(6), &config, &Judge).unwrap();
        for (job, tree) in jobs(6).iter().zip(&together) {
            let alone = trees(tools, std::slice::from_ref(job), &config, &Judge).unwrap();
            assert_eq!(&alone[0], tree);
        }
        let chained = chains(tools, &jobs(6)).unwrap();
        assert_eq!(chains(tools, &jobs(6)[4..5]).unwrap()[0], chained[4]);
    });
}

#[test]
fn below_the_floor_only_the_last_hope_survives() {
    let policy = policy(0.0, 1);
    let config = TreeConfig { value_floor: 0.5, ..tree_config(4, 3) };
    let tree =
        with_tools(&policy, limits(), |tools| trees(tools, &jobs(1), &config, &Judge).unwrap().remove(0));
    assert_sound(&tree, &stops(), &decode);
    assert_eq!(tree.leaves.len(), 1);
    assert!(tree.thoughts.iter().any(|t| t.pruned == Some(PruneReason::Value)));
}

#[test]
fn without_values_the_search_still_ends() {
    let policy = policy(0.2, 5);
    let config = TreeConfig { value_floor: 0.9, ..tree_config(3, 2) };
    let trees = with_tools(&policy, limits(), |tools| trees(tools, &jobs(5), &config, &Silent).unwrap());
    for tree in trees {
        assert_sound(&tree, &stops(), &decode);
        assert!(tree.thoughts.iter().all(|t| t.value.is_none() && t.pruned != Some(PruneReason::Value)));
    }
}

#[test]
fn limits_end_a_search() {
    let policy = policy(1.0, 1);
    let config = tree_config(2, 1);
    let search = |limits| {
        with_tools(&policy, limits, |tools| trees(tools, &jobs(1), &config, &Judge).unwrap().remove(0))
    };
    let tree = search(Limits { thoughts_max: 2, ..limits() });
    assert_eq!(tree.leaves[0].finish, FinishReason::ThoughtsMax);
    assert_eq!(tree.leaves[0].answer, None);
    for (tokens_max, thoughts) in [(6, 2), (7, 3)] {
        let tree = search(Limits { tokens_max, ..limits() });
        assert_sound(&tree, &stops(), &decode);
        assert_eq!(tree.leaves[0].finish, FinishReason::TokensMax);
        assert_eq!(tree.path(&tree.leaves[0]).len(), thoughts);
        assert_eq!(tree.completion_ids(&tree.leaves[0]).len(), tokens_max);
    }
    with_tools(&policy, Limits { tokens_max: 0, ..limits() }, |tools| {
        assert!(chains(tools, &jobs(1)).unwrap_err().to_string().contains("0 tokens"));
    });
}

#[test]
fn a_thought_that_ends_where_the_context_does_ends_its_path() {
    // Two tokens of prompt and three of `a1\n` fill the context exactly: nothing could be proposed
    // after them.
    let policy = policy(1.0, 1).with_context_max(5);
    let tree = &with_tools(&policy, limits(), |t| trees(t, &jobs(1), &tree_config(2, 2), &Judge).unwrap())[0];
    assert_eq!(tree.leaves.len(), 1);
    assert_eq!((tree.leaves[0].finish, tree.leaves[0].answer.as_deref()), (FinishReason::ContextFull, None));
    assert_eq!(tree.completion_text(&tree.leaves[0]), "a1\n");
}

#[test]
fn given_completions_are_read_as_chains() {
    let policy = policy(1.0, 1);
    let given = [play().solution, ids("a1\nb2")];
    let jobs = [jobs(1).remove(0), jobs(1).remove(0)];
    with_tools(&policy, limits(), |tools| {
        let trees = teacher_forced(tools, &jobs, &given).unwrap();
        let drawn = chains(tools, &jobs[..1]).unwrap();
        assert_eq!(trees[0], drawn[0], "what the policy draws for sure reads as it was drawn");
        assert_eq!((trees[1].thoughts.len(), trees[1].leaves[0].finish), (2, FinishReason::TokensMax));
        assert_eq!(trees[1].leaves[0].answer, None, "a completion without an end claims nothing");
        let error = teacher_forced(tools, &jobs, &[ids("a"), Vec::new()]).unwrap_err().to_string();
        assert!(error.contains("empty completion"), "{error}");
        let error = teacher_forced(tools, &jobs, &given[..1]).unwrap_err().to_string();
        assert!(error.contains("1 completions were given for 2 jobs"), "{error}");
    });
}

#[test]
fn an_extent_counts_what_is_drawn_at_once_and_in_all() {
    let rollout = |strategy| RolloutConfig { strategy, ..settings() };
    let config = tree_config(3, 2);
    let chain = rollout(Strategy::Cot).extent(&config, 10);
    assert_eq!(chain, Extent { in_flight: 1, leaves: 1, thoughts: 10 });
    let tree = rollout(Strategy::Tot).extent(&config, 10);
    assert_eq!(tree, Extent { in_flight: 6, leaves: 2, thoughts: 60 });
}

#[test]
fn a_wrong_setting_is_reported_with_its_value() {
    let found = |rollout: &RolloutConfig, tree: &TreeConfig| {
        let mut found = Vec::new();
        let mut check = |holds: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            found.extend((!holds).then(|| format!("{key} = {value:?}: {rule}")));
        };
        rollout.check(&mut check);
        tree.check(&mut check);
        found
    };
    assert!(found(&settings(), &tree_config(1, 256)).is_empty());
    let rollout = RolloutConfig { temperature: -1.0, top_p: 0.0, stop: vec![String::new()], ..settings() };
    let tree = TreeConfig { value_floor: f64::NAN, ..tree_config(0, 257) };
    let expected = [
        "rollout.temperature = -1.0: 0 (greedy) to 100",
        "rollout.top_p = 0.0: above 0, at most 1",
        "rollout.stop = [\"\"]: no empty text",
        "tree.proposals = 0: 1 to 256",
        "tree.beam = 257: 1 to 256",
        "tree.value_floor = NaN: 0 to 1",
    ];
    assert_eq!(found(&rollout, &tree), expected);
    let started = |tools: &Tools| trees(tools, &jobs(1), &tree, &Judge).unwrap_err().to_string();
    let error = with_tools(&policy(1.0, 1), limits(), started);
    assert!(error.contains("they are 0 and 257"), "{error}");
}

fn settings() -> RolloutConfig {
    RolloutConfig {
        strategy: Strategy::Cot,
        tasks: 1,
        variants: 1,
        samples: 1,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        tokens_max: 100,
        thoughts_max: 10,
        stop: Vec::new(),
    }
}

#[test]
fn thoughts_draw_from_their_own_addresses() {
    // The first proposals of one beam entry see the same context, so only the address tells them
    // apart.
    let policy = policy(0.3, 1);
    let config = tree_config(32, 1);
    let tree =
        with_tools(&policy, limits(), |tools| trees(tools, &jobs(1), &config, &Judge).unwrap().remove(0));
    let first: std::collections::BTreeSet<_> =
        tree.thoughts.iter().filter(|t| t.parent.is_none()).map(|t| t.text.clone()).collect();
    assert!(first.len() >= 3, "{first:?}");
}
