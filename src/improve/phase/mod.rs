//! The phases of an iteration, one file each, in the order in which they run.

pub(super) mod bootstrap;
pub(super) mod critique;
pub(super) mod evaluate;
pub(super) mod promote;
pub(super) mod rollout;
pub(super) mod select;
pub(super) mod train;

use crate::domain::Alarm;

/// How a phase ended.
///
/// There is no outcome that cools a run down (trains again with a lower learning rate): no rule
/// watches a figure that would ask for it, and the lower rate would have to be stored with the run
/// to survive an interruption. It comes with the first such rule.
#[derive(Debug, PartialEq)]
pub(super) enum PhaseOutcome {
    /// Complete, with a line about it.
    Done(String),
    /// Stopped between two units, for this reason. The same command resumes the phase.
    Stopped(String),
    /// Complete, and it refused the iteration's candidate: the next iteration starts from the
    /// policy with the hash `to`.
    RollBack { to: String, alarm: Alarm, note: String },
}
