//! Searches whose thoughts and values come from prompts.

use super::*;
use crate::domain::{ReadRequest, Stops};
use crate::engine::native::Native;
use crate::model::{ModelConfig, Packed, Weights};

/// What the policy answers to the propose prompt at each depth.
const ANSWERS: [&str; 4] = ["1. a1\n2. a7\na1\n", "- b2\n- b8\n", "c3\nc9\nc8\n", "A: 3\nA: 9\n"];

/// The search's policy, which also knows what to propose.
fn proposer(skill: f64, answers: &[&str]) -> Scripted {
    let mut plays = BTreeMap::from([(vec![1, 200], play())]);
    // Deeper than that it has nothing to say.
    for (depth, answer) in answers.iter().chain(&["\n"; 8]).enumerate() {
        let answer = ended(answer);
        plays.insert(vec![3, 100 + depth as u32], Play { solution: answer.clone(), wrong: vec![answer] });
    }
    Scripted::new(Script::table(plays), skill).unwrap()
}

fn ask(path: &Path, count: u32) -> Result<Vec<u32>> {
    ensure!(count > 0, "nothing is asked for");
    Ok(vec![3, 100 + path.thoughts.len() as u32])
}

fn encode(text: &str) -> Result<Vec<u32>> {
    Ok(ids(text))
}

fn value(paths: &[Path]) -> Result<Values> {
    paths.iter().for_each(|path| assert_eq!(path.tree.task_id, "t/0"));
    Ok(Judge.score(&paths.iter().map(|path| path.thoughts.clone()).collect::<Vec<_>>()))
}

fn searched(engine: &dyn Generate, limits: Limits, config: &TreeConfig, proposing: Proposing) -> Tree {
    let guide = Guide { valuing: Valuing::Prompt(&value), proposing: Some(proposing) };
    with_tools(engine, limits, |tools| search(tools, &jobs(1), config, &guide).unwrap().remove(0))
}

/// Stored log-probabilities are those of the path, whatever the thoughts were proposed after.
fn assert_true(tree: &Tree, engine: &dyn Generate) {
    for (i, thought) in tree.thoughts.iter().enumerate() {
        let leaf = crate::domain::Leaf { thought: i as u32, finish: FinishReason::Boundary, answer: None };
        let ids = [tree.prompt_ids.as_slice(), &tree.completion_ids(&leaf)].concat();
        let from = ids.len() - thought.token_ids.len();
        let request = ReadRequest { hidden_at: vec![ids.len() - 1], ids, from };
        let reading = engine.read(&[request]).unwrap().remove(0);
        assert_eq!(reading.logprobs, thought.logprobs, "{:?}", thought.text);
        assert_eq!(reading.hidden_f16[0], thought.hidden_f16, "{:?}", thought.text);
    }
}

#[test]
fn lines_become_thoughts_with_the_paths_own_log_probabilities() {
    let policy = proposer(0.3, &ANSWERS);
    let tree = searched(&policy, limits(), &tree_config(3, 2), Proposing { ask: &ask, encode: &encode });
    assert_sound(&tree, &stops(), &decode);
    assert_true(&tree, &policy);
    let first: Vec<_> =
        tree.thoughts.iter().filter(|t| t.parent.is_none()).map(|t| t.text.as_str()).collect();
    assert_eq!(first, ["a1\n", "a7\n"], "marks and repetitions are left out");
    // The last line is closed by the end, because the policy finds that likelier than a line break.
    let answers: Vec<_> = tree.leaves.iter().filter_map(|leaf| leaf.answer.as_deref()).collect();
    assert!(answers.contains(&"3"), "{answers:?}");
    assert!(tree.leaves.iter().any(|leaf| leaf.finish == FinishReason::Eos));
    let duplicate = |t: &Thought| t.pruned == Some(PruneReason::Duplicate);
    assert!(tree.thoughts.iter().all(|t| t.value.is_some() != duplicate(t)), "valued by the prompt");
    assert!(tree.thoughts.iter().any(|t| t.pruned == Some(PruneReason::Beam)));
    let again = searched(&policy, limits(), &tree_config(3, 2), Proposing { ask: &ask, encode: &encode });
    assert_eq!(again, tree);
}

