//! How much a run will do, part by part, and how long that takes at the probe's rates.

use super::probe::Rates;
use crate::config::Config;
use crate::data::Variants;
use crate::domain::{Split, Strategy, Task};

/// Tokens of a typical thought.
const THOUGHT_TOKENS: f64 = 8.0;
/// Measured size of a thought's row, its share of the other tables and indexes included.
const THOUGHT_BYTES: f64 = 700.0;
/// Share of the trajectories that may be kept, of which a run keeps about as many.
const KEPT: f64 = 0.5;
/// What a run does in addition to reading, drawing and updates (fitting the head, the store, grading):
/// 8 % of the built-in run's time.
const REST: f64 = 1.08;

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Forecast {
    /// Trajectories that will be drawn; a tree counts as the chains that have its tokens.
    pub drawn: f64,
    /// Prompts that are read for them. Trajectories of one prompt share its reading.
    pub prompts: f64,
    /// Trajectories that will be read again, with their prompts.
    pub read: f64,
    /// Most updates.
    pub updates: f64,
    /// Trajectories that updates are filled with, over the share of an update that is theirs;
    /// each counts as often as it is passed over.
    pub learned: f64,
    /// Tokens of an update.
    pub step_tokens: f64,
}

/// The parts that a run's work is the sum of.
pub(super) struct Parts {
    /// Measuring a policy: the base, and every candidate.
    pub measuring: Forecast,
    /// What the critique head begins with, in the first iteration.
    pub graded: Forecast,
    /// The same read again, in every later one.
    pub reread: Forecast,
    /// An iteration's rollouts, their scores and the training, for `rollout.tasks` tasks.
    pub iteration: Forecast,
}

impl Parts {
    pub(super) fn of(config: &Config, tasks: &[Task]) -> Self {
        let of_split = |split| tasks.iter().filter(|task| task.split == split).count() as f64;
        let (anchors, measured) = (of_split(Split::Anchor), of_split(Split::Gate) + of_split(Split::HeldOut));
        let sampled = (config.eval.sampled_tasks as f64).min(of_split(Split::HeldOut));
        let samples = f64::from(config.eval.samples);
        let is_solved = |task: &&Task| task.split == Split::Easy && task.solution.is_some();
        let corrupted = if tasks.iter().any(|task| is_solved(&task)) { config.critic.corrupted } else { 0.0 };
        let bootstrap = config.critic.bootstrap as f64;
        let graded = bootstrap * (1.0 - corrupted) + anchors;
        Self {
            measuring: Forecast {
                drawn: measured + samples * sampled,
                prompts: measured + sampled.min(samples * sampled),
                ..Forecast::default()
            },
            graded: Forecast {
                drawn: graded,
                prompts: graded.min(of_split(Split::Easy) + anchors),
                read: bootstrap * corrupted,
                ..Forecast::default()
            },
            reread: Forecast { read: bootstrap + anchors, ..Forecast::default() },
            iteration: iteration(config, tasks),
        }
    }
}

fn iteration(config: &Config, tasks: &[Task]) -> Forecast {
    let rollout = &config.rollout;
    let count = rollout.tasks.min(tasks.iter().filter(|task| task.split == Split::Train).count()) as f64;
    let asked = count * f64::from(rollout.variants);
    let rollouts = asked * f64::from(rollout.samples);
    let judged = match config.judge.is_on() {
        true => rollouts * config.judge.criteria.len() as f64 * f64::from(config.judge.repeats),
        false => 0.0,
    };
    let referred = if config.reference.model.is_empty() { 0.0 } else { rollouts };
    // Variants are other words to ask in, and to reread under.
    let (prompts, rereads) = match Variants::new(&config.tasks).exist_for(tasks.iter()) {
        true => (asked, rollouts * f64::from(config.critic.rereads)),
        false => (count, 0.0),
    };
    let train = &config.train;
    let kept = (KEPT * count * config.select.keep as f64).min(config.select.total_max as f64);
    let replays = tasks.iter().any(|task| task.split == Split::Easy && task.solution.is_some());
    let share = if replays { 1.0 - train.replay } else { 1.0 };
    let passes = if train.epochs_max > 0.0 { train.epochs_max } else { f64::INFINITY };
    Forecast {
        drawn: rollouts * breadth(config),
        prompts,
        read: rereads + judged + referred,
        updates: f64::from(train.steps),
        learned: kept * passes / share.max(0.01),
        step_tokens: train.step_tokens as f64,
    }
}

impl Forecast {
    /// The work of a whole run.
    pub(super) fn of(config: &Config, tasks: &[Task]) -> Self {
        let (parts, iterations) = (Parts::of(config, tasks), f64::from(config.run.iterations));
        // The base policy is measured, too.
        let measuring = parts.measuring.times(iterations + 1.0);
        let head = parts.graded.and(parts.reread.times(iterations - 1.0));
        parts.iteration.times(iterations).and(measuring).and(head)
    }

