//! From thoughts to a trajectory: it is as good as its worst thought.
//!
//! The rule is free of length. A product over thoughts (a noisy AND) ranks long trajectories last:
//! on chains three times as long as those the head was trained on it ranked worse than chance, the
//! worst thought well.

/// 1 / (1 + e^-z).
pub(super) fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// ln(1 + e^z) without overflow.
pub(super) fn softplus(z: f64) -> f64 {
    if z > 0.0 { z + (-z).exp().ln_1p() } else { z.exp().ln_1p() }
}

/// Index of the lowest of `z`, the first of equals; 0 if there is none.
pub(super) fn worst(z: impl Iterator<Item = f64>) -> usize {
    z.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softplus_is_stable_and_equals_its_definition() {
        assert_eq!((softplus(1000.0), softplus(-1000.0)), (1000.0, 0.0));
        assert!((softplus(0.3) - (1.0 + 0.3f64.exp()).ln()).abs() < 1e-15);
    }

    #[test]
    fn the_worst_thought_is_found_wherever_it_stands() {
        assert_eq!(worst([3.0, -2.0, 5.0, -2.0].into_iter()), 1);
        assert_eq!(worst([0.0].into_iter()), 0);
    }
}
