//! How a run with hours spends its time: what an iteration costs, and how much the next one does.
//!
//! Decisions are rows of the store, made before an iteration's first unit. So an iteration that was
//! interrupted ends as it was planned, however fast the machine is by then.

use std::collections::BTreeMap;

use crate::domain::Phase;
use crate::store::{PhaseRow, PlanRow};

/// Fewest tasks that an iteration is made for.
const TASKS_MIN: usize = 8;
/// Share of the time that is planned for. The rest is for loading, the report, and estimates that are
/// too low.
const PLANNED: f64 = 0.97;
/// Rereading, scoring and training, over what drawing takes, before any was measured.
const BEYOND_DRAWING: f64 = 1.0;
/// Iterations whose cost is looked at: the last ones, and the highest of them counts.
const LOOK_BACK: usize = 2;

/// What an iteration takes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// Whatever its size: the critique head's start, and measuring the candidate.
    pub fixed: f64,
    /// For each task that is rolled out: drawing, scoring, training.
    pub per_task: f64,
}

impl Cost {
    /// The seconds of an iteration with so many tasks.
    fn of(self, tasks: usize) -> f64 {
        self.fixed + self.per_task * tasks as f64
    }

    /// The cost before the first iteration, from measuring the base: `seconds` for `drawn`
    /// trajectories. A task has `each` trajectories, and the head begins with `graded`.
    pub(super) fn expected(seconds: f64, drawn: usize, each: usize, graded: usize) -> Self {
        let one = seconds / drawn.max(1) as f64;
        Self { fixed: seconds + one * graded as f64, per_task: one * each as f64 * (1.0 + BEYOND_DRAWING) }
    }

    /// The cost of the iterations that are complete, each with its number of tasks; `None` without
    /// any.
    pub(super) fn measured(phases: &[PhaseRow], tasks: &BTreeMap<u32, usize>) -> Option<Self> {
        let ended = |iteration: &u32| {
            phases.iter().any(|row| row.iteration == *iteration && row.phase == Phase::Promote)
        };
        let costs = tasks.iter().rev().filter(|(iteration, _)| ended(iteration)).take(LOOK_BACK);
        let costs = costs.map(|(iteration, count)| {
            let seconds = |sized: bool| -> f64 {
                let of_it = phases.iter().filter(|row| row.iteration == *iteration);
                of_it.filter(|row| grows(row.phase) == sized).map(|row| row.seconds).sum()
            };
            Self { fixed: seconds(false), per_task: seconds(true) / (*count).max(1) as f64 }
        });
        costs.reduce(|a, b| Self { fixed: a.fixed.max(b.fixed), per_task: a.per_task.max(b.per_task) })
    }
}

/// Whether a phase takes longer for more tasks.
fn grows(phase: Phase) -> bool {
    match phase {
        Phase::Rollout | Phase::Critique | Phase::Select | Phase::Train => true,
        Phase::Bootstrap | Phase::Evaluate | Phase::Promote => false,
    }
}

/// What is decided about an iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    pub plan: PlanRow,
    /// Iterations that fit into what is left, this one included.
    pub iterations: u32,
}

/// The seconds of the smallest iteration.
pub(super) fn least(cost: Cost, tasks_max: usize) -> f64 {
    cost.of(TASKS_MIN.min(tasks_max)) / PLANNED
}

/// The tasks of an iteration that takes (`fixed`, `per_task`) seconds, and how many of them fit into
/// `left` seconds; `None` if none does.
pub fn expected_iterations(
    left: f64,
    (fixed, per_task): (f64, f64),
    tasks_max: usize,
) -> Option<(usize, u32)> {
    let slot = next(left, Cost { fixed, per_task }, tasks_max)?;
    Some((slot.plan.tasks as usize, slot.iterations))
}

