//! The reference: a model that is never trained, whose log-probability of a trajectory is a score.
//!
//! It reads the trajectory's text with its own tokenizer, so it need not share the policy's.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::domain::{Generate, ReadRequest, Score, ScoreError, ScorerName, ScorerSpec, Snapshot, Trajectory};
use crate::text::Text;

/// The section `reference` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    pub model: String,
    /// What `model` is at the hub, if it names a model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

impl ReferenceConfig {
    /// The folder (or file) of the reference on this disk.
    pub fn folder(&self) -> &Path {
        self.snapshot.as_ref().map_or(Path::new(&self.model), |found| &found.folder)
    }

    /// Whether no reference is configured.
    pub fn is_off(&self) -> bool {
        self.model.is_empty()
    }
}

/// Every trajectory's mean log-probability under the reference, in nats per token of its tokenizer,
/// in order.
pub fn reference_scores(
    engine: &dyn Generate,
    text: &Text,
    trajectories: &[Trajectory],
) -> Result<Vec<Score>> {
    let requests: Vec<Result<ReadRequest, ScoreError>> =
        trajectories.iter().map(|trajectory| request(engine, text, trajectory)).collect();
    let readable: Vec<ReadRequest> = requests.iter().filter_map(|r| r.as_ref().ok()).cloned().collect();
    let mut readings = engine.read(&readable)?.into_iter();
    let score = |request: Result<ReadRequest, ScoreError>| {
        let read = request.and_then(|_| readings.next().ok_or(ScoreError::MissingInput));
        match read {
            Ok(reading) => {
                let sum: f64 = reading.logprobs.iter().map(|&l| f64::from(l)).sum();
                Score::new(ScorerName::REFERENCE, sum / reading.logprobs.len() as f64)
            }
            Err(error) => Score::failed(ScorerName::REFERENCE, error),
        }
    };
    Ok(requests.into_iter().map(score).collect())
}

/// How [`reference_scores`] are made.
pub fn reference_spec(engine: &dyn Generate, text: &Text) -> ScorerSpec {
    let settings = serde_json::json!({ "model": engine.policy_hash(), "tokenizer": text.hash() });
    let computes = "mean log-probability of the completion's tokens under a reference model, in nats";
    ScorerSpec::new(ScorerName::REFERENCE, computes, &settings)
}

/// What is to be read of a trajectory, or why it can't be.
fn request(engine: &dyn Generate, text: &Text, trajectory: &Trajectory) -> Result<ReadRequest, ScoreError> {
    let prompt = text.prompt_ids_of(trajectory.task.kind, trajectory.question());
    let (Ok(mut ids), Ok(completion)) = (prompt, text.encode(&trajectory.text())) else {
        return Err(ScoreError::Unreadable);
    };
    let from = ids.len();
    ids.extend(completion);
    if trajectory.leaf.finish.is_complete() {
        ids.push(text.eos_id());
    }
    match () {
        () if ids.len() == from => Err(ScoreError::MissingInput),
        () if ids.len() > engine.context_max() => Err(ScoreError::ContextFull),
        () => Ok(ReadRequest { ids, from, hidden_at: Vec::new() }),
    }
}
