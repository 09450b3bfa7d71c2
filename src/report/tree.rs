//! The thoughts of one tree: their text, tokens and log-probabilities, and what the search made of
//! them.

use serde::Serialize;

use crate::domain::{PruneReason, Thought, Tree};

/// Returns the text of one token, so that each token can be shown with its own log-probability.
pub type TokenText<'a> = &'a (dyn Fn(u32) -> Option<String> + Sync);

/// One thought of the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThoughtLine {
    /// Position in the tree.
    pub index: usize,
    pub parent: Option<u32>,
    /// Whether it is part of this trajectory.
    pub on_path: bool,
    pub text: String,
    pub token_ids: Vec<u32>,
    /// One per token, in nats.
    pub logprobs: Vec<f32>,
    /// One per token; null if unknown, or if the tokens' texts don't add up to the thought's.
    pub token_texts: Option<Vec<String>>,
    /// The critic's value during a tree search, in [0, 1].
    pub value: Option<f32>,
    pub pruned: Option<PruneReason>,
    /// The trajectories that end here.
    pub leaves: Vec<i64>,
}

/// Every thought of the tree, parents before children.
///
/// `path` has the indices of one trajectory's thoughts; `trajectories` has one id per leaf of the
/// tree.
pub(super) fn thought_lines(
    tree: &Tree,
    path: &[usize],
    trajectories: &[i64],
    token_text: Option<TokenText<'_>>,
) -> Vec<ThoughtLine> {
    let leaves_at = |index: usize| {
        let leaves = tree.leaves.iter().zip(trajectories);
        leaves.filter(|(leaf, _)| leaf.thought as usize == index).map(|(_, id)| *id).collect()
    };
    let line = |(index, thought): (usize, &Thought)| ThoughtLine {
        index,
        parent: thought.parent,
        on_path: path.contains(&index),
        text: thought.text.clone(),
        token_ids: thought.token_ids.clone(),
        logprobs: thought.logprobs.clone(),
        token_texts: token_text.and_then(|text| token_texts(thought, text)),
        value: thought.value,
        pruned: thought.pruned,
        leaves: leaves_at(index),
    };
    tree.thoughts.iter().enumerate().map(line).collect()
}

/// A character may be spread over tokens, and special tokens have no text: then the parts don't add
/// up.
fn token_texts(thought: &Thought, text: TokenText<'_>) -> Option<Vec<String>> {
    let texts: Vec<String> = thought.token_ids.iter().map(|id| text(*id)).collect::<Option<_>>()?;
    (texts.concat() == thought.text).then_some(texts)
}
