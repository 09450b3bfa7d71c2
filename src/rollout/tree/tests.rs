//! The driver with other frontiers than the beam, and where thoughts draw from.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::frontier::{Child, Expand, Fate, Ruling};
use super::*;
use crate::domain::{FinishReason, PruneReason, ScoreError};
use crate::rollout::tests::{
    Judge, assert_sound, decode, jobs, limits, policy, stops, tree_config, with_tools,
};
use crate::rollout::{Limits, chains};

fn searched(jobs: &[Job], limits: Limits, frontier: &dyn Fn() -> Box<dyn Frontier>) -> Result<Vec<Tree>> {
    let guide = Guide { valuing: Valuing::Scorer(&Judge), proposing: None };
    with_tools(&policy(0.3, 40), limits, |tools| run(tools, jobs, &guide, frontier))
}

/// The texts of a tree's thoughts by the sibling numbers along their paths, counted from the tree.
fn by_path(tree: &Tree) -> BTreeMap<Vec<usize>, String> {
    let mut paths: Vec<Vec<usize>> = Vec::new();
    for (i, thought) in tree.thoughts.iter().enumerate() {
        let sibling = tree.thoughts[..i].iter().filter(|earlier| earlier.parent == thought.parent).count();
        let mut path = thought.parent.map(|parent| paths[parent as usize].clone()).unwrap_or_default();
        path.push(sibling);
        paths.push(path);
    }
    paths.into_iter().zip(&tree.thoughts).map(|(path, thought)| (path, thought.text.clone())).collect()
}

#[test]
fn a_thought_draws_the_same_however_wide_the_search_is() {
    let grown = |proposals, beam| {
        let config = tree_config(proposals, beam);
        searched(&jobs(8), limits(), &|| frontier(&config)).unwrap()
    };
    let narrow = grown(2, 1);
    for wide in [grown(2, 4), grown(5, 1), grown(4, 3)] {
        let mut deep = 0;
        for (narrow, wide) in narrow.iter().zip(&wide) {
            let (narrow, wide) = (by_path(narrow), by_path(wide));
            for (path, text) in narrow.iter().filter(|(path, _)| wide.contains_key(*path)) {
                assert_eq!(wide[path], *text, "{path:?}");
                deep += usize::from(path.len() > 1);
            }
        }
        assert!(deep > 8, "{deep} thoughts below the first ones are in both");
    }
}

/// Depth-first search (Yao et al. 2023, algorithm 2) up to its first complete leaf, or to its
/// budget.
struct DepthFirst {
    open: Vec<Option<u32>>,
    expansions_left: usize,
}

impl Frontier for DepthFirst {
    fn extent(&self, _: usize) -> Extent {
        Extent { in_flight: 3, leaves: 1, thoughts: 60 }
    }

    fn next(&mut self, _: &Tree) -> Vec<Expand> {
        self.open.pop().map(|parent| Expand { parent, children: 3 }).into_iter().collect()
    }

    fn learn(&mut self, tree: &Tree, children: &[Child]) -> Vec<Ruling> {
        if !tree.leaves.is_empty() {
            return Vec::new();
        }
        let mut children = children.to_vec();
        children.sort_by(|a, b| a.value.partial_cmp(&b.value).unwrap());
        self.open.extend(children.iter().map(|child| Some(child.thought)));
        self.expansions_left -= 1;
        let Some(best) = children.last().filter(|best| best.ended || self.expansions_left == 0) else {
            return Vec::new();
        };
        let rest = std::mem::take(&mut self.open).into_iter().flatten();
        rest.map(|thought| {
            let pruned = Fate::Pruned(PruneReason::Beam);
            Ruling { thought, fate: if thought == best.thought { Fate::Leaf } else { pruned } }
        })
        .collect()
    }
}

#[test]
fn a_depth_first_frontier_needs_no_other_driver() {
    let depth_first = |expansions_left| Box::new(DepthFirst { open: vec![None], expansions_left });
    let trees = searched(&jobs(40), limits(), &|| depth_first(20)).unwrap();
    for tree in &trees {
        assert_sound(tree, &stops(), &decode);
        assert_eq!(tree.leaves.len(), 1);
    }
    assert!(trees.iter().any(|tree| tree.leaves[0].answer.as_deref() == Some("3")));
    // Trees that end in different rounds are the same as if each were searched by itself. A path that
    // is cut by the budget claims nothing.
    let budget = Cell::new(0);
    let budgets = || -> Box<dyn Frontier> {
        budget.set(budget.get() + 1);
        depth_first(budget.get())
    };
    let jobs = jobs(4);
    for (i, tree) in searched(&jobs, limits(), &budgets).unwrap().into_iter().enumerate() {
        assert_sound(&tree, &stops(), &decode);
        assert!(tree.thoughts.len() <= 3 * (i + 1));
        let leaf = &tree.leaves[0];
        if leaf.finish == FinishReason::ThoughtsMax {
            assert_eq!((tree.thoughts.len(), leaf.answer.as_deref()), (3 * (i + 1), None));
        }
        let own = || -> Box<dyn Frontier> { depth_first(i + 1) };
        assert_eq!(searched(&jobs[i..=i], limits(), &own).unwrap(), [tree]);
    }
}

