//! Scores: what trajectories are worth, by name, and the reward that selection ranks by.
//!
//! Each scorer has a file: the critique [`head`], the vote of a task's trajectories ([`votes`]),
//! log-probabilities ([`logprob_scores`]), rereadings under other words ([`reread()`]), a [`Judge`]
//! that is asked in words, a reference model ([`reference_scores`]) and the [`grader`]s, which know
//! the gold answer. A [`Formula`] combines scores; [`gather`] brings everything that is known of a
//! trajectory together.
//!
//! A text reaches a score only through what a judge or a reference reads, the former between
//! fences. What can't be scored has an error class and no number. Knows nothing of stores, phases
//! and policies.

pub mod grader;
pub mod head;

mod evidence;
mod formula;
mod judge;
mod logprob;
mod models;
mod reference;
mod reread;
mod vote;

#[cfg(test)]
mod fixture;

pub use evidence::{Evidence, annotated, gather, reward_spec};
pub use formula::{Formula, RewardConfig};
pub use grader::{criteria, grade};
pub use head::{Calibration, Critic, CriticConfig, Labelled, features};
pub use judge::{Criterion, Judge, JudgeConfig, Shown};
pub use logprob::logprob_scores;
pub use models::{AuxModel, AuxModels, LoadModel, ScoreSettings, SearchPrompts, is_by_model};
pub use reference::{ReferenceConfig, reference_scores, reference_spec};
pub use reread::{Rereadings, reread};
pub use vote::{chances, vote, votes};
