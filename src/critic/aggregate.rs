//! From thoughts to a trajectory: it is good if every thought is (a noisy AND).
//!
//! With thoughts good with log-odds `z`, P = Π σ(z). The gradient of a trajectory's label reaches thought `i` in
//! proportion to (1 − σ(z_i)) / (1 − P): the blame goes to the worst thoughts, as it would under a soft minimum,
//! and stays bounded whatever the length.

/// Log-odds further out than this say nothing more.
const LOGIT_MAX: f64 = 40.0;

/// 1 / (1 + e^-z).
pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// ln(1 + e^z) without overflow.
pub fn softplus(z: f64) -> f64 {
    if z > 0.0 { z + (-z).exp().ln_1p() } else { z.exp().ln_1p() }
}

/// ln P for thoughts with log-odds `z`.
pub fn log_and(z: impl Iterator<Item = f64>) -> f64 {
    -z.map(|z| softplus(-z)).sum::<f64>()
}

/// The log-odds of a probability given as its logarithm.
pub fn logit_of_log(log_p: f64) -> f64 {
    (log_p - (-log_p.exp_m1()).max(f64::MIN_POSITIVE).ln()).clamp(-LOGIT_MAX, LOGIT_MAX)
}

/// d L / d z_i for L the log-odds of P, given ln P.
pub fn logit_gradient(log_p: f64, z_i: f64) -> f64 {
    // Both go to zero together for thoughts that are beyond doubt.
    let (thought, path) = (sigmoid(-z_i), -log_p.exp_m1());
    if path <= thought { 1.0 } else { thought / path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logit(z: &[f64]) -> f64 {
        logit_of_log(log_and(z.iter().copied()))
    }

    #[test]
    fn one_thought_is_its_own_trajectory() {
        for z in [-30.0, -3.0, 0.0, 2.0, 20.0] {
            assert!((logit(&[z]) - z).abs() < 1e-6, "{z}: {}", logit(&[z]));
        }
    }

    #[test]
    fn the_worst_thought_rules() {
        let long = [6.0; 15];
        let flawed = [long.as_slice(), &[-2.0]].concat();
        assert!(logit(&long) > 3.0 && logit(&flawed) < -2.0);
        let log_p = log_and(flawed.iter().copied());
        assert!(logit_gradient(log_p, -2.0) > 0.9 && logit_gradient(log_p, 6.0) < 0.01);
    }

    #[test]
    fn gradient_by_finite_differences() {
        let z = [0.3, -1.2, 2.5, 4.0];
        let log_p = log_and(z.iter().copied());
        for i in 0..z.len() {
            let shifted =
                |d: f64| logit(&std::array::from_fn::<f64, 4, _>(|j| z[j] + if i == j { d } else { 0.0 }));
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric - logit_gradient(log_p, z[i])).abs() < 1e-6);
        }
    }
}
