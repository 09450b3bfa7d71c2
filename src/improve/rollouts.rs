//! Rollout: draws trajectories for the iteration's tasks, one group per meaning-preserving variant.

use std::collections::HashSet;

use anyhow::Result;
use rayon::prelude::*;

use super::aux_models::search_prompts;
use super::pace::Pace;
use super::{Flow, Policy, Session, with_tools};
use crate::data;
use crate::domain::{Address, Phase, Purpose, Sampling, Split, Strategy, Task, Tree};
use crate::rollout::{self, Guide, Job, Path, Proposing, Tools, Valuing};
use crate::score::{Critic, Shown};

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let policy = session.load(&session.incumbent_hash(iteration).await?).await?;
    let stored = session.store.tree_keys(session.run.id, iteration, Purpose::Rollout).await?;
    let jobs = missing(jobs(session, iteration)?, &stored);
    let sampling = session.config.rollout.sampling();
    let critic = match session.config.rollout.strategy {
        Strategy::Cot => None,
        Strategy::Tot => Some(super::bootstrap::critic(session, iteration).await?),
    };
    session.announce(iteration, Phase::Rollout, jobs.len());
    let rollout = &session.config.rollout;
    let extent = rollout.extent(&session.config.tree, rollout.thoughts_max);
    let (mut pace, mut rest) = (pace(session, &jobs, extent.in_flight), jobs.as_slice());
    while !rest.is_empty() {
        if let Some(reason) = session.limit_reached()? {
            return Ok(Flow::Stopped(reason));
        }
        let (unit, began) = (pace.unit(&mut rest), (session.host.seconds)());
        let trees = match &critic {
            None => draw_chains(session, &policy, unit, sampling)?,
            Some(critic) => search(session, &policy, unit, sampling, critic)?,
        };
        commit(session, iteration, Purpose::Rollout, &policy, &trees).await?;
        session.host.advanced(unit.len());
        pace.took(unit.len(), (session.host.seconds)() - began);
    }
    let drawn = session.store.tree_keys(session.run.id, iteration, Purpose::Rollout).await?.len();
    Ok(Flow::Done(format!("{drawn} variants asked")))
}

/// The tasks that iteration `iteration` practises on: a window that walks the train split and wraps around.
fn window(tasks: &[Task], count: usize, iteration: u32) -> impl Iterator<Item = &Task> {
    let count = count.min(tasks.len());
    let start = (iteration as usize - 1) * count;
    (start..start + count).map(|i| &tasks[i % tasks.len()])
}

