//! Drawing, as every phase that draws does it: what a rollout is handed, which jobs are missing,
//! and the commit of a unit.

use std::collections::HashSet;

use anyhow::Result;

use super::Session;
use super::pace::Pace;
use crate::answer;
use crate::config::Config;
use crate::domain::{Address, AnswerMap, Purpose, Sampling, Task, Tree};
use crate::policy::Policy;
use crate::rollout::{self, Job, Limits, Tools};
use crate::text::Text;

/// Hands `work` what rollouts of `policy` on the configured tasks need.
pub fn with_tools<T>(
    config: &Config,
    text: &Text,
    policy: &Policy,
    sampling: Sampling,
    on_tokens: &(dyn Fn(usize) + Sync),
    work: impl FnOnce(&Tools) -> Result<T>,
) -> Result<T> {
    let kind = config.tasks.task_kind();
    work(&Tools {
        engine: policy.engine(),
        decode: &|ids| text.decode(ids),
        stops: &text.stops(kind, &config.rollout.stop)?,
        limits: Limits {
            sampling,
            tokens_max: config.rollout.tokens_max,
            thoughts_max: config.rollout.thoughts_max,
        },
        answer: &answer::read,
        on_tokens,
    })
}

/// The same, as the session has it.
pub(in crate::improve) fn tools<T>(
    session: &Session,
    policy: &Policy,
    sampling: Sampling,
    work: impl FnOnce(&Tools) -> Result<T>,
) -> Result<T> {
    let on_tokens = |n| session.host.tokens(n);
    with_tools(session.run.config, &session.run.text, policy, sampling, &on_tokens, work)
}

/// A job that asks the task in its own words.
pub(in crate::improve) fn plain_job(session: &Session, task: &Task, address: Address) -> Result<Job> {
    let prompt_ids = session.run.text.prompt_ids_of(task.kind, &task.question)?;
    Ok(Job {
        task_id: task.id.clone(),
        kind: task.kind,
        variant: None,
        answers: AnswerMap::new(),
        prompt_ids,
        address,
    })
}

/// The jobs whose trees are not stored yet, in order; `stored` has the stored trees' addresses.
pub(in crate::improve) fn missing(jobs: Vec<Job>, stored: &HashSet<String>) -> Vec<Job> {
    jobs.into_iter().filter(|job| !stored.contains(&job.address.to_string())).collect()
}

/// Draws `jobs` in units that take about half a minute, and commits each. Returns the reason if a
/// limit stopped it.
///
/// `draw` makes the trees of a unit, in order; a job draws `at_once` sequences together.
pub(in crate::improve) async fn draw_in_units(
    session: &Session<'_>,
    (iteration, purpose): (u32, Purpose),
    policy: &Policy,
    jobs: &[Job],
    at_once: usize,
    draw: impl Fn(&[Job]) -> Result<Vec<Tree>>,
) -> Result<Option<String>> {
    let (mut pace, mut rest) = (pace(session, jobs, at_once), jobs);
    while !rest.is_empty() {
        if let Some(reason) = session.pause().await? {
            return Ok(Some(reason));
        }
        let (unit, began) = (pace.unit(&mut rest), (session.host.seconds)());
        let trees = draw(unit)?;
        commit(session, iteration, purpose, policy, &trees).await?;
        session.host.advanced(unit.len());
        pace.took(unit.len(), (session.host.seconds)() - began);
    }
    Ok(None)
}

/// The pace of `jobs`, each of which draws `at_once` sequences together.
fn pace(session: &Session, jobs: &[Job], at_once: usize) -> Pace {
    let config = session.run.config;
    let longest = jobs.iter().map(|job| job.prompt_ids.len()).max().unwrap_or(0);
    let tokens_each = (longest + config.rollout.tokens_max) * at_once;
    Pace::new(rayon::current_num_threads(), config.engine.batch_tokens, tokens_each)
}

/// Chains of thought for `jobs`, in order.
pub(in crate::improve) fn draw_chains(
    session: &Session,
    policy: &Policy,
    jobs: &[Job],
    sampling: Sampling,
) -> Result<Vec<Tree>> {
    tools(session, policy, sampling, |tools| rollout::chains(tools, jobs))
}

/// Completions that were not drawn, read under the policy: one for each job, in order.
pub(in crate::improve) fn read_given(
    session: &Session,
    policy: &Policy,
    jobs: &[Job],
    completions: &[Vec<u32>],
) -> Result<Vec<Tree>> {
    tools(session, policy, Sampling::GREEDY, |tools| rollout::teacher_forced(tools, jobs, completions))
}

/// Commits one unit of trees.
pub(in crate::improve) async fn commit(
    session: &Session<'_>,
    iteration: u32,
    purpose: Purpose,
    policy: &Policy,
    trees: &[Tree],
) -> Result<()> {
    let (store, run) = (&session.run.store, session.run.id);
    session
        .host
        .durable(
            store.write(run, iteration, async |unit| unit.put_trees(purpose, policy.hash(), trees).await),
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TaskKind;

    fn job(branch: u32) -> Job {
        Job {
            task_id: "t/1".into(),
            kind: TaskKind::Countdown,
            variant: None,
            answers: AnswerMap::new(),
            prompt_ids: vec![branch],
            address: Address::new(7, Purpose::Rollout, 2, "t/1", &[branch]),
        }
    }

    #[test]
    fn exactly_the_stored_jobs_are_left_out() {
        let jobs = |branches: &[u32]| branches.iter().map(|&branch| job(branch)).collect::<Vec<_>>();
        let branches = |jobs: Vec<Job>| jobs.iter().map(|job| job.prompt_ids[0]).collect::<Vec<_>>();
        let keys = |jobs: Vec<Job>| jobs.iter().map(|job| job.address.to_string()).collect::<HashSet<_>>();
        // Branch 1 is stored, and its name begins the names of 10 and 11.
        let stored = keys(jobs(&[1, 3, 99]));
        assert_eq!(branches(missing(jobs(&[0, 1, 2, 3, 10, 11]), &stored)), [0, 2, 10, 11]);
        assert_eq!(branches(missing(jobs(&[0, 1]), &HashSet::new())), [0, 1]);
        assert!(missing(jobs(&[1, 3]), &stored).is_empty());
        // The same place in another iteration is another trajectory.
        let mut later = job(1);
        later.address.iteration = 3;
        assert_eq!(missing(vec![later], &stored).len(), 1);
    }
}
