//! Statistics against closed forms, tables and each other.

use proptest::prelude::*;

use super::*;
use crate::Purpose;

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}

fn address(seed: u64) -> Address {
    Address::new(seed, Purpose::Evaluation, 0, "", &[])
}

#[test]
fn normal_quantiles_match_scipy() {
    // scipy 1.17.1: scipy.stats.norm.ppf(p)
    let known = [
        (0.5, 0.0),
        (0.9, 1.2815515655446),
        (0.975, 1.959963984540054),
        (0.995, 2.5758293035489),
        (1e-6, -4.753424308822899),
        (1e-13, -7.348796102800677),
    ];
    for (p, z) in known {
        close(normal_quantile(p), z, 1e-13);
    }
}

#[test]
fn wilson_matches_statsmodels() {
    // statsmodels 0.15.0: proportion_confint(successes, n, 1 - confidence, method="wilson")
    let known = [
        (8, 10, 0.95, 0.490162471536642, 0.943317848545625),
        (0, 20, 0.95, 0.0, 0.161125158052819),
        (437, 600, 0.99, 0.679249344966419, 0.772422659949921),
        (5, 5, 0.90, 0.648883499234899, 1.0),
    ];
    for (successes, n, confidence, lo, hi) in known {
        let interval = wilson(successes, n, confidence);
        close(interval.0, lo, 1e-13);
        close(interval.1, hi, 1e-13);
    }
    assert_eq!(wilson(0, 0, 0.95), (0.0, 1.0));
}

#[test]
fn mcnemar_matches_statsmodels() {
    // statsmodels 0.15.0: mcnemar([[0, b], [c, 0]], exact=True).pvalue
    let known = [
        (5, 15, 4.138946533203125e-2),
        (3, 3, 1.0),
        (40, 90, 1.371506844517543e-5),
        (0, 7, 1.5625e-2),
        (700, 800, 1.055925546671151e-2),
    ];
    for (b, c, p) in known {
        close(mcnemar_exact(b, c), p, p * 1e-10);
        close(mcnemar_exact(c, b), p, p * 1e-10);
    }
    assert_eq!(mcnemar_exact(0, 0), 1.0);
}

#[test]
fn calibration_matches_scikit_learn() {
    // scikit-learn 1.9.1: roc_auc_score(y, s), brier_score_loss(y, s); ECE by its definition in
    // numpy 2.4.6.
    let s = [0.1, 0.4, 0.4, 0.35, 0.8, 0.4, 0.9, 0.1];
    let y = [0, 0, 1, 0, 1, 1, 1, 1].map(|l| l == 1);
    close(auc(&s, &y).unwrap(), 0.766666666666667, 1e-14);
    close(brier(&s, &y).unwrap(), 0.2340625, 1e-14);
    close(ece(&s, &y, 5).unwrap(), 0.28125, 1e-14);
    close(ece(&[1.0, 0.0], &[true, false], 10).unwrap(), 0.0, 0.0);
    assert_eq!((auc(&[1.0], &[true]), ece(&[], &[], 5), brier(&[], &[])), (None, None, None));
}

#[test]
fn pass_at_k_equals_enumeration() {
    // Python: the share of itertools.combinations([1] * c + [0] * (n - c), k) that hold a 1.
    let known =
        [(10, 3, 1, 0.3), (10, 3, 4, 0.833333333333333), (8, 8, 3, 1.0), (8, 0, 2, 0.0), (8, 2, 7, 1.0)];
    for (n, c, k, p) in known {
        close(pass_at_k(n, c, k), p, 1e-14);
    }
}

#[test]
fn the_majority_wins_and_ties_go_to_the_first_seen() {
    assert_eq!(majority(&[Some("7"), None, Some("8"), Some("8")]), Some("8"));
    assert_eq!(majority(&[Some("7"), Some("8"), Some("8"), Some("7")]), Some("7"));
    assert_eq!(majority(&[Some("7"), Some("8")]), Some("7"));
    assert_eq!(majority(&[None, None]), None);
    assert_eq!(majority(&[]), None);
}

#[test]
fn the_bootstrap_interval_is_the_known_one_and_repeats() {
    // scipy 1.17.1: bootstrap((after - before,), np.mean, n_resamples=200000,
    // method="percentile", random_state=0) gave [0.1, 0.3] around 0.2.
    let before: Vec<f64> = (0..100).map(|i| f64::from(i < 60)).collect();
    let after: Vec<f64> = (0..100).map(|i| f64::from(!(55..60).contains(&i) && i < 85)).collect();
    let interval = paired_bootstrap(&before, &after, 0.95, &address(1));
    close(interval.mean, 0.2, 1e-12);
    close(interval.lo, 0.1, 0.0101);
    close(interval.hi, 0.3, 0.0101);
    assert_eq!(interval, paired_bootstrap(&before, &after, 0.95, &address(1)));
    let uneven: Vec<f64> = after.iter().enumerate().map(|(i, a)| a * i as f64).collect();
    let drawn = |seed| paired_bootstrap(&before, &uneven, 0.95, &address(seed));
    assert_ne!(drawn(1).lo, drawn(2).lo);
    let certain = paired_bootstrap(&[0.0; 9], &[1.0; 9], 0.95, &address(1)).scaled(100.0);
    assert_eq!(certain, Interval { mean: 100.0, lo: 100.0, hi: 100.0 });
}

