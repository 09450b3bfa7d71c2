//! The router of a mixture of experts (Shazeer et al. 2017): which experts read a row, and what their outputs weigh.
//!
//! Contract: weights are the softmax over all experts at the `top_k` largest, 0 elsewhere, divided by their sum if
//! asked to; of equal ones the expert with the lower index is taken. Every sum runs in the order of experts. A row
//! depends only on itself.

use super::pointwise::exp;

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    pub experts: usize,
    /// Experts that read a row, in `1..=experts`.
    pub top_k: usize,
    /// Whether the weights of the chosen ones are divided by their sum.
    pub normalise: bool,
}

impl Routing {
    /// Weights (N, experts) of logits (N, experts), into `weights`.
    pub fn weights(&self, logits: &[f32], weights: &mut [f32]) {
        let rows = logits.chunks_exact(self.experts).zip(weights.chunks_exact_mut(self.experts));
        for (logits, weights) in rows {
            softmax(logits, weights);
            let chosen = self.chosen(weights);
            let sum: f32 = if self.normalise { chosen.iter().map(|&e| weights[e]).sum() } else { 1.0 };
            for (e, w) in weights.iter_mut().enumerate() {
                *w = if chosen.contains(&e) { *w / sum } else { 0.0 };
            }
        }
    }

    /// Gradient by the logits (N, experts), given that by the weights, into `dlogits`.
    pub fn backward(&self, logits: &[f32], dweights: &[f32], dlogits: &mut [f32]) {
        let mut p = vec![0.0; self.experts];
        let rows = logits.chunks_exact(self.experts).zip(dweights.chunks_exact(self.experts));
        for ((logits, dweights), dlogits) in rows.zip(dlogits.chunks_exact_mut(self.experts)) {
            softmax(logits, &mut p);
            let chosen = self.chosen(&p);
            // By the chosen probabilities first, then through the softmax.
            dlogits.fill(0.0);
            let sum: f32 = if self.normalise { chosen.iter().map(|&e| p[e]).sum() } else { 1.0 };
            let mean: f32 = chosen.iter().map(|&e| p[e] / sum * dweights[e]).sum();
            for &e in &chosen {
                dlogits[e] = if self.normalise { (dweights[e] - mean) / sum } else { dweights[e] };
            }
            let mean: f32 = chosen.iter().map(|&e| p[e] * dlogits[e]).sum();
            dlogits.iter_mut().zip(&p).for_each(|(d, p)| *d = p * (*d - mean));
        }
    }

    /// The experts with the largest probabilities, in order of index.
    fn chosen(&self, p: &[f32]) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(self.top_k);
        for _ in 0..self.top_k {
            let free = (0..self.experts).filter(|e| !chosen.contains(e));
            let best = free.reduce(|best, e| if p[e] > p[best] { e } else { best });
            chosen.extend(best);
        }
        chosen.sort_unstable();
        chosen
    }
}

fn softmax(logits: &[f32], p: &mut [f32]) {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    p.iter_mut().zip(logits).for_each(|(p, x)| *p = exp(x - max));
    let sum: f32 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
}

/// For each expert the rows that it reads, in order: those whose weight (N, experts) isn't 0.
pub fn rows_of_experts(weights: &[f32], experts: usize) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); experts];
    for (row, weights) in weights.chunks_exact(experts).enumerate() {
        for (rows, &w) in rows.iter_mut().zip(weights) {
            if w != 0.0 {
                rows.push(row as u32);
            }
        }
    }
    rows
}

/// `to += weight * x`: what an expert adds to a row. Rows are added in the order of experts.
pub fn add_weighted(to: &mut [f32], weight: f32, x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += weight * x);
}
