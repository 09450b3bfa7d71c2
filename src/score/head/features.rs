//! What the head sees of a thought: the hidden state at its end and how sure the policy was of its
//! tokens.
//!
//! Everything is local to the thought and free of counts, so that what is learned on short
//! trajectories carries over to long ones.

use half::f16;

use crate::domain::Thought;

/// Number of log-probability statistics that follow the hidden state.
pub(super) const STATISTICS: usize = 6;

/// Surprise below which tokens count as equally sure, in nats.
const SURPRISE_MIN: f32 = 1e-3;

/// The features of one thought: its hidden state, then `STATISTICS` of its tokens'
/// log-probabilities, averaged over the draw itself and the `rereadings` (its log-probabilities
/// under other prompts, a row each).
pub fn features(thought: &Thought, rereadings: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = statistics(&thought.logprobs);
    for reading in rereadings {
        mean.iter_mut().zip(statistics(reading)).for_each(|(mean, s)| *mean += s);
    }
    let readings = 1.0 + rereadings.len() as f32;
    let hidden = thought.hidden_f16.iter().map(|&bits| f16::from_bits(bits).to_f32());
    hidden.chain(mean.map(|sum| sum / readings)).collect()
}

/// Mean, lowest, second lowest, first and last sureness, and the spread; NaN for a thought without
/// tokens.
fn statistics(logprobs: &[f32]) -> [f32; STATISTICS] {
    let n = logprobs.len() as f32;
    let mean = logprobs.iter().sum::<f32>() / n;
    let variance = logprobs.iter().map(|l| (l - mean) * (l - mean)).sum::<f32>() / n;
    let mut sorted = logprobs.to_vec();
    sorted.sort_by(f32::total_cmp);
    let (Some(&lowest), Some(&first), Some(&last)) = (sorted.first(), logprobs.first(), logprobs.last())
    else {
        return [f32::NAN; STATISTICS];
    };
    let second = sorted.get(1).copied().unwrap_or(lowest);
    [
        sureness(mean),
        sureness(lowest),
        sureness(second),
        sureness(first),
        sureness(last),
        -sureness(-variance.sqrt()),
    ]
}

/// Minus the logarithm of the surprise: .99 and .999 differ visibly, and -20 doesn't drown
/// everything else.
fn sureness(logprob: f32) -> f32 {
    -(-logprob + SURPRISE_MIN).ln()
}

/// Mean and scale of every feature over the training set: statistics enter the head standardised,
/// hidden states at [`HIDDEN_SCALE`] of that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standard {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

/// How strongly a standardised hidden value enters, compared with a statistic. Hidden states
/// separate short trajectories and mislead on longer ones; at a tenth they decide only where the
/// statistics don't.
const HIDDEN_SCALE: f64 = 0.1;
/// A feature that hardly varies is not blown up.
const DEVIATION_MIN: f64 = 1e-3;
/// Standardised features are clamped here: what lies further out was never seen in training.
const CLAMP: f32 = 6.0;

impl Standard {
    /// Over all of `rows`, each of `inputs` values.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a Vec<f32>> + Clone, inputs: usize) -> Self {
        let n = rows.clone().count().max(1) as f64;
        let mut mean = vec![0.0f64; inputs];
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / n);
        }
        let mut variance = vec![0.0f64; inputs];
        for row in rows {
            for ((v, &x), m) in variance.iter_mut().zip(row).zip(&mean) {
                *v += (f64::from(x) - m).powi(2) / n;
            }
        }
        let hidden = inputs.saturating_sub(STATISTICS);
        let deviation = |(i, v): (usize, &f64)| {
            let scale = if i < hidden { HIDDEN_SCALE } else { 1.0 };
            (v.sqrt().max(DEVIATION_MIN) / scale) as f32
        };
        Self {
            mean: mean.iter().map(|&m| m as f32).collect(),
            deviation: variance.iter().enumerate().map(deviation).collect(),
        }
    }

    /// Every row standardised, one after the other.
    pub(super) fn apply(&self, rows: &[Vec<f32>]) -> Vec<f32> {
        let one = |((&v, m), d): ((&f32, &f32), &f32)| ((v - m) / d).clamp(-CLAMP, CLAMP);
        rows.iter().flat_map(|row| row.iter().zip(&self.mean).zip(&self.deviation).map(one)).collect()
    }
}