/// The next iteration: as many whole ones as fit into `left` seconds share them equally, with at most
/// `tasks_max` tasks each. `None` if not even a small one fits.
pub(super) fn next(left: f64, cost: Cost, tasks_max: usize) -> Option<Slot> {
    let time = left * PLANNED;
    let fewest = TASKS_MIN.min(tasks_max);
    if tasks_max == 0 || time < cost.of(fewest) {
        return None;
    }
    // One more than whole ones fit, so that all of the time is used; but none may be too small.
    let whole = (time / cost.of(tasks_max).max(1e-3)).ceil();
    let iterations = whole.min((time / cost.of(fewest).max(1e-3)).floor()).clamp(1.0, 1000.0);
    let room = (time / iterations - cost.fixed) / cost.per_task.max(1e-6);
    let tasks = (room as usize).clamp(fewest, tasks_max);
    let plan = PlanRow { tasks: tasks as u32, seconds: cost.of(tasks), left_seconds: left };
    Some(Slot { plan, iterations: iterations as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks_and_iterations(left: f64, cost: Cost, max: usize) -> Option<(u32, u32)> {
        next(left, cost, max).map(|slot| (slot.plan.tasks, slot.iterations))
    }

    #[test]
    fn the_time_is_shared_by_equal_iterations() {
        let cost = Cost { fixed: 40.0, per_task: 2.0 };
        let planned = |seconds: f64| seconds / PLANNED;
        // 640 seconds for one of 300 tasks.
        assert_eq!(tasks_and_iterations(planned(640.0), cost, 300), Some((300, 1)));
        assert_eq!(tasks_and_iterations(planned(660.0), cost, 300), Some((145, 2)), "and none is wasted");
        assert_eq!(tasks_and_iterations(planned(200.0), cost, 300), Some((80, 1)));
        assert_eq!(tasks_and_iterations(planned(56.0), cost, 300), Some((8, 1)));
        assert_eq!(tasks_and_iterations(planned(55.9), cost, 300), None);
        assert_eq!(tasks_and_iterations(planned(60.0), cost, 5), Some((5, 1)), "as many as there are");
        assert_eq!(tasks_and_iterations(planned(1e4), cost, 0), None);
    }

    #[test]
    fn every_plan_fits_and_leaves_less_than_a_small_iteration() {
        for (fixed, per_task) in [(1.0, 0.01), (40.0, 2.0), (300.0, 7.0), (0.0, 0.5)] {
            for max in [3, 20, 300] {
                let cost = Cost { fixed, per_task };
                let mut left = 1800.0;
                let mut done = 0;
                while let Some(slot) = next(left, cost, max) {
                    let tasks = slot.plan.tasks as usize;
                    assert!(tasks <= max && slot.plan.seconds <= left, "{slot:?}");
                    left -= slot.plan.seconds;
                    done += 1;
                    assert!(done <= 4000, "{slot:?}");
                }
                let small = cost.of(TASKS_MIN.min(max));
                assert!(left >= 0.0 && left * PLANNED < small, "{cost:?} {max}: {left} s left");
            }
        }
    }

    #[test]
    fn costs_come_from_the_last_iterations_and_before_them_from_the_base() {
        let row = |iteration, phase, seconds| PhaseRow { iteration, phase, seconds, detail: String::new() };
        let phases = [
            row(0, Phase::Evaluate, 50.0),
            row(1, Phase::Rollout, 1000.0),
            row(1, Phase::Evaluate, 50.0),
            row(1, Phase::Promote, 0.0),
            row(2, Phase::Bootstrap, 10.0),
            row(2, Phase::Rollout, 60.0),
            row(2, Phase::Train, 40.0),
            row(2, Phase::Evaluate, 50.0),
            row(2, Phase::Promote, 1.0),
            row(3, Phase::Rollout, 30.0),
            row(3, Phase::Evaluate, 70.0),
            row(3, Phase::Promote, 1.0),
            row(4, Phase::Rollout, 900.0),
        ];
        let tasks = BTreeMap::from([(1, 10), (2, 50), (3, 10), (4, 10)]);
        let cost = Cost::measured(&phases, &tasks).unwrap();
        assert_eq!(cost, Cost { fixed: 71.0, per_task: 3.0 }, "the fourth isn't complete, the first too old");
        assert_eq!(Cost::measured(&phases[..2], &tasks), None);
        let expected = Cost::expected(50.0, 100, 8, 20);
        assert_eq!(expected, Cost { fixed: 60.0, per_task: 0.5 * 8.0 * (1.0 + BEYOND_DRAWING) });
    }
}
