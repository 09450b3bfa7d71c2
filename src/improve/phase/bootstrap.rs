//! Bootstrap: graded easy trajectories, and a critique head trained on them.
//!
//! Iteration 1 makes the trajectories: one part is sampled from the easy and anchor tasks, the
//! other is made by corrupting gold solutions thought by thought. Later iterations read the same
//! trajectories again, so at most `critic.bootstrap` graded labels of easy tasks are ever used.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::PhaseOutcome;
use crate::data;
use crate::domain::{Address, Phase, Purpose, Sampling, Split, Task};
use crate::improve::run::{DRAWN_IN, Session, commit, draw_chains, graded, missing, plain_job, read_given};
use crate::policy::Policy;
use crate::rollout::Job;
use crate::score::{Calibration, Critic};
use crate::store::{CriticRow, CriticStage};

/// Branch of a sampled trajectory.
const SAMPLED: u32 = 0;
/// Branch of a trajectory that was made from the gold solution.
const CORRUPTED: u32 = 1;

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let policy = session.incumbent(iteration).await?;
    session.host.announce(iteration, Phase::Bootstrap, 3);
    session.host.part("draw");
    if iteration == DRAWN_IN {
        draw(session, &policy).await?;
    }
    if let Some(row) = session.run.store.critic(session.run.id, iteration, CriticStage::Bootstrap).await? {
        return Ok(PhaseOutcome::Done(note(&row)));
    }
    session.host.part("reread");
    let graded = graded(session, &policy).await?;
    session.host.part("fit");
    let address = Address::new(session.run.config.run.seed, Purpose::Critic, iteration, "", &[0]);
    let critic = Critic::fit(&graded.easy, &session.run.config.critic, &address)?;
    let row = row(&critic, &graded.calibration(&critic), 0, true)?;
    let (store, run) = (&session.run.store, session.run.id);
    session
        .host
        .durable(
            store.write(run, iteration, async |unit| unit.put_critic(CriticStage::Bootstrap, &row).await),
        )
        .await?;
    session.host.advanced(1);
    Ok(PhaseOutcome::Done(note(&row)))
}

/// The head that the bootstrap of `iteration` trained.
pub(super) async fn critic(session: &Session<'_>, iteration: u32) -> Result<Critic> {
    let row = session.run.store.critic(session.run.id, iteration, CriticStage::Bootstrap).await?;
    Critic::from_bytes(&row.with_context(|| format!("iteration {iteration} has no bootstrapped head"))?.bytes)
}

pub(super) fn row(
    critic: &Critic,
    calibration: &Calibration,
    annotated: usize,
    voting: bool,
) -> Result<CriticRow> {
    Ok(CriticRow {
        hash: critic.hash().to_owned(),
        bytes: critic.to_bytes()?,
        auc: calibration.auc,
        ece: calibration.ece,
        brier: calibration.brier,
        anchor_n: calibration.n as u32,
        annotated: annotated as u32,
        voting,
    })
}

pub(super) fn note(row: &CriticRow) -> String {
    let show = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
    format!("anchor AUC {}, ECE {}, Brier {}", show(row.auc), show(row.ece), show(row.brier))
}

/// Draws, corrupts and commits the trajectories that are not stored yet.
async fn draw(session: &Session<'_>, policy: &Policy) -> Result<()> {
    let stored = session.run.store.tree_keys(session.run.id, DRAWN_IN, Purpose::Bootstrap).await?;
    let (sampled, corrupted) = jobs(session)?;
    let warm = Sampling { temperature: session.run.config.critic.temperature, ..Sampling::GREEDY };
    let sampled = missing(sampled, &stored);
    if !sampled.is_empty() {
        let trees = draw_chains(session, policy, &sampled, warm)?;
        commit(session, DRAWN_IN, Purpose::Bootstrap, policy, &trees).await?;
        session.host.advanced(1);
    }
    let corrupted = missing_corrupted(corrupted, &stored);
    if !corrupted.is_empty() {
        let (jobs, completions): (Vec<Job>, Vec<Vec<u32>>) = corrupted.into_iter().unzip();
        let trees = read_given(session, policy, &jobs, &completions)?;
        commit(session, DRAWN_IN, Purpose::Bootstrap, policy, &trees).await?;
        session.host.advanced(1);
    }
    Ok(())
}

