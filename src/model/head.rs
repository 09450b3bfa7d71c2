//! The critique head: a small network from a thought's features to four judgements of it.
//!
//! features → linear → activation → linear → one logit per [`OUTPUTS`]. [`Head`] is plain numbers, to score with;
//! [`TrainableHead`] is the same as candle variables, to train. What else belongs to a trained critic and must
//! travel with its weights (scales of the features, calibration) is kept in [`Head::extras`].
//!
//! Knows nothing about features, labels or losses.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::init::normal;
use super::weights::{finite_f32, var};
use crate::domain::{Address, ScorerKind};
use crate::ops;
use crate::ops::kernels::{PackedWeight, exp, linear};

/// What each logit judges, in order.
pub const OUTPUTS: [ScorerKind; 4] =
    [ScorerKind::Head, ScorerKind::Coherence, ScorerKind::Accuracy, ScorerKind::Completeness];

const HIDDEN_WEIGHT: &str = "hidden.weight";
const HIDDEN_BIAS: &str = "hidden.bias";
const OUTPUT_WEIGHT: &str = "output.weight";
const OUTPUT_BIAS: &str = "output.bias";
const EXTRA: &str = "extra.";

/// The head's nonlinearity is `tanh`: bounded, so one extreme feature can't dominate.
#[derive(Clone, Debug)]
pub struct Head {
    inputs: usize,
    width: usize,
    /// The four parameters by name.
    params: BTreeMap<&'static str, Vec<f32>>,
    hidden: PackedWeight,
    output: PackedWeight,
    /// Named vectors that are saved with the head and that it doesn't read.
    pub extras: BTreeMap<String, Vec<f32>>,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        (self.inputs, self.width) == (other.inputs, other.width)
            && self.params == other.params
            && self.extras == other.extras
    }
}

impl Head {
    /// Random hidden weights N(0, 1/inputs); zero biases and outputs, so that an untrained head says 0.5.
    pub fn init(inputs: usize, width: usize, address: &Address) -> Result<Self> {
        ensure!(
            inputs > 0 && width > 0,
            "a critique head of {inputs} inputs and width {width} has no parameters"
        );
        let std = 1.0 / (inputs as f64).sqrt();
        let params = BTreeMap::from([
            (HIDDEN_WEIGHT, normal(address, width * inputs, std)),
            (HIDDEN_BIAS, vec![0.0; width]),
            (OUTPUT_WEIGHT, vec![0.0; OUTPUTS.len() * width]),
            (OUTPUT_BIAS, vec![0.0; OUTPUTS.len()]),
        ]);
        Ok(Self::from_params(inputs, width, params, BTreeMap::new()))
    }

    fn from_params(
        inputs: usize,
        width: usize,
        params: BTreeMap<&'static str, Vec<f32>>,
        extras: BTreeMap<String, Vec<f32>>,
    ) -> Self {
        let hidden = PackedWeight::new(&params[HIDDEN_WEIGHT], width, inputs);
        let output = PackedWeight::new(&params[OUTPUT_WEIGHT], OUTPUTS.len(), width);
        Self { inputs, width, params, hidden, output, extras }
    }

    /// Features it reads.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Elements of its hidden layer.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Logits for each row of `features` (n, inputs), in the order of [`OUTPUTS`]. A row's logits depend on that
    /// row alone.
    pub fn forward(&self, features: &[f32]) -> Vec<[f32; OUTPUTS.len()]> {
        let n = features.len() / self.inputs;
        let mut hidden = vec![0.0; n * self.width];
        linear(features, n, &self.hidden, &mut hidden);
        for row in hidden.chunks_exact_mut(self.width) {
            for (x, bias) in row.iter_mut().zip(&self.params[HIDDEN_BIAS]) {
                *x = tanh(*x + bias);
            }
        }
        let mut logits = vec![0.0; n * OUTPUTS.len()];
        linear(&hidden, n, &self.output, &mut logits);
        let mut rows = logits.as_chunks().0.to_vec();
        for row in &mut rows {
            for (x, bias) in row.iter_mut().zip(&self.params[OUTPUT_BIAS]) {
                *x += bias;
            }
        }
        rows
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        match name {
            HIDDEN_WEIGHT => vec![self.width, self.inputs],
            HIDDEN_BIAS => vec![self.width],
            OUTPUT_WEIGHT => vec![OUTPUTS.len(), self.width],
            _ => vec![OUTPUTS.len()],
        }
    }

    /// A copy that can be trained.
    pub fn trainable(&self) -> Result<TrainableHead> {
        let one =
            |(&name, data): (&&'static str, &Vec<f32>)| Ok((name, var(data.clone(), &self.shape(name))?));
        Ok(TrainableHead { vars: self.params.iter().map(one).collect::<Result<_>>()? })
    }

    /// A safetensors file; the same head gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors = Vec::new();
        for (&name, data) in &self.params {
            tensors.push((name.to_owned(), self.shape(name), bytes(data)));
        }
        for (name, data) in &self.extras {
            tensors.push((format!("{EXTRA}{name}"), vec![data.len()], bytes(data)));
        }
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .with_context(|| format!("a critique head of {} bytes is damaged", bytes.len()))?;
        let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let view = file.tensor(name).with_context(|| format!("the critique head has no `{name}`"))?;
            ensure!(view.shape() == shape, "the critique head's `{name}` has shape {:?}", view.shape());
            finite_f32(name, &view)
        };
        let hidden = file.tensor(HIDDEN_WEIGHT).context("the critique head has no `hidden.weight`")?;
        let &[width, inputs] = hidden.shape() else {
            anyhow::bail!("the critique head's `{HIDDEN_WEIGHT}` has shape {:?}", hidden.shape());
        };
        ensure!(inputs > 0 && width > 0, "the critique head's `{HIDDEN_WEIGHT}` is empty");
        let params = BTreeMap::from([
            (HIDDEN_WEIGHT, read(HIDDEN_WEIGHT, &[width, inputs])?),
            (HIDDEN_BIAS, read(HIDDEN_BIAS, &[width])?),
            (OUTPUT_WEIGHT, read(OUTPUT_WEIGHT, &[OUTPUTS.len(), width])?),
            (OUTPUT_BIAS, read(OUTPUT_BIAS, &[OUTPUTS.len()])?),
        ]);
        let mut extras = BTreeMap::new();
        for (name, view) in file.iter() {
            if let Some(extra) = name.strip_prefix(EXTRA) {
                extras.insert(extra.to_owned(), finite_f32(name, &view)?);
            } else {
                ensure!(params.contains_key(name), "the critique head has an unexpected `{name}`");
            }
        }
        Ok(Self::from_params(inputs, width, params, extras))
    }
}

