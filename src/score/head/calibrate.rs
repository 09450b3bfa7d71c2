//! Calibration: makes log-odds mean probabilities (Platt 1999), and measures whether they do.

use serde::{Deserialize, Serialize};

use super::aggregate::sigmoid;
use crate::domain::stats;

/// Bins of the expected calibration error.
const ECE_BINS: usize = 10;
/// Pull towards doing nothing, in pseudo-observations: a handful of labels may not bend the scale.
const RIDGE: f64 = 1.0;

/// How well probabilities match known answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// `None` unless both right and wrong answers occur.
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub brier: Option<f64>,
    pub n: usize,
}

impl Calibration {
    /// Of `probabilities` against whether each trajectory was right.
    ///
    /// # Panics
    /// If the two differ in number.
    pub fn measure(probabilities: &[f64], right: &[bool]) -> Self {
        Self {
            auc: stats::auc(probabilities, right),
            ece: stats::ece(probabilities, right, ECE_BINS),
            brier: stats::brier(probabilities, right),
            n: right.len(),
        }
    }

    /// Whether the head keeps its vote: an AUC that is unknown or below `auc_min` loses it.
    pub fn trusted(&self, auc_min: f64) -> bool {
        self.auc.is_some_and(|auc| auc >= auc_min)
    }
}

/// p = σ(slope · logit + offset).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Platt {
    pub slope: f64,
    pub offset: f64,
}

impl Platt {
    pub(super) const IDENTITY: Self = Self { slope: 1.0, offset: 0.0 };

    pub(super) fn probability(&self, logit: f64) -> f64 {
        sigmoid(self.slope * logit + self.offset)
    }

    /// Fits (logit, target, weight) by Newton's method on the cross-entropy, with a ridge towards
    /// [`IDENTITY`].
    ///
    /// A slope that would reverse the ranking is refused: then only the offset is fitted.
    ///
    /// [`IDENTITY`]: Self::IDENTITY
    pub(super) fn fit(observations: &[(f64, f64, f64)]) -> Self {
        let fitted = Self::newton(observations, true);
        let usable = fitted.slope > 0.0 && fitted.slope.is_finite() && fitted.offset.is_finite();
        if usable { fitted } else { Self::newton(observations, false) }
    }

    fn newton(observations: &[(f64, f64, f64)], free_slope: bool) -> Self {
        let mut platt = Self::IDENTITY;
        for _ in 0..50 {
            let (mut g0, mut g1) = (RIDGE * (platt.slope - 1.0), RIDGE * platt.offset);
            let (mut h00, mut h01, mut h11) = (RIDGE, 0.0, RIDGE);
            for &(logit, target, weight) in observations {
                let p = platt.probability(logit);
                let (error, curve) = (weight * (p - target), weight * p * (1.0 - p));
                g0 += error * logit;
                g1 += error;
                h00 += curve * logit * logit;
                h01 += curve * logit;
                h11 += curve;
            }
            let (slope_step, offset_step) = if free_slope {
                let determinant = h00 * h11 - h01 * h01;
                ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant)
            } else {
                (0.0, g1 / h11)
            };
            // Steps are bounded: far out the curve is flat and Newton overshoots.
            platt.slope -= slope_step.clamp(-1.0, 1.0);
            platt.offset -= offset_step.clamp(-4.0, 4.0);
            if slope_step.abs() + offset_step.abs() < 1e-10 {
                break;
            }
        }
        platt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platt_undoes_a_distorted_scale() {
        // True log-odds t are stated as 3 t + 2.
        let observations: Vec<_> = (-40..=40)
            .map(|i| {
                let t = f64::from(i) / 10.0;
                (3.0 * t + 2.0, sigmoid(t), 20.0)
            })
            .collect();
        let platt = Platt::fit(&observations);
        assert!(
            (platt.slope - 1.0 / 3.0).abs() < 0.01 && (platt.offset + 2.0 / 3.0).abs() < 0.02,
            "{platt:?}"
        );
        assert_eq!(Platt::fit(&[]), Platt::IDENTITY);
    }

    #[test]
    fn platt_never_turns_the_ranking_over() {
        let observations: Vec<_> =
            (0..100).map(|i| (f64::from(i) / 10.0, f64::from(u8::from(i < 50)), 1.0)).collect();
        let platt = Platt::fit(&observations);
        assert!(platt.slope > 0.0, "{platt:?}");
    }

    #[test]
    fn trust_needs_a_measured_auc() {
        let measured = Calibration::measure(&[0.9, 0.8, 0.2], &[true, true, false]);
        assert_eq!((measured.auc, measured.n), (Some(1.0), 3));
        assert!(measured.trusted(0.6));
        assert!(!Calibration::measure(&[0.9, 0.8], &[true, true]).trusted(0.6));
        assert!(!Calibration::measure(&[], &[]).trusted(0.0));
    }
}
