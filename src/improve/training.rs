//! Training: fine-tunes the incumbent on what was kept, with replay of labelled easy tasks.
//!
//! The trainer's state is checkpointed every `train.checkpoint_steps` updates together with the rows of those
//! updates, so a crash loses a bounded amount and the bits come out the same. Gold labels of tasks above the
//! easy levels are out of reach here: examples are built from kept trajectories and from the easy split.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};

use super::adapter;
use super::checkpoints::{self, ensure_space};
use super::policy::Policy;
use super::{Flow, Session};
use crate::domain::{Address, Phase, Purpose, Split};
use crate::store::{
    Checkpoint, CheckpointKind, CheckpointRow, ParityRow, StepRow, StoredTree, Unit, hash_path,
};
use crate::train::{self, Example, Group, Source, StepReport, Trainer};

/// Stored trajectories whose log-probabilities the trainer recomputes in every iteration.
const PARITY_TRAJECTORIES: usize = 8;

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let incumbent = session.load(&session.incumbent_hash(iteration).await?).await?;
    let stored = session.store.checkpoints(session.run.id).await?;
    if let Some(c) =
        stored.iter().find(|c| c.iteration == iteration && c.row.kind == CheckpointKind::Candidate)
    {
        return Ok(Flow::Done(format!("candidate {:.12}", c.row.policy_hash)));
    }
    let trees = session.rollouts(iteration).await?;
    session.host.part("parity");
    parity(session, iteration, &incumbent, &trees).await?;
    session.host.part("prepare");
    let kept = kept_examples(session, iteration, &trees).await?;
    drop(trees);
    session.forget_rollouts();
    match &*incumbent {
        Policy::Model(_) => train_model(session, iteration, &incumbent, kept).await,
        Policy::CandleModel(model) => anyhow::bail!("a {} model is only asked, not trained", model.family()),
        Policy::Scripted(script) => {
            session.announce(iteration, Phase::Train, 1);
            let candidate = Policy::Scripted(script.improved(kept.len()));
            let note = format!("scripted improvement on {} trajectories", kept.len());
            save_candidate(session, iteration, &incumbent, &candidate, &[]).await?;
            Ok(Flow::Done(note))
        }
    }
}

/// Recomputes stored log-probabilities with the trainer's forward; the policy that samples is the policy that
/// trains.
async fn parity(session: &Session<'_>, iteration: u32, policy: &Policy, trees: &[StoredTree]) -> Result<()> {
    let Policy::Model(model) = policy else { return Ok(()) };
    let (mut worst, mut tokens) = (0.0_f32, 0);
    for stored in trees.iter().take(PARITY_TRAJECTORIES) {
        let Some(leaf) = stored.tree.leaves.first() else { continue };
        let (prompt, completion) = (&stored.tree.prompt_ids, stored.tree.completion_ids(leaf));
        let read = train::logprobs(model.body.parameters(), prompt, &completion)?;
        let drawn = stored.tree.completion_logprobs(leaf);
        ensure!(
            drawn.len() == read.len(),
            "{} log-probabilities are stored, {} were read",
            drawn.len(),
            read.len()
        );
        for (sampled, trained) in drawn.iter().zip(&read) {
            let difference = (sampled - trained).abs();
            worst = if difference.is_finite() { worst.max(difference) } else { f32::INFINITY };
            tokens += 1;
        }
    }
    let tolerance = session.config.checkpoints.logprob_tolerance;
    ensure!(
        worst <= tolerance,
        "the sampler's and the trainer's log-probabilities differ by {worst:e} on {tokens} stored tokens, more than \
         checkpoints.logprob_tolerance = {tolerance:e}: training would not train the policy that was sampled"
    );
    if tokens > 0 {
        let known = session.store.parity(session.run.id).await?;
        if known.iter().all(|(i, _)| *i != iteration) {
            let row = ParityRow { max_abs_diff: f64::from(worst), tokens };
            session.store.write(session.run.id, iteration, async |unit| unit.put_parity(&row).await).await?;
        }
    }
    Ok(())
}

