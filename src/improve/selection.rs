//! Selection: which of the iteration's trajectories are trained on, with the reason for each.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{Flow, Session};
use crate::domain::{Address, Arm, Phase, Purpose, Reward, ScoreError, ScorerKind, Selection};
use crate::grade;
use crate::select::{self, Candidate};
use crate::store::StoredTree;

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    session.announce(iteration, Phase::Select, 1);
    let run = session.run.id;
    let mut selections = session.store.selections(run, iteration).await?;
    if selections.is_empty() {
        let trees = session.store.trees(run, iteration, Purpose::Rollout).await?;
        selections = select(session, iteration, &trees).await?;
        session.host.milestone();
        session.store.put_selections(run, iteration, &selections).await?;
        session.host.milestone();
        session.host.advanced(1);
    }
    let kept = selections.iter().filter(|s| s.reason.is_kept()).count();
    if kept == 0 {
        session
            .warn(format!(
                "iteration {iteration}: nothing was kept of {} trajectories; training has easy tasks with solutions alone \
                 (lower select.floor, or look at `autodidact inspect iteration`)",
                selections.len()
            ))
            .await?;
    }
    Ok(Flow::Done(format!("kept {kept} of {}", selections.len())))
}

async fn select(session: &Session<'_>, iteration: u32, trees: &[StoredTree]) -> Result<Vec<Selection>> {
    let config = &session.config.select;
    let address = Address::new(session.config.run.seed, Purpose::Selection, iteration, "", &[]);
    let rewards = rewards(session, iteration).await?;
    let texts = Texts::of(trees);
    let candidates = texts.candidates(trees, &rewards);
    match session.arm {
        Arm::Reward => Ok(select::by_reward(&candidates, config)),
        Arm::Random => Ok(select::at_random(&candidates, budget(session, iteration).await?, &address)),
        Arm::Oracle => {
            let correct = correct(session, trees)?;
            let count = budget(session, iteration).await?;
            Ok(select::by_gold(&candidates, &correct, count, config, &address))
        }
        Arm::EasyOnly => Ok(Vec::new()),
    }
}

/// Rewards by trajectory; empty for arms that don't score.
async fn rewards(session: &Session<'_>, iteration: u32) -> Result<HashMap<i64, Reward>> {
    let scores = session.store.scores(session.run.id, iteration).await?;
    Ok(scores
        .into_iter()
        .filter(|(_, s)| s.scorer == ScorerKind::Reward)
        .map(|(id, s)| (id, s.value))
        .collect())
}

/// How many trajectories the loop proper kept in this iteration: a control arm's budget.
async fn budget(session: &Session<'_>, iteration: u32) -> Result<usize> {
    let main = session.run.of_run.context("a control arm belongs to a run")?;
    let done = session.store.done_phases(main).await?;
    anyhow::ensure!(
        done.contains(&(iteration, Phase::Select)),
        "the control arm needs iteration {iteration} of the loop proper, which has not got that far: let \
         `autodidact run` finish first"
    );
    let kept = session.store.selections(main, iteration).await?;
    Ok(kept.iter().filter(|s| s.reason.is_kept()).count())
}

/// Verdicts against gold, in the order of the candidates. Only the oracle arm comes here.
fn correct(session: &Session, trees: &[StoredTree]) -> Result<Vec<bool>> {
    let mut correct = Vec::new();
    for stored in trees {
        let task = session.task(&stored.tree.task_id)?;
        let graded = stored.tree.leaves.iter().map(|leaf| grade::grade(task, leaf.answer.as_deref()));
        correct.extend(graded.map(|g| g.correct == Some(true)));
    }
    Ok(correct)
}

/// What candidates borrow: one text and one variant key per leaf, in order.
struct Texts(Vec<(String, String)>);

impl Texts {
    fn of(trees: &[StoredTree]) -> Self {
        let of_tree = |stored: &StoredTree| {
            let tree = stored.tree.clone();
            let key = tree.variant.as_ref().map_or_else(String::new, |v| v.question.clone());
            tree.leaves.iter().map(|leaf| (tree.completion_text(leaf), key.clone())).collect::<Vec<_>>()
        };
        Self(trees.iter().flat_map(of_tree).collect())
    }

    fn candidates<'t>(
        &'t self,
        trees: &'t [StoredTree],
        rewards: &HashMap<i64, Reward>,
    ) -> Vec<Candidate<'t>> {
        let leaves =
            trees.iter().flat_map(|s| s.tree.leaves.iter().zip(&s.trajectory_ids).map(move |l| (s, l)));
        let candidate =
            |((stored, (leaf, &id)), (text, key)): ((&'t StoredTree, _), &'t (String, String))| {
                let leaf: &'t crate::domain::Leaf = leaf;
                Candidate {
                    trajectory: id,
                    task: &stored.tree.task_id,
                    variant_key: key,
                    text,
                    tokens: stored
                        .tree
                        .path(leaf)
                        .iter()
                        .map(|&i| stored.tree.thoughts[i].token_ids.len())
                        .sum(),
                    finish: leaf.finish,
                    answer: leaf.answer.as_deref(),
                    reward: rewards.get(&id).copied().unwrap_or(Err(ScoreError::MissingInput)),
                }
            };
        leaves.zip(&self.0).map(candidate).collect()
    }
}
