//! Promotion: the gate decides between candidate and incumbent; retention makes room.

use anyhow::Result;

use super::checkpoints::{self, Kept};
use super::{Flow, Session, evaluate, gate};
use crate::domain::{Address, Decoding, Phase, Purpose, Split};
use crate::store::{Checkpoint, CheckpointKind, PromotionRow};

pub(super) async fn perform(session: &mut Session<'_>, iteration: u32) -> Result<Flow> {
    session.announce(iteration, Phase::Promote, 1);
    let stored = session.store.promotions(session.run.id).await?;
    let reason = match stored.into_iter().find(|(i, _)| *i == iteration) {
        Some((_, row)) => row.reason,
        None => decide(session, iteration).await?,
    };
    retain(session, iteration).await?;
    Ok(Flow::Done(reason))
}

async fn decide(session: &Session<'_>, iteration: u32) -> Result<String> {
    let incumbent_hash = session.incumbent_hash(iteration).await?;
    let measured_in = measured_in(session, iteration).await?;
    let incumbent = evaluate::gate_correctness(session, measured_in).await?;
    let candidate = evaluate::gate_correctness(session, iteration).await?;
    let address = Address::new(session.config.run.seed, Purpose::Selection, iteration, "gate", &[]);
    let verdict = gate::decide(&incumbent, &candidate, &session.config.gate, &address)?;
    let row = PromotionRow {
        candidate_hash: session.candidate_hash(iteration).await?,
        incumbent_hash,
        promoted: verdict.promoted,
        gain_points: verdict.gain_points,
        lo: verdict.lo,
        hi: verdict.hi,
        p_value: Some(verdict.p_value),
        reason: verdict.reason.clone(),
    };
    session.host.milestone();
    session.store.write(session.run.id, iteration, async |unit| unit.put_promotion(&row).await).await?;
    session.host.milestone();
    session.host.advanced(1);
    if !verdict.promoted {
        session.warn(format!("iteration {iteration}: rolled back: {}", verdict.reason)).await?;
    }
    Ok(verdict.reason)
}

/// The iteration in which the incumbent was measured: where it was promoted, or 0 for the base.
async fn measured_in(session: &Session<'_>, iteration: u32) -> Result<u32> {
    let promotions = session.store.promotions(session.run.id).await?;
    Ok(promotions
        .iter()
        .filter(|(i, p)| *i < iteration && p.promoted)
        .map(|(i, _)| *i)
        .next_back()
        .unwrap_or(0))
}

/// Removes checkpoints that retention lets go: the row is marked first, so that no row ever names a missing
/// folder.
async fn retain(session: &Session<'_>, iteration: u32) -> Result<()> {
    let rows = session.store.checkpoints(session.run.id).await?;
    let all: Vec<Kept> = rows
        .iter()
        .filter(|c| c.removed_reason.is_none() && c.row.kind == CheckpointKind::Candidate)
        .map(|c| Kept {
            id: c.id,
            iteration: c.iteration,
            policy_hash: c.row.policy_hash.clone(),
            bytes: c.row.bytes,
        })
        .collect();
    let incumbent = session.incumbent_hash(iteration + 1).await?;
    let best = best(session).await?;
    let pinned: Vec<&str> = [Some(incumbent.as_str()), best.as_deref()].into_iter().flatten().collect();
    let config = &session.config.checkpoints;
    let gone = checkpoints::expendable(&all, &pinned, config.keep, config.bytes_max_mib << 20);
    let is_state = |c: &&Checkpoint| c.row.kind == CheckpointKind::State && c.removed_reason.is_none();
    let states = rows.iter().filter(is_state).map(|c| c.id);
    for id in gone.into_iter().chain(states) {
        let Some(checkpoint) = rows.iter().find(|c| c.id == id) else { continue };
        session.host.milestone();
        session.store.forget_checkpoint(id, "retention").await?;
        session.host.milestone();
        checkpoints::discard(&session.dir.join(&checkpoint.row.path))?;
    }
    Ok(())
}

/// The policy with the best greedy figure on the gate split.
async fn best(session: &Session<'_>) -> Result<Option<String>> {
    let rows = session.store.evaluations(session.run.id).await?;
    let gate = rows.into_iter().filter(|(_, r)| {
        r.split == Split::Gate && r.level.is_none() && r.decoding == Decoding::Greedy && r.metric == "pass@1"
    });
    Ok(gate.max_by(|a, b| a.1.value.total_cmp(&b.1.value)).map(|(_, r)| r.policy_hash))
}