/// A job, and the token ids of the wrong completion that answers it.
type Corrupted = (Job, Vec<u32>);

fn missing_corrupted(corrupted: Vec<Corrupted>, stored: &HashSet<String>) -> Vec<Corrupted> {
    corrupted.into_iter().filter(|(job, _)| !stored.contains(&job.address.to_string())).collect()
}

/// The jobs to sample, and the corrupted completions.
fn jobs(session: &Session) -> Result<(Vec<Job>, Vec<Corrupted>)> {
    let config = &session.run.config.critic;
    let corrupted_count = (config.bootstrap as f64 * config.corrupted).round() as usize;
    let (easy, anchor) = (session.run.tasks(Split::Easy), session.run.tasks(Split::Anchor));
    // The two kinds take different easy tasks while there are enough.
    let sampled = easy.iter().take(config.bootstrap - corrupted_count).chain(anchor);
    let corrupted = easy.iter().rev().take(corrupted_count).chain(anchor);
    let address = |task: &Task, branch| {
        Address::new(session.run.config.run.seed, Purpose::Bootstrap, DRAWN_IN, &task.id, &[branch])
    };
    let sampled =
        sampled.map(|task| plain_job(session, task, address(task, SAMPLED))).collect::<Result<_>>()?;
    let mut made = Vec::new();
    for task in corrupted {
        let address = address(task, CORRUPTED);
        if let Some(wrong) = data::corrupted(task, &address) {
            made.push((plain_job(session, task, address)?, session.run.text.completion_ids(&wrong)?));
        }
    }
    Ok((sampled, made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Arm;
    use crate::improve::tests::{World, block_on};
    use crate::policy::PolicyKind;

    #[test]
    fn the_two_kinds_share_the_anchor_tasks_and_no_easy_one() {
        let world = World::new(&[("critic.bootstrap", "20"), ("critic.corrupted", "0.25")]);
        let host = world.host();
        block_on(async {
            let session =
                Session::open(&host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
            let (sampled, corrupted) = jobs(&session).unwrap();
            let (easy, anchor) = (session.run.tasks(Split::Easy), session.run.tasks(Split::Anchor));
            let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
            let names = |jobs: Vec<&Job>| jobs.iter().map(|job| job.task_id.clone()).collect::<Vec<_>>();
            let (easy, anchor) = (ids(easy), ids(anchor));
            assert_eq!(names(sampled.iter().collect()), [&easy[..15], &anchor[..]].concat());
            let last: Vec<String> = easy[19..].iter().rev().cloned().collect();
            assert_eq!(names(corrupted.iter().map(|(job, _)| job).collect()), [last, anchor].concat());
            let branches =
                |jobs: Vec<&Job>| jobs.iter().map(|job| job.address.branch.clone()).collect::<HashSet<_>>();
            assert_eq!(branches(sampled.iter().collect()), [vec![SAMPLED]].into());
            assert_eq!(branches(corrupted.iter().map(|(job, _)| job).collect()), [vec![CORRUPTED]].into());
        });
    }

    #[test]
    fn a_second_call_draws_nothing_and_finds_the_same_head() {
        let world = World::new(&[]);
        let host = world.host();
        block_on(async {
            let mut session =
                Session::open(&host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
            let first = run(&mut session, 1).await.unwrap();
            let keys = |stored: HashSet<String>| stored.len();
            let (store, id) = (&session.run.store, session.run.id);
            let drawn = keys(store.tree_keys(id, DRAWN_IN, Purpose::Bootstrap).await.unwrap());
            let (sampled, corrupted) = jobs(&session).unwrap();
            assert_eq!(drawn, sampled.len() + corrupted.len());
            assert!(
                missing(sampled, &store.tree_keys(id, DRAWN_IN, Purpose::Bootstrap).await.unwrap())
                    .is_empty()
            );
            let head = critic(&session, 1).await.unwrap().hash().to_owned();
            assert_eq!(run(&mut session, 1).await.unwrap(), first);
            assert_eq!(critic(&session, 1).await.unwrap().hash(), head);
            let store = &session.run.store;
            assert_eq!(keys(store.tree_keys(id, DRAWN_IN, Purpose::Bootstrap).await.unwrap()), drawn);
            assert!(critic(&session, 2).await.is_err_and(|error| error.to_string().contains("iteration 2")));
        });
    }
}
