//! A run as a sequence of phases, and the pure function that decides which phase comes next.
//!
//! The loop asks the store which phases are done and calls [`next_phase`]; resuming is that same
//! call.

use std::collections::BTreeSet;

use crate::named_enum;

/// What selection is allowed to know: the real loop, or a control at the same budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// The loop proper: selection by reward.
    Reward,
    /// As many trajectories as the loop proper keeps, drawn at random.
    Random,
    /// As many trajectories as the loop proper keeps, from those whose answer is right. Reads gold
    /// answers.
    Oracle,
    /// As many trajectories as the loop proper keeps, drawn at random from those with an answer that
    /// can be one.
    Format,
    /// Trains only on the labelled easy tasks.
    EasyOnly,
}

named_enum!(Arm {
    Reward => "reward",
    Random => "random",
    Oracle => "oracle",
    Format => "format",
    EasyOnly => "easy-only",
});

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Begun and not ended: running now, or interrupted and resumable.
    Running,
    /// Every planned iteration is done.
    Done,
    /// Stopped before its end by a limit or an alarm; resumable.
    Stopped,
}

named_enum!(RunState { Running => "running", Done => "done", Stopped => "stopped" });

/// One kind of work within an iteration, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Grade easy trajectories and train the critique head on them.
    Bootstrap,
    /// Draw trajectories for the iteration's tasks.
    Rollout,
    /// Retrain the head on its own confident annotations and score every trajectory.
    Critique,
    /// Keep the best.
    Select,
    /// Fine-tune the policy on what was kept: gives a candidate.
    Train,
    /// Measure a policy on the gate and held-out splits.
    Evaluate,
    /// Promote the candidate or roll back.
    Promote,
}

named_enum!(Phase {
    Bootstrap => "bootstrap",
    Rollout => "rollout",
    Critique => "critique",
    Select => "select",
    Train => "train",
    Evaluate => "evaluate",
    Promote => "promote",
});

impl Phase {
    /// The phases of one iteration under `arm`. Iteration 0 only measures the base policy.
    pub fn plan(arm: Arm, iteration: u32) -> &'static [Phase] {
        use Phase::*;
        match (iteration, arm) {
            (0, _) => &[Evaluate],
            (_, Arm::Reward) => &[Bootstrap, Rollout, Critique, Select, Train, Evaluate, Promote],
            (_, Arm::Random | Arm::Oracle | Arm::Format) => &[Rollout, Select, Train, Evaluate, Promote],
            (_, Arm::EasyOnly) => &[Train, Evaluate, Promote],
        }
    }
}

/// What is known to be complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub arm: Arm,
    /// Planned iterations, iteration 0 not counted.
    pub iterations: u32,
    pub done: BTreeSet<(u32, Phase)>,
}

/// The first phase that is not done, or `None` when the run is complete.
pub fn next_phase(progress: &Progress) -> Option<(u32, Phase)> {
    (0..=progress.iterations)
        .flat_map(|i| Phase::plan(progress.arm, i).iter().map(move |&phase| (i, phase)))
        .find(|step| !progress.done.contains(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_every_phase_once_in_order_and_ends() {
        for &arm in Arm::ALL {
            let mut progress = Progress { arm, iterations: 2, done: BTreeSet::new() };
            let mut walked = Vec::new();
            while let Some(step) = next_phase(&progress) {
                assert!(progress.done.insert(step), "{step:?} came twice");
                walked.push(step);
            }
            assert!(walked.is_sorted());
            assert_eq!(walked.len(), 1 + 2 * Phase::plan(arm, 1).len());
            assert_eq!(walked.last(), Some(&(2, Phase::Promote)));
        }
    }

    #[test]
    fn a_gap_is_filled_before_anything_later() {
        let mut done: BTreeSet<_> =
            [(0, Phase::Evaluate), (1, Phase::Bootstrap), (1, Phase::Critique)].into();
        let progress = |done| Progress { arm: Arm::Reward, iterations: 1, done };
        assert_eq!(next_phase(&progress(done.clone())), Some((1, Phase::Rollout)));
        done.remove(&(0, Phase::Evaluate));
        assert_eq!(next_phase(&progress(done)), Some((0, Phase::Evaluate)));
    }
}