    fn times(self, n: f64) -> Self {
        Self {
            drawn: self.drawn * n,
            prompts: self.prompts * n,
            read: self.read * n,
            updates: self.updates * n,
            learned: self.learned * n,
            step_tokens: self.step_tokens,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            drawn: self.drawn + other.drawn,
            prompts: self.prompts + other.prompts,
            read: self.read + other.read,
            updates: self.updates + other.updates,
            learned: self.learned + other.learned,
            step_tokens: self.step_tokens.max(other.step_tokens),
        }
    }

    /// Rough size of the store's rows, for trajectories of `length` tokens.
    pub(super) fn stored_bytes(&self, length: f64) -> u64 {
        (self.drawn * length / THOUGHT_TOKENS * THOUGHT_BYTES) as u64
    }

    /// Time that it will take, for trajectories of `length` tokens.
    pub(super) fn seconds(&self, rates: &Rates, length: f64) -> f64 {
        let prompts = self.prompts * rates.prompt / rates.reading;
        let read = (rates.prompt + length) / rates.reading;
        let fill = self.learned * (rates.prompt + length) / self.step_tokens.max(1.0);
        (prompts
            + self.drawn * length / rates.drawing
            + self.read * read
            + self.updates.min(fill.ceil()) * rates.update.seconds)
            * REST
    }
}

/// Tokens that a tree draws, over those of a chain.
fn breadth(config: &Config) -> f64 {
    match config.rollout.strategy {
        Strategy::Cot => 1.0,
        Strategy::Tot => {
            let thoughts = config.rollout.thoughts_max.max(1);
            config.rollout.extent(&config.tree, thoughts).thoughts as f64 / thoughts as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::{Length, Update};
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

    const SET: [(&str, &str); 9] = [
        ("run.iterations", "2"),
        ("rollout.tasks", "10"),
        ("rollout.variants", "3"),
        ("rollout.samples", "2"),
        ("eval.samples", "4"),
        ("eval.sampled_tasks", "5"),
        ("train.steps", "7"),
        ("critic.bootstrap", "20"),
        ("critic.rereads", "2"),
    ];

    fn forecast(more: &[(&str, &str)], kind: TaskKind) -> Forecast {
        let set: Vec<_> = SET.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let measured = [Split::Easy, Split::Anchor, Split::Gate, Split::HeldOut, Split::HeldOut];
        let tasks = measured.into_iter().chain([Split::Train; 10]).map(|split| Task { kind, ..task(split) });
        Forecast::of(&Config::load(None, &set).unwrap(), &tasks.collect::<Vec<_>>())
    }

    #[test]
    fn a_run_measures_the_base_and_every_candidate() {
        let plain = forecast(&[], TaskKind::Relations);
        // 2 iterations of 60 rollouts; 3 measurements of 3 greedy and 8 sampled attempts; 20 drawn for the head (no
        // solution can be corrupted), 1 anchor.
        assert_eq!(plain.drawn, 2.0 * 60.0 + 3.0 * 11.0 + 20.0 + 1.0);
        // Two samples of a variant share its prompt, and so do the four of a held-out task.
        assert_eq!(plain.prompts, 2.0 * 30.0 + 3.0 * 5.0 + 2.0);
        assert_eq!(plain.read, 2.0 * 120.0 + 21.0);
        assert_eq!(plain.updates, 14.0);
        assert_eq!(plain.stored_bytes(8.0), 700 * 174);
        let file = forecast(&[("tasks.kind", "file"), ("tasks.file", "f")], TaskKind::Number);
        assert_eq!(file.read, 21.0, "these have no variants to be reread under");
        assert_eq!(file.prompts, 2.0 * 10.0 + 3.0 * 5.0 + 2.0, "and each is asked in the same words");
        let tree = forecast(&[("rollout.strategy", "tot")], TaskKind::Relations);
        assert!(tree.drawn > 3.0 * plain.drawn, "{tree:?}");
    }

    #[test]
    fn time_is_reading_drawing_and_updates() {
        let length = Length { mean: 20.0, least: 10.0, most: 30.0, drawn: 4, ended: 4 };
        let update = Update { seconds: 3.0, tokens: 100, tried: 100 };
        let rates = Rates { prompt: 30.0, reading: 10.0, drawing: 5.0, length, update };
        let work =
            Forecast { drawn: 2.0, prompts: 1.0, read: 4.0, updates: 5.0, learned: 9.0, step_tokens: 50.0 };
        assert!((work.seconds(&rates, 20.0) - (3.0 + 2.0 * 4.0 + 4.0 * 5.0 + 15.0) * REST).abs() < 1e-9);
        // Three trajectories of 50 tokens fill three updates.
        let few = Forecast { learned: 3.0, ..work };
        assert!((few.seconds(&rates, 20.0) - (3.0 + 2.0 * 4.0 + 4.0 * 5.0 + 9.0) * REST).abs() < 1e-9);
    }
}
