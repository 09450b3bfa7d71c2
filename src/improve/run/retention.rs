//! Retention: which checkpoints stay.
//!
//! A row is marked before its folder is removed. A crash between the two leaves a folder that
//! nobody needs, never a row without its folder.

use anyhow::Result;

use super::{Run, Session};
use crate::domain::{Decoding, Split};
use crate::policy::checkpoints;
use crate::store::{Checkpoint, CheckpointKind};

/// Removes the candidates that retention doesn't keep after `iteration` is decided, and all states
/// of training.
pub(in crate::improve) async fn retain(session: &Session<'_>, iteration: u32) -> Result<()> {
    let run = &session.run;
    let rows = run.store.checkpoints(run.id).await?;
    let present =
        |kind| rows.iter().filter(move |c: &&Checkpoint| c.removed_reason.is_none() && c.row.kind == kind);
    let candidates: Vec<Kept> = present(CheckpointKind::Candidate)
        .map(|c| Kept {
            id: c.id,
            iteration: c.iteration,
            policy_hash: c.row.policy_hash.clone(),
            bytes: c.row.bytes,
        })
        .collect();
    let incumbent = run.incumbent_hash(iteration + 1).await?;
    let best = best(run).await?;
    let pinned: Vec<&str> = [Some(incumbent.as_str()), best.as_deref()].into_iter().flatten().collect();
    let config = &run.config.checkpoints;
    let removed = expendable(&candidates, &pinned, config.keep, config.bytes_max_mib << 20);
    let states = present(CheckpointKind::State).map(|c| c.id);
    for id in removed.into_iter().chain(states) {
        let Some(checkpoint) = rows.iter().find(|c| c.id == id) else { continue };
        session.host.durable(run.store.forget_checkpoint(id, "retention")).await?;
        checkpoints::discard(&run.dir.join(&checkpoint.row.path))?;
    }
    Ok(())
}

/// The policy with the best greedy figure on the gate split.
async fn best(run: &Run<'_>) -> Result<Option<String>> {
    let rows = run.store.evaluations(run.id).await?;
    let gate = rows.into_iter().filter(|(_, r)| {
        r.split == Split::Gate && r.level.is_none() && r.decoding == Decoding::Greedy && r.metric == "pass@1"
    });
    Ok(gate.max_by(|a, b| a.1.value.total_cmp(&b.1.value)).map(|(_, r)| r.policy_hash))
}

/// A stored checkpoint as retention sees it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    id: i64,
    iteration: u32,
    policy_hash: String,
    bytes: u64,
}

/// The checkpoints that may be removed, newest first. The `pinned` policies stay, whatever their
/// size. Of the others the newest `keep` stay, as far as all that stays fits into `bytes_max`.
fn expendable(all: &[Kept], pinned: &[&str], keep: usize, bytes_max: u64) -> Vec<i64> {
    let mut candidates: Vec<&Kept> =
        all.iter().filter(|c| !pinned.contains(&c.policy_hash.as_str())).collect();
    candidates.sort_by_key(|c| std::cmp::Reverse((c.iteration, c.id)));
    let mut held: u64 =
        all.iter().filter(|c| pinned.contains(&c.policy_hash.as_str())).map(|c| c.bytes).sum();
    let mut gone = Vec::new();
    for (rank, checkpoint) in candidates.iter().enumerate() {
        if rank < keep && held + checkpoint.bytes <= bytes_max {
            held += checkpoint.bytes;
        } else {
            gone.push(checkpoint.id);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_keeps_pinned_and_newest_within_the_budget() {
        let kept = |id, hash: &str| Kept { id, iteration: id as u32, policy_hash: hash.into(), bytes: 10 };
        let all = [kept(1, "a"), kept(2, "b"), kept(3, "c"), kept(4, "d")];
        assert_eq!(expendable(&all, &["a"], 2, 1000), [2]);
        assert_eq!(expendable(&all, &["a", "d"], 1, 1000), [2]);
        assert_eq!(expendable(&all, &["a", "d"], 9, 20), [3, 2]);
        assert_eq!(expendable(&all, &["a", "b", "c", "d"], 0, 0), Vec::<i64>::new());
    }

    #[test]
    fn pinned_policies_stay_whatever_their_size() {
        let kept = |id, hash: &str, bytes| Kept { id, iteration: id as u32, policy_hash: hash.into(), bytes };
        // The pinned ones exceed the budget: nothing else fits.
        let all = [kept(1, "a", 50), kept(2, "b", 1), kept(3, "c", 60)];
        assert_eq!(expendable(&all, &["a", "c"], 9, 100), [2]);
        assert_eq!(expendable(&all, &["a"], 9, 111), Vec::<i64>::new());
        // Two iterations came to the same weights: both rows are pinned.
        let twice = [kept(1, "a", 10), kept(2, "a", 10), kept(3, "b", 10)];
        assert_eq!(expendable(&twice, &["a"], 0, 1000), [3]);
        // A checkpoint that doesn't fit leaves its room to an older one that does.
        let sizes = [kept(1, "a", 10), kept(2, "b", 10), kept(3, "c", 90)];
        assert_eq!(expendable(&sizes, &["a"], 9, 50), [3]);
    }
}
