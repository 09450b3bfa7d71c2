//! Which optimizer moves which tensor, and how optimizer state and weights are saved together.
//!
//! Muon takes the matrices inside blocks, if it is chosen; AdamW takes the rest: embeddings, output layer, norms.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Tensor, Var};

use super::Hyper;
use super::settings::OptimizerKind;
use super::state::{Tensors, buffer};
use crate::domain::Address;
use crate::model::{Lazy, lazy};
use crate::ops::kernels::Arithmetic;
use crate::ops::optimizer::{AdamW, Moment, MomentStorage, Muon, Parameter, State, muon_flops};
use crate::ops::with_values;

// Prefixes under which a saved state holds weights and each optimizer's buffers.
const WEIGHTS: &str = "weights/";
const ADAMW: &str = "adamw/";
const MUON: &str = "muon/";

/// The optimizers and their buffers.
pub(super) struct Update {
    adamw: AdamW,
    muon: Muon,
}

impl Update {
    /// Products by `arithmetic`; moments in bf16 are rounded by draws below `address`.
    pub(super) fn new(hyper: &Hyper, arithmetic: Arithmetic, address: Address) -> Self {
        let storage = MomentStorage { precision: hyper.moments, address };
        let [beta1, beta2] = hyper.betas;
        Self {
            adamw: AdamW::new(beta1, beta2, hyper.eps).storing(storage.clone()),
            muon: Muon::new(hyper.momentum, arithmetic).storing(storage),
        }
    }

    /// Moves every tensor by its gradient (in order of name) in update `number`, at `factor` times the base rates.
    pub(super) fn apply(
        &mut self,
        trainable: &BTreeMap<String, Var>,
        gradients: &[Vec<f32>],
        hyper: &Hyper,
        (number, factor): (u32, f64),
    ) -> Result<()> {
        let mut values = trainable.values().map(values).collect::<Result<Vec<_>>>()?;
        let (mut matrices, mut rest) = (Vec::new(), Vec::new());
        for (((name, var), values), gradient) in trainable.iter().zip(&mut values).zip(gradients) {
            let by_muon = by_muon(hyper, name, var);
            let rate = if by_muon { hyper.learning_rate_matrix } else { hyper.learning_rate };
            let parameter = Parameter {
                name,
                shape: var.dims(),
                values,
                gradient,
                learning_rate: f64::from(rate) * factor,
                // A norm's scale has no reason to be small.
                weight_decay: if var.rank() == 2 { f64::from(hyper.weight_decay) } else { 0.0 },
                update: number,
            };
            if by_muon { &mut matrices } else { &mut rest }.push(parameter);
        }
        self.muon.step(&mut matrices)?;
        self.adamw.step(&mut rest)?;
        for (var, values) in trainable.values().zip(values) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    /// Weights and buffers by prefixed name.
    pub(super) fn save<'a>(&'a self, trainable: &'a BTreeMap<String, Var>) -> impl Iterator<Item = Lazy<'a>> {
        let weights = trainable.iter().map(|(name, var)| lazy(format!("{WEIGHTS}{name}"), var));
        let states = [(ADAMW, self.adamw.state()), (MUON, self.muon.state())];
        let buffers = states.into_iter().flat_map(|(prefix, state)| {
            state.into_iter().map(move |(name, moment)| buffer(format!("{prefix}{name}"), moment))
        });
        weights.chain(buffers)
    }

    /// Goes on from what [`Update::save`] gave. On an error neither weights nor buffers have changed.
    pub(super) fn restore(&mut self, trainable: &BTreeMap<String, Var>, tensors: Tensors) -> Result<()> {
        let (mut saved, mut adamw, mut muon) = (BTreeMap::new(), State::new(), State::new());
        for (name, (shape, values)) in tensors {
            if let Some(name) = name.strip_prefix(WEIGHTS) {
                let Moment::F32(values) = values else { bail!("tensor `{name}` is not in f32") };
                saved.insert(name.to_owned(), (shape, values));
            } else if let Some(name) = name.strip_prefix(ADAMW) {
                adamw.insert(name.to_owned(), values);
            } else if let Some(name) = name.strip_prefix(MUON) {
                muon.insert(name.to_owned(), values);
            }
        }
        for (name, var) in trainable {
            let (shape, _) = saved.get(name).with_context(|| format!("tensor `{name}` is missing"))?;
            ensure!(shape == var.dims(), "tensor `{name}` is {shape:?}; the model has {:?}", var.dims());
        }
        let mut fresh = Self { adamw: self.adamw.clone(), muon: self.muon.clone() };
        fresh.adamw.restore(adamw)?;
        fresh.muon.restore(muon)?;
        for (name, var) in trainable {
            let (shape, values) =
                saved.remove(name).with_context(|| format!("tensor `{name}` is missing"))?;
            var.set(&Tensor::from_vec(values, shape, var.device())?)?;
        }
        *self = fresh;
        Ok(())
    }
}

/// Muon is for matrices inside decoder blocks.
fn by_muon(hyper: &Hyper, name: &str, var: &Var) -> bool {
    hyper.optimizer == OptimizerKind::Muon && name.starts_with("model.layers.") && var.rank() == 2
}

/// Floating-point operations of an update that don't depend on its tokens: Muon's. AdamW's are few.
pub fn optimizer_flops(hyper: &Hyper, trainable: &BTreeMap<String, Var>) -> f64 {
    let muon = trainable.iter().filter(|(name, var)| by_muon(hyper, name, var));
    muon.map(|(_, var)| muon_flops(var.dims()[0], var.dims()[1])).sum()
}

/// Bytes of all moments: AdamW has two of each element, Muon one.
pub(super) fn moments_bytes(hyper: &Hyper, trainable: &BTreeMap<String, Var>) -> usize {
    let of = |(name, var): (&String, &Var)| var.elem_count() * if by_muon(hyper, name, var) { 1 } else { 2 };
    hyper.moments.bytes() * trainable.iter().map(of).sum::<usize>()
}

fn values(var: &Var) -> Result<Vec<f32>> {
    with_values(var.as_tensor(), <[f32]>::to_vec)
}
