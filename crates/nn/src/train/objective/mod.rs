//! Objectives: what an update minimises, as a pure function of per-token log-probabilities.
//!
//! An objective sees one group of sequences at a time. It is handed the log-probabilities of the group's targets under
//! the weights being trained, adds to the named parts of the loss, and returns the loss's derivative by each of them.
//! The backward pass starts from these derivatives, so an objective knows no tensor, no layer and no optimizer.
//! Packing and the schedule never split a group: a pair, or all trajectories of a task, are always seen together.

mod sft;

use std::collections::BTreeMap;

use super::Example;

/// The named parts of an update's loss, in nats; the loss is their sum.
pub type LossParts = BTreeMap<&'static str, f64>;

/// One sequence of a group, as an objective reads it.
pub struct Member<'a> {
    pub example: &'a Example,
    /// Natural log-probability of each target of `example`, in order (N).
    pub logprobs: &'a [f32],
}

/// What an update minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// The mean −log-probability of the update's targets: supervised fine-tuning on what was kept.
    #[default]
    Sft,
}

impl Objective {
    /// Adds the group's share of the loss to `parts`. Returns the derivative of the update's loss by each
    /// log-probability, member after member.
    ///
    /// `targets` counts the targets of the whole update. Parts are sums of f64 in the order of the targets, so that the
    /// loss has the same bits however groups are packed into chunks of the same borders.
    pub fn evaluate(self, group: &[Member], targets: usize, parts: &mut LossParts) -> Vec<f32> {
        match self {
            Self::Sft => sft::evaluate(group, targets, parts),
        }
    }
}
