//! The promotion gate: new weights replace old ones only if a paired test shows no regression.
//!
//! Both policies answered the same gate tasks greedily. The gain is the mean of the paired
//! differences with a percentile-bootstrap interval (Efron 1979); McNemar's exact test is stored
//! with it. The gate split decides nothing else, and no reported figure comes from it.

use anyhow::{Result, ensure};

use crate::config::{GateConfig, GateRule};
use crate::domain::{Address, stats};

/// What the gate decided, and on what grounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub promoted: bool,
    /// Percentage points gained on the gate split, with the ends of its interval.
    pub gain_points: f64,
    pub lo: f64,
    pub hi: f64,
    /// Two-sided, exact.
    pub p_value: f64,
    pub reason: String,
}

/// Compares per-task correctness of the incumbent and the candidate, given in the same order of
/// tasks.
pub(super) fn decide(
    incumbent: &[bool],
    candidate: &[bool],
    gate: &GateConfig,
    address: &Address,
) -> Result<Verdict> {
    ensure!(
        incumbent.len() == candidate.len() && !incumbent.is_empty(),
        "the gate needs the same tasks answered by both policies, got {} and {}",
        incumbent.len(),
        candidate.len()
    );
    let points = |right: &[bool]| right.iter().map(|&r| if r { 100.0 } else { 0.0 }).collect::<Vec<f64>>();
    let gain = stats::paired_bootstrap(&points(incumbent), &points(candidate), gate.confidence, address);
    let count =
        |was: bool, is: bool| incumbent.iter().zip(candidate).filter(|&(&a, &b)| (a, b) == (was, is)).count();
    let p_value = stats::mcnemar_exact(count(true, false), count(false, true));
    let solved = incumbent.iter().zip(candidate).filter(|(was, is)| **was || **is).count();
    let solved = solved >= gate.solved_min;
    let promoted = solved
        && match gate.rule {
            GateRule::NoRegression => gain.hi >= gate.regression_points,
            GateRule::Gain => gain.lo > 0.0,
        };
    let decision = match (solved, gate.rule, promoted) {
        (false, ..) => "no evidence, because too few tasks are solved by either policy,",
        (true, GateRule::NoRegression, true) => "no regression",
        (true, GateRule::NoRegression, false) => "regression",
        (true, GateRule::Gain, true) => "gain",
        (true, GateRule::Gain, false) => "no gain is shown",
    };
    let reason = format!(
        "{} on {} gate tasks: {:+.1} points [{:+.1}, {:+.1}], McNemar p = {p_value:.2e}",
        decision,
        incumbent.len(),
        gain.mean,
        gain.lo,
        gain.hi
    );
    Ok(Verdict { promoted, gain_points: gain.mean, lo: gain.lo, hi: gain.hi, p_value, reason })
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;

    use super::*;
    use crate::config::Config;
    use crate::domain::Purpose;

    fn verdict(incumbent: &[bool], candidate: &[bool]) -> Verdict {
        let gate = Config::load(None, &[]).unwrap().gate;
        decide(incumbent, candidate, &gate, &Address::new(0, Purpose::Selection, 1, "gate", &[])).unwrap()
    }

    #[test]
    fn a_clear_gain_is_promoted_and_a_clear_loss_is_not() {
        let (low, high) = (vec![false; 100], [vec![true; 40], vec![false; 60]].concat());
        let up = verdict(&low, &high);
        assert!(up.promoted && up.gain_points == 40.0 && up.lo > 0.0 && up.p_value < 1e-6, "{up:?}");
        let down = verdict(&high, &low);
        assert!(!down.promoted && down.gain_points == -40.0 && down.hi < 0.0, "{down:?}");
        assert!(down.reason.starts_with("regression"));
    }

    #[test]
    fn no_difference_is_no_regression() {
        let same = vec![true, false, true, true];
        assert!(verdict(&same, &same).promoted);
    }

    #[test]
    fn nothing_solved_is_no_evidence() {
        let none = verdict(&[false; 40], &[false; 40]);
        assert!(!none.promoted && none.reason.starts_with("no evidence"), "{none:?}");
    }

    #[test]
    fn a_rule_of_gain_asks_for_one() {
        let gate = GateConfig { rule: GateRule::Gain, ..Config::load(None, &[]).unwrap().gate };
        let address = Address::new(0, Purpose::Selection, 1, "gate", &[]);
        let (low, high) = (vec![false; 100], [vec![true; 40], vec![false; 60]].concat());
        let decided = |was: &[bool], is: &[bool]| decide(was, is, &gate, &address).unwrap();
        assert!(decided(&low, &high).promoted);
        let same = decided(&high, &high);
        assert!(!same.promoted && same.reason.starts_with("no gain is shown"), "{same:?}");
        assert!(!decided(&high, &low).promoted);
    }

    #[test]
    fn unequal_task_sets_are_refused() {
        let gate = Config::load(None, &[]).unwrap().gate;
        let address = Address::new(0, Purpose::Selection, 1, "gate", &[]);
        assert_refused(decide(&[true], &[true, false], &gate, &address), "both policies, got 1 and 2");
        assert_refused(decide(&[], &[], &gate, &address), "both policies, got 0 and 0");
    }
}
