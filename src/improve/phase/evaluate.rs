//! Evaluation: a policy answers the gate and held-out tasks, every trajectory is stored, and
//! figures are computed.

use std::collections::HashMap;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::PhaseOutcome;
use crate::domain::{Address, Phase, Purpose, Sampling, Split, Task};
use crate::eval::{self, Attempts, Figure};
use crate::improve::run::{Run, Session, draw_chains, draw_in_units, missing, plain_job};
use crate::rollout::Job;
use crate::score;
use crate::store::EvaluationRow;

/// Branch of the greedy trajectory; the sampled ones follow it.
const GREEDY: u32 = 0;

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    let hash = match iteration {
        0 => session.run.base_policy_hash.clone(),
        _ => session.run.candidate_hash(iteration).await?,
    };
    let policy = session.policies.load(&session.run, &hash).await?;
    let stored = session.run.store.tree_keys(session.run.id, iteration, Purpose::Evaluation).await?;
    let (greedy, sampled) = jobs(session, iteration)?;
    let warm = Sampling { temperature: session.run.config.eval.temperature, ..Sampling::GREEDY };
    let work = [(missing(greedy, &stored), Sampling::GREEDY), (missing(sampled, &stored), warm)];
    session.host.announce(iteration, Phase::Evaluate, work.iter().map(|(jobs, _)| jobs.len()).sum());
    for (jobs, sampling) in &work {
        let draw = |unit: &[Job]| {
            session.host.part(if *sampling == Sampling::GREEDY { "greedy" } else { "sampled" });
            draw_chains(session, &policy, unit, *sampling)
        };
        let place = (iteration, Purpose::Evaluation);
        if let Some(reason) = draw_in_units(session, place, &policy, jobs, 1, draw).await? {
            return Ok(PhaseOutcome::Stopped(reason));
        }
    }
    session.host.part("measure");
    let figures = measure(&session.run, iteration).await?;
    let rows: Vec<EvaluationRow> = figures.iter().map(|f| row(f, &hash)).collect();
    put(session, iteration, &rows).await?;
    let headline =
        figures.iter().find(|f| f.split == Split::HeldOut && f.level.is_none() && f.metric == "pass@1");
    let headline = headline.context("the held-out split gave no figure")?;
    Ok(PhaseOutcome::Done(format!(
        "held-out pass@1 {:.1} % [{:.1}, {:.1}] on {} tasks",
        100.0 * headline.value,
        100.0 * headline.lo,
        100.0 * headline.hi,
        headline.tasks
    )))
}

/// Greedy jobs for the gate and held-out splits, sampled ones for the first held-out tasks.
fn jobs(session: &Session, iteration: u32) -> Result<(Vec<Job>, Vec<Job>)> {
    let (config, seed) = (&session.run.config.eval, session.run.config.run.seed);
    let address = |id: &str, branch| Address::new(seed, Purpose::Evaluation, iteration, id, &[branch]);
    let job = |&(task, branch): &(&Task, u32)| plain_job(session, task, address(&task.id, branch));
    let asked = [Split::Gate, Split::HeldOut].into_iter().flat_map(|split| session.run.tasks(split));
    let greedy: Vec<_> = asked.map(|task| (task, GREEDY)).collect();
    let warm = session.run.tasks(Split::HeldOut).iter().take(config.sampled_tasks);
    let sampled: Vec<_> = warm.flat_map(|task| (1..=config.samples).map(move |s| (task, s))).collect();
    // Of several errors, the first task's is returned, whichever thread was faster.
    let jobs = |asked: &[(&Task, u32)]| -> Result<Vec<Job>> {
        asked.par_iter().map(job).collect::<Vec<_>>().into_iter().collect()
    };
    Ok((jobs(&greedy)?, jobs(&sampled)?))
}

/// Per task id, the answer of every branch.
type Answers = HashMap<String, Vec<(u32, Option<String>)>>;

/// Stored answers of one iteration's evaluation.
async fn answers(run: &Run<'_>, iteration: u32) -> Result<Answers> {
    let mut answers = Answers::new();
    for row in run.store.answers(run.id, iteration, Purpose::Evaluation).await? {
        let branch = row.address.branch.first().copied().unwrap_or(GREEDY);
        answers.entry(row.address.task).or_default().push((branch, row.answer));
    }
    for list in answers.values_mut() {
        list.sort();
    }
    Ok(answers)
}

async fn measure(run: &Run<'_>, iteration: u32) -> Result<Vec<Figure>> {
    let answers = answers(run, iteration).await?;
    let mut figures = Vec::new();
    for split in [Split::Gate, Split::HeldOut] {
        let tasks = run.tasks(split);
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
    let (store, run) = (&session.run.store, session.run.id);
    if store.evaluations(run).await?.iter().any(|(i, _)| *i == iteration) {
        return Ok(());
    }
    session.host.durable(store.write(run, iteration, async |unit| unit.put_evaluations(rows).await)).await
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

/// Greedy correctness on the gate split of the policy measured in `iteration`, in the split's
/// order.
pub(super) async fn gate_correctness(run: &Run<'_>, iteration: u32) -> Result<Vec<bool>> {
    let answers = answers(run, iteration).await?;
    let correct = |task: &Task| {
        let given = answers.get(&task.id).and_then(|list| list.iter().find(|(b, _)| *b == GREEDY));
        let (_, answer) =
            given.with_context(|| format!("iteration {iteration} has no answer to gate task {}", task.id))?;
        Ok(score::grade(task, answer.as_deref()).is_right())
    };
    run.tasks(Split::Gate).iter().map(correct).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data;

    #[test]
    fn an_attempt_has_the_wanted_branches_of_every_task_that_was_answered() {
        let config = Config::load(None, &[]).unwrap();
        let tasks = data::dataset(&config.tasks, Vec::new()).unwrap().tasks;
        let held_out = |task: &&Task| task.split == Split::HeldOut;
        let tasks: Vec<Task> = tasks.iter().filter(held_out).take(3).cloned().collect();
        let answers = Answers::from([
            (tasks[0].id.clone(), vec![(0, None), (1, Some("x".to_owned())), (2, None)]),
            (tasks[2].id.clone(), vec![(0, Some("y".to_owned()))]),
        ]);
        let given = |wanted: fn(u32) -> bool| {
            let of_task = |a: &Attempts| {
                (a.task.id.clone(), a.answers.iter().map(|(answer, _)| answer.clone()).collect::<Vec<_>>())
            };
            attempts(&tasks, &answers, wanted).iter().map(of_task).collect::<Vec<_>>()
        };
        let (first, third) = (tasks[0].id.clone(), tasks[2].id.clone());
        assert_eq!(
            given(|branch| branch == GREEDY),
            [(first.clone(), vec![None]), (third, vec![Some("y".to_owned())])]
        );
        assert_eq!(given(|branch| branch != GREEDY), [(first, vec![Some("x".to_owned()), None])]);
        let wrong = attempts(&tasks, &answers, |_| true);
        assert!(
            wrong.iter().all(|a| a.answers.iter().all(|(_, right)| !right)),
            "none of these is an answer"
        );
    }
}