async fn kept_examples(session: &Session<'_>, iteration: u32, trees: &[StoredTree]) -> Result<Vec<Group>> {
    let selections = session.store.selections(session.run.id, iteration).await?;
    let kept: HashSet<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
    let mut examples = Vec::with_capacity(kept.len());
    for stored in trees {
        let leaves: Vec<usize> =
            (0..stored.trajectory_ids.len()).filter(|&i| kept.contains(&stored.trajectory_ids[i])).collect();
        examples.extend(train::examples_from_tree(&stored.tree, &leaves, &stored.trajectory_ids)?);
    }
    Ok(examples.into_iter().map(Group::from).collect())
}

/// The labelled easy tasks, each an example of its own group.
fn replay_examples(session: &Session) -> Result<Vec<Group>> {
    let easy = session.tasks(Split::Easy).iter();
    let example = |(task, solution): (&crate::domain::Task, &String)| {
        let prompt = session.text.prompt_ids_of(task.kind, &task.question)?;
        Ok(train::example_from_solution(&prompt, &session.text.completion_ids(solution)?, &task.id).into())
    };
    easy.filter_map(|task| Some((task, task.solution.as_ref()?))).map(example).collect()
}

async fn train_model(
    session: &mut Session<'_>,
    iteration: u32,
    incumbent: &Policy,
    kept: Vec<Group>,
) -> Result<Flow> {
    let Policy::Model(model) = incumbent else { anyhow::bail!("only a model can be trained") };
    let config = &session.config.train;
    let replay = replay_examples(session)?;
    if kept.is_empty() && replay.is_empty() {
        // The schedule is empty then, and the candidate is the incumbent: the loop goes on, and tries again.
        let message =
            format!("iteration {iteration}: there is nothing to train on, so the candidate is the incumbent");
        session.warn(message).await?;
    }
    let address = Address::new(session.config.run.seed, Purpose::Training, iteration, "", &[]);
    let schedule = train::schedule(&kept, &replay, config.steps, config.step_tokens, config.replay, &address);
    let groups: Vec<&Group> = kept.iter().chain(&replay).collect();

    let hyper = train::Hyper::from(config);
    let trainable = adapter::trainable(model, session.config, iteration)?;
    let moments = Address { task: "moments".to_owned(), ..address };
    let mut trainer =
        Trainer::new(trainable, hyper, config.steps)?.in_passes(config.into()).drawing_at(moments);
    let first = resume_state(session, iteration, &mut trainer).await?;
    let every = if config.checkpoint_steps == 0 { config.steps } else { config.checkpoint_steps } as usize;
    session.announce(iteration, Phase::Train, schedule.len() - first);
    let (mut rows, mut loss) = (Vec::new(), 0.0);
    for (index, batch) in schedule.iter().enumerate().skip(first) {
        session.host.part("update");
        let batch: Vec<&Group> = batch.iter().map(|&i| groups[i]).collect();
        let report = trainer.step(&batch)?;
        session.host.tokens(report.tokens);
        session.host.advanced(1);
        loss = report.loss;
        rows.push(step_row(&report, &batch));
        let (done, last) = (index + 1, index + 1 == schedule.len());
        if last {
            break;
        }
        if done.is_multiple_of(every) {
            save_state(session, iteration, &trainer, done, &std::mem::take(&mut rows)).await?;
            if let Some(reason) = session.limit_reached()? {
                return Ok(Flow::Stopped(reason));
            }
        }
    }
    session.host.part("checkpoint");
    let candidate = Policy::trained(trainer.into_trainable(), session.config)?;
    let note = format!(
        "{} updates on {} kept and {} easy, loss {loss:.4}",
        schedule.len(),
        kept.len(),
        replay.len()
    );
    save_candidate(session, iteration, incumbent, &candidate, &rows).await?;
    Ok(Flow::Done(note))
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

fn is_live_state(checkpoint: &Checkpoint, iteration: u32) -> bool {
    checkpoint.iteration == iteration
        && checkpoint.row.kind == CheckpointKind::State
        && checkpoint.removed_reason.is_none()
}

/// Brings the trainer to the last stored state of this iteration; gives the number of updates done.
async fn resume_state(session: &Session<'_>, iteration: u32, trainer: &mut Trainer) -> Result<usize> {
    let stored = session.store.checkpoints(session.run.id).await?;
    let Some(last) = stored.iter().filter(|c| is_live_state(c, iteration)).max_by_key(|c| c.row.step) else {
        return Ok(0);
    };
    let path = session.dir.join(&last.row.path);
    match trainer.load_state(&path) {
        Ok(()) => Ok(last.row.step.unwrap_or(0) as usize),
        Err(error) => {
            let message = format!("{error:#}; iteration {iteration} is trained again from its start");
            session.warn(message).await?;
            session.store.forget_checkpoint(last.id, "damaged").await?;
            checkpoints::discard(&path)?;
            Ok(0)
        }
    }
}

/// Saves the trainer's state and the rows of the updates since the last save.
async fn save_state(
    session: &Session<'_>,
    iteration: u32,
    trainer: &Trainer,
    step: usize,
    rows: &[StepRow],
) -> Result<()> {
    let saved = Saved {
        kind: CheckpointKind::State,
        step: step as u32,
        policy_hash: trainer.trainable().hash()?,
        parent_hash: None,
        name: checkpoints::state_name(session.arm, iteration, step),
    };
    saved.write(session, iteration, rows, |dir| trainer.save_state(dir)).await?;
    // The new state is safe: the ones before it only take room.
    for old in session.store.checkpoints(session.run.id).await? {
        if is_live_state(&old, iteration) && old.row.step < Some(step as u32) {
            session.store.forget_checkpoint(old.id, "superseded").await?;
            session.host.milestone();
            checkpoints::discard(&session.dir.join(&old.row.path))?;
        }
    }
    Ok(())
}

async fn save_candidate(
    session: &Session<'_>,
    iteration: u32,
    incumbent: &Policy,
    candidate: &Policy,
    rows: &[StepRow],
) -> Result<()> {
    ensure_space(&session.dir, candidate.bytes_estimate() * 2)?;
    let saved = Saved {
        kind: CheckpointKind::Candidate,
        step: rows.last().map_or(0, |r| r.step),
        policy_hash: candidate.hash().to_owned(),
        parent_hash: Some(incumbent.hash().to_owned()),
        name: checkpoints::candidate_name(session.arm, iteration, candidate.hash()),
    };
    saved.write(session, iteration, rows, |dir| candidate.save(dir, session.config, &session.text)).await
}

/// A checkpoint about to be written.
struct Saved {
    kind: CheckpointKind,
    step: u32,
    policy_hash: String,
    parent_hash: Option<String>,
    /// Of the folder.
    name: String,
}

impl Saved {
    /// Puts the folder in place, then commits its row together with the updates that led to it.
    async fn write(
        self,
        session: &Session<'_>,
        iteration: u32,
        rows: &[StepRow],
        fill: impl FnOnce(&std::path::Path) -> Result<()>,
    ) -> Result<()> {
        session.host.part("checkpoint");
        session.host.milestone();
        // The folder goes to a path too: it must not land in a run that is no longer this one.
        session.store.ensure_held()?;
        let folder = checkpoints::write(&session.dir.join(checkpoints::FOLDER).join(&self.name), fill)?;
        session.host.milestone();
        let (file_hash, bytes) = hash_path(&folder)?;
        let row = CheckpointRow {
            kind: self.kind,
            step: Some(self.step),
            policy_hash: self.policy_hash,
            parent_hash: self.parent_hash,
            path: format!("{}/{}", checkpoints::FOLDER, self.name),
            bytes,
            file_hash,
        };
        // Updates that were made again after a damaged state are stored already, bit for bit.
        let known = session.store.steps(session.run.id, iteration).await?;
        let last = known.iter().map(|s| s.step).max().unwrap_or(0);
        let new: Vec<StepRow> = rows.iter().filter(|r| r.step > last).cloned().collect();
        let put = async |unit: &mut Unit| {
            unit.put_steps(&new).await?;
            unit.put_checkpoint(&row).await
        };
        session.store.write(session.run.id, iteration, put).await.context("cannot store the checkpoint")?;
        session.host.milestone();
        Ok(())
    }
}
