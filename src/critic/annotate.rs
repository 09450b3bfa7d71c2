//! Self-annotation: a trajectory labels itself if its label is all but certain.

use crate::domain::Reward;

/// The entropy of a yes-or-no distribution with probability `p` of yes, in bits.
pub fn entropy_bits(p: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(p) + part(1.0 - p)
}

/// The soft label of every trajectory whose predicted distribution has at most `entropy_max_bits`, in order.
///
/// `predicted` is the annotation formula's value, read as the probability of "good" and clamped to [0, 1]. What
/// could not be predicted gets no label: it is not a negative.
pub fn annotate(predicted: &[Reward], entropy_max_bits: f64) -> Vec<Option<f32>> {
    let label = |value: &Reward| {
        let p = value.ok().filter(|v| v.is_finite())?.clamp(0.0, 1.0);
        (entropy_bits(p) <= entropy_max_bits).then_some(p as f32)
    };
    predicted.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ScoreError;

    #[test]
    fn entropy_in_bits() {
        assert_eq!(entropy_bits(0.5), 1.0);
        assert_eq!((entropy_bits(0.0), entropy_bits(1.0)), (0.0, 0.0));
        // scipy.stats.entropy([.9, .1], base=2) = 0.4689955935892812
        assert!((entropy_bits(0.9) - 0.468_995_593_589_281_2).abs() < 1e-15);
    }

    #[test]
    fn the_gate_lets_only_certain_labels_pass() {
        let predicted =
            [Ok(0.95), Ok(0.89), Ok(0.5), Ok(0.02), Ok(1.7), Err(ScoreError::NoAnswer), Ok(f64::NAN)];
        let labels = annotate(&predicted, 0.5);
        assert_eq!(labels, [Some(0.95), Some(0.89), None, Some(0.02), Some(1.0), None, None]);
        assert_eq!(annotate(&[Ok(0.5)], 1.0), [Some(0.5)]);
        assert_eq!(annotate(&[Ok(1e-9), Ok(1.0)], 0.0), [None, Some(1.0)]);
    }
}
