//! Samples one token from one row of logits.
//!
//! The restrictions apply in the order of transformers: temperature, then `top_k`, then `top_p`
//! over what is left, then `min_p`. Among equally probable tokens the lower id counts as more
//! probable. The token is found by inverting the cumulative distribution over the remaining tokens,
//! in order of their ids, with one word of randomness. So a sample is a pure function of (logits,
//! sampling, word).
//!
//! It knows nothing about requests or random streams. The log-probability that is reported for a
//! sample is the one at temperature 1 before any restriction, by the trainer's own kernel.

use anyhow::{Result, ensure};

use crate::domain::Sampling;
use crate::ops::kernels::{exp_scaled, largest, sum};

/// # Errors
/// Settings that describe no distribution.
pub(super) fn check(sampling: &Sampling) -> Result<()> {
    let Sampling { temperature, top_p, min_p, .. } = *sampling;
    ensure!(
        temperature.is_finite() && temperature >= 0.0,
        "temperature is {temperature}; it must be a number from 0 (greedy) upwards"
    );
    ensure!(top_p > 0.0 && top_p <= 1.0, "top_p is {top_p}; it must be in (0, 1]");
    ensure!((0.0..=1.0).contains(&min_p), "min_p is {min_p}; it must be in [0, 1]");
    Ok(())
}

/// The most probable token; ties go to the lowest id. Logits must be finite.
pub(super) fn greedy(logits: &[f32]) -> usize {
    let largest = largest(logits);
    logits.iter().position(|&logit| logit == largest).unwrap_or(0)
}

/// Number of weights that are summed, or compared, at a time.
const BLOCK: usize = 256;
/// Number of candidates that are looked at first if only `top_p` restricts them.
const NUCLEUS: usize = 128;

/// One thread's sampling buffers.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Unnormalised probability of each token id: `exp((logit - max) / temperature)`.
    weights: Vec<f32>,
    /// Sum of each block of weights.
    sums: Vec<f64>,
    /// Largest weight of each block.
    largest: Vec<f32>,
    /// Candidate ids; used only for `top_k` and `top_p`.
    order: Vec<u32>,
}

impl Sampler {
    /// Samples a token id. `logits` (vocab) must be finite and not empty; `word` is uniform. Greedy
    /// sampling ignores `word`.
    pub(super) fn sample(&mut self, logits: &[f32], sampling: &Sampling, word: u32) -> usize {
        if sampling.temperature == 0.0 {
            return greedy(logits);
        }
        self.weights.resize(logits.len(), 0.0);
        // The most probable token has the weight exp(0) = 1, so `min_p` is a weight. It applies
        // after `top_p`.
        let floor = if sampling.top_p == 1.0 { sampling.min_p } else { 0.0 };
        exp_scaled(logits, largest(logits), 1.0 / sampling.temperature, floor, &mut self.weights);
        // The middle of the word's share of [0, 1): never an end, so never a token of probability
        // 0.
        let share = (f64::from(word) + 0.5) / 4_294_967_296.0;
        let k = match sampling.top_k as usize {
            0 => logits.len(),
            k => k.min(logits.len()),
        };
        if k == logits.len() && sampling.top_p == 1.0 {
            return self.sample_any(share);
        }
        self.keep_most_probable(k, sampling.top_p);
        let weights = &self.weights;
        self.order.retain(|&id| weights[id as usize] >= sampling.min_p);
        self.order.sort_unstable();
        let weight = |id: &u32| f64::from(weights[*id as usize]);
        let target = share * self.order.iter().map(weight).sum::<f64>();
        first_above(self.order.iter().map(|id| (*id as usize, weight(id))), 0.0, target)
    }

