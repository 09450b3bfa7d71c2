//! The head itself: features → tanh layer → four log-odds, with its gradient by hand.
//!
//! Sums run in the order of inputs: a thought's result depends only on that thought, whatever the
//! batch or the number of threads.

use rand_chacha::rand_core::Rng;

use super::OUTPUTS;
use crate::domain::Address;
use crate::ops::kernels::{add_outer, add_rows, tanh};

/// Number of outputs.
pub(super) const K: usize = OUTPUTS.len();

/// All parameters in one row: `hidden.weight` (inputs, width), `hidden.bias` (width),
/// `output.weight` (width, 4), `output.bias` (4).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    pub inputs: usize,
    pub width: usize,
    pub parameters: Vec<f32>,
}

/// Where each tensor starts within a row of parameters.
struct Parts {
    hidden_bias: usize,
    output_weight: usize,
    output_bias: usize,
    end: usize,
}

impl Network {
    /// Random weights at 1/√inputs, biases and outputs at zero: every thought starts at log-odds 0.
    pub(super) fn new(inputs: usize, width: usize, address: &Address) -> Self {
        let mut network = Self { inputs, width, parameters: Vec::new() };
        let parts = network.parts();
        let mut normal = Normals::new(address);
        let scale = 1.0 / (inputs.max(1) as f32).sqrt();
        network.parameters = (0..parts.hidden_bias).map(|_| scale * normal.draw()).collect();
        network.parameters.resize(parts.end, 0.0);
        network
    }

    fn parts(&self) -> Parts {
        let hidden_bias = self.inputs * self.width;
        let output_weight = hidden_bias + self.width;
        let output_bias = output_weight + self.width * K;
        Parts { hidden_bias, output_weight, output_bias, end: output_bias + K }
    }

    /// Names, shapes and ranges of the tensors.
    pub(super) fn tensors(&self) -> [(&'static str, Vec<usize>, std::ops::Range<usize>); 4] {
        let parts = self.parts();
        [
            ("hidden.weight", vec![self.inputs, self.width], 0..parts.hidden_bias),
            ("hidden.bias", vec![self.width], parts.hidden_bias..parts.output_weight),
            ("output.weight", vec![self.width, K], parts.output_weight..parts.output_bias),
            ("output.bias", vec![K], parts.output_bias..parts.end),
        ]
    }

    /// The log-odds of thoughts with standardised features `x` (thoughts, inputs), and the
    /// activations they come from, (thoughts, width).
    pub(super) fn forward(&self, x: &[f32]) -> (Vec<[f32; K]>, Vec<f32>) {
        let (parts, thoughts) = (self.parts(), x.len() / self.inputs);
        let mut hidden = self.parameters[parts.hidden_bias..parts.output_weight].repeat(thoughts);
        add_rows(x, &self.parameters[..parts.hidden_bias], self.width, &mut hidden);
        tanh(&mut hidden);
        let output = &self.parameters[parts.output_weight..parts.output_bias];
        let log_odds = |hidden: &[f32]| {
            let mut z = [0.0; K];
            z.copy_from_slice(&self.parameters[parts.output_bias..]);
            for (row, &h) in output.chunks_exact(K).zip(hidden) {
                z.iter_mut().zip(row).for_each(|(z, w)| *z += h * w);
            }
            z
        };
        (hidden.chunks_exact(self.width).map(log_odds).collect(), hidden)
    }

    /// Adds to `gradient` what `dz`, the loss's gradient by the log-odds of thoughts, means for
    /// every parameter.
    pub(super) fn backward(&self, x: &[f32], hidden: &[f32], dz: &[[f32; K]], gradient: &mut [f32]) {
        let parts = self.parts();
        let mut dh = vec![0.0f32; hidden.len()];
        let rows = dh.chunks_exact_mut(self.width).zip(hidden.chunks_exact(self.width));
        for ((dh, hidden), dz) in rows.zip(dz) {
            for (j, (dh, &h)) in dh.iter_mut().zip(hidden).enumerate() {
                let at = parts.output_weight + j * K;
                for k in 0..K {
                    gradient[at + k] += h * dz[k];
                    *dh += self.parameters[at + k] * dz[k];
                }
                *dh *= 1.0 - h * h;
            }
            gradient[parts.output_bias..].iter_mut().zip(dz).for_each(|(g, d)| *g += d);
            let bias = &mut gradient[parts.hidden_bias..parts.output_weight];
            bias.iter_mut().zip(dh).for_each(|(g, d)| *g += *d);
        }
        add_outer(x, &dh, self.width, &mut gradient[..parts.hidden_bias]);
    }
}

/// Standard normal numbers from an address (Box and Muller 1958).
pub(super) struct Normals {
    stream: rand_chacha::ChaCha8Rng,
    spare: Option<f32>,
}

impl Normals {
    pub(super) fn new(address: &Address) -> Self {
        Self { stream: address.stream(), spare: None }
    }

    pub(super) fn draw(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // In (0, 1], so that the logarithm is finite.
        let mut uniform = || (f64::from(self.stream.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        self.spare = Some((radius * angle.sin()) as f32);
        (radius * angle.cos()) as f32
    }
}
