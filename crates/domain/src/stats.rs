//! Statistics of correctness: intervals, paired tests, calibration, pass@k and maj@k.
//!
//! Pure functions over plain numbers. The only randomness, the bootstrap's, has an [`Address`], so
//! that a report can be computed again to the last bit. Left out: anything that assumes normal
//! data.

use std::collections::HashMap;

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::Address;

/// Resamples of [`paired_bootstrap`].
pub const BOOTSTRAP_RESAMPLES: usize = 2000;

/// An estimate and its two-sided interval, in the units of what was estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
}

impl Interval {
    /// The interval times `factor`, e.g. 100 to turn shares into points.
    pub fn scaled(self, factor: f64) -> Self {
        Self { mean: self.mean * factor, lo: self.lo * factor, hi: self.hi * factor }
    }
}

/// The score interval of a proportion (Wilson 1927), at a two-sided `confidence` such as 0.95.
///
/// Without observations (`n = 0`) the interval is (0, 1).
///
/// # Panics
/// If there are more successes than trials, or `confidence` isn't strictly between 0 and 1.
pub fn wilson(successes: usize, n: usize, confidence: f64) -> (f64, f64) {
    assert!(successes <= n, "{successes} successes among {n} trials");
    if n == 0 {
        return (0.0, 1.0);
    }
    let z = two_sided_z(confidence);
    let (n, p) = (n as f64, successes as f64 / n as f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let norm = 1.0 + z * z / n;
    (((centre - spread) / norm).max(0.0), ((centre + spread) / norm).min(1.0))
}

/// The mean of `after[i] - before[i]` over paired observations, with a percentile bootstrap
/// interval (Efron 1979) of [`BOOTSTRAP_RESAMPLES`] resamples of the pairs, drawn from `address`.
///
/// # Panics
/// If the two differ in length or are empty, or `confidence` isn't strictly between 0 and 1.
pub fn paired_bootstrap(before: &[f64], after: &[f64], confidence: f64, address: &Address) -> Interval {
    assert_eq!(before.len(), after.len(), "paired observations differ in number");
    assert!(!before.is_empty(), "a paired bootstrap needs at least one pair");
    assert!(confidence > 0.0 && confidence < 1.0, "confidence {confidence} is not between 0 and 1");
    let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    let n = differences.len();
    let mut stream = address.stream();
    let mut means: Vec<f64> = (0..BOOTSTRAP_RESAMPLES)
        .map(|_| (0..n).map(|_| differences[uniform(&mut stream, n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Interval {
        mean: differences.iter().sum::<f64>() / n as f64,
        lo: quantile(&means, tail),
        hi: quantile(&means, 1.0 - tail),
    }
}

/// Statistics of `n` observations, each with a percentile bootstrap interval (Efron 1979) of
/// [`BOOTSTRAP_RESAMPLES`] resamples, drawn from `address`. `statistics` gets the indices of a
/// resample; the estimate is that of all observations.
///
/// # Panics
/// If there are no observations, or `confidence` isn't strictly between 0 and 1.
pub fn bootstrap<const K: usize>(
    n: usize,
    confidence: f64,
    address: &Address,
    statistics: impl Fn(&[usize]) -> [f64; K],
) -> [Interval; K] {
    assert!(n > 0, "a bootstrap needs at least one observation");
    assert!(confidence > 0.0 && confidence < 1.0, "confidence {confidence} is not between 0 and 1");
    let mut stream = address.stream();
    let mut indices: Vec<usize> = (0..n).collect();
    let means = statistics(&indices);
    let mut resampled: [Vec<f64>; K] = std::array::from_fn(|_| Vec::with_capacity(BOOTSTRAP_RESAMPLES));
    for _ in 0..BOOTSTRAP_RESAMPLES {
        indices.fill_with(|| uniform(&mut stream, n));
        for (values, value) in resampled.iter_mut().zip(statistics(&indices)) {
            values.push(value);
        }
    }
    let tail = (1.0 - confidence) / 2.0;
    std::array::from_fn(|k| {
        resampled[k].sort_by(f64::total_cmp);
        Interval {
            mean: means[k],
            lo: quantile(&resampled[k], tail),
            hi: quantile(&resampled[k], 1.0 - tail),
        }
    })
}

/// The two-sided exact p-value of McNemar's test (1947) from the discordant pairs: `b` were right
/// only before, `c` only after. 1 when there are none.
pub fn mcnemar_exact(b: usize, c: usize) -> f64 {
    let n = b + c;
    // Twice the lower tail of Binomial(n, 1/2), in logarithms: 2^-n underflows from n = 1075 on.
    let mut ln_choose = 0.0;
    let mut tail = 0.0;
    for k in 0..=b.min(c) {
        if k > 0 {
            ln_choose += ((n - k + 1) as f64 / k as f64).ln();
        }
        tail += (ln_choose - n as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

/// The probability that at least `k` of `n` independent trials succeed, each with probability `p`.
///
/// # Panics
/// If there are more successes than trials, or `p` isn't in [0, 1].
pub fn binomial_tail(k: usize, n: usize, p: f64) -> f64 {
    assert!(k <= n, "{k} successes in {n} trials");
    assert!((0.0..=1.0).contains(&p), "a probability of {p}");
    if k == 0 || p >= 1.0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    // In logarithms, so that no factor overflows however many trials there are.
    let mut log_term = n as f64 * (-p).ln_1p();
    let mut tail = 0.0;
    for i in 0..=n {
        if i >= k {
            tail += log_term.exp();
        }
        log_term += ((n - i) as f64 / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
    }
    tail.min(1.0)
}

/// The largest p-value that is a discovery if at most the share `rate` of the discoveries may be
/// false (Benjamini & Hochberg 1995), of `tests` tests whose smallest p-values are given; `None` if
/// there is no discovery.
///
/// # Panics
/// If there are more p-values than tests.
pub fn discovered(p_values: &[f64], tests: usize, rate: f64) -> Option<f64> {
    assert!(p_values.len() <= tests, "{} p-values of {tests} tests", p_values.len());
    let mut rising = p_values.to_vec();
    rising.sort_by(f64::total_cmp);
    let places = rising.iter().enumerate().rev();
    let found = places
        .map(|(i, &p)| (p, p * tests as f64 / (i + 1) as f64))
        .find(|&(_, false_share)| false_share <= rate);
    found.map(|(p, _)| p)
}

/// The smallest change of a share that a paired two-sided test of `n` pairs shows with this power,
/// if `discordant` of the pairs differ (normal approximation).
pub fn detectable_change(n: usize, discordant: f64, confidence: f64, power: f64) -> f64 {
    (two_sided_z(confidence) + normal_quantile(power)) * (discordant / n.max(1) as f64).sqrt()
}

/// A p-value in words, as far as it means something: `p < 0.001`, `p = 0.125`, `p = 1`.
pub fn p_text(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p > 0.9995 => "p = 1".to_owned(),
        p => format!("p = {p:.3}"),
    }
}

/// The area under the ROC curve: the probability that a positive outranks a negative, ties counting
/// half (Mann–Whitney, by mid-ranks). `None` unless both labels occur.
///
/// # Panics
/// If scores and labels differ in number.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), labels.len(), "scores and labels differ in number");
    let positives = labels.iter().filter(|&&l| l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut start, mut rank_sum) = (0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let mid_rank = start as f64 + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += mid_rank * tied.iter().filter(|&&i| labels[i]).count() as f64;
        start += tied.len();
    }
    let (p, n) = (positives as f64, negatives as f64);
    Some((rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// The expected calibration error over `bins` bins of equal width (Guo et al. 2017,
/// arXiv:1706.04599): the mean gap between stated probability and observed share, weighted by the
/// bins' counts. `None` without observations.
///
/// # Panics
/// If the two differ in number, or `bins` is 0.
pub fn ece(probabilities: &[f64], labels: &[bool], bins: usize) -> Option<f64> {
    assert_eq!(probabilities.len(), labels.len(), "probabilities and labels differ in number");
    assert!(bins > 0, "calibration needs at least one bin");
    // A bin's count cancels: count/n * |sum(labels)/count - sum(p)/count|.
    let mut gaps = vec![0.0; bins];
    for (&p, &label) in probabilities.iter().zip(labels) {
        let bin = ((p * bins as f64).max(0.0) as usize).min(bins - 1);
        gaps[bin] += f64::from(label) - p;
    }
    (!labels.is_empty()).then(|| gaps.iter().map(|gap| gap.abs()).sum::<f64>() / labels.len() as f64)
}

/// The mean squared error of probabilities (Brier 1950). `None` without observations.
///
/// # Panics
/// If the two differ in number.
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    assert_eq!(probabilities.len(), labels.len(), "probabilities and labels differ in number");
    let sum: f64 = probabilities.iter().zip(labels).map(|(p, &l)| (p - f64::from(l)).powi(2)).sum();
    (!labels.is_empty()).then(|| sum / labels.len() as f64)
}

/// The probability that at least one of `k` of the `n` drawn trajectories is right when `c` of the
/// `n` are: the unbiased estimator of Chen et al. 2021 (arXiv:2107.03374).
///
/// # Panics
/// Unless 1 ≤ k ≤ n and c ≤ n: fewer than `k` trajectories can't estimate pass@k.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!((1..=n).contains(&k) && c <= n, "pass@{k} from {c} right among {n}");
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// The most frequent answer, the first seen among equals; `None` if nobody answered. It is what
/// maj@k compares with the gold answer (Wang et al. 2022, arXiv:2203.11171).
pub fn majority<'a>(answers: &[Option<&'a str>]) -> Option<&'a str> {
    let mut votes: HashMap<&str, (usize, usize)> = HashMap::new();
    for (i, answer) in answers.iter().enumerate() {
        if let Some(answer) = answer {
            votes.entry(answer).or_insert((0, i)).0 += 1;
        }
    }
    // First sights are unique, so the order of the map decides nothing.
    votes
        .into_iter()
        .max_by_key(|&(_, (count, first))| (count, std::cmp::Reverse(first)))
        .map(|(answer, _)| answer)
}

/// The `q`-quantile of values in rising order, interpolated linearly between neighbours (Hyndman &
/// Fan's type 7).
///
/// # Panics
/// If there are no values, or `q` is not in [0, 1].
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    assert!(!sorted.is_empty() && (0.0..=1.0).contains(&q), "quantile {q} of {} values", sorted.len());
    let position = q * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// A uniform draw from `0..n` with one word of the stream: the high word of a 64-bit word times
/// `n`. Its bias, n / 2^64, is negligible.
pub fn uniform(stream: &mut impl Rng, n: usize) -> usize {
    ((u128::from(stream.next_u64()) * n as u128) >> 64) as usize
}

fn two_sided_z(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "confidence {confidence} is not between 0 and 1");
    normal_quantile(0.5 + confidence / 2.0)
}

/// The standard normal's quantile function, to about 16 digits: algorithm AS 241, PPND16 (Wichura
/// 1988).
fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let z = if r <= 5.0 {
        polynomial(&NEAR.0, r - 1.6) / polynomial(&NEAR.1, r - 1.6)
    } else {
        polynomial(&FAR.0, r - 5.0) / polynomial(&FAR.1, r - 5.0)
    };
    z.copysign(q)
}

/// Coefficients from the constant term upwards, by Horner's rule.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

type Rational = ([f64; 8], [f64; 8]);

// The published coefficients of AS 241, digit for digit.
#[allow(clippy::excessive_precision, reason = "as published")]
const CENTRE: Rational = (
    [
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ],
    [
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ],
);
#[allow(clippy::excessive_precision, reason = "as published")]
const NEAR: Rational = (
    [
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ],
    [
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
);
#[allow(clippy::excessive_precision, reason = "as published")]
const FAR: Rational = (
    [
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ],
    [
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ],
);

#[cfg(test)]
mod tests;
