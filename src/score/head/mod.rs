//! The critique head: judges trajectories from what the policy itself computed while drawing them.
//!
//! A small head reads each thought's hidden state and log-probabilities, under its own prompt and
//! reread under the prompts of other variants ([`features()`]). It gives the probability that the
//! thought is good, overall and by criterion; a trajectory is as good as its worst thought, however
//! long the rest is. The head learns from at most 200 graded easy trajectories and from its own
//! confident annotations ([`annotate`]), with a penalty for inconsistency between repeated
//! evaluations, and is calibrated ([`Calibration`]).
//!
//! Text never reaches the head: its only inputs are hidden states and log-probabilities.

mod aggregate;
mod annotate;
mod calibrate;
mod features;
mod fit;
mod network;
mod serial;
mod settings;

use anyhow::Result;
use rayon::prelude::*;

pub use annotate::annotate;
pub use calibrate::Calibration;
pub use features::features;
pub use settings::CriticConfig;

use crate::domain::{Address, Criteria, Score, ScoreError, Scorer, ScorerName, Thought};
use calibrate::Platt;
use features::Standard;
use network::Network;

/// The head's outputs, in order.
pub const OUTPUTS: [ScorerName; 4] =
    [ScorerName::HEAD, ScorerName::COHERENCE, ScorerName::ACCURACY, ScorerName::COMPLETENESS];

/// A trajectory that the head learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// [`features`] of each thought, first to last.
    pub thoughts: Vec<Vec<f32>>,
    /// Probability that the whole trajectory is good; 0 or 1 if graded, in between if annotated.
    pub good: Option<f32>,
    /// Verdicts on each thought, if graded.
    pub criteria: Option<Vec<Criteria>>,
    /// Share in the loss; 1 for a graded trajectory.
    pub weight: f32,
}

/// The trained and calibrated critique head.
#[derive(Clone, Debug, PartialEq)]
pub struct Critic {
    network: Network,
    standard: Standard,
    platt: [Platt; 4],
    hash: String,
}

impl Critic {
    /// Trains a head on `sets`. The result is a pure function of the arguments.
    pub fn fit(sets: &[Labelled], config: &CriticConfig, address: &Address) -> Result<Self> {
        let (network, standard, platt) = fit::fit(sets, config, address)?;
        Self::assembled(network, standard, platt)
    }

    fn assembled(network: Network, standard: Standard, platt: [Platt; 4]) -> Result<Self> {
        let mut critic = Self { network, standard, platt, hash: String::new() };
        critic.hash = blake3::hash(&critic.to_bytes()?).to_hex().to_string();
        Ok(critic)
    }

    /// Identifies the head: hash of its bytes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The head as a safetensors file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serial::to_bytes(self)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serial::from_bytes(bytes)
    }

    /// The probability that a trajectory with these [`features`] is good: overall, coherent,
    /// accurate, complete. A criterion without a single verdict to learn from has no score:
    /// [`ScoreError::Untaught`].
    pub fn scores(&self, features: &[Vec<f32>]) -> [Score; 4] {
        let values = self.probabilities(features);
        std::array::from_fn(|k| match values {
            // Without observations the calibration is exactly what it began as.
            Ok(_) if self.platt[k] == Platt::IDENTITY && OUTPUTS[k] != ScorerName::HEAD => {
                Score::failed(OUTPUTS[k].clone(), ScoreError::Untaught)
            }
            Ok(values) => Score::new(OUTPUTS[k].clone(), values[k]),
            Err(error) => Score::failed(OUTPUTS[k].clone(), error),
        })
    }

    fn probabilities(&self, features: &[Vec<f32>]) -> Result<[f64; 4], ScoreError> {
        let logits = self.logits(features)?;
        Ok(std::array::from_fn(|k| self.platt[k].probability(logits[k])))
    }

    /// The log-odds of a trajectory's worst thought, before calibration.
    fn logits(&self, features: &[Vec<f32>]) -> Result<[f64; 4], ScoreError> {
        let inputs = self.standard.mean.len();
        if features.is_empty() || features.iter().any(|f| f.len() != inputs) {
            return Err(ScoreError::MissingInput);
        }
        if features.iter().flatten().any(|v| !v.is_finite()) {
            return Err(ScoreError::NonFinite);
        }
        Ok(fit::trajectory_logits(&self.network, &self.standard.apply(features)))
    }
}

impl Scorer for Critic {
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>> {
        let features = |path: &Vec<&Thought>| path.iter().map(|t| features(t, &[])).collect::<Vec<_>>();
        paths.par_iter().map(|path| self.scores(&features(path))[0].value).collect()
    }
}

#[cfg(test)]
mod tests;
