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
/// Rereading, scoring and training, over what drawing takes, where nothing is known.
const BEYOND_DRAWING: f64 = 2.0;
/// Iterations whose cost is looked at: the last ones, and the highest of them counts.
const LOOK_BACK: usize = 2;

/// What the process around the loop expects, in seconds, from a probe before the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The probe itself.
    pub probe: f64,
    /// Measuring the base.
    pub measuring: f64,
    /// What each iteration takes.
    pub cost: Cost,
}

/// What an iteration takes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Whatever its size: the critique head's start, and measuring the candidate.
    pub fixed: f64,
    /// Drawing and scoring, for each task that is rolled out.
    pub drawing: f64,
    /// Training, for each task that is rolled out.
    pub training: f64,
    /// An update of the training; 0 if none was seen.
    pub step: f64,
}

impl Cost {
    fn per_task(self) -> f64 {
        self.drawing + self.training
    }

    /// The seconds of an iteration with this many tasks.
    fn of(self, tasks: usize) -> f64 {
        self.fixed + self.per_task() * tasks as f64
    }

    /// The seconds of the smallest iteration, with one update.
    fn least(self, tasks_max: usize) -> f64 {
        let tasks = TASKS_MIN.min(tasks_max) as f64;
        let training = if self.step > 0.0 { self.step } else { self.training * tasks };
        self.fixed + self.drawing * tasks + training
    }

    /// What the probe expected, where drawing takes so much longer as measuring the base did:
    /// `seconds`.
    pub(super) fn corrected(expected: &Expected, seconds: f64) -> Self {
        let slower = if expected.measuring > 0.0 { seconds / expected.measuring } else { 1.0 };
        let cost = expected.cost;
        Self { fixed: cost.fixed * slower, drawing: cost.drawing * slower, ..cost }
    }

    /// The cost without a probe, from measuring the base: `seconds` for `drawn` trajectories. A task
    /// has `each` trajectories, and the head begins with `graded`.
    pub(super) fn guessed(seconds: f64, drawn: usize, each: usize, graded: usize) -> Self {
        let one = seconds / drawn.max(1) as f64;
        Self {
            fixed: seconds + one * graded as f64,
            drawing: one * each as f64 * (1.0 + BEYOND_DRAWING),
            training: 0.0,
            step: 0.0,
        }
    }