#[test]
fn what_cannot_be_used_costs_proposals_and_no_search() {
    let config = tree_config(3, 2);
    // Nothing but blanks; no prompt at all; a line that can't be written: all of them are sampled
    // instead.
    let silent = proposer(0.3, &["\n \n", "\n", "\n", "\n", "\n", "\n"]);
    let sampled = with_tools(&silent, limits(), |tools| {
        let guide = Guide { valuing: Valuing::Prompt(&value), proposing: None };
        search(tools, &jobs(1), &config, &guide).unwrap().remove(0)
    });
    let refuse =
        |_: &Path, _: u32| -> Result<Vec<u32>> { anyhow::bail!("the path can't be put into a prompt") };
    let mute = |_: &str| -> Result<Vec<u32>> { anyhow::bail!("this tokenizer has no token for it") };
    let policy = proposer(0.3, &ANSWERS);
    assert_eq!(searched(&silent, limits(), &config, Proposing { ask: &ask, encode: &encode }), sampled);
    for proposing in [Proposing { ask: &refuse, encode: &encode }, Proposing { ask: &ask, encode: &mute }] {
        let tree = searched(&policy, limits(), &config, proposing);
        assert_sound(&tree, &stops(), &decode);
        assert_eq!(tree.thoughts, sampled.thoughts);
    }
    // An encoder that splits a line in two, or writes none.
    for bad in ["x\ny", ""] {
        let encode = move |_: &str| encode(bad);
        let tree = searched(&policy, limits(), &config, Proposing { ask: &ask, encode: &encode });
        assert_eq!(tree.thoughts, sampled.thoughts);
    }
}

#[test]
fn limits_hold_for_proposed_thoughts() {
    let policy = proposer(0.3, &ANSWERS);
    let proposing = Proposing { ask: &ask, encode: &encode };
    for tokens_max in [2, 3, 5, 6, 7, 10] {
        let tree = searched(&policy, Limits { tokens_max, ..limits() }, &tree_config(3, 2), proposing);
        assert_sound(&tree, &stops(), &decode);
        assert!(tree.leaves.iter().all(|leaf| tree.completion_ids(leaf).len() <= tokens_max));
    }
    for thoughts_max in [1, 2] {
        let tree = searched(&policy, Limits { thoughts_max, ..limits() }, &tree_config(3, 2), proposing);
        assert!(tree.leaves.iter().all(|leaf| tree.path(leaf).len() <= thoughts_max));
    }
}

/// A tiny model proposes noise: no bytes it writes may end anything but its own search.
#[test]
fn a_model_that_babbles_still_ends_its_search() {
    let weights = Weights::init(ModelConfig::seed(256), &Address::new(4, Purpose::Init, 0, "", &[])).unwrap();
    let model = Native::new(Packed::new(&weights).unwrap(), 4096).unwrap();
    let stops = Stops { eos_ids: vec![EOS], boundary_ids: vec![NEWLINE], ..Stops::default() };
    let limits = Limits { tokens_max: 24, thoughts_max: 4, ..limits() };
    let own = |path: &Path, count: u32| {
        let thoughts: String = path.thoughts.iter().map(|t| t.text.as_str()).collect();
        Ok(ids(&format!("{count} more:\n{thoughts}")))
    };
    // Only what the byte tokens can write is read back.
    let encode = |line: &str| {
        ensure!(line.is_ascii() && line.bytes().all(|b| b > 3), "not text: {line:?}");
        Ok(ids(line))
    };
    let guide = Guide {
        valuing: Valuing::Prompt(&|paths| {
            Ok(paths.iter().map(|p| Ok(1.0 / p.thoughts.len() as f64)).collect())
        }),
        proposing: Some(Proposing { ask: &own, encode: &encode }),
    };
    let many: Vec<Job> = jobs(6);
    let tools =
        Tools { engine: &model, decode: &decode, stops: &stops, limits, answer: &answer, on_tokens: &|_| () };
    let together = search(&tools, &many, &tree_config(3, 2), &guide).unwrap();
    for (job, tree) in many.iter().zip(&together) {
        assert!(!tree.leaves.is_empty());
        assert!(tree.leaves.iter().all(|leaf| tree.completion_ids(leaf).len() <= 24));
        let alone = search(&tools, std::slice::from_ref(job), &tree_config(3, 2), &guide).unwrap();
        assert_eq!(alone[0], *tree, "neighbours don't matter");
        assert_true(tree, &model);
    }
}
