//! # autodidact: a self-rewarding improvement engine for language models
//!
//! It rolls out chain-of-thought and tree-of-thought trajectories and scores them with a self-critique head, a vote
//! over meaning-preserving variants and, if there is one, a judge. It stores every one in SQLite, fine-tunes the policy
//! on the best, proves on held-out tasks whether the new weights are better, and repeats. This page is the map.
//!
//! ## Words
//!
//! | word | meaning |
//! |---|---|
//! | iteration | one turn of the outer loop; 0 is the base policy |
//! | step | one optimizer update |
//! | task, dataset | a reference problem; a set of them, in splits: easy, anchor, train, gate, heldout |
//! | variant | a task in other words with the same answer |
//! | thought | one reasoning unit of a trajectory |
//! | trajectory | one attempt at a task, root to leaf; a chain of thought is a tree with one branch |
//! | group | all trajectories of one task in one iteration; in training, the examples that an objective sees together |
//! | rollout | the act of producing trajectories |
//! | sample | a verb: to sample is to draw a token |
//! | judge, reference | auxiliary models: one is asked for scores, the other for log-probabilities; neither is trained |
//! | score, spec | a scorer's number in \[0, 1\], by the scorer's name; how the scorer was set up, as a hash |
//! | grade | a checker's verdict against a gold answer |
//! | reward | the formula over scores that selection ranks by |
//! | select | to keep the best per task; `select.keep` is the k of "top-k" |
//! | policy | the weights at an iteration, named by their hash; the model is the network's code |
//! | example | a packed training row |
//! | objective | what an update minimises: a pure function of per-token log-probabilities over a group |
//! | frontier | what a search expands next, and what it gives up |
//! | alarm | a rule that watched a figure and acted: rule, value, threshold, action |
//! | address | where a random draw stands: (seed, purpose, iteration, task, branch) |
//!
//! ## Floors
//!
//! Nouns travel, rooms don't visit: rooms exchange the nouns of [`domain`], and only [`improve`] knows every room.
//! No import runs from a lower floor to a higher one. Rooms in *italics* are separate crates below `crates/`;
//! [`ops`], [`model`], [`engine`] and [`train`] are one, `nn`.
//!
//! | floor | rooms |
//! |---|---|
//! | F0 nouns and seams, and the stopwatch that every room may carry | *[`domain`]* with [`profile`] |
//! | F1 tools, strangers to each other except for engine, train → model → ops → kernels, data → answer, and [`gguf`], which nn and text share | [`answer`], [`data`], [`text`], *[`ops::kernels`]*, *[`ops`]*, *[`model`]*, *[`engine`]*, *[`train`]*, *[`store`]*, *[`gguf`]*, [`hub`] |
//! | F2 stages: nouns in, nouns out, no store | [`rollout`], [`score`], [`select`], [`policy`] |
//! | F3 the configuration, composed of the rooms' sections, and the loop | [`config`], [`eval`], [`improve`] |
//! | F4 what happened, and the doors | [`report`], [`inspect`], [`cli`] |
//!
//! A trajectory's walk: `data` makes a task → `text` renders token ids → `engine` samples tokens with
//! log-probabilities → `rollout` returns a tree → *commit* → `score` returns named scores → *commit* → `select`
//! ranks → *commit* → `train` packs groups, an objective weighs their tokens, the optimizer steps → the checkpoint is
//! renamed into place → *commit* → `eval` → the gate → *commit* → `report` gathers it, `inspect` shows it. It looks
//! back twice only: tree search asks the [`domain::Scorer`] (or a prompt), and the loop returns to the top with a new
//! policy.
//!
//! ## Invariants
//!
//! - SQL lives in `store` and `migrations/`; tensor types in `ops`, `model`, `engine` and `train`. `kernels` takes
//!   slices and returns slices.
//! - `engine` never sees text, `train` never tokenizes, the model owns no cache.
//! - Only `improve` writes to the store; `report` reads it, and computes no verdict: its caller passes one. Formulas over
//!   verdicts are [`eval`]'s.
//! - Clock, entropy, environment and terminal are read only in `main` and `cli`; [`profile`] is handed its clock, and
//!   what it records decides nothing.
//! - Two seams between rooms are traits: [`domain::Generate`], which states what it can do, and [`domain::Scorer`],
//!   both `&self`.
//! - Each room owns its section of the configuration and its check. A run's identity is the difference from the defaults.
//! - Randomness has an address ([`domain::Address`]), and a row of a batch never depends on its neighbours: batch
//!   size, thread count, interruptions and resuming can't change a bit of what is stored or trained. On other devices
//!   than the CPU ([`engine::device`]) only the addresses hold.
//! - Training reads gold answers of easy tasks only; the gate reads those of the gate split; the held-out split
//!   decides nothing. The oracle control arm is the one exception, and is named so.

pub mod answer;
pub mod cli;
pub mod config;
pub mod data;
pub mod eval;
pub mod hub;
pub mod improve;
pub mod inspect;
pub mod policy;
pub mod report;
pub mod rollout;
pub mod score;
pub mod select;
pub mod text;

pub use autodidact_domain::{self as domain, profile};
pub use autodidact_gguf as gguf;
pub use autodidact_nn::{engine, model, ops, train};
pub use autodidact_store as store;