fn jobs(session: &Session, iteration: u32) -> Result<Vec<Job>> {
    let tasks: Vec<&Task> =
        window(session.tasks(Split::Train), session.config.rollout.tasks, iteration).collect();
    let jobs: Vec<Result<Vec<Job>>> =
        tasks.par_iter().map(|task| task_jobs(session, task, iteration)).collect();
    // The first task's error, whichever thread was faster.
    Ok(jobs.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Every sample of every variant of a task.
fn task_jobs(session: &Session, task: &Task, iteration: u32) -> Result<Vec<Job>> {
    let (config, seed) = (&session.config.rollout, session.config.run.seed);
    let mut jobs = Vec::new();
    for v in 0..config.variants {
        let place = Address::new(seed, Purpose::Variant, iteration, &task.id, &[v]);
        let variant = if config.variants > 1 { data::variant(task, &place) } else { None };
        let question = variant.as_ref().map_or(&task.question, |v| &v.question);
        let prompt_ids = session.text.prompt_ids_of(task.kind, question)?;
        for s in 0..config.samples {
            jobs.push(Job {
                task_id: task.id.clone(),
                kind: task.kind,
                variant: variant.clone(),
                prompt_ids: prompt_ids.clone(),
                address: Address::new(seed, Purpose::Rollout, iteration, &task.id, &[v, s]),
            });
        }
    }
    Ok(jobs)
}

/// A job that asks the task in its own words.
pub(super) fn plain_job(session: &Session, task: &Task, address: Address) -> Result<Job> {
    let prompt_ids = session.text.prompt_ids_of(task.kind, &task.question)?;
    Ok(Job { task_id: task.id.clone(), kind: task.kind, variant: None, prompt_ids, address })
}

/// The jobs whose trees are not stored yet.
pub(super) fn missing(jobs: Vec<Job>, stored: &HashSet<String>) -> Vec<Job> {
    jobs.into_iter().filter(|job| !stored.contains(&job.address.to_string())).collect()
}

/// Chains of thought for `jobs`.
pub(super) fn draw_chains(
    session: &Session,
    policy: &Policy,
    jobs: &[Job],
    sampling: Sampling,
) -> Result<Vec<Tree>> {
    tools(session, policy, sampling, |tools| rollout::chains(tools, jobs))
}

/// Trees of thoughts for `jobs`, guided as the configuration says.
fn search(
    session: &Session,
    policy: &Policy,
    jobs: &[Job],
    sampling: Sampling,
    critic: &Critic,
) -> Result<Vec<Tree>> {
    let (config, text) = (session.config, &session.text);
    let judge = session.referees.judge(policy.engine(), text);
    let value = |paths: &[Path]| {
        let shown = paths.iter().map(|path| shown(session, path)).collect::<Result<Vec<_>>>()?;
        judge.values(&shown)
    };
    let ask = |path: &Path, count: u32| {
        let Shown { question, thoughts } = shown(session, path)?;
        text.asked(&text.prompts().propose(question, &thoughts, count)?)
    };
    let encode = |line: &str| text.encode(line);
    let prompts = search_prompts(config);
    let valuing = if prompts.value { Valuing::Prompt(&value) } else { Valuing::Scorer(critic) };
    let proposing = prompts.propose.map(|_| Proposing { ask: &ask, encode: &encode });
    tools(session, policy, sampling, |tools| {
        rollout::search(tools, jobs, &config.tree, &Guide { valuing, proposing })
    })
}

/// A path as prompts show it; the thought that only ends a trajectory has no text.
fn shown<'t>(session: &'t Session, path: &Path<'t>) -> Result<Shown<'t>> {
    let texts = path.thoughts.iter().map(|thought| thought.text.as_str()).filter(|text| !text.is_empty());
    let question = match &path.tree.variant {
        Some(variant) => &variant.question,
        None => &session.task(&path.tree.task_id)?.question,
    };
    Ok(Shown { question, thoughts: texts.collect() })
}

/// The pace of `jobs`, each of so many sequences at once.
pub(super) fn pace(session: &Session, jobs: &[Job], at_once: usize) -> Pace {
    let config = session.config;
    let longest = jobs.iter().map(|job| job.prompt_ids.len()).max().unwrap_or(0);
    let tokens_each = (longest + config.rollout.tokens_max) * at_once;
    Pace::new(rayon::current_num_threads(), config.engine.batch_tokens, tokens_each)
}

/// Hands `work` what a rollout needs, as the session has it.
pub(super) fn tools<T>(
    session: &Session,
    policy: &Policy,
    sampling: Sampling,
    work: impl FnOnce(&Tools) -> Result<T>,
) -> Result<T> {
    let on_tokens = |n| session.host.tokens(n);
    with_tools(session.config, &session.text, policy, sampling, &on_tokens, work)
}

/// Commits one unit of trees.
pub(super) async fn commit(
    session: &Session<'_>,
    iteration: u32,
    purpose: Purpose,
    policy: &Policy,
    trees: &[Tree],
) -> Result<()> {
    session.host.milestone();
    session
        .store
        .write(session.run.id, iteration, async |unit| unit.put_trees(purpose, policy.hash(), trees).await)
        .await?;
    session.host.milestone();
    Ok(())
}
