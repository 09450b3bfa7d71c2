//! The section `critic` of the configuration, and its check.

use serde::{Deserialize, Serialize};

use super::super::formula::check_source;
use crate::domain::check::{Check, not_negative, positive, probability, temperature};

/// Most graded trajectories the critique head may ever learn from.
pub(super) const BOOTSTRAP_MAX: usize = 200;

/// The section `[critic]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticConfig {
    pub bootstrap: usize,
    pub corrupted: f64,
    pub temperature: f32,
    pub width: usize,
    pub epochs: u32,
    pub learning_rate: f32,
    pub weight_decay: f32,
    pub entropy_max_bits: f64,
    pub annotated_max: usize,
    pub annotation: String,
    pub inconsistency: f32,
    pub noise: f32,
    pub rereads: u32,
    pub auc_min: f64,
}

impl CriticConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        let bootstrap_ok = (1..=BOOTSTRAP_MAX).contains(&self.bootstrap);
        check(bootstrap_ok, "critic.bootstrap", &self.bootstrap, "1 to 200 graded trajectories");
        probability(check, "critic.corrupted", self.corrupted);
        check((1..=4096).contains(&self.width), "critic.width", &self.width, "1 to 4096");
        check((1..=10_000).contains(&self.epochs), "critic.epochs", &self.epochs, "1 to 10000");
        positive(check, "critic.learning_rate", self.learning_rate);
        not_negative(check, "critic.weight_decay", self.weight_decay);
        probability(check, "critic.entropy_max_bits", self.entropy_max_bits);
        not_negative(check, "critic.inconsistency", self.inconsistency);
        not_negative(check, "critic.noise", self.noise);
        check(self.rereads <= 16, "critic.rereads", &self.rereads, "0 to 16");
        probability(check, "critic.auc_min", self.auc_min);
        temperature(check, "critic.temperature", self.temperature);
        check_source(check, "critic.annotation", &self.annotation);
    }
}
