//! How a run with hours will use them, as far as that is known before its base is measured: what
//! is measured, and how many iterations fit.

use serde::Serialize;

use super::forecast::{Forecast, Parts};
use super::probe::Rates;
use crate::config::Config;
use crate::domain::{Split, Task};
use crate::improve::{Cost, Expected, expected_iterations};
use crate::inspect::duration;

/// Share of the hours that measuring the base and [`ITERATIONS`] candidates may take.
const MEASURING: f64 = 0.4;
/// Iterations that a run should have: the second learns from what the first made possible.
const ITERATIONS: f64 = 2.0;
/// Fewest tasks of a split that are measured, and fewest that are sampled: fewer show nothing.
const MEASURED_MIN: usize = 40;
const SAMPLED_MIN: usize = 20;
/// Steps in which both are made smaller.
const STEPS: usize = 50;

/// What the hours will be used for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Plan {
    pub hours: f64,
    /// Gate and held-out tasks that are measured, and held-out tasks that are sampled.
    pub gate: usize,
    pub heldout: usize,
    pub sampled: usize,
    /// Seconds of measuring a policy.
    pub measuring_seconds: f64,
    /// Iterations, with their tasks and the seconds of each. 0: not even a small one fits.
    pub iterations: u32,
    pub tasks: usize,
    pub iteration_seconds: f64,
}

/// The configuration with what is measured made to fit the hours, and what they are then used for.
pub(super) fn plan(config: &Config, tasks: &[Task], rates: &Rates) -> (Config, Plan) {
    let seconds = config.run.hours * 3600.0;
    let measuring = |config: &Config, tasks: &[Task]| {
        Parts::of(config, tasks).measuring.seconds(rates, rates.length.mean)
    };
    let fits = |(config, tasks): &(Config, Vec<Task>)| {
        (ITERATIONS + 1.0) * measuring(config, tasks) <= MEASURING * seconds
    };
    let mut sizes = (0..STEPS).map(|step| measured(config, tasks, 1.0 - step as f64 / STEPS as f64));
    let found = sizes.find(fits).unwrap_or_else(|| measured(config, tasks, 0.0));
    let (config, tasks) = found;
    let plan = used(&config, &tasks, rates);
    (config, plan)
}

/// The configuration with a share of what is measured, and the tasks that remain.
fn measured(config: &Config, tasks: &[Task], share: f64) -> (Config, Vec<Task>) {
    let of_split = |split| tasks.iter().filter(|task| task.split == split).count();
    let part = |whole: usize, least: usize| ((whole as f64 * share).ceil() as usize).max(least.min(whole));
    let largest = of_split(Split::Gate).max(of_split(Split::HeldOut));
    let (max, sampled) =
        (part(largest, MEASURED_MIN), config.eval.sampled_tasks.min(of_split(Split::HeldOut)));
    let mut smaller = config.clone();
    if max < largest {
        smaller.run.asked.insert("tasks.measured_max".into(), config.tasks.measured_max);
        smaller.tasks.measured_max = max;
    }
    if share < 1.0 && part(sampled, SAMPLED_MIN) < config.eval.sampled_tasks {
        smaller.run.asked.insert("eval.sampled_tasks".into(), config.eval.sampled_tasks);
        smaller.eval.sampled_tasks = part(sampled, SAMPLED_MIN).min(max);
    }
    let mut counts = [0; 2];
    let kept = tasks.iter().filter(|task| {
        let count = match task.split {
            Split::Gate => &mut counts[0],
            Split::HeldOut => &mut counts[1],
            _ => return true,
        };
        *count += 1;
        *count <= max
    });
    let kept = kept.cloned().collect();
    (smaller, kept)
}

/// What the hours are used for.
fn used(config: &Config, tasks: &[Task], rates: &Rates) -> Plan {
    let of_split = |split| tasks.iter().filter(|task| task.split == split).count();
    let parts = Parts::of(config, tasks);
    let seconds = |work: &Forecast| work.seconds(rates, rates.length.mean);
    let measuring = seconds(&parts.measuring);
    let most = config.rollout.tasks.min(of_split(Split::Train));
    let Expected { cost, .. } = expected(config, tasks, rates);
    let left = config.run.hours * 3600.0 - measuring - seconds(&parts.graded);
    let cost = Cost { fixed: measuring + seconds(&parts.reread), ..cost };
    let (count, iterations) = expected_iterations(left, cost, most).unwrap_or((0, 0));
    Plan {
        hours: config.run.hours,
        gate: of_split(Split::Gate),
        heldout: of_split(Split::HeldOut),
        sampled: config.eval.sampled_tasks.min(of_split(Split::HeldOut)),
        measuring_seconds: measuring,
        iterations,
        tasks: count,
        iteration_seconds: cost.fixed + (cost.drawing + cost.training) * count as f64,
    }
}

