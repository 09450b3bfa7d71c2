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
}

impl SelectConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=100_000).contains(&self.keep), "select.keep", &self.keep, "1 to 100000");
        check(self.floor.is_finite(), "select.floor", &self.floor, "a finite number");
        check(self.total_max > 0, "select.total_max", &self.total_max, "at least 1");
    }
}
