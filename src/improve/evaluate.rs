//! Evaluation: asks a policy the gate and held-out tasks, stores every trajectory, and measures.

use std::collections::HashMap;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::rollouts::{commit, draw_chains, missing, pace, plain_job};
use super::{Flow, Session};
use crate::domain::{Address, Phase, Purpose, Sampling, Split, Task};
use crate::eval::{self, Attempts, Figure};
use crate::rollout::Job;
use crate::score;
use crate::store::EvaluationRow;

/// Branch of the greedy trajectory; sampled ones follow.
const GREEDY: u32 = 0;

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let hash = match iteration {
        0 => session.run.base_policy_hash.clone(),
        _ => session.candidate_hash(iteration).await?,
    };
    let policy = session.load(&hash).await?;
    let stored = session.store.tree_keys(session.run.id, iteration, Purpose::Evaluation).await?;
    let (greedy, sampled) = jobs(session, iteration)?;
    let warm = Sampling { temperature: session.config.eval.temperature, ..Sampling::GREEDY };
    let work = [(missing(greedy, &stored), Sampling::GREEDY), (missing(sampled, &stored), warm)];
    session.announce(iteration, Phase::Evaluate, work.iter().map(|(jobs, _)| jobs.len()).sum());
    for (jobs, sampling) in &work {
        let mut pace = pace(session, jobs, 1);
        let mut rest = jobs.as_slice();
        while !rest.is_empty() {
            if let Some(reason) = session.limit_reached()? {
                return Ok(Flow::Stopped(reason));
            }
            session.host.part(if *sampling == Sampling::GREEDY { "greedy" } else { "sampled" });
            let (unit, began) = (pace.unit(&mut rest), (session.host.seconds)());
            let trees = draw_chains(session, &policy, unit, *sampling)?;
            commit(session, iteration, Purpose::Evaluation, &policy, &trees).await?;
            session.host.advanced(unit.len());
            pace.took(unit.len(), (session.host.seconds)() - began);
        }
    }
    session.host.part("measure");
    let figures = measure(session, iteration).await?;
    let rows: Vec<EvaluationRow> = figures.iter().map(|f| row(f, &hash)).collect();
    put(session, iteration, &rows).await?;
    let headline =
        figures.iter().find(|f| f.split == Split::HeldOut && f.level.is_none() && f.metric == "pass@1");
    let headline = headline.context("the held-out split gave no figure")?;
    Ok(Flow::Done(format!(
        "held-out pass@1 {:.1} % [{:.1}, {:.1}] on {} tasks",
        100.0 * headline.value,
        100.0 * headline.lo,
        100.0 * headline.hi,
        headline.tasks
    )))
}

/// Greedy jobs for the gate and held-out splits, sampled ones for the first held-out tasks.
fn jobs(session: &Session, iteration: u32) -> Result<(Vec<Job>, Vec<Job>)> {
    let (config, seed) = (&session.config.eval, session.config.run.seed);
    let address = |id: &str, branch| Address::new(seed, Purpose::Evaluation, iteration, id, &[branch]);
    let job = |&(task, branch): &(&Task, u32)| plain_job(session, task, address(&task.id, branch));
    let asked = [Split::Gate, Split::HeldOut].into_iter().flat_map(|split| session.tasks(split));
    let greedy: Vec<_> = asked.map(|task| (task, GREEDY)).collect();
    let warm = session.tasks(Split::HeldOut).iter().take(config.sampled_tasks);
    let sampled: Vec<_> = warm.flat_map(|task| (1..=config.samples).map(move |s| (task, s))).collect();
    // The first task's error, whichever thread was faster.
    let jobs = |asked: &[(&Task, u32)]| -> Result<Vec<Job>> {
        asked.par_iter().map(job).collect::<Vec<_>>().into_iter().collect()
    };
    Ok((jobs(&greedy)?, jobs(&sampled)?))
}

/// Per task id, the answer of every branch.
type Answers = HashMap<String, Vec<(u32, Option<String>)>>;

/// Stored answers of one iteration's evaluation.
async fn answers(session: &Session<'_>, iteration: u32) -> Result<Answers> {
    let mut answers = Answers::new();
    for row in session.store.answers(session.run.id, iteration, Purpose::Evaluation).await? {
        let branch = row.address.branch.first().copied().unwrap_or(GREEDY);
        answers.entry(row.address.task).or_default().push((branch, row.answer));
    }
    for list in answers.values_mut() {
        list.sort();
    }
    Ok(answers)
}

async fn measure(session: &Session<'_>, iteration: u32) -> Result<Vec<Figure>> {
    let answers = answers(session, iteration).await?;
    let mut figures = Vec::new();
    for split in [Split::Gate, Split::HeldOut] {
        let tasks = session.tasks(split);
        figures.extend(eval::greedy(split, &attempts(tasks, &answers, |branch| branch == GREEDY)));
        figures.extend(eval::sampled(split, &attempts(tasks, &answers, |branch| branch != GREEDY)));
    }
    Ok(figures)
}

/// The graded answers of the wanted branches, for every task that has any.
fn attempts<'t>(tasks: &'t [Task], answers: &Answers, wanted: fn(u32) -> bool) -> Vec<Attempts<'t>> {
    let of_task = |task: &'t Task| {
        let given = answers.get(&task.id)?.iter().filter(|(branch, _)| wanted(*branch));
        let right = |answer: &Option<String>| score::grade(task, answer.as_deref()).is_right();
        let answers: Vec<_> = given.map(|(_, answer)| (answer.clone(), right(answer))).collect();
        (!answers.is_empty()).then_some(Attempts { task, answers })
    };
    tasks.iter().filter_map(of_task).collect()
}

/// Commits the figures together, unless they are stored already.
async fn put(session: &Session<'_>, iteration: u32, rows: &[EvaluationRow]) -> Result<()> {
    if session.store.evaluations(session.run.id).await?.iter().any(|(i, _)| *i == iteration) {
        return Ok(());
    }
    session.host.milestone();
    session.store.write(session.run.id, iteration, async |unit| unit.put_evaluations(rows).await).await?;
    session.host.milestone();
    Ok(())
}

fn row(figure: &Figure, policy_hash: &str) -> EvaluationRow {
    EvaluationRow {
        policy_hash: policy_hash.to_owned(),
        split: figure.split,
        decoding: figure.decoding,
        metric: figure.metric.clone(),
        level: figure.level,
        n: figure.tasks as u32,
        value: figure.value,
        lo: figure.lo,
        hi: figure.hi,
    }
}

/// Greedy correctness on the gate split of the policy measured in `iteration`, in the split's order.
pub(super) async fn gate_correctness(session: &Session<'_>, iteration: u32) -> Result<Vec<bool>> {
    let answers = answers(session, iteration).await?;
    let correct = |task: &Task| {
        let given = answers.get(&task.id).and_then(|list| list.iter().find(|(b, _)| *b == GREEDY));
        let (_, answer) =
            given.with_context(|| format!("iteration {iteration} has no answer to gate task {}", task.id))?;
        Ok(score::grade(task, answer.as_deref()).is_right())
    };
    session.tasks(Split::Gate).iter().map(correct).collect()
}
