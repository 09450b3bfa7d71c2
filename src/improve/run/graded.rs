//! The graded trajectories of the bootstrap as a policy reads them: features of their thoughts,
//! with labels from grading.
//!
//! Iteration 1 draws the trajectories. Every later policy reads the same ones again: hidden states
//! move with the weights, labels don't.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{Session, read_given};
use crate::data::Variants;
use crate::domain::{AnswerMap, Leaf, Purpose, Split, Trajectory};
use crate::policy::Policy;
use crate::rollout::Job;
use crate::score::{self, Calibration, Critic, Labelled, Rereadings};
use crate::store::StoredTree;

/// The iteration whose rows hold the graded trajectories.
pub(in crate::improve) const DRAWN_IN: u32 = 1;

/// The graded trajectories as this policy reads them; from memory, if it was the last to read them.
pub(in crate::improve) async fn graded(session: &mut Session<'_>, policy: &Policy) -> Result<Arc<Graded>> {
    if let Some(graded) = session.cache.graded(policy.hash()) {
        return Ok(graded);
    }
    let graded = Arc::new(Graded::read(session, policy).await?);
    session.cache.keep_graded(policy.hash(), graded.clone());
    Ok(graded)
}

/// The graded trajectories as one policy reads them.
pub(in crate::improve) struct Graded {
    pub easy: Vec<Labelled>,
    /// Features of the thoughts, and whether the trajectory is good.
    anchor: Vec<(Vec<Vec<f32>>, bool)>,
}

impl Graded {
    async fn read(session: &Session<'_>, policy: &Policy) -> Result<Self> {
        let stored = session.run.store.trees(session.run.id, DRAWN_IN, Purpose::Bootstrap).await?;
        let (mut jobs, mut completions, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = Vec::new();
        for StoredTree { tree, trajectory_ids, .. } in &stored {
            let Some((leaf, &id)) = tree.leaves.iter().zip(trajectory_ids).next() else { continue };
            ids.push(id);
            jobs.push(Job {
                task_id: tree.task_id.clone(),
                kind: session.run.task(&tree.task_id)?.kind,
                variant: None,
                answers: AnswerMap::new(),
                prompt_ids: tree.prompt_ids.clone(),
                address: tree.address.clone(),
            });
            completions.push(tree.completion_ids(leaf));
            leaves.push(leaf.clone());
        }
        let mut trees = read_given(session, policy, &jobs, &completions)?;
        // How it ended and what it answers was decided when it was drawn. Only what the policy reads
        // in it moves.
        for (own, Leaf { finish, answer, .. }) in trees.iter_mut().map(|t| &mut t.leaves[0]).zip(leaves) {
            (own.finish, own.answer) = (finish, answer);
        }
        let mut trajectories = Vec::with_capacity(trees.len());
        for (tree, id) in trees.iter().zip(ids) {
            let task = session.run.task(&tree.task_id)?;
            trajectories.push(Trajectory { id, task, tree, leaf: &tree.leaves[0] });
        }
        let rereads = session.run.config.critic.rereads;
        let variants = Variants::new(&session.run.config.tasks);
        let rereadings = score::reread(policy.engine(), &session.run.text, variants, rereads, &trajectories)?;
        let mut graded = Self { easy: Vec::new(), anchor: Vec::new() };
        trajectories.iter().zip(&rereadings).for_each(|(t, rereadings)| graded.add(t, rereadings));
        ensure!(
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
    pub(crate) fn calibration(&self, critic: &Critic) -> Calibration {
        let score = |thoughts: &[Vec<f32>]| critic.scores(thoughts)[0].value.ok();
        let scored = self.anchor.iter().filter_map(|(thoughts, good)| Some((score(thoughts)?, *good)));
        let (scores, labels): (Vec<f64>, Vec<bool>) = scored.unzip();
        Calibration::measure(&scores, &labels)
    }
}
