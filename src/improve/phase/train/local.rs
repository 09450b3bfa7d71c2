//! Training in this process.
//!
//! The trainer's state is saved every `train.checkpoint_steps` updates together with the rows of
//! those updates, so a crash loses a bounded amount of work and the bits come out the same.

use anyhow::{Result, bail};

use super::{Candidate, Plan, Training};
use crate::domain::{Address, Phase};
use crate::engine::scripted::Scripted;
use crate::policy::{Policy, trainable};
use crate::store::StepRow;
use crate::train::{Example, Group, Hyper, Source, StepReport, Trainer};

/// Carries out `plan`, from its last saved state if there is one.
///
/// # Errors
/// An update has no finite gradient, a state or the candidate can't be saved, or the incumbent
/// can't be trained.
pub(super) async fn train(plan: &Plan<'_>) -> Result<Training> {
    match plan.incumbent {
        Policy::Model(_) => train_model(plan).await,
        Policy::Scripted(script) => Ok(Training::Complete(improve_script(plan, script))),
        Policy::CandleModel(model) => bail!("a {} model can't be trained", model.family()),
    }
}

fn improve_script(plan: &Plan<'_>, script: &Scripted) -> Candidate {
    plan.states.session.host.announce(plan.iteration, Phase::Train, 1);
    let policy = Policy::Scripted(script.improved(plan.kept.len()));
    let note = format!("scripted improvement on {} trajectories", plan.kept.len());
    Candidate { policy, steps: Vec::new(), note }
}

async fn train_model(plan: &Plan<'_>) -> Result<Training> {
    let (session, config) = (plan.states.session, &plan.config.train);
    let mut trainer = trainer(plan)?;
    let first = plan.states.resume(&mut trainer).await?;
    let groups: Vec<&Group> = plan.kept.iter().chain(&plan.replay).collect();
    let every = if config.checkpoint_steps == 0 { config.steps } else { config.checkpoint_steps } as usize;
    session.host.announce(plan.iteration, Phase::Train, plan.schedule.len().saturating_sub(first));
    let (mut steps, mut loss) = (Vec::new(), 0.0);
    for (index, batch) in plan.schedule.iter().enumerate().skip(first) {
        session.host.part("update");
        let batch: Vec<&Group> = batch.iter().map(|&i| groups[i]).collect();
        let report = trainer.step(&batch)?;
        session.host.tokens(report.tokens);
        session.host.advanced(1);
        loss = report.loss;
        steps.push(step_row(&report, &batch));
        let done = index + 1;
        // The last updates are saved with the candidate.
        if done < plan.schedule.len() && done.is_multiple_of(every) {
            plan.states.save(&trainer, done, &std::mem::take(&mut steps)).await?;
            if let Some(reason) = session.pause().await? {
                return Ok(Training::Stopped(reason));
            }
        }
    }
    session.host.part("checkpoint");
    let policy = Policy::trained(trainer.into_trainable(), plan.config)?;
    let (updates, kept, replay) = (plan.schedule.len(), plan.kept.len(), plan.replay.len());
    let note = format!("{updates} updates on {kept} kept and {replay} easy, loss {loss:.4}");
    Ok(Training::Complete(Candidate { policy, steps, note }))
}

/// The trainer before its first update.
fn trainer(plan: &Plan<'_>) -> Result<Trainer> {
    let Policy::Model(model) = plan.incumbent else { bail!("only a model can be trained") };
    let config = &plan.config.train;
    let trainable = trainable(&model.body, plan.config, plan.iteration)?;
    let moments = Address { task: "moments".to_owned(), ..plan.address.clone() };
    let updates = plan.schedule.len().max(1) as u32;
    Ok(Trainer::new(trainable, Hyper::from(config), updates)?.in_passes(config.into()).drawing_at(moments))
}

fn step_row(report: &StepReport, batch: &[&Group]) -> StepRow {
    let trajectory = |e: &Example| match e.source {
        Source::Trajectory(id) => Some(id),
        Source::Task(_) => None,
    };
    let task = |e: &Example| match &e.source {
        Source::Trajectory(_) => None,
        Source::Task(id) => Some(id.clone()),
    };
    let examples = || batch.iter().flat_map(|group| &group.examples);
    StepRow {
        step: report.step,
        loss: report.loss,
        // A loss of one part is its total.
        losses: match report.parts.len() {
            0 | 1 => Vec::new(),
            _ => report.parts.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        },
        tokens: report.tokens as u64,
        target_tokens: report.target_tokens as u64,
        grad_norm: report.grad_norm,
        learning_rate: report.learning_rate,
        examples: examples().filter_map(trajectory).collect(),
        replayed: examples().filter_map(task).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(source: Source) -> Group {
        Example { source, ..crate::train::example_from_solution(&[1, 2], &[3], "") }.into()
    }

    #[test]
    fn a_step_names_the_rows_and_tasks_that_it_learned_from() {
        let batch = [
            group(Source::Trajectory(7)),
            group(Source::Task("easy/1".into())),
            group(Source::Trajectory(3)),
        ];
        let report = StepReport {
            step: 4,
            loss: 0.5,
            parts: [("sft", 0.5)].into(),
            tokens: 9,
            target_tokens: 3,
            grad_norm: 2.0,
            learning_rate: 0.01,
        };
        let row = step_row(&report, &batch.iter().collect::<Vec<_>>());
        assert_eq!(row.examples, [7, 3], "in the batch's order");
        assert_eq!(row.replayed, ["easy/1"]);
        assert_eq!((row.step, row.loss, row.tokens, row.target_tokens), (4, 0.5, 9, 3));
        assert_eq!((row.grad_norm, row.learning_rate), (2.0, 0.01));
    }
}
