//! Bootstrap: graded easy trajectories, and a critique head trained on them.
//!
//! Iteration 1 draws them: part sampled from the easy and anchor tasks, part made by corrupting gold solutions
//! thought by thought. Later iterations read the same trajectories again under their own policy: hidden states
//! move with the weights, labels don't, so at most `critic.bootstrap` graded labels are ever used.

use anyhow::{Context, Result};

use super::rollouts::{commit, draw_chains, missing, plain_job, tools};
use super::{Flow, Policy, Session};
use crate::data;
use crate::domain::{Address, Leaf, Phase, Purpose, Sampling, Split, Task, Trajectory, Tree};
use crate::rollout::{self, Job};
use crate::score::{self, Calibration, Critic, Labelled, Rereadings};
use crate::store::{CriticRow, CriticStage, StoredTree};

/// Branch of a sampled trajectory, and of one made from the gold solution.
const SAMPLED: u32 = 0;
const CORRUPTED: u32 = 1;

/// The iteration whose rows hold the graded trajectories.
const DRAWN_IN: u32 = 1;

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    let policy = session.load(&session.incumbent_hash(iteration).await?).await?;
    session.announce(iteration, Phase::Bootstrap, 3);
    session.host.part("draw");
    if iteration == DRAWN_IN {
        draw(session, &policy).await?;
    }
    if let Some(row) = session.store.critic(session.run.id, iteration, CriticStage::Bootstrap).await? {
        return Ok(Flow::Done(note(&row)));
    }
    session.host.part("reread");
    let graded = session.graded(&policy).await?;
    session.host.part("fit");
    let address = Address::new(session.config.run.seed, Purpose::Critic, iteration, "", &[0]);
    let critic = Critic::fit(&graded.easy, &session.config.critic, &address)?;
    let row = row(&critic, &graded.calibration(&critic), 0, true)?;
    session.host.milestone();
    session
        .store
        .write(session.run.id, iteration, async |unit| unit.put_critic(CriticStage::Bootstrap, &row).await)
        .await?;
    session.host.milestone();
    session.host.advanced(1);
    Ok(Flow::Done(note(&row)))
}

