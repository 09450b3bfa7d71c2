//! # autodidact: a self-rewarding improvement engine for language models
//!
//! It rolls out chain-of-thought and tree-of-thought trajectories, scores them with a self-critique head, a vote over
//! meaning-preserving variants and, if there is one, a judge, stores every one in SQLite, fine-tunes the policy on the best, proves on
//! held-out tasks whether the new weights are better, and goes round again. This page is the map of the house.
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
//! | rollout | the act of producing trajectories; to sample is to draw a token |
//! | judge, reference | models beside the policy: one is asked for scores in words, one for log-probabilities; neither is trained |
//! | score | a critic's number in \[0, 1\]; a grade is a checker's verdict against gold; the reward is the formula over scores that selection ranks by |
//! | select | to keep the best per task; `select.keep` is the k of "top-k" |
//! | policy | the weights at an iteration, named by their hash; the model is the network's code |
//! | example | a packed training row |
//! | address | where a random draw stands: (seed, purpose, iteration, task, branch) |
//!
//! ## Floors
//!
//! Nouns travel, rooms don't visit: rooms exchange the nouns of [`domain`], and only [`improve`] knows every room.
//! No import runs from a lower floor to a higher one.
//!
//! | floor | rooms |
//! |---|---|
//! | F0 nouns, and the stopwatch that every room may carry | [`domain`], [`profile`] |
//! | F1 tools, strangers to each other but for engine → model → ops and [`gguf`], the file format that model and text share | [`answer`], [`data`], [`text`], [`ops`], [`model`], [`engine`], [`store`], [`gguf`], [`hub`] |
//! | F2 stages: nouns in, nouns out, no store | [`rollout`], [`score`], [`select`], [`train`] |
//! | F3 the configuration composed of the rooms' sections, and the loop | [`config`], [`eval`], [`improve`] |
//! | F4 doors | [`inspect`], [`cli`] |
//!
//! A trajectory's walk: `data` makes a task → `text` renders token ids → `engine` draws tokens with
//! log-probabilities → `rollout` returns a tree → *commit* → `score` scores → *commit* → `select` ranks →
//! *commit* → `train` packs and steps → the checkpoint is renamed into place → *commit* → `eval` → the gate →
//! *commit* → `inspect` shows it. It looks back twice only: tree search asks the [`domain::Scorer`] (or a prompt), and the loop
//! returns to the top with a new policy.
//!
//! ## Invariants
//!
//! - SQL lives in `store` and `migrations/`; tensor types in `ops`, `model`, `engine`, `score` and `train`.
//! - `engine` never sees text, `train` never tokenizes, the model owns no cache.
//! - Only `improve` writes to the store; `inspect` opens it read-only.
//! - Clock, entropy, environment and terminal are read in `main` and `cli` alone; [`profile`] is handed its clock, and what
//!   it records decides nothing.
//! - Two seams are traits: [`domain::Generate`] and [`domain::Scorer`], both `&self`.
//! - Randomness has an address ([`domain::Address`]), and a row of a batch never depends on its neighbours: batch
//!   size, thread count, interruptions and resuming can't change a bit of what is stored or trained. On other devices
//!   than the CPU ([`engine::device`]) only the addresses hold.
//! - Training reads gold answers of easy tasks only; the gate reads those of its own split; the held-out split
//!   decides nothing. The oracle control arm is the one exception, and says so.

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