#[test]
fn the_bootstrap_covers_the_truth_about_as_often_as_it_says() {
    // 400 studies of 100 pairs whose true gain is 0.2: the 90 % interval must cover it in 85 to
    // 95 % of them.
    let mut covered = 0;
    for study in 0..400 {
        let mut stream = address(1000 + study).stream();
        let mut draw = |p: f64| f64::from(uniform(&mut stream, 1_000_000) < (p * 1e6) as usize);
        let (before, after): (Vec<f64>, Vec<f64>) = (0..100).map(|_| (draw(0.4), draw(0.6))).unzip();
        let interval = paired_bootstrap(&before, &after, 0.90, &address(study));
        covered += usize::from(interval.lo <= 0.2 && 0.2 <= interval.hi);
    }
    assert!((340..=380).contains(&covered), "covered {covered} of 400");
}

proptest! {
    #[test]
    fn auc_equals_the_count_of_ordered_pairs(pairs in prop::collection::vec((0u8..6, any::<bool>()), 0..40)) {
        let (s, y): (Vec<f64>, Vec<bool>) = pairs.iter().map(|&(s, y)| (f64::from(s), y)).unzip();
        let (mut wins, mut all) = (0.0, 0.0);
        for i in (0..s.len()).filter(|&i| y[i]) {
            for j in (0..s.len()).filter(|&j| !y[j]) {
                all += 1.0;
                wins += if s[i] > s[j] { 1.0 } else if s[i] == s[j] { 0.5 } else { 0.0 };
            }
        }
        match auc(&s, &y) {
            Some(value) => prop_assert!((value - wins / all).abs() < 1e-12),
            None => prop_assert_eq!(all, 0.0),
        }
    }

    #[test]
    fn wilson_contains_the_share_and_narrows(n in 1usize..500, part in 0.0f64..=1.0) {
        let successes = (n as f64 * part) as usize;
        let (lo, hi) = wilson(successes, n, 0.95);
        let share = successes as f64 / n as f64;
        prop_assert!(lo <= share + 1e-12 && share <= hi + 1e-12);
        let (lo10, hi10) = wilson(successes * 10, n * 10, 0.95);
        prop_assert!(hi10 - lo10 < hi - lo);
    }
}

#[test]
fn a_bootstrap_of_a_mean_is_the_paired_one() {
    let address = Address::new(3, crate::Purpose::Evaluation, 0, "b", &[]);
    let after: Vec<f64> = (0..40).map(|i| f64::from(i % 3 == 0)).collect();
    let paired = paired_bootstrap(&[0.0; 40], &after, 0.95, &address);
    let mean = |of: &[usize]| of.iter().map(|&i| after[i]).sum::<f64>() / of.len() as f64;
    let [one, other] = bootstrap(40, 0.95, &address, |of| [mean(of), 1.0 - mean(of)]);
    assert_eq!((one.mean, one.lo, one.hi), (paired.mean, paired.lo, paired.hi));
    assert!((other.lo - (1.0 - one.hi)).abs() < 1e-9 && other.mean == 1.0 - one.mean);
}

#[test]
fn a_p_value_reads_well() {
    assert_eq!([0.0, 1.0, 0.125, 2e-9].map(p_text), ["p < 0.001", "p = 1", "p = 0.125", "p < 0.001"]);
}

#[test]
fn more_pairs_show_smaller_changes() {
    let points = |n| 100.0 * detectable_change(n, 0.25, 0.95, 0.8);
    close(points(200), 2.802 * 50.0 / 200f64.sqrt(), 0.01);
    assert!(points(43) > 20.0 && points(800) < 5.0);
}

/// Reference: `sum(comb(n, i) * p**i * (1 - p)**(n - i) for i in range(k, n + 1))` in Python 3.
#[test]
fn binomial_tails_are_those_of_the_distribution() {
    for (k, n, p, expected) in [
        (8, 8, 0.54, 0.007_230_196_133_913_606),
        (4, 8, 0.5, 0.636_718_75),
        (1, 8, 0.01, 0.077_255_305_576_799),
        (3, 8, 0.1, 0.038_091_790_000_000_01),
        (60, 1000, 0.05, 0.086_732_178_384_857),
    ] {
        let tail = binomial_tail(k, n, p);
        assert!((tail - expected).abs() < 1e-9 * expected, "{k} of {n} at {p}: {tail}");
    }
    assert_eq!(
        (binomial_tail(0, 5, 0.3), binomial_tail(1, 5, 0.0), binomial_tail(5, 5, 1.0)),
        (1.0, 0.0, 1.0)
    );
}

/// The fifteen p-values of Benjamini & Hochberg's example (1995, section 3.2): at 0.05 the four
/// smallest are discoveries.
#[test]
fn discoveries_are_those_of_the_published_example() {
    let p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ];
    assert_eq!(discovered(&p, 15, 0.05), Some(0.0095));
    assert_eq!(discovered(&p[..3], 15, 0.05), Some(0.0019), "tests that are left out were no discoveries");
    assert_eq!(discovered(&[0.5, 0.2], 2, 0.05), None);
    assert_eq!(discovered(&[], 9, 0.5), None);
}