/// What measuring the base and the first iteration take.
pub(super) fn expected(config: &Config, tasks: &[Task], rates: &Rates) -> Expected {
    let parts = Parts::of(config, tasks);
    let seconds = |work: Forecast| work.seconds(rates, rates.length.mean);
    let count = config.rollout.tasks.min(tasks.iter().filter(|task| task.split == Split::Train).count());
    let drawing = seconds(Forecast { updates: 0.0, ..parts.iteration });
    let measuring = seconds(parts.measuring);
    let per_task = |seconds: f64| seconds / count.max(1) as f64;
    Expected {
        probe: 0.0,
        measuring,
        cost: Cost {
            fixed: measuring + seconds(parts.graded),
            drawing: per_task(drawing),
            training: per_task(seconds(parts.iteration) - drawing),
            step: rates.update.seconds,
        },
    }
}

impl Plan {
    /// A line for the terminal.
    pub(super) fn line(&self) -> String {
        let measuring = format!(
            "{} h: {} gate and {} held-out tasks are measured in {}",
            self.hours,
            self.gate,
            self.heldout,
            duration(self.measuring_seconds)
        );
        match self.iterations {
            0 => format!("{measuring}, which leaves no time for an iteration"),
            1 => format!("{measuring}, then one iteration of {} tasks", self.tasks),
            n => format!(
                "{measuring}, then about {n} iterations of {} tasks, {} each",
                self.tasks,
                duration(self.iteration_seconds)
            ),
        }
    }

    /// Why the hours don't suffice, if they don't.
    pub(super) fn problem(&self) -> Option<String> {
        (self.iterations == 0).then(|| {
            format!(
                "run.hours = {}: measuring a policy takes about {}, and a run needs it twice and time to draw and train; \
                 give more hours, or a smaller rollout.tokens_max",
                self.hours,
                duration(self.measuring_seconds)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::{Length, Update};
    use super::*;
    use crate::domain::TaskKind;

    fn tasks() -> Vec<Task> {
        let of = |split: Split, count: usize| {
            (0..count).map(move |i| Task {
                id: format!("{split}/{i}"),
                kind: TaskKind::Number,
                split,
                level: 1,
                question: "?".into(),
                answer: None,
                solution: None,
            })
        };
        of(Split::Train, 500).chain(of(Split::Gate, 200)).chain(of(Split::HeldOut, 600)).collect()
    }

    fn planned(hours: &str, slow: f64) -> (Config, Plan) {
        let length = Length { mean: 100.0, least: 90.0, most: 110.0, drawn: 4, ended: 4 };
        let update = Update { seconds: slow, tokens: 4096, tried: 256 };
        let rates = Rates { prompt: 100.0, reading: 4000.0 / slow, drawing: 400.0 / slow, length, update };
        let config = Config::load(None, &[("run.hours".into(), hours.into())]).unwrap();
        plan(&config, &tasks(), &rates)
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let (config, plan) = planned("8", 1.0);
        assert!(config.run.asked.is_empty() && config.tasks.measured_max == 0, "{config:?}");
        assert_eq!((plan.gate, plan.heldout, plan.sampled), (200, 600, 100));
        assert!(plan.iterations > 10 && plan.tasks > 250, "{plan:?}");
        assert!(plan.line().starts_with("8 h: 200 gate and 600 held-out tasks are measured in "), "{plan:?}");
    }

    #[test]
    fn measuring_takes_its_share_and_leaves_the_rest_to_iterations() {
        for (hours, slow) in [("0.5", 1.0), ("0.5", 2.0), ("1", 4.0), ("8", 30.0)] {
            let (config, plan) = planned(hours, slow);
            let seconds = config.run.hours * 3600.0;
            assert!(plan.measuring_seconds * (ITERATIONS + 1.0) <= MEASURING * seconds, "{plan:?}");
            assert!(plan.gate >= MEASURED_MIN && plan.sampled >= SAMPLED_MIN && plan.tasks >= 8, "{plan:?}");
            assert_eq!(config.run.asked.get("tasks.measured_max"), Some(&0));
            assert_eq!(config.run.asked.get("eval.sampled_tasks"), Some(&100));
            assert_eq!((config.tasks.measured_max, config.eval.sampled_tasks), (plan.heldout, plan.sampled));
            let whole = plan.measuring_seconds + plan.iteration_seconds * f64::from(plan.iterations);
            assert!(plan.iterations >= 1 && whole <= seconds && whole > 0.8 * seconds, "{plan:?}: {whole}");
        }
    }

    #[test]
    fn hours_that_cannot_suffice_are_a_problem() {
        let (_, plan) = planned("0.05", 30.0);
        assert_eq!(plan.iterations, 0);
        assert!(plan.problem().unwrap().contains("run.hours = 0.05: measuring a policy takes about"));
        assert!(plan.line().ends_with("which leaves no time for an iteration"));
    }
}
