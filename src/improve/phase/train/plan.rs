//! What a training is, wherever it runs: a plan in, a candidate out.
//!
//! A plan is complete: the candidate's weights are a function of it, bit for bit on the CPU,
//! however often the training was interrupted. [`super::train`] carries a plan out in this process.

use super::States;
use crate::config::Config;
use crate::domain::Address;
use crate::policy::Policy;
use crate::store::StepRow;
use crate::train::Group;

/// One iteration's training.
pub(super) struct Plan<'a> {
    /// The policy to start from; [`crate::policy::trainable`] makes what is trained from it.
    pub incumbent: &'a Policy,
    /// `[train]`, `[lora]` and `run.device` decide how updates are made.
    pub config: &'a Config,
    pub iteration: u32,
    /// The trajectories that selection kept.
    pub kept: Vec<Group>,
    /// Solutions of labelled easy tasks, to mix in.
    pub replay: Vec<Group>,
    /// The groups of each update, as indices into `kept` followed by `replay`.
    pub schedule: Vec<Vec<usize>>,
    /// Every draw of the training is below it.
    pub address: Address,
    /// Where states are saved between updates, and found again.
    pub states: States<'a>,
}

/// How carrying out a plan ended.
pub(super) enum Training {
    Complete(Candidate),
    /// A limit was reached. The state is saved: the same plan resumes from it.
    Stopped(String),
}

/// What a completed training gives.
pub(super) struct Candidate {
    pub policy: Policy,
    /// The updates since the last saved state, whose rows go with the candidate's.
    pub steps: Vec<StepRow>,
    /// A line about the training.
    pub note: String,
}
