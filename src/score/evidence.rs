//! From everything that is known of a trajectory to its labels, its scores and its reward.

use std::collections::HashMap;

use anyhow::Result;

use super::head::{self, Critic, Labelled};
use super::reread::{reread, reread_score};
use super::{Formula, logprob_scores, votes};
use crate::config::CriticConfig;
use crate::domain::{Address, Reward, Score, ScorerName, ScorerSpec, Trajectory};
use crate::engine::Generate;
use crate::text::Text;

/// What is known of one trajectory before the head scores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The trajectory's row id.
    pub id: i64,
    /// [`head::features`] of its thoughts.
    features: Vec<Vec<f32>>,
    /// The scores that need no head: log-probabilities, rereadings, and the vote among those of its task.
    scores: Vec<Score>,
    /// The scores by auxiliary models, which were stored when they were asked.
    given: Vec<Score>,
}

/// Gathers the evidence of every trajectory, in order: each is reread `rereads` times by the policy behind `engine`,
/// and `given` holds the scores by auxiliary models, by trajectory.
pub fn gather(
    engine: &dyn Generate,
    text: &Text,
    rereads: u32,
    trajectories: &[Trajectory],
    mut given: HashMap<i64, Vec<Score>>,
) -> Result<Vec<Evidence>> {
    let rereadings = reread(engine, text, rereads, trajectories)?;
    let mut all = Vec::with_capacity(trajectories.len());
    for ((trajectory, rereadings), vote) in trajectories.iter().zip(rereadings).zip(votes(trajectories)) {
        let thoughts = trajectory.thoughts();
        let mut scores = logprob_scores(&thoughts).to_vec();
        scores.extend([reread_score(&rereadings), vote]);
        all.push(Evidence {
            id: trajectory.id,
            features: thoughts.iter().zip(&rereadings).map(|(t, r)| head::features(t, r)).collect(),
            scores,
            given: given.remove(&trajectory.id).unwrap_or_default(),
        });
    }
    Ok(all)
}

impl Evidence {
    /// The head's scores, then those that need no head.
    fn scores(&self, critic: &Critic) -> Vec<Score> {
        critic.scores(&self.features).into_iter().chain(self.scores.iter().cloned()).collect()
    }

    /// The value of a formula over all scores.
    fn eval(&self, formula: &Formula, critic: &Critic) -> Reward {
        formula.eval(&[self.scores(critic), self.given.clone()].concat())
    }

    /// The scores to be stored, the reward by `formula` last.
    pub fn scored(&self, critic: &Critic, formula: &Formula) -> Vec<Score> {
        let reward = Score { scorer: ScorerName::REWARD, value: self.eval(formula, critic) };
        self.scores(critic).into_iter().chain([reward]).collect()
    }
}

/// How rewards, and the scores by `critic` that are stored with them, are made.
pub fn reward_spec(critic: &Critic, formula: &Formula, rereads: u32) -> ScorerSpec {
    let settings =
        serde_json::json!({ "head": critic.hash(), "formula": formula.source(), "rereads": rereads });
    let computes =
        "a formula over the critique head, log-probabilities, rereadings, the vote and auxiliary models";
    ScorerSpec::new(ScorerName::REWARD, computes, &settings)
}

/// Trajectories whose label `formula` over the scores of `critic` is sure of, as the head learns from them.
pub fn annotated(
    evidence: &[Evidence],
    critic: &Critic,
    formula: &Formula,
    config: &CriticConfig,
    address: &Address,
) -> Vec<Labelled> {
    let predicted: Vec<Reward> = evidence.iter().map(|e| e.eval(formula, critic)).collect();
    let labels = head::annotate(&predicted, config, address);
    let labelled = |(evidence, label): (&Evidence, Option<f32>)| {
        let thoughts = evidence.features.clone();
        Some(Labelled { thoughts, good: Some(label?), criteria: None, weight: 1.0 })
    };
    evidence.iter().zip(labels).filter_map(labelled).collect()
}
