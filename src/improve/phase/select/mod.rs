//! Selection: which of the iteration's trajectories are trained on, with the reason for each.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

use super::PhaseOutcome;
use crate::domain::{
    Address, Alarm, AlarmAction, AlarmRule, Arm, Phase, Purpose, Score, Selection, SelectionReason, Split,
    Task, Trajectory,
};
use crate::eval::Readable;
use crate::improve::run::Session;
use crate::score;
use crate::select::{self, Answers, SelectConfig};
use crate::store::StoredTree;

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    session.host.announce(iteration, Phase::Select, 1);
    let run = session.run.id;
    let mut selections = session.run.store.selections(run, iteration).await?;
    if selections.is_empty() {
        let trees = session.cache.rollouts(&session.run, iteration).await?;
        selections = select(session, iteration, &trees).await?;
        session
            .host
            .durable(
                session.run.store.write(run, iteration, async |unit| unit.put_selections(&selections).await),
            )
            .await?;
        session.host.advanced(1);
    }
    let kept = selections.iter().filter(|s| s.reason.is_kept()).count();
    if kept == 0 {
        let message = format!(
            "iteration {iteration}: nothing was kept of {} trajectories{}; training has only easy tasks with solutions \
             (look at `autodidact inspect iteration`)",
            selections.len(),
            why(&selections)
        );
        let (rule, action) = (AlarmRule::Kept, AlarmAction::Warned);
        let alarm = Alarm { rule, value: Some(0.0), threshold: Some(1.0), action, message };
        session.raise(Some((iteration, Phase::Select)), alarm).await?;
    }
    Ok(PhaseOutcome::Done(format!("kept {kept} of {}", selections.len())))
}

async fn select(session: &Session<'_>, iteration: u32, trees: &[StoredTree]) -> Result<Vec<Selection>> {
    let config = &session.run.config.select;
    let address = Address::new(session.run.config.run.seed, Purpose::Selection, iteration, "", &[]);
    let rewards = session.run.store.rewards(session.run.id, iteration).await?;
    let trajectories = session.run.trajectories(trees)?;
    let labelled = session.run.tasks(Split::Easy).iter().chain(session.run.tasks(Split::Anchor));
    let odd = || odd(config, labelled, &trajectories);
    match session.run.arm {
        Arm::Reward => {
            let answers = Answers { chances: chances(&trajectories), odd: odd() };
            Ok(select::by_reward(&trajectories, &rewards, &answers, config))
        }
        Arm::Random => {
            let count = budget(session, iteration).await?;
            Ok(select::at_random(&trajectories, &rewards, &HashSet::new(), count, &address))
        }
        Arm::Format => {
            let count = budget(session, iteration).await?;
            Ok(select::at_random(&trajectories, &rewards, &odd(), count, &address))
        }
        Arm::Oracle => {
            let count = budget(session, iteration).await?;
            Ok(select::by_gold(&trajectories, &rewards, is_right, count, config, &address))
        }
        Arm::EasyOnly => Ok(Vec::new()),
    }
}

/// How well chance explains the vote of each trajectory that has an answer.
fn chances(trajectories: &[Trajectory]) -> HashMap<i64, f64> {
    let chance = |(t, score): (&Trajectory, Score)| Some((t.id, score.value.ok()?));
    trajectories.iter().zip(score::chances(trajectories)).filter_map(chance).collect()
}

/// The trajectories whose answer is none that such tasks have, as far as the labelled ones show.
fn odd<'t>(
    config: &SelectConfig,
    labelled: impl Iterator<Item = &'t Task>,
    trajectories: &[Trajectory],
) -> HashSet<i64> {
    if !config.closed_answers {
        return HashSet::new();
    }
    let readable = Readable::of(labelled);
    let is_odd = |t: &&Trajectory| t.answer().is_some() && !readable.is(t.answer());
    trajectories.iter().filter(is_odd).map(|t| t.id).collect()
}

/// The commonest reason of what could have been kept.
fn why(selections: &[Selection]) -> String {
    let reasons = [
        (SelectionReason::TooFewTasks, "fewer than select.tasks_min tasks had any"),
        (SelectionReason::TooFewRows, "fewer than select.rows_min were left"),
        (SelectionReason::ByChance, "most votes are as high by chance, see select.chance_max"),
        (SelectionReason::BelowFloor, "most rewards are below select.floor"),
        (SelectionReason::OddAnswer, "most answers are none of the labelled tasks' answers"),
        (SelectionReason::NoAnswer, "most have no answer that can be read"),
        (SelectionReason::Truncated, "most were cut off, see rollout.tokens_max"),
    ];
    let count = |reason| selections.iter().filter(|s| s.reason == reason).count();
    let most = reasons.iter().rev().max_by_key(|(reason, _)| count(*reason));
    most.filter(|(reason, _)| count(*reason) > 0).map_or_else(String::new, |(_, text)| format!(": {text}"))
}

/// The verdict against gold. Only the oracle arm asks for it.
fn is_right(trajectory: &Trajectory) -> bool {
    score::grade(trajectory.task, trajectory.answer()).is_right()
}

/// How many trajectories the loop proper kept in this iteration: a control arm's budget.
async fn budget(session: &Session<'_>, iteration: u32) -> Result<usize> {
    let main = session.run.of_run.context("a control arm belongs to a run")?;
    let done = session.run.store.done_phases(main).await?;
    anyhow::ensure!(
        done.contains(&(iteration, Phase::Select)),
        "the control arm needs iteration {iteration} of the loop proper, which has not got that far: let \
         `autodidact run` finish first"
    );
    let kept = session.run.store.selections(main, iteration).await?;
    Ok(kept.iter().filter(|s| s.reason.is_kept()).count())
}

#[cfg(test)]
mod tests;
