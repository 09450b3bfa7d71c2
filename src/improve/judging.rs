//! What models beside the policy think of the iteration's trajectories: the judge's verdicts and the reference's
//! log-probabilities, asked in bounded units, each committed on its own.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use super::{Policy, Session};
use crate::critic::Shown;
use crate::domain::{Leaf, Score, ScoreError, ScorerKind, Tree};
use crate::engine::ReadRequest;
use crate::store::StoredTree;

/// Trajectories judged and committed together: what a crash may cost.
const UNIT: usize = 32;

/// A trajectory to be judged.
struct Judged<'t> {
    id: i64,
    tree: &'t Tree,
    leaf: &'t Leaf,
}

/// Scores of each of several trajectories.
type Given = Vec<Vec<Score>>;

/// Units that [`perform`] has to do at most.
pub(super) fn units(session: &Session, stored: &[StoredTree]) -> usize {
    let trajectories = stored.iter().map(|s| s.trajectory_ids.len()).sum::<usize>();
    let rounds =
        usize::from(!session.referees.asked.is_empty()) + usize::from(session.referees.reference.is_some());
    rounds * trajectories.div_ceil(UNIT)
}

/// Asks for the scores that aren't stored yet; gives the reason if it had to stop.
pub(super) async fn perform(
    session: &Session<'_>,
    iteration: u32,
    policy: &Policy,
    stored: &[StoredTree],
) -> Result<Option<String>> {
    if let Some(&first) = session.referees.asked.first() {
        let judge = session.referees.judge(policy, &session.text);
        let hash = judge.hash();
        let ask = |unit: &[Judged]| judge.scores(&session.referees.asked, &shown(session, unit)?);
        let stopped = in_units(session, iteration, stored, (first, &hash), &ask).await?;
        if stopped.is_some() {
            return Ok(stopped);
        }
    }
    if let Some(reference) = &session.referees.reference {
        let hash = reference.engine().policy_hash().to_owned();
        let ask = |unit: &[Judged]| {
            let scores = referenced(session, unit)?;
            Ok(scores.into_iter().map(|score| vec![score]).collect())
        };
        return in_units(session, iteration, stored, (ScorerKind::Reference, &hash), &ask).await;
    }
    Ok(None)
}

/// Scores by trajectory that [`perform`] stored.
pub(super) async fn scores(session: &Session<'_>, iteration: u32) -> Result<HashMap<i64, Vec<Score>>> {
    let mut by_trajectory: HashMap<i64, Vec<Score>> = HashMap::new();
    for (id, score) in session.store.scores(session.run.id, iteration).await? {
        if is_given(score.scorer) {
            by_trajectory.entry(id).or_default().push(score);
        }
    }
    Ok(by_trajectory)
}

/// Whether a model beside the policy gives this score.
fn is_given(scorer: ScorerKind) -> bool {
    use ScorerKind::*;
    matches!(
        scorer,
        Judge | JudgeCoherence | JudgeAccuracy | JudgeCompleteness | JudgeDisagreement | Reference
    )
}

/// Asks unit by unit about the trajectories that have no score of the `first` kind yet, and commits each unit.
async fn in_units(
    session: &Session<'_>,
    iteration: u32,
    stored: &[StoredTree],
    (first, hash): (ScorerKind, &str),
    ask: &dyn Fn(&[Judged]) -> Result<Given>,
) -> Result<Option<String>> {
    let run = session.run.id;
    let scored = session.store.scores(run, iteration).await?;
    let done: HashSet<i64> = scored.iter().filter(|(_, s)| s.scorer == first).map(|(id, _)| *id).collect();
    let missing: Vec<Judged> = trajectories(stored).filter(|judged| !done.contains(&judged.id)).collect();
    for unit in missing.chunks(UNIT) {
        if let Some(reason) = session.limit_reached()? {
            return Ok(Some(reason));
        }
        let scores = ask(unit)?;
        let rows: Vec<(i64, Score)> = unit
            .iter()
            .zip(scores)
            .flat_map(|(judged, scores)| scores.into_iter().map(|score| (judged.id, score)))
            .collect();
        session.host.milestone();
        session.store.put_scores(run, iteration, hash, &rows).await?;
        session.host.milestone();
        session.host.advanced(1);
    }
    Ok(None)
}

fn trajectories(stored: &[StoredTree]) -> impl Iterator<Item = Judged<'_>> {
    stored.iter().flat_map(|StoredTree { tree, trajectory_ids, .. }| {
        tree.leaves.iter().zip(trajectory_ids).map(move |(leaf, &id)| Judged { id, tree, leaf })
    })
}

/// The question that a tree answers, in its own words.
pub(super) fn question<'t>(session: &'t Session, tree: &'t Tree) -> Result<&'t str> {
    match &tree.variant {
        Some(variant) => Ok(&variant.question),
        None => Ok(&session.task(&tree.task_id)?.question),
    }
}

fn shown<'t>(session: &'t Session, unit: &[Judged<'t>]) -> Result<Vec<Shown<'t>>> {
    let one = |judged: &Judged<'t>| {
        let path = judged.tree.path(judged.leaf).into_iter();
        // The thought that only ends a trajectory has no text.
        let thoughts = path.map(|i| judged.tree.thoughts[i].text.as_str()).filter(|text| !text.is_empty());
        Ok(Shown { question: question(session, judged.tree)?, thoughts: thoughts.collect() })
    };
    unit.iter().map(one).collect()
}

/// Every trajectory's mean log-probability under the reference, in nats per token of its tokenizer.
fn referenced(session: &Session, unit: &[Judged]) -> Result<Vec<Score>> {
    let Some(reference) = &session.referees.reference else { return Ok(Vec::new()) };
    let request = |judged: &Judged| -> Result<Result<ReadRequest, ScoreError>> {
        let kind = session.task(&judged.tree.task_id)?.kind;
        let prompt = reference.text.prompt_ids_of(kind, question(session, judged.tree)?);
        let completion = reference.text.encode(&judged.tree.completion_text(judged.leaf));
        let (Ok(mut ids), Ok(completion)) = (prompt, completion) else {
            return Ok(Err(ScoreError::Unreadable));
        };
        let from = ids.len();
        ids.extend(completion);
        if judged.leaf.finish.is_complete() {
            ids.push(reference.text.eos_id());
        }
        Ok(match () {
            () if ids.len() == from => Err(ScoreError::MissingInput),
            () if ids.len() > reference.engine().context_max() => Err(ScoreError::ContextFull),
            () => Ok(ReadRequest { ids, from, hidden_at: Vec::new() }),
        })
    };
    let requests = unit.iter().map(request).collect::<Result<Vec<_>>>()?;
    let readable: Vec<ReadRequest> = requests.iter().filter_map(|r| r.as_ref().ok()).cloned().collect();
    let mut readings = reference.engine().read(&readable)?.into_iter();
    let score = |request: Result<ReadRequest, ScoreError>| {
        let read = request.and_then(|_| readings.next().ok_or(ScoreError::MissingInput));
        match read {
            Ok(reading) => {
                let sum: f64 = reading.logprobs.iter().map(|&l| f64::from(l)).sum();
                Score::new(ScorerKind::Reference, sum / reading.logprobs.len() as f64)
            }
            Err(error) => Score::failed(ScorerKind::Reference, error),
        }
    };
    Ok(requests.into_iter().map(score).collect())
}