    /// Samples among all tokens: first a block, then a token of it.
    fn sample_any(&mut self, share: f64) -> usize {
        self.sums.clear();
        self.sums.extend(self.weights.chunks(BLOCK).map(sum));
        let target = share * self.sums.iter().sum::<f64>();
        let mut below = 0.0;
        let mut chosen = 0;
        for (block, sum) in self.sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
            chosen = block;
            if below + sum > target {
                break;
            }
            below += sum;
        }
        let weights = &self.weights[chosen * BLOCK..];
        let ids = weights.iter().take(BLOCK).enumerate();
        first_above(ids.map(|(i, &w)| (chosen * BLOCK + i, f64::from(w))), below, target)
    }

    /// Fills `order` with the `k` most probable tokens, or with as many of them as reach the share
    /// `top_p` of their mass.
    fn keep_most_probable(&mut self, k: usize, top_p: f32) {
        let vocab = self.weights.len();
        if k < vocab {
            self.candidates(k);
            let mass = self.order.iter().map(|&id| f64::from(self.weights[id as usize])).sum();
            let kept = if top_p < 1.0 { nucleus(&self.order, &self.weights, top_p, mass) } else { None };
            self.order.truncate(kept.unwrap_or(k));
            return;
        }
        let mass = self.weights.chunks(BLOCK).map(sum).sum();
        let mut count = NUCLEUS.min(vocab);
        loop {
            self.candidates(count);
            if let Some(kept) = nucleus(&self.order, &self.weights, top_p, mass) {
                return self.order.truncate(kept);
            }
            if count == vocab {
                return;
            }
            count = (count * 8).min(vocab);
        }
    }

    /// Fills `order` with the `count` most probable tokens, the most probable first.
    fn candidates(&mut self, count: usize) {
        let weights = &self.weights;
        self.largest.clear();
        self.largest.extend(weights.chunks(BLOCK / 8).map(largest));
        // If n blocks have a largest weight of at least `bound`, at least n weights are that large.
        let bound = if count < self.largest.len() {
            *self.largest.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
        } else {
            0.0
        };
        self.order.clear();
        self.order.extend((0..weights.len() as u32).filter(|&id| weights[id as usize] >= bound));
        let rank = |a: &u32, b: &u32| {
            let (x, y) = (weights[*a as usize], weights[*b as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        if count < self.order.len() {
            self.order.select_nth_unstable_by(count - 1, rank);
            self.order.truncate(count);
        }
        self.order.sort_unstable_by(rank);
    }
}

/// The first id at which the running sum, which begins at `sum`, exceeds `target`. If none does:
/// the last id with a weight.
fn first_above(weights: impl Iterator<Item = (usize, f64)>, mut sum: f64, target: f64) -> usize {
    let mut last = 0;
    for (id, weight) in weights.filter(|(_, weight)| *weight > 0.0) {
        sum += weight;
        last = id;
        if sum > target {
            break;
        }
    }
    last
}

/// How many of the most probable tokens reach the share `top_p` of `mass` (Holtzman et al. 2020);
/// `None` if `order` has too few.
fn nucleus(order: &[u32], weights: &[f32], top_p: f32, mass: f64) -> Option<usize> {
    let enough = f64::from(top_p) * mass;
    let mut sum = 0.0;
    for (n, &id) in order.iter().enumerate() {
        sum += f64::from(weights[id as usize]);
        if sum >= enough {
            return Some(n + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::kernels::exp;

    /// The textbook version: sort everything, walk, renormalise. Returns each token's probability.
    fn naive(logits: &[f32], s: &Sampling) -> Vec<f64> {
        let best = greedy(logits);
        let mut p: Vec<f64> =
            logits.iter().map(|&l| f64::from(exp((l - logits[best]) * (1.0 / s.temperature)))).collect();
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
        if s.top_k > 0 {
            order.truncate(s.top_k as usize);
        }
        let mass: f64 = order.iter().map(|&i| p[i]).sum();
        let mut kept = Vec::new();
        let mut sum = 0.0;
        for &i in &order {
            kept.push(i);
            sum += p[i];
            if s.top_p < 1.0 && sum >= f64::from(s.top_p) * mass {
                break;
            }
        }
        kept.retain(|&i| p[i] >= f64::from(s.min_p));
        let total: f64 = kept.iter().map(|&i| p[i]).sum();
        (0..p.len()).for_each(|i| p[i] = if kept.contains(&i) { p[i] / total } else { 0.0 });
        p
    }

    fn sampling() -> impl Strategy<Value = Sampling> {
        (0.05f32..3.0, 0u32..12, 0.05f32..1.3, 0.0f32..0.6).prop_map(|(temperature, top_k, top_p, min_p)| {
            Sampling {
                temperature,
                top_k,
                top_p: top_p.min(1.0),
                min_p: if min_p < 0.2 { 0.0 } else { min_p },
            }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_inverse_of_the_distribution(
            // Few distinct values, so that ties are common.
            logits in prop::collection::vec((-24i8..24).prop_map(|x| f32::from(x) * 0.25), 1..40),
            // As they are, and as many as make several blocks.
            copies in prop_oneof![Just(1usize), 100..400usize],
            sampling in sampling(),
            words in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let spread = |i: usize| logits[i % logits.len()] - (i / logits.len() % 7) as f32 * 0.5;
            let logits: Vec<f32> = (0..logits.len() * copies).map(spread).collect();
            let p = naive(&logits, &sampling);
            let mut sampler = Sampler::default();
            for word in words {
                let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
                let drawn = sampler.sample(&logits, &sampling, word);
                let below: f64 = p[..drawn].iter().sum();
                prop_assert!(p[drawn] > 0.0, "token {} is excluded", drawn);
                prop_assert!(below <= u + 1e-9 && u <= below + p[drawn] + 1e-9, "{} at {}", drawn, u);
            }
        }

        #[test]
        fn zero_temperature_takes_the_lowest_of_the_best(
            logits in prop::collection::vec((-4i8..4).prop_map(f32::from), 1..40),
            word in any::<u32>(),
        ) {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let want = logits.iter().position(|&l| l == best).unwrap();
            prop_assert_eq!(Sampler::default().sample(&logits, &Sampling::GREEDY, word), want);
        }
    }

    #[test]
    fn words_spread_evenly_give_every_token_its_share() {
        let logits = [0.0f32, 1.0, 2.0, 3.0, -50.0];
        let sampling = Sampling { temperature: 0.7, top_k: 0, top_p: 1.0, min_p: 0.0 };
        let p = naive(&logits, &sampling);
        let draws = 1u32 << 16;
        let mut counts = [0u32; 5];
        let mut sampler = Sampler::default();
        for i in 0..draws {
            counts[sampler.sample(&logits, &sampling, i << 16 | 0x8000)] += 1;
        }
        for (id, &count) in counts.iter().enumerate() {
            let want = p[id] * f64::from(draws);
            assert!((f64::from(count) - want).abs() <= 2.0, "token {id}: {count} of {want:.1}");
        }
    }

    #[test]
    fn the_extreme_words_draw_allowed_tokens() {
        let logits = [-200.0f32, 0.0, -200.0];
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
        for word in [0, u32::MAX] {
            assert_eq!(Sampler::default().sample(&logits, &sampling, word), 1);
        }
    }

    #[test]
    fn refuses_settings_that_name_no_distribution() {
        let good = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
        check(&good).unwrap();
        for bad in [
            Sampling { temperature: -1.0, ..good },
            Sampling { temperature: f32::NAN, ..good },
            Sampling { top_p: 0.0, ..good },
            Sampling { top_p: f32::NAN, ..good },
            Sampling { min_p: 1.5, ..good },
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