/// The head that this iteration's bootstrap trained.
pub(super) async fn critic(session: &Session<'_>, iteration: u32) -> Result<Critic> {
    let row = session.store.critic(session.run.id, iteration, CriticStage::Bootstrap).await?;
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

/// Draws, corrupts and commits what isn't stored yet.
async fn draw(session: &Session<'_>, policy: &Policy) -> Result<()> {
    let stored = session.store.tree_keys(session.run.id, DRAWN_IN, Purpose::Bootstrap).await?;
    let (sampled, corrupted) = jobs(session)?;
    let warm = Sampling { temperature: session.config.critic.temperature, ..Sampling::GREEDY };
    let sampled = missing(sampled, &stored);
    if !sampled.is_empty() {
        let trees = draw_chains(session, policy, &sampled, warm)?;
        commit(session, DRAWN_IN, Purpose::Bootstrap, policy, &trees).await?;
        session.host.advanced(1);
    }
    let corrupted: Vec<_> =
        corrupted.into_iter().filter(|(job, _)| !stored.contains(&job.address.to_string())).collect();
    if !corrupted.is_empty() {
        let (jobs, completions): (Vec<Job>, Vec<Vec<u32>>) = corrupted.into_iter().unzip();
        let trees = given(session, policy, &jobs, &completions)?;
        commit(session, DRAWN_IN, Purpose::Bootstrap, policy, &trees).await?;
        session.host.advanced(1);
    }
    Ok(())
}

type Corrupted = (Job, Vec<u32>);

/// Sampled jobs, and corrupted completions with the jobs they answer.
fn jobs(session: &Session) -> Result<(Vec<Job>, Vec<Corrupted>)> {
    let config = &session.config.critic;
    let corrupted_count = (config.bootstrap as f64 * config.corrupted).round() as usize;
    let (easy, anchor) = (session.tasks(Split::Easy), session.tasks(Split::Anchor));
    // Different easy tasks for the two kinds, as far as there are enough.
    let sampled = easy.iter().take(config.bootstrap - corrupted_count).chain(anchor);
    let corrupted = easy.iter().rev().take(corrupted_count).chain(anchor);
    let address = |task: &Task, branch| {
        Address::new(session.config.run.seed, Purpose::Bootstrap, DRAWN_IN, &task.id, &[branch])
    };
    let sampled =
        sampled.map(|task| plain_job(session, task, address(task, SAMPLED))).collect::<Result<_>>()?;
    let mut made = Vec::new();
    for task in corrupted {
        let address = address(task, CORRUPTED);
        if let Some(wrong) = data::corrupted(task, &address) {
            made.push((plain_job(session, task, address)?, session.text.completion_ids(&wrong)?));
        }
    }
    Ok((sampled, made))
}

/// Completions that were not drawn, read under the policy.
fn given(session: &Session, policy: &Policy, jobs: &[Job], completions: &[Vec<u32>]) -> Result<Vec<Tree>> {
    tools(session, policy, Sampling::GREEDY, |tools| rollout::teacher_forced(tools, jobs, completions))
}

/// The graded trajectories as the current policy sees them.
pub(super) struct Graded {
    pub easy: Vec<Labelled>,
    /// Features of the thoughts, and whether the trajectory is good.
    anchor: Vec<(Vec<Vec<f32>>, bool)>,
}

impl Graded {
    pub async fn read(session: &Session<'_>, policy: &Policy) -> Result<Self> {
        let stored = session.store.trees(session.run.id, DRAWN_IN, Purpose::Bootstrap).await?;
        let (mut jobs, mut completions, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = Vec::new();
        for StoredTree { tree, trajectory_ids, .. } in &stored {
            let Some((leaf, &id)) = tree.leaves.iter().zip(trajectory_ids).next() else { continue };
            ids.push(id);
            jobs.push(Job {
                task_id: tree.task_id.clone(),
                kind: session.task(&tree.task_id)?.kind,
                variant: None,
                prompt_ids: tree.prompt_ids.clone(),
                address: tree.address.clone(),
            });
            completions.push(tree.completion_ids(leaf));
            leaves.push(leaf.clone());
        }
        let mut trees = given(session, policy, &jobs, &completions)?;
        // How it ended and what it claims was decided when it was drawn; only what the policy sees moves.
        for (own, Leaf { finish, answer, .. }) in trees.iter_mut().map(|t| &mut t.leaves[0]).zip(leaves) {
            (own.finish, own.answer) = (finish, answer);
        }
        let mut trajectories = Vec::with_capacity(trees.len());
        for (tree, id) in trees.iter().zip(ids) {
            let task = session.task(&tree.task_id)?;
            trajectories.push(Trajectory { id, task, tree, leaf: &tree.leaves[0] });
        }
        let rereads = session.config.critic.rereads;
        let rereadings = score::reread(policy.engine(), &session.text, rereads, &trajectories)?;
        let mut graded = Self { easy: Vec::new(), anchor: Vec::new() };
        trajectories.iter().zip(&rereadings).for_each(|(t, rereadings)| graded.add(t, rereadings));
        anyhow::ensure!(
            !graded.easy.is_empty(),
            "no easy trajectory could be graded: the critique head needs labelled easy tasks with a solution"
        );
        Ok(graded)
    }

    fn add(&mut self, trajectory: &Trajectory, rereadings: &Rereadings) {
        let (task, thoughts) = (trajectory.task, trajectory.thoughts());
        let texts: Vec<&str> = thoughts.iter().map(|t| t.text.as_str()).collect();
        let right = score::grade(task, trajectory.answer()).is_right();
        let criteria = score::criteria(task, &texts);
        let sound =
            criteria.as_ref().is_none_or(|c| c.iter().all(|c| c.coherence && c.accuracy && c.completeness));
        let good = right && sound;
        let thoughts = thoughts.iter().zip(rereadings).map(|(t, r)| score::features(t, r)).collect();
        if task.split == Split::Anchor {
            self.anchor.push((thoughts, good));
        } else {
            self.easy.push(Labelled {
                thoughts,
                good: Some(f32::from(u8::from(good))),
                criteria,
                weight: 1.0,
            });
        }
    }

    /// How well `critic` ranks and calibrates on the anchor split.
    pub fn calibration(&self, critic: &Critic) -> Calibration {
        let score = |thoughts: &[Vec<f32>]| critic.scores(thoughts)[0].value.ok();
        let scored = self.anchor.iter().filter_map(|(thoughts, good)| Some((score(thoughts)?, *good)));
        let (scores, labels): (Vec<f64>, Vec<bool>) = scored.unzip();
        Calibration::measure(&scores, &labels)
    }
}