/// A [`Head`]'s parameters as candle variables, keyed by name.
#[derive(Clone, Debug)]
pub struct TrainableHead {
    pub vars: BTreeMap<&'static str, Var>,
}

impl TrainableHead {
    /// Logits (N, 4) of features (N, inputs), differentiable; equal to [`Head::forward`]'s up to rounding.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let layer = |x: &Tensor, weight: &str, bias: &str| -> Result<Tensor> {
            Ok(ops::linear(x, &self.vars[weight])?.broadcast_add(&self.vars[bias])?)
        };
        let hidden = layer(features, HIDDEN_WEIGHT, HIDDEN_BIAS)?.tanh()?;
        layer(&hidden, OUTPUT_WEIGHT, OUTPUT_BIAS)
    }

    /// The parameters as they are now, with these extras.
    pub fn head(&self, extras: BTreeMap<String, Vec<f32>>) -> Result<Head> {
        let (width, inputs) = self.vars[HIDDEN_WEIGHT].dims2()?;
        let one = |(&name, var): (&&'static str, &Var)| Ok((name, var.flatten_all()?.to_vec1()?));
        let params = self.vars.iter().map(one).collect::<Result<_>>()?;
        Ok(Head::from_params(inputs, width, params, extras))
    }
}

/// Within 2e-7 of the hyperbolic tangent, the same on every machine.
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::domain::Purpose;

    fn address(n: u32) -> Address {
        Address::new(1, Purpose::Critic, 1, "", &[n])
    }

    /// A head whose parameters are all random, and three rows of features.
    fn example() -> (Head, Vec<f32>) {
        let mut head = Head::init(7, 5, &address(0)).unwrap();
        let mut params = std::mem::take(&mut head.params);
        for (n, data) in params.values_mut().enumerate() {
            *data = normal(&address(n as u32), data.len(), 0.7);
        }
        let extras = BTreeMap::from([("mean".to_owned(), vec![1.0, 2.0]), ("empty".to_owned(), vec![])]);
        (Head::from_params(7, 5, params, extras), normal(&address(9), 21, 2.0))
    }

    #[test]
    fn an_untrained_head_is_undecided() {
        let head = Head::init(7, 5, &address(0)).unwrap();
        assert_eq!(head.forward(&[3.0; 14]), [[0.0; 4]; 2]);
        assert!(Head::init(0, 5, &address(0)).is_err());
    }

    #[test]
    fn plain_and_trainable_forwards_agree() {
        let (head, features) = example();
        let x = Tensor::from_slice(&features, (3, 7), &Device::Cpu).unwrap();
        let trainable = head.trainable().unwrap();
        let logits: Vec<Vec<f32>> = trainable.forward(&x).unwrap().to_vec2().unwrap();
        for (row, want) in head.forward(&features).iter().zip(&logits) {
            for (a, b) in row.iter().zip(want) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        assert_eq!(head.forward(&features[7..14]), head.forward(&features)[1..2]);
        assert_eq!(trainable.head(head.extras.clone()).unwrap(), head);
    }

    #[test]
    fn every_parameter_gets_its_gradient() {
        let (head, features) = example();
        let x = Tensor::from_slice(&features, (3, 7), &Device::Cpu).unwrap();
        let trainable = head.trainable().unwrap();
        let loss = |t: &TrainableHead| t.forward(&x).unwrap().sqr().unwrap().sum_all().unwrap();
        let grads = loss(&trainable).backward().unwrap();
        for (name, var) in &trainable.vars {
            let grad: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let mut moved = head.params.clone();
            let value = |delta: f32, moved: &mut BTreeMap<&'static str, Vec<f32>>| {
                moved.get_mut(name).unwrap()[1] = head.params[name][1] + delta;
                let head = Head::from_params(7, 5, moved.clone(), BTreeMap::new());
                head.forward(&features).iter().flatten().map(|&x| f64::from(x).powi(2)).sum::<f64>()
            };
            let slope = (value(1e-2, &mut moved) - value(-1e-2, &mut moved)) / 2e-2;
            assert!(
                (slope - f64::from(grad[1])).abs() < 1e-2 * slope.abs().max(1.0),
                "{name}: {slope} {grad:?}"
            );
        }
    }

    #[test]
    fn bytes_round_trip_and_damage_is_refused() {
        let (head, _) = example();
        let bytes = head.to_bytes().unwrap();
        assert_eq!(Head::from_bytes(&bytes).unwrap(), head);
        assert_eq!(Head::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
        assert!(Head::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Head::from_bytes(b"").is_err());
        let mut nan = head.clone();
        nan.params.get_mut(OUTPUT_BIAS).unwrap()[0] = f32::NAN;
        let error = Head::from_bytes(&nan.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains(OUTPUT_BIAS), "{error}");
    }
}
