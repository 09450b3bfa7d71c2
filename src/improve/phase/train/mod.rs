//! Training: fine-tunes the incumbent on what was kept, with replay of labelled easy tasks.
//!
//! This file plans what to train on and stores the candidate; [`train`] carries the plan out. Gold
//! labels of tasks above the easy levels are out of reach here: examples are built from kept
//! trajectories and from the easy split.

mod checkpoint;
mod local;
mod parity;
mod plan;
mod states;

use std::collections::HashSet;

use anyhow::{Result, bail};

use self::checkpoint::NewCheckpoint;
use self::local::train;
use self::plan::{Candidate, Plan, Training};
use self::states::States;
use super::PhaseOutcome;
use crate::domain::{Address, Alarm, AlarmAction, AlarmRule, Phase, Purpose, Split, Task};
use crate::improve::run::{Run, Session, names};
use crate::policy::Policy;
use crate::policy::checkpoints::ensure_space;
use crate::store::{CheckpointKind, StoredTree};
use crate::train::{self, Group};

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let incumbent = session.incumbent(iteration).await?;
    if let Some(trained) = session.run.candidate(iteration).await? {
        return Ok(PhaseOutcome::Done(format!("candidate {:.12}", trained.row.policy_hash)));
    }
    let trees = session.cache.rollouts(&session.run, iteration).await?;
    session.host.part("parity");
    parity::check(session, iteration, &incumbent, &trees).await?;
    session.host.part("prepare");
    let kept = kept_examples(&session.run, iteration, &trees).await?;
    drop(trees);
    session.cache.forget_rollouts();
    let plan = plan(session, iteration, &incumbent, kept).await?;
    match train(&plan).await? {
        Training::Stopped(reason) => Ok(PhaseOutcome::Stopped(reason)),
        Training::Complete(candidate) => {
            save(session, iteration, &incumbent, &candidate).await?;
            Ok(PhaseOutcome::Done(candidate.note))
        }
    }
}

/// What to train in `iteration`, and on what. Raises an alarm if there is nothing to train on.
async fn plan<'a>(
    session: &'a Session<'a>,
    iteration: u32,
    incumbent: &'a Policy,
    kept: Vec<Group>,
) -> Result<Plan<'a>> {
    let run = &session.run;
    let replay = match incumbent {
        Policy::Model(_) => replay_examples(run)?,
        Policy::Scripted(_) => Vec::new(),
        Policy::CandleModel(model) => bail!("a {} model can't be trained", model.family()),
    };
    if kept.is_empty() && replay.is_empty() && matches!(incumbent, Policy::Model(_)) {
        // The schedule is empty then, and the candidate equals the incumbent: the next iteration
        // tries again.
        let message =
            format!("iteration {iteration}: there is nothing to train on, so the candidate is the incumbent");
        let (rule, action) = (AlarmRule::Examples, AlarmAction::Warned);
        let alarm = Alarm { rule, value: Some(0.0), threshold: Some(1.0), action, message };
        session.raise(Some((iteration, Phase::Train)), alarm).await?;
    }
    let config = &run.config.train;
    let address = Address::new(run.config.run.seed, Purpose::Training, iteration, "", &[]);
    let schedule = train::schedule(
        &kept,
        &replay,
        (run.steps_max(iteration).await?, config.epochs_max),
        config.step_tokens,
        config.replay,
        &address,
    );
    let states = States { session, iteration };
    Ok(Plan { incumbent, config: run.config, iteration, kept, replay, schedule, address, states })
}

/// The kept trajectories of `iteration`, each a group, in the trees' order.
async fn kept_examples(run: &Run<'_>, iteration: u32, trees: &[StoredTree]) -> Result<Vec<Group>> {
    let selections = run.store.selections(run.id, iteration).await?;
    let kept: HashSet<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
    let mut examples = Vec::with_capacity(kept.len());
    for stored in trees {
        let leaves: Vec<usize> =
            (0..stored.trajectory_ids.len()).filter(|&i| kept.contains(&stored.trajectory_ids[i])).collect();
        examples.extend(train::examples_from_tree(&stored.tree, &leaves, &stored.trajectory_ids)?);
    }
    Ok(examples.into_iter().map(Group::from).collect())
}

/// The labelled easy tasks, each a group.
fn replay_examples(run: &Run<'_>) -> Result<Vec<Group>> {
    let solved = run.tasks(Split::Easy).iter().filter_map(|task| Some((task, task.solution.as_ref()?)));
    let example = |(task, solution): (&Task, &String)| {
        let prompt = run.text.prompt_ids_of(task.kind, &task.question)?;
        Ok(train::example_from_solution(&prompt, &run.text.completion_ids(solution)?, &task.id).into())
    };
    solved.map(example).collect()
}

/// Puts the candidate's checkpoint in place, and commits its row with the updates that no state's
/// row came with.
async fn save(
    session: &Session<'_>,
    iteration: u32,
    incumbent: &Policy,
    candidate: &Candidate,
) -> Result<()> {
    let (run, policy) = (&session.run, &candidate.policy);
    ensure_space(&run.dir, policy.bytes_estimate() * 2)?;
    let checkpoint = NewCheckpoint {
        kind: CheckpointKind::Candidate,
        step: candidate.steps.last().map_or(0, |step| step.step),
        policy_hash: policy.hash().to_owned(),
        parent_hash: Some(incumbent.hash().to_owned()),
        name: names::candidate_name(run.arm, iteration, policy.hash()),
    };
    let fill = |dir: &std::path::Path| policy.save(dir, run.config, &run.text);
    checkpoint.write(session, iteration, &candidate.steps, fill).await
}

#[cfg(test)]
mod tests;
