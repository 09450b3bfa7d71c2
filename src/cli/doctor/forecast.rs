//! How much a run will do, from its configuration and the length of the probe's trajectories.

use crate::config::Config;
use crate::domain::{Split, Task};

/// Tokens of a typical thought.
const THOUGHT_TOKENS: f64 = 8.0;
/// Measured size of a thought's row, its share of the other tables and indexes included.
const THOUGHT_BYTES: f64 = 700.0;

/// The work of a whole run.
pub(super) struct Forecast {
    /// Tokens that will be sampled.
    pub sampled_tokens: f64,
    /// Tokens that will be trained on.
    pub trained_tokens: f64,
}

impl Forecast {
    /// `sampled` is the mean length of a trajectory, in tokens.
    pub(super) fn of(config: &Config, tasks: &[Task], sampled: f64) -> Self {
        let iterations = f64::from(config.run.iterations);
        let rollout = &config.rollout;
        let rollouts = rollout.tasks as f64 * f64::from(rollout.variants) * f64::from(rollout.samples);
        let greedy = tasks.iter().filter(|t| matches!(t.split, Split::Gate | Split::HeldOut)).count() as f64;
        let measured = greedy + f64::from(config.eval.samples) * config.eval.sampled_tasks as f64;
        // The base policy is measured too.
        let trajectories = iterations * rollouts + (iterations + 1.0) * measured;
        let per_iteration = f64::from(config.train.steps) * config.train.step_tokens as f64;
        Self { sampled_tokens: trajectories * sampled, trained_tokens: iterations * per_iteration }
    }

    /// Rough size of the store's rows.
    pub(super) fn stored_bytes(&self) -> u64 {
        (self.sampled_tokens / THOUGHT_TOKENS * THOUGHT_BYTES) as u64
    }

    /// Time that the run will take at these rates, in tokens per second.
    pub(super) fn seconds(&self, sampling: f64, training: f64) -> f64 {
        self.sampled_tokens / sampling + self.trained_tokens / training
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TaskKind;

    fn task(split: Split) -> Task {
        Task {
            id: format!("{split}/1"),
            kind: TaskKind::Relations,
            split,
            level: 1,
            question: "?".into(),
            answer: None,
            solution: None,
        }
    }

    #[test]
    fn a_run_measures_the_base_and_every_candidate() {
        let set = [
            ("run.iterations", "2"),
            ("rollout.tasks", "10"),
            ("rollout.variants", "3"),
            ("rollout.samples", "2"),
            ("eval.samples", "4"),
            ("eval.sampled_tasks", "5"),
            ("train.steps", "7"),
            ("train.step_tokens", "100"),
        ];
        let set: Vec<_> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let config = Config::load(None, &set).unwrap();
        let tasks = [Split::Easy, Split::Train, Split::Gate, Split::HeldOut, Split::HeldOut].map(task);
        let forecast = Forecast::of(&config, &tasks, 8.0);
        // 2 iterations of 60 rollouts; 3 measurements of 3 greedy and 20 sampled attempts.
        assert_eq!(forecast.sampled_tokens, 8.0 * (2.0 * 60.0 + 3.0 * 23.0));
        assert_eq!(forecast.trained_tokens, 1400.0);
        assert_eq!(forecast.stored_bytes(), 700 * 189);
        assert_eq!(forecast.seconds(8.0, 100.0), 189.0 + 14.0);
    }
}
