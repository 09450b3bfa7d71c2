//! Self-annotation: a trajectory labels itself if its label is all but certain.

use super::CriticConfig;
use super::fit::shuffled;
use crate::domain::{Address, Reward};

/// The entropy of a yes-or-no distribution with probability `p` of yes, in bits.
pub(super) fn entropy_bits(p: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(p) + part(1.0 - p)
}

/// The soft label of every trajectory whose predicted distribution has at most
/// `critic.entropy_max_bits`, in order; where those are more than `critic.annotated_max`, only that
/// many keep theirs, chosen at random.
///
/// `predicted` is the annotation formula's value, read as the probability of "good" and clamped to
/// [0, 1]. What could not be predicted gets no label: it is not a negative.
pub fn annotate(predicted: &[Reward], config: &CriticConfig, address: &Address) -> Vec<Option<f32>> {
    let label = |value: &Reward| {
        let p = value.ok().filter(|v| v.is_finite())?.clamp(0.0, 1.0);
        (entropy_bits(p) <= config.entropy_max_bits).then_some(p as f32)
    };
    let mut labels: Vec<Option<f32>> = predicted.iter().map(label).collect();
    let certain: Vec<usize> = (0..labels.len()).filter(|&i| labels[i].is_some()).collect();
    for place in shuffled(certain.len(), &mut address.stream()).into_iter().skip(config.annotated_max) {
        labels[certain[place]] = None;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::{Purpose, ScoreError};

    #[test]
    fn entropy_in_bits() {
        assert_eq!(entropy_bits(0.5), 1.0);
        assert_eq!((entropy_bits(0.0), entropy_bits(1.0)), (0.0, 0.0));
        // scipy.stats.entropy([.9, .1], base=2) = 0.4689955935892812
        assert!((entropy_bits(0.9) - 0.468_995_593_589_281_2).abs() < 1e-15);
    }

    fn labels(predicted: &[Reward], entropy_max_bits: f64, annotated_max: usize) -> Vec<Option<f32>> {
        let config = Config::load(None, &[]).unwrap().critic;
        let address = Address::new(3, Purpose::Critic, 1, "", &[]);
        annotate(predicted, &CriticConfig { entropy_max_bits, annotated_max, ..config }, &address)
    }

    #[test]
    fn the_gate_lets_only_certain_labels_pass() {
        let predicted =
            [Ok(0.95), Ok(0.89), Ok(0.5), Ok(0.02), Ok(1.7), Err(ScoreError::NoAnswer), Ok(f64::NAN)];
        let certain = [Some(0.95), Some(0.89), None, Some(0.02), Some(1.0), None, None];
        assert_eq!(labels(&predicted, 0.5, 9), certain);
        assert_eq!(labels(&[Ok(0.5)], 1.0, 9), [Some(0.5)]);
        assert_eq!(labels(&[Ok(1e-9), Ok(1.0)], 0.0, 9), [None, Some(1.0)]);
    }

    #[test]
    fn of_too_many_labels_some_are_drawn() {
        let predicted: Vec<Reward> = (0..100).map(|i| Ok(if i % 2 == 0 { 1.0 } else { 0.5 })).collect();
        let drawn = labels(&predicted, 0.1, 20);
        assert_eq!(drawn, labels(&predicted, 0.1, 20));
        assert_eq!(drawn.iter().flatten().count(), 20);
        assert!(drawn.iter().zip(&predicted).all(|(label, p)| label.is_none() || *p == Ok(1.0)));
        assert!(drawn[50..].iter().flatten().count() > 2, "{drawn:?}");
        assert_eq!(labels(&predicted, 0.1, 50).iter().flatten().count(), 50);
    }
}
