//! The section `select` of the configuration, and its check.

use serde::{Deserialize, Serialize};

use crate::domain::check::Check;

/// The section `[select]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    pub keep: usize,
    pub floor: f64,
    pub total_max: usize,
    /// Largest share of the tasks with something to keep whose agreement may be chance.
    pub chance_max: f64,
    /// Largest share of what is kept that has one answer.
    pub answer_max: f64,
    pub tasks_min: usize,
    pub rows_min: usize,
    /// Whether a text is no answer where the labelled tasks have a closed set of them.
    pub closed_answers: bool,
}

impl SelectConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=100_000).contains(&self.keep), "select.keep", &self.keep, "1 to 100000");
        check(self.floor.is_finite(), "select.floor", &self.floor, "a finite number");
        check(self.total_max > 0, "select.total_max", &self.total_max, "at least 1");
        check((0.0..=1.0).contains(&self.chance_max), "select.chance_max", &self.chance_max, "0 to 1");
        let share_ok = self.answer_max > 0.0 && self.answer_max <= 1.0;
        check(share_ok, "select.answer_max", &self.answer_max, "above 0, up to 1");
    }
}
