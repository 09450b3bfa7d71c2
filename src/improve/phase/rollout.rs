//! Rollout: draws trajectories for the iteration's tasks, one group per meaning-preserving variant.

use anyhow::Result;
use rayon::prelude::*;

use super::{PhaseOutcome, bootstrap};
use crate::data::Variants;
use crate::domain::{Address, Phase, Purpose, Sampling, Split, Strategy, Task, Tree};
use crate::improve::run::{Session, draw_chains, draw_in_units, missing, search_prompts, tools};
use crate::policy::Policy;
use crate::rollout::{self, Guide, Job, Path, Proposing, Valuing};
use crate::score::{Critic, Shown};

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let policy = session.incumbent(iteration).await?;
    let stored = session.run.store.tree_keys(session.run.id, iteration, Purpose::Rollout).await?;
    let counts = session.run.rollout_counts(iteration).await?;
    let jobs = missing(jobs(session, iteration, &counts)?, &stored);
    let (rollout, tree) = (&session.run.config.rollout, &session.run.config.tree);
    let sampling = rollout.sampling();
    let critic = match rollout.strategy {
        Strategy::Cot => None,
        Strategy::Tot => Some(bootstrap::critic(session, iteration).await?),
    };
    session.host.announce(iteration, Phase::Rollout, jobs.len());
    let at_once = rollout.extent(tree, rollout.thoughts_max).in_flight;
    let draw = |unit: &[Job]| match &critic {
        None => draw_chains(session, &policy, unit, sampling),
        Some(critic) => search(session, &policy, unit, sampling, critic),
    };
    let place = (iteration, Purpose::Rollout);
    if let Some(reason) = draw_in_units(session, place, &policy, &jobs, at_once, draw).await? {
        return Ok(PhaseOutcome::Stopped(reason));
    }
    let drawn = session.run.store.tree_keys(session.run.id, iteration, Purpose::Rollout).await?.len();
    Ok(PhaseOutcome::Done(format!("{drawn} variants asked")))
}

/// The tasks that the last iteration of `counts` practises on: each iteration takes as many as its
/// count from the train split, after those of the one before, and wraps around.
fn window<'t>(tasks: &'t [Task], counts: &[usize]) -> impl Iterator<Item = &'t Task> {
    let (count, before) = counts.split_last().map_or((0, 0), |(last, before)| (*last, before.iter().sum()));
    (before..before + count).map(|i| &tasks[i % tasks.len()])
}

fn jobs(session: &Session, iteration: u32, counts: &[usize]) -> Result<Vec<Job>> {
    let tasks: Vec<&Task> = window(session.run.tasks(Split::Train), counts).collect();
    let jobs: Vec<Result<Vec<Job>>> =
        tasks.par_iter().map(|task| task_jobs(session, task, iteration)).collect();
    // Of several errors, the first task's is returned, whichever thread was faster.
    Ok(jobs.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The jobs of a task: each of its variants, `rollout.samples` times.
fn task_jobs(session: &Session, task: &Task, iteration: u32) -> Result<Vec<Job>> {
    let (config, seed) = (&session.run.config.rollout, session.run.config.run.seed);
    let variants = Variants::new(&session.run.config.tasks);
    let mut jobs = Vec::new();
    for v in 0..config.variants {
        let place = Address::new(seed, Purpose::Variant, iteration, &task.id, &[v]);
        let variant = if config.variants > 1 { variants.variant(task, &place) } else { None };
        let question = variant.as_ref().map_or(&task.question, |v| &v.question);
        let answers = variants.answers(task, question);
        let prompt_ids = session.run.text.prompt_ids_of(task.kind, question)?;
        for s in 0..config.samples {
            jobs.push(Job {
                task_id: task.id.clone(),
                kind: task.kind,
                variant: variant.clone(),
                answers: answers.clone(),
                prompt_ids: prompt_ids.clone(),
                address: Address::new(seed, Purpose::Rollout, iteration, &task.id, &[v, s]),
            });
        }
    }
    Ok(jobs)
}

/// Trees of thoughts for `jobs`, guided as `[tree]` configures.
fn search(
    session: &Session,
    policy: &Policy,
    jobs: &[Job],
    sampling: Sampling,
    critic: &Critic,
) -> Result<Vec<Tree>> {
    let (config, text) = (session.run.config, &session.run.text);
    let judge = session.aux_models.judge(policy.engine(), text);
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
        None => &session.run.task(&path.tree.task_id)?.question,
    };
    Ok(Shown { question, thoughts: texts.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data;

    fn tasks(count: usize) -> Vec<Task> {
        let config = Config::load(None, &[("tasks.train".into(), count.to_string())]).unwrap();
        let dataset = data::dataset(&config.tasks, Vec::new()).unwrap();
        dataset.tasks.into_iter().filter(|task| task.split == Split::Train).collect()
    }

    #[test]
    fn the_window_walks_the_split_and_wraps_around() {
        let tasks = tasks(5);
        assert_eq!(tasks.len(), 5);
        let places = |counts: &[usize]| {
            let place = |task: &Task| tasks.iter().position(|t| t.id == task.id).unwrap();
            window(&tasks, counts).map(place).collect::<Vec<_>>()
        };
        assert_eq!(places(&[2]), [0, 1]);
        assert_eq!(places(&[2, 2]), [2, 3]);
        assert_eq!(places(&[2, 2, 2]), [4, 0]);
        assert_eq!(places(&[2, 2, 2, 2]), [1, 2]);
        assert_eq!(places(&[1, 3, 2]), [4, 0], "each as many as it was planned for");
        // A window as wide as the split has every task once.
        assert_eq!(places(&[5, 5]), [0, 1, 2, 3, 4]);
        assert_eq!(window(&[], &[0, 0]).count(), 0);
    }
}