/// Expands the root for one child at a time, as UCT does, and makes all of them leaves.
struct OneByOne {
    wanted: u32,
}

impl Frontier for OneByOne {
    fn extent(&self, _: usize) -> Extent {
        Extent { in_flight: 1, leaves: 6, thoughts: 6 }
    }

    fn next(&mut self, _: &Tree) -> Vec<Expand> {
        let expand = (self.wanted > 0).then_some(Expand { parent: None, children: 1 });
        self.wanted = self.wanted.saturating_sub(1);
        expand.into_iter().collect()
    }

    fn learn(&mut self, _: &Tree, children: &[Child]) -> Vec<Ruling> {
        children.iter().map(|child| Ruling { thought: child.thought, fate: Fate::Leaf }).collect()
    }
}

#[test]
fn a_thought_may_be_expanded_again() {
    let one_by_one = searched(&jobs(8), limits(), &|| Box::new(OneByOne { wanted: 6 })).unwrap();
    // A search over one depth draws the same children in one round.
    let short = Limits { thoughts_max: 1, ..limits() };
    let config = tree_config(6, 6);
    let together = searched(&jobs(8), short, &|| frontier(&config)).unwrap();
    for (one_by_one, together) in one_by_one.iter().zip(&together) {
        assert_eq!(by_path(one_by_one), by_path(together));
        let pruned = |tree: &Tree| tree.thoughts.iter().map(|t| t.pruned).collect::<Vec<_>>();
        assert_eq!(pruned(one_by_one), pruned(together), "a repetition is a duplicate in either");
    }
    let error = searched(&jobs(1), limits(), &|| Box::new(OneByOne { wanted: 7 })).unwrap_err();
    assert!(format!("{error:#}").contains("7 in all"), "{error:#}");
}

/// Asks for whatever it is given, once, and never rules.
struct Fixed(Vec<Expand>);

impl Frontier for Fixed {
    fn extent(&self, _: usize) -> Extent {
        Extent { in_flight: 9, leaves: 1, thoughts: 9 }
    }

    fn next(&mut self, _: &Tree) -> Vec<Expand> {
        std::mem::take(&mut self.0)
    }

    fn learn(&mut self, _: &Tree, _: &[Child]) -> Vec<Ruling> {
        Vec::new()
    }
}

#[test]
fn a_frontier_that_asks_for_the_impossible_is_an_error() {
    let error = |expands: &[Expand]| {
        let frontier = || -> Box<dyn Frontier> { Box::new(Fixed(expands.to_vec())) };
        format!("{:#}", searched(&jobs(1), limits(), &frontier).unwrap_err())
    };
    let root = Expand { parent: None, children: 2 };
    for impossible in [
        vec![Expand { parent: Some(0), children: 1 }],
        vec![Expand { parent: None, children: 0 }],
        vec![root, root],
    ] {
        let error = error(&impossible);
        assert!(error.contains("can't be expanded") && error.contains("t/0"), "{error}");
    }
    assert!(error(&[Expand { parent: None, children: 10 }]).contains("its limits are 9 and 9"));
    assert!(error(&[root]).contains("made no leaf"));
}

/// No value at all for any path.
struct Silent;

impl Scorer for Silent {
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>> {
        paths.iter().map(|_| Err(ScoreError::MissingInput)).collect()
    }
}

#[test]
fn a_tree_of_one_proposal_is_a_chain_in_other_draws() {
    let guide = Guide { valuing: Valuing::Scorer(&Silent), proposing: None };
    with_tools(&policy(1.0, 2), limits(), |tools| {
        let trees = search(tools, &jobs(2), &tree_config(1, 1), &guide).unwrap();
        for (tree, chain) in trees.iter().zip(chains(tools, &jobs(2)).unwrap()) {
            assert_eq!(tree.completion_text(&tree.leaves[0]), chain.completion_text(&chain.leaves[0]));
        }
    });
}
