//! From everything that is known of a trajectory to its labels, its scores and its reward.

use std::collections::HashMap;

use anyhow::Result;

use super::head::{self, Critic, CriticConfig, Labelled};
use super::reread::{reread, reread_score};
use super::{Formula, chances, logprob_scores, votes};
use crate::data::Variants;
use crate::domain::{Address, Generate, Reward, Score, ScorerName, ScorerSpec, Trajectory};
use crate::text::Text;

/// What is known of one trajectory before the head scores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The trajectory's row id.
    pub id: i64,
    /// [`head::features`] of its thoughts.
    features: Vec<Vec<f32>>,
    /// The scores that need no head: log-probabilities, rereadings, and the vote among those of its
    /// task.
    scores: Vec<Score>,
    /// The scores by auxiliary models, which were stored when they were asked.
    given: Vec<Score>,
}

/// Gathers the evidence of every trajectory, in order: each is reread `rereads` times by the
/// policy, whose engine and tokenizer are passed, and `given` holds the scores by auxiliary models,
/// by trajectory.
pub fn gather(
    engine: &dyn Generate,
    text: &Text,
    variants: Variants,
    rereads: u32,
    trajectories: &[Trajectory],
    mut given: HashMap<i64, Vec<Score>>,
) -> Result<Vec<Evidence>> {
    let rereadings = reread(engine, text, variants, rereads, trajectories)?;
    let mut all = Vec::with_capacity(trajectories.len());
    let votes = votes(trajectories).into_iter().zip(chances(trajectories));
    for ((trajectory, rereadings), (vote, chance)) in trajectories.iter().zip(rereadings).zip(votes) {
        let thoughts = trajectory.thoughts();
        let mut scores = logprob_scores(&thoughts).to_vec();
        scores.extend([reread_score(&rereadings), vote, chance]);
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

/// Trajectories whose label `formula` over the scores of `critic` is sure of, as the head learns
/// from them.
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

#[cfg(test)]
mod tests {
    use super::super::fixture::Owned;
    use super::*;
    use crate::config::Config;
    use crate::domain::{
        Capabilities, Completion, Purpose, ReadRequest, Reading, Request, ScoreError, Stops,
    };

    /// Reads nothing: free text has no variants.
    struct Unread;

    impl Generate for Unread {
        fn capabilities(&self) -> Capabilities {
            Capabilities::ALL
        }

        fn policy_hash(&self) -> &str {
            "unread"
        }

        fn context_max(&self) -> usize {
            100
        }

        fn generate(&self, _: &[Request], _: &Stops, _: &(dyn Fn(usize) + Sync)) -> Result<Vec<Completion>> {
            anyhow::bail!("scoring draws nothing")
        }

        fn read(&self, requests: &[ReadRequest]) -> Result<Vec<Reading>> {
            assert!(requests.is_empty());
            Ok(Vec::new())
        }
    }

    fn address(n: u32) -> Address {
        Address::new(1, Purpose::Critic, 1, "", &[n])
    }

    fn config() -> CriticConfig {
        CriticConfig { epochs: 2, ..Config::load(None, &[]).unwrap().critic }
    }

    /// Task a: two of three agree; task b: one attempt. Row ids aren't in order.
    fn attempts() -> Vec<Owned> {
        let drawn = [(7, "a", "8", -0.1), (3, "a", "5", -0.9), (9, "b", "2", -0.4), (4, "a", "8", -0.2)];
        let owned =
            |(id, task, answer, logprob)| Owned::answering(id, task, Some(answer)).drawn_with(logprob);
        drawn.into_iter().map(owned).collect()
    }

    fn evidence(given: HashMap<i64, Vec<Score>>) -> Vec<Evidence> {
        let owned = attempts();
        let trajectories: Vec<Trajectory> = owned.iter().map(Owned::trajectory).collect();
        let defaults = Config::load(None, &[]).unwrap();
        gather(&Unread, &Text::embedded().unwrap(), Variants::new(&defaults.tasks), 2, &trajectories, given)
            .unwrap()
    }

    fn critic(evidence: &[Evidence]) -> Critic {
        let label = |(i, e): (usize, &Evidence)| Labelled {
            thoughts: e.features.clone(),
            good: Some((i % 2) as f32),
            criteria: None,
            weight: 1.0,
        };
        let sets: Vec<Labelled> = evidence.iter().enumerate().map(label).collect();
        Critic::fit(&sets, &config(), &address(0)).unwrap()
    }

    #[test]
    fn every_trajectory_gets_its_own_scores_and_the_reward_of_all() {
        let judged = |value| vec![Score::new(ScorerName::JUDGE, value)];
        let evidence = evidence([(3, judged(0.5)), (9, judged(0.75))].into());
        let critic = critic(&evidence);
        let formula = Formula::parse("judge + vote + logprob_mean").unwrap();
        assert_eq!(evidence.iter().map(|e| e.id).collect::<Vec<_>>(), [7, 3, 9, 4]);
        let scored: Vec<Vec<Score>> = evidence.iter().map(|e| e.scored(&critic, &formula)).collect();
        let names: Vec<&str> = scored[0].iter().map(|s| s.scorer.as_str()).collect();
        let stored = [
            "head",
            "coherence",
            "accuracy",
            "completeness",
            "logprob_mean",
            "logprob_min",
            "reread",
            "vote",
            "chance",
            "reward",
        ];
        assert_eq!(names, stored, "the judge's own score is stored already");
        let value = |of: &[Score], name: ScorerName| of.iter().find(|s| s.scorer == name).unwrap().value;
        let votes = scored.iter().map(|s| value(s, ScorerName::VOTE).unwrap());
        assert_eq!(votes.collect::<Vec<_>>(), [2.0 / 3.0, 1.0 / 3.0, 1.0, 2.0 / 3.0]);
        let rewards: Vec<Reward> = scored.iter().map(|s| value(s, ScorerName::REWARD)).collect();
        assert_eq!(rewards[0], Err(ScoreError::MissingInput), "the judge has not scored 7");
        let expected = 0.5 + 1.0 / 3.0 + f64::from(-0.9f32);
        assert!((rewards[1].unwrap() - expected).abs() < 1e-12, "{rewards:?}");
        assert!((rewards[2].unwrap() - (0.75 + 1.0 + f64::from(-0.4f32))).abs() < 1e-12, "{rewards:?}");
        assert_eq!(value(&scored[1], ScorerName::REREAD), Err(ScoreError::MissingInput));
    }

    #[test]
    fn only_certain_labels_teach_with_the_features_of_their_trajectory() {
        let evidence = evidence(HashMap::new());
        let critic = critic(&evidence);
        let formula = Formula::parse("1 - vote").unwrap();
        let strict = CriticConfig { entropy_max_bits: 0.1, ..config() };
        let labelled = annotated(&evidence, &critic, &formula, &strict, &address(2));
        // Only task b's vote is certain.
        assert_eq!(labelled.len(), 1);
        assert_eq!((labelled[0].good, &labelled[0].thoughts), (Some(0.0), &evidence[2].features));
        assert!(labelled[0].criteria.is_none());
    }

    #[test]
    fn the_spec_changes_with_the_head_the_formula_and_the_rereadings() {
        let critic = critic(&evidence(HashMap::new()));
        let spec =
            |formula: &str, rereads| reward_spec(&critic, &Formula::parse(formula).unwrap(), rereads).hash;
        assert_eq!(spec("vote", 2), spec("vote", 2));
        assert_ne!(spec("vote", 2), spec("head", 2));
        assert_ne!(spec("vote", 2), spec("vote", 3));
    }
}