    /// The cost of the iterations that are complete, each with its number of tasks and updates; `None`
    /// without any. The highest of the last ones counts.
    pub(super) fn measured(phases: &[PhaseRow], sizes: &BTreeMap<u32, (usize, usize)>) -> Option<Self> {
        let ended = |iteration: &u32| {
            phases.iter().any(|row| row.iteration == *iteration && row.phase == Phase::Promote)
        };
        let last = sizes.iter().rev().filter(|(iteration, _)| ended(iteration)).take(LOOK_BACK);
        let costs = last.map(|(iteration, &(tasks, steps))| {
            let seconds = |of: fn(Phase) -> bool| -> f64 {
                let of_it = phases.iter().filter(|row| row.iteration == *iteration && of(row.phase));
                of_it.map(|row| row.seconds).sum()
            };
            let training = seconds(|phase| phase == Phase::Train);
            Self {
                fixed: seconds(|phase| !grows(phase)),
                drawing: seconds(|phase| grows(phase) && phase != Phase::Train) / tasks.max(1) as f64,
                training: training / tasks.max(1) as f64,
                step: if steps > 0 { training / steps as f64 } else { 0.0 },
            }
        });
        costs.reduce(|a, b| Self {
            fixed: a.fixed.max(b.fixed),
            drawing: a.drawing.max(b.drawing),
            training: a.training.max(b.training),
            step: a.step.max(b.step),
        })
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
    cost.least(tasks_max) / PLANNED
}

/// The tasks of an iteration of this cost, and how many of them fit into `left` seconds; `None` if none
/// does.
pub fn expected_iterations(left: f64, cost: Cost, tasks_max: usize) -> Option<(usize, u32)> {
    let slot = next(left, cost, (tasks_max, u32::MAX))?;
    Some((slot.plan.tasks as usize, slot.iterations))
}

/// The next iteration: as many whole ones as fit into `left` seconds share them equally, with at most
/// `tasks_max` tasks and `steps_max` updates each. `None` if not even a small one fits.
///
/// How many trajectories are kept, and so how long training takes, is not known before. It may take
/// longer than its share, but no longer than the time that is left.
pub(super) fn next(left: f64, cost: Cost, (tasks_max, steps_max): (usize, u32)) -> Option<Slot> {
    let time = left * PLANNED;
    let fewest = TASKS_MIN.min(tasks_max);
    if tasks_max == 0 || time < cost.least(tasks_max) {
        return None;
    }
    // One more than whole ones fit, so that all of the time is used; but none may be too small.
    let whole = (time / cost.of(tasks_max).max(1e-3)).ceil();
    let iterations = whole.min((time / cost.least(tasks_max).max(1e-3)).floor()).clamp(1.0, 1000.0);
    let room = (time / iterations - cost.fixed) / cost.per_task().max(1e-6);
    let tasks = (room as usize).clamp(fewest, tasks_max);
    let training = time - cost.fixed - cost.drawing * tasks as f64;
    let steps = if cost.step > 0.0 {
        (training / cost.step).clamp(1.0, f64::from(steps_max)) as u32
    } else {
        steps_max
    };
    let seconds = cost.of(tasks).min(time);
    let plan = PlanRow { tasks: tasks as u32, steps, seconds, left_seconds: left };
    Some(Slot { plan, iterations: iterations as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks_and_iterations(left: f64, cost: Cost, max: usize) -> Option<(u32, u32)> {
        next(left, cost, (max, 100)).map(|slot| (slot.plan.tasks, slot.iterations))
    }

    fn cost(fixed: f64, per_task: f64) -> Cost {
        Cost { fixed, drawing: per_task / 2.0, training: per_task / 2.0, step: 4.0 }
    }

    #[test]
    fn the_time_is_shared_by_equal_iterations() {
        let cost = cost(40.0, 2.0);
        let planned = |seconds: f64| seconds / PLANNED;
        // 640 seconds for one of 300 tasks.
        assert_eq!(tasks_and_iterations(planned(640.0), cost, 300), Some((300, 1)));
        assert_eq!(tasks_and_iterations(planned(660.0), cost, 300), Some((145, 2)), "and none is wasted");
        assert_eq!(tasks_and_iterations(planned(200.0), cost, 300), Some((80, 1)));
        assert_eq!(tasks_and_iterations(planned(52.1), cost, 300), Some((8, 1)), "40 + 8 + 4: one update");
        assert_eq!(tasks_and_iterations(planned(51.9), cost, 300), None);
        assert_eq!(tasks_and_iterations(planned(60.0), cost, 5), Some((5, 1)), "as many as there are");
        assert_eq!(tasks_and_iterations(planned(1e4), cost, 0), None);
    }

    #[test]
    fn training_may_use_what_is_left_and_no_more() {
        let steps = |left: f64, step: f64| {
            let cost = Cost { step, ..cost(40.0, 2.0) };
            next(left / PLANNED, cost, (300, 100)).unwrap().plan.steps
        };
        assert_eq!(steps(200.0, 4.0), 20, "80 tasks take 80 s to draw, and 80 remain of 200 - 40");
        assert_eq!(steps(660.0, 4.0), 100, "the first of two may use the time of both, up to its most");
        assert_eq!(steps(660.0, 10.0), 47);
        assert_eq!(steps(149.0, 100.0), 1);
        assert_eq!(steps(56.0, 0.0), 100, "what none has seen does not count");
    }

    #[test]
    fn every_plan_fits_and_leaves_less_than_a_small_iteration() {
        for (fixed, per_task) in [(1.0, 0.01), (40.0, 2.0), (300.0, 7.0), (0.0, 0.5)] {
            for max in [3, 20, 300] {
                let cost = cost(fixed, per_task);
                let mut left = 1800.0;
                let mut done = 0;
                while let Some(slot) = next(left, cost, (max, 100)) {
                    let tasks = slot.plan.tasks as usize;
                    assert!(tasks <= max && slot.plan.seconds <= left, "{slot:?}");
                    let longest =
                        cost.fixed + cost.drawing * tasks as f64 + cost.step * f64::from(slot.plan.steps);
                    assert!(longest <= left || slot.plan.steps == 1, "{slot:?}");
                    left -= slot.plan.seconds.min(longest);
                    done += 1;
                    assert!(done <= 4000, "{slot:?}");
                }
                let small = cost.least(max);
                assert!(left >= 0.0 && left * PLANNED < small, "{cost:?} {max}: {left} s left");
            }
        }
    }

    #[test]
    fn costs_come_from_the_last_iterations() {
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
        let sizes = BTreeMap::from([(1, (10, 9)), (2, (50, 20)), (3, (10, 0)), (4, (10, 9))]);
        let cost = Cost::measured(&phases, &sizes).unwrap();
        let expected = Cost { fixed: 71.0, drawing: 3.0, training: 0.8, step: 2.0 };
        assert_eq!(cost, expected, "the fourth isn't complete, the first too old");
        assert_eq!(Cost::measured(&phases[..2], &sizes), None);
    }

    #[test]
    fn before_them_they_come_from_the_probe_or_from_the_base() {
        let expected = Expected { probe: 5.0, measuring: 20.0, cost: cost(30.0, 2.0) };
        let slower = Cost { fixed: 60.0, drawing: 2.0, training: 1.0, step: 4.0 };
        assert_eq!(Cost::corrected(&expected, 40.0), slower, "drawing takes twice as long");
        let guessed = Cost::guessed(50.0, 100, 8, 20);
        assert_eq!((guessed.fixed, guessed.drawing), (60.0, 0.5 * 8.0 * (1.0 + BEYOND_DRAWING)));
    }
}
