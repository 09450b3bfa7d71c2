//! Promotion: the gate decides between candidate and incumbent; retention makes room.

mod gate;

use anyhow::Result;

use super::{PhaseOutcome, evaluate};
use crate::domain::{Address, Alarm, AlarmAction, AlarmRule, Phase, Purpose};
use crate::improve::run::{Run, Session, retention};
use crate::store::PromotionRow;

pub(in crate::improve) async fn run(session: &mut Session<'_>, iteration: u32) -> Result<PhaseOutcome> {
    session.host.announce(iteration, Phase::Promote, 1);
    let stored = session.run.store.promotions(session.run.id).await?;
    let decision = match stored.into_iter().find(|(i, _)| *i == iteration) {
        Some((_, row)) => row,
        None => {
            let row = decide(&session.run, iteration).await?;
            let (store, run) = (&session.run.store, session.run.id);
            session
                .host
                .durable(store.write(run, iteration, async |unit| unit.put_promotion(&row).await))
                .await?;
            session.host.advanced(1);
            row
        }
    };
    retention::retain(session, iteration).await?;
    Ok(outcome(iteration, decision, session.run.config.gate.regression_points))
}

/// What the stored decision means for the loop.
fn outcome(iteration: u32, decision: PromotionRow, regression_points: f64) -> PhaseOutcome {
    if decision.promoted {
        return PhaseOutcome::Done(decision.reason);
    }
    let alarm = Alarm {
        rule: AlarmRule::Gate,
        value: Some(decision.hi),
        threshold: Some(regression_points),
        action: AlarmAction::RolledBack,
        message: format!("iteration {iteration}: rolled back: {}", decision.reason),
    };
    PhaseOutcome::RollBack { to: decision.incumbent_hash, alarm, note: decision.reason }
}

async fn decide(run: &Run<'_>, iteration: u32) -> Result<PromotionRow> {
    let incumbent_hash = run.incumbent_hash(iteration).await?;
    let measured_in = measured_in(run, iteration).await?;
    let incumbent = evaluate::gate_correctness(run, measured_in).await?;
    let candidate = evaluate::gate_correctness(run, iteration).await?;
    let address = Address::new(run.config.run.seed, Purpose::Selection, iteration, "gate", &[]);
    let verdict = gate::decide(&incumbent, &candidate, &run.config.gate, &address)?;
    Ok(PromotionRow {
        candidate_hash: run.candidate_hash(iteration).await?,
        incumbent_hash,
        promoted: verdict.promoted,
        gain_points: verdict.gain_points,
        lo: verdict.lo,
        hi: verdict.hi,
        p_value: Some(verdict.p_value),
        reason: verdict.reason,
    })
}

/// The iteration in which the incumbent was measured: where it was promoted, or 0 for the base.
async fn measured_in(run: &Run<'_>, iteration: u32) -> Result<u32> {
    let promotions = run.store.promotions(run.id).await?;
    let promoted = promotions.iter().filter(|(i, p)| *i < iteration && p.promoted);
    Ok(promoted.map(|(i, _)| *i).next_back().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(promoted: bool) -> PromotionRow {
        PromotionRow {
            candidate_hash: "candidate".into(),
            incumbent_hash: "incumbent".into(),
            promoted,
            gain_points: -5.0,
            lo: -8.0,
            hi: -2.0,
            p_value: Some(0.01),
            reason: "regression on 100 gate tasks".into(),
        }
    }

    #[test]
    fn a_refusal_rolls_back_to_the_incumbent_with_the_figure_that_decided() {
        let note = "regression on 100 gate tasks".to_owned();
        let alarm = Alarm {
            rule: AlarmRule::Gate,
            value: Some(-2.0),
            threshold: Some(-1.0),
            action: AlarmAction::RolledBack,
            message: "iteration 3: rolled back: regression on 100 gate tasks".into(),
        };
        let expected = PhaseOutcome::RollBack { to: "incumbent".into(), alarm, note: note.clone() };
        assert_eq!(outcome(3, decision(false), -1.0), expected);
        assert_eq!(outcome(3, decision(true), -1.0), PhaseOutcome::Done(note));
    }
}
