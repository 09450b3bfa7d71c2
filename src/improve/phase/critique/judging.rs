//! What the auxiliary models make of an iteration's trajectories: the judge's verdicts and the
//! reference's log-probabilities, asked in bounded units, each of which is committed when it is
//! done.

use std::collections::HashMap;

use anyhow::Result;

use crate::domain::{Score, ScorerName, Trajectory};
use crate::improve::run::Session;
use crate::policy::Policy;
use crate::score::{self, reference_scores};
use crate::store::{Scoring, StoredTree};

/// Trajectories judged and committed together: what a crash may cost.
const UNIT: usize = 32;

/// Units that [`run`] has to do at most.
pub(super) fn units(session: &Session, stored: &[StoredTree]) -> usize {
    let trajectories = stored.iter().map(|s| s.trajectory_ids.len()).sum::<usize>();
    let models = &session.aux_models;
    let rounds = usize::from(!models.asked().is_empty()) + usize::from(models.reference().is_some());
    rounds * trajectories.div_ceil(UNIT)
}

/// Asks for the scores that aren't stored yet; returns the reason if it had to stop.
pub(super) async fn run(
    session: &Session<'_>,
    iteration: u32,
    policy: &Policy,
    stored: &[StoredTree],
) -> Result<Option<String>> {
    let trajectories = session.run.trajectories(stored)?;
    let models = &session.aux_models;
    if let Some(first) = models.asked().first() {
        let judge = models.judge(policy.engine(), &session.run.text);
        let (hash, spec) = (judge.hash(), judge.spec(models.asked()));
        let scoring = Scoring { spec: Some(&spec), ..Scoring::from(&hash) };
        let ask = |unit: &[Trajectory]| judge.scores(models.asked(), unit);
        let stopped = in_units(session, iteration, &trajectories, (first, scoring), &ask).await?;
        if stopped.is_some() {
            return Ok(stopped);
        }
    }
    if let Some(reference) = models.reference() {
        let ask = |unit: &[Trajectory]| {
            let scores = reference_scores(reference.engine(), reference.text(), unit)?;
            Ok(scores.into_iter().map(|score| vec![score]).collect())
        };
        let spec = score::reference_spec(reference.engine(), reference.text());
        let scoring = Scoring { spec: Some(&spec), ..Scoring::from(reference.engine().policy_hash()) };
        return in_units(session, iteration, &trajectories, (&ScorerName::REFERENCE, scoring), &ask).await;
    }
    Ok(None)
}

/// Scores by trajectory that [`run`] stored; of repeated ones the last counts.
pub(super) async fn scores(session: &Session<'_>, iteration: u32) -> Result<HashMap<i64, Vec<Score>>> {
    Ok(by_models(session.run.store.scores(session.run.id, iteration).await?))
}

/// The scores by auxiliary models, by trajectory.
fn by_models(scores: Vec<(i64, Score)>) -> HashMap<i64, Vec<Score>> {
    let mut by_trajectory: HashMap<i64, Vec<Score>> = HashMap::new();
    for (id, score) in scores.into_iter().filter(|(_, score)| score::is_by_model(&score.scorer)) {
        by_trajectory.entry(id).or_default().push(score);
    }
    by_trajectory
}

/// Scores of each of several trajectories.
type Given = Vec<Vec<Score>>;

/// Asks unit by unit about the trajectories that no scoring like this one covers yet, and commits
/// each unit. `first` is a name that every scored trajectory has.
async fn in_units(
    session: &Session<'_>,
    iteration: u32,
    trajectories: &[Trajectory<'_>],
    (first, scoring): (&ScorerName, Scoring<'_>),
    ask: &dyn Fn(&[Trajectory]) -> Result<Given>,
) -> Result<Option<String>> {
    let (store, run) = (&session.run.store, session.run.id);
    let covered = store.scored(run, iteration, first, scoring).await?;
    let missing: Vec<Trajectory> =
        trajectories.iter().filter(|t| !covered.contains(&t.id)).copied().collect();
    for unit in missing.chunks(UNIT) {
        if let Some(reason) = session.pause().await? {
            return Ok(Some(reason));
        }
        let scores = ask(unit)?;
        let rows: Vec<(i64, Score)> = unit
            .iter()
            .zip(scores)
            .flat_map(|(trajectory, scores)| scores.into_iter().map(|score| (trajectory.id, score)))
            .collect();
        session
            .host
            .durable(store.write(run, iteration, async |unit| unit.put_scores(scoring, &rows).await))
            .await?;
        session.host.advanced(1);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ScoreError;

    #[test]
    fn only_the_scores_of_models_are_given_to_their_trajectory() {
        let scores = vec![
            (1, Score::new(ScorerName::HEAD, 0.9)),
            (1, Score::failed(ScorerName::JUDGE, ScoreError::LowMass)),
            (1, Score::new(ScorerName::REFERENCE, -0.5)),
            (2, Score::new(ScorerName::JUDGE_DISAGREEMENT, 0.1)),
            (3, Score::new(ScorerName::REWARD, 1.0)),
        ];
        let given = by_models(scores);
        assert_eq!(given.len(), 2, "trajectory 3 has only a reward");
        assert_eq!(
            given[&1],
            [Score::failed(ScorerName::JUDGE, ScoreError::LowMass), Score::new(ScorerName::REFERENCE, -0.5)]
        );
        assert_eq!(given[&2], [Score::new(ScorerName::JUDGE_DISAGREEMENT, 0.1)]);
    }
}
