//! Selection: which of the iteration's trajectories are trained on, with the reason for each.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{Flow, Session};
use crate::domain::{Address, Arm, Leaf, Phase, Purpose, Reward, ScoreError, Selection, Tree};
use crate::score;
use crate::select::{self, Candidate};
use crate::store::StoredTree;

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    session.announce(iteration, Phase::Select, 1);
    let run = session.run.id;
    let mut selections = session.store.selections(run, iteration).await?;
    if selections.is_empty() {
        let trees = session.rollouts(iteration).await?;
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
    let rewards = session.store.rewards(session.run.id, iteration).await?;
    let texts = texts(trees);
    let candidates = candidates(trees, &texts, &rewards);
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
        let graded = stored.tree.leaves.iter().map(|leaf| score::grade(task, leaf.answer.as_deref()));
        correct.extend(graded.map(|g| g.is_right()));
    }
    Ok(correct)
}

/// The text of every leaf, in order.
fn texts(trees: &[StoredTree]) -> Vec<String> {
    let leaves =
        trees.iter().flat_map(|stored| stored.tree.leaves.iter().map(move |leaf| (&stored.tree, leaf)));
    leaves.map(|(tree, leaf)| tree.completion_text(leaf)).collect()
}

/// Every leaf with its text, as selection sees it.
fn candidates<'t>(
    trees: &'t [StoredTree],
    texts: &'t [String],
    rewards: &HashMap<i64, Reward>,
) -> Vec<Candidate<'t>> {
    let leaves = trees.iter().flat_map(|stored| {
        stored.tree.leaves.iter().zip(&stored.trajectory_ids).map(move |l| (&stored.tree, l))
    });
    let candidate = |((tree, (leaf, &id)), text): ((&'t Tree, (&'t Leaf, &i64)), &'t String)| Candidate {
        trajectory: id,
        task: &tree.task_id,
        variant_key: tree.variant.as_ref().map_or("", |variant| &variant.question),
        text,
        tokens: tree.path(leaf).into_iter().map(|i| tree.thoughts[i].token_ids.len()).sum(),
        finish: leaf.finish,
        answer: leaf.answer.as_deref(),
        reward: rewards.get(&id).copied().unwrap_or(Err(ScoreError::MissingInput)),
    };
    leaves.zip(texts).map(candidate).collect()
}
