//! The section `judge` of the configuration, and its check.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::Snapshot;
use crate::domain::check::Check;

/// What a judge is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    Overall,
    Coherence,
    Accuracy,
    Completeness,
}

/// The section `[judge]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    pub model: String,
    /// What `model` is at the hub, if it names a model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    pub criteria: Vec<Criterion>,
    pub repeats: u32,
    pub temperature: f32,
    pub mass_min: f64,
}

impl JudgeConfig {
    /// `judge.model` of this name is the policy itself.
    pub const POLICY: &str = "policy";

    /// The folder (or file) of the judge on this disk.
    pub fn folder(&self) -> &Path {
        self.snapshot.as_ref().map_or(Path::new(&self.model), |found| &found.folder)
    }

    /// Whether anybody judges.
    pub fn is_on(&self) -> bool {
        !self.model.is_empty()
    }

    /// Whether the policy judges itself.
    pub fn is_policy(&self) -> bool {
        self.model == Self::POLICY
    }

    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check((1..=64).contains(&self.repeats), "judge.repeats", &self.repeats, "1 to 64");
        let temperature_ok = self.temperature > 0.0 && self.temperature <= 100.0;
        check(temperature_ok, "judge.temperature", &self.temperature, "above 0, at most 100");
        check((0.0..=1.0).contains(&self.mass_min), "judge.mass_min", &self.mass_min, "0 to 1");
        let asked = !self.is_on() || !self.criteria.is_empty();
        check(asked, "judge.criteria", &self.criteria, "name at least one, such as [\"overall\"]");
    }
}
