//! The probe: how fast this machine samples and trains, with the configured model and tasks.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::config::Config;
use crate::domain::{Address, Purpose, Sampling, Split, Task};
use crate::improve::with_tools;
use crate::policy::{Policy, trainable};
use crate::rollout::{self, Job};
use crate::text::Text;
use crate::train::{self, Group, Hyper, Trainer};

/// Trajectories of the probe.
const PROBE_JOBS: usize = 64;

/// How fast the policy samples.
pub(super) struct SamplingProbe {
    pub tokens_per_s: f64,
    /// Mean length of a trajectory, in tokens.
    pub tokens_mean: f64,
}

/// Samples trajectories for the first train tasks.
pub(super) fn sampling(
    config: &Config,
    text: &Text,
    policy: &Policy,
    tasks: &[Task],
) -> Result<SamplingProbe> {
    let job = |(i, task): (usize, &Task)| {
        Ok(Job {
            task_id: task.id.clone(),
            kind: task.kind,
            variant: None,
            prompt_ids: text.prompt_ids_of(task.kind, &task.question)?,
            address: Address::new(config.run.seed, Purpose::Evaluation, 0, &task.id, &[i as u32]),
        })
    };
    let train: Vec<&Task> = tasks.iter().filter(|t| t.split == Split::Train).collect();
    let jobs = train.into_iter().cycle().take(PROBE_JOBS).enumerate().map(job);
    let jobs: Vec<Job> = jobs.collect::<Result<_>>()?;
    let sampling = Sampling { temperature: config.rollout.temperature, ..Sampling::GREEDY };
    let began = Instant::now();
    let trees = with_tools(config, text, policy, sampling, &|_| (), |tools| rollout::chains(tools, &jobs))?;
    let tokens = trees.iter().map(|t| t.drawn_tokens()).sum::<usize>() as f64;
    Ok(SamplingProbe {
        tokens_per_s: tokens / began.elapsed().as_secs_f64(),
        tokens_mean: tokens / trees.len() as f64,
    })
}

/// Tokens per second of one optimizer update.
pub(super) fn training(config: &Config, text: &Text, policy: &Policy, tasks: &[Task]) -> Result<f64> {
    let Policy::Model(model) = policy else { bail!("only a model can be trained") };
    let groups = groups(text, tasks)?;
    let batch = batch(&groups, config.train.step_tokens);
    let trainable = trainable(&model.body, config, 1)?;
    let mut trainer = Trainer::new(trainable, Hyper::from(&config.train), config.train.steps)?
        .in_passes((&config.train).into());
    let began = Instant::now();
    let report = trainer.step(&batch)?;
    Ok(report.tokens as f64 / began.elapsed().as_secs_f64())
}

/// Easy tasks with their solutions; the questions of train tasks if no easy task has a solution.
fn groups(text: &Text, tasks: &[Task]) -> Result<Vec<Group>> {
    let group = |task: &Task, completion: &str| -> Result<Group> {
        let prompt = text.prompt_ids_of(task.kind, &task.question)?;
        let completion = text.completion_ids(completion)?;
        Ok(train::example_from_solution(&prompt, &completion, &task.id).into())
    };
    let easy = tasks.iter().filter(|t| t.split == Split::Easy);
    let solved = easy.filter_map(|task| Some((task, task.solution.as_deref()?)));
    let mut groups: Vec<Group> =
        solved.map(|(task, solution)| group(task, solution)).collect::<Result<_>>()?;
    if groups.is_empty() {
        let train = tasks.iter().filter(|t| t.split == Split::Train).take(PROBE_JOBS);
        groups = train.map(|task| group(task, &task.question)).collect::<Result<_>>()?;
    }
    ensure!(!groups.is_empty(), "there is no task to probe training with");
    Ok(groups)
}

/// As many groups as fit into one update, repeated if there are too few; at least one.
fn batch(groups: &[Group], tokens_max: usize) -> Vec<&Group> {
    let (mut batch, mut tokens) = (Vec::new(), 0);
    for group in groups.iter().cycle() {
        if !batch.is_empty() && tokens + group.tokens() > tokens_max {
            break;
        }
        tokens += group.tokens();
        batch.push(group);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fills_an_update_and_is_never_empty() {
        let group = |tokens: u32| -> Group {
            train::example_from_solution(&[1, 2], &(0..tokens).collect::<Vec<_>>(), "t").into()
        };
        let groups = [group(4), group(10)];
        let tokens = |max| batch(&groups, max).iter().map(|g| g.tokens()).collect::<Vec<_>>();
        let [short, long] = [&groups[0], &groups[1]].map(Group::tokens);
        assert_eq!(tokens(1), [short], "one that is too long is better than none");
        assert_eq!(tokens(short + long), [short, long]);
        assert_eq!(tokens(2 * short + long), [short, long, short], "groups repeat");
        assert_eq!(tokens(2 * short + 2 * long - 1), [short, long, short]);
    }
}
