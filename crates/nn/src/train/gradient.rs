//! The gradient of one update: chunks in parallel, each by its own way back, summed in chunk order.
//!
//! Which thread computes a chunk, and when, can't change a bit: a chunk's gradient depends on the chunk alone,
//! and the sum is taken in the order of chunks. At most as many chunk gradients as threads exist at a time.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Storage, Tensor, Var};
use rayon::ThreadPool;
use rayon::prelude::*;

use super::memory::Passes;
use super::pack::{Pack, chunks, pack};
use super::trainee::Pass;
use super::{Example, Trainee};
use crate::model::{self, Forward};
use crate::ops::{self, Gradients, kernels};

/// Sources named in an error; the rest are counted.
const SOURCES_NAMED: usize = 8;

/// Loss and gradient of one update.
pub(super) struct StepGradient {
    /// Mean over targets of −log-probability, in nats.
    pub loss: f64,
    pub targets: usize,
    /// One per trainable tensor, in order of name; `None` where no chunk's way back reached the tensor.
    pub gradients: Vec<Option<Vec<f32>>>,
}

pub(super) struct ChunkGradient {
    pub logprobs: Vec<f32>,
    pub gradients: Vec<Option<Tensor>>,
}

/// Mean loss over all targets of `examples` and its gradient with respect to everything trainable, for update `step`.
pub(super) fn of_step(
    pool: &ThreadPool,
    trainee: &Trainee,
    passes: Passes,
    step: u32,
    examples: &[&Example],
) -> Result<StepGradient> {
    examples.iter().try_for_each(|example| example.check())?;
    let examples: Vec<&Example> = examples.iter().copied().filter(|e| e.targets() > 0).collect();
    let targets: usize = examples.iter().map(|e| e.targets()).sum();
    ensure!(targets > 0, "no example of the update has a target token: there is nothing to learn from");
    let lengths: Vec<usize> = examples.iter().map(|e| e.tokens()).collect();
    let chunks: Vec<_> = chunks(&lengths, passes.tokens).into_iter().enumerate().collect();
    let trained: Vec<_> = trainee.trainable().values().collect();

    let mut sum = StepGradient { loss: 0.0, targets, gradients: vec![None; trained.len()] };
    let at_once = pool.current_num_threads().clamp(1, chunks.len().max(1));
    for wave in chunks.chunks(at_once) {
        let compute = |(index, chunk): &(usize, Range<usize>)| {
            let pack = pack(&examples[chunk.clone()]);
            let recomputed = passes.recomputed(trainee.config(), pack.ids.len(), at_once);
            of_chunk(&trainee.pass(step, *index), &trained, &pack, targets, recomputed)
        };
        // Each by a thread of its own, always the same: what one update frees there, the next finds there.
        let computed = pool.broadcast(|thread| wave.get(thread.index()).map(compute));
        for ((_, chunk), computed) in wave.iter().zip(computed.into_iter().flatten()) {
            let computed = computed?;
            sum.loss += negative_sum(&computed.logprobs, &examples[chunk.clone()])?;
            pool.install(|| add(&mut sum.gradients, &computed.gradients))?;
        }
    }
    sum.loss /= targets as f64;
    Ok(sum)
}

/// Gradient of −Σ log-probability / `targets` over the chunk's targets. Of the first `recomputed` layers only the inputs
/// are kept.
pub(super) fn of_chunk(
    pass: &Pass,
    trained: &[&Var],
    pack: &Pack,
    targets: usize,
    recomputed: usize,
) -> Result<ChunkGradient> {
    let forward = Forward::new(pass.parameters(), &pack.ids, &pack.starts)?;
    let mut sums = Sums { trained, sums: vec![None; trained.len()] };
    let loss = |x: &Tensor| {
        let predicting = ops::embedding(&forward.norm(x)?, &pack.rows)?; // (N, D)
        model::logprobs(pass.parameters(), &predicting, &pack.targets) // (N)
    };
    let inputs = if recomputed > 0 { Some(layer_inputs(&forward, &pack.ids, recomputed)?) } else { None };
    let (logprobs, way_back) = ops::record(trained[0], || {
        let first = match &inputs {
            Some((_, top)) => top.as_tensor().clone(),
            None => forward.embed(&pack.ids)?,
        };
        loss(&(recomputed..forward.layers()).try_fold(first, |x, index| forward.layer(index, &x))?)
    })?;
    // Every target weighs the same.
    let gradient = (logprobs.ones_like()? * (-1.0 / targets as f64))?;
    let mut gradients = way_back.backward(&logprobs, gradient)?;
    sums.take(&mut gradients)?;
    if let Some((inputs, top)) = inputs {
        back_by_layers(&forward, inputs, of(&mut gradients, &top)?, &pack.ids, &mut sums)?;
    }
    Ok(ChunkGradient { logprobs: logprobs.to_vec1()?, gradients: sums.sums })
}

/// What the first layers read, and what the last of them gives: all that is kept of them, where the pass goes back layer
/// by layer.
fn layer_inputs(forward: &Forward, ids: &[u32], layers: usize) -> Result<(Vec<Tensor>, Var)> {
    ops::without_record(|| {
        let mut x = forward.embed(ids)?.detach();
        let mut inputs = Vec::with_capacity(layers);
        for index in 0..layers {
            let y = forward.layer(index, &x)?.detach();
            inputs.push(std::mem::replace(&mut x, y));
        }
        Ok((inputs, Var::from_tensor(&x)?))
    })
}

/// Goes back through the layers, of which only the inputs were kept: each is computed again, in a pass of its own
/// (Chen et al. 2016). The bits are those of one pass: an edge adds the same terms.
fn back_by_layers(
    forward: &Forward,
    inputs: Vec<Tensor>,
    mut gradient: Tensor,
    ids: &[u32],
    sums: &mut Sums,
) -> Result<()> {
    for (index, input) in inputs.into_iter().enumerate().rev() {
        let input = Var::from_tensor(&input)?;
        let (output, way_back) = ops::record(&input, || forward.layer(index, input.as_tensor()))?;
        let mut gradients = way_back.backward(&output, gradient)?;
        gradient = of(&mut gradients, &input)?;
        sums.take(&mut gradients)?;
    }
    let (embedded, way_back) = ops::record(&gradient, || forward.embed(ids))?;
    sums.take(&mut way_back.backward(&embedded, gradient)?)
}

fn of(gradients: &mut Gradients, var: &Var) -> Result<Tensor> {
    gradients
        .take(var.as_tensor())
        .context("no gradient reaches the residual stream: a layer cuts the way back")
}

/// What each trained tensor has got so far.
struct Sums<'a> {
    trained: &'a [&'a Var],
    sums: Vec<Option<Tensor>>,
}

impl Sums<'_> {
    fn take(&mut self, gradients: &mut Gradients) -> Result<()> {
        for (var, sum) in self.trained.iter().zip(&mut self.sums) {
            *sum = match (sum.take(), gradients.take(var.as_tensor())) {
                (Some(a), Some(b)) => Some((a + b)?),
                (a, b) => a.or(b),
            };
        }
        Ok(())
    }
}

/// −Σ of the log-probabilities of a chunk's targets; an error trained the examples where one is not finite.
fn negative_sum(logprobs: &[f32], examples: &[&Example]) -> Result<f64> {
    let mut rest = logprobs;
    let mut broken = Vec::new();
    for example in examples {
        let (own, others) = rest.split_at(example.targets());
        if own.iter().any(|l| !l.is_finite()) {
            broken.push(*example);
        }
        rest = others;
    }
    ensure!(broken.is_empty(), "the loss is not finite on {}", sources(&broken));
    Ok(-logprobs.iter().map(|&l| f64::from(l)).sum::<f64>())
}

/// The sources of `examples` for an error message.
pub(super) fn sources(examples: &[&Example]) -> String {
    let named: Vec<_> = examples.iter().take(SOURCES_NAMED).map(|e| e.source.to_string()).collect();
    match examples.len().saturating_sub(SOURCES_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Adds a chunk's gradients to the sum, tensor by tensor.
fn add(sum: &mut [Option<Vec<f32>>], chunk: &[Option<Tensor>]) -> Result<()> {
    sum.par_iter_mut().zip(chunk).try_for_each(|(sum, gradient)| {
        let Some(gradient) = gradient else { return Ok(()) };
        read(gradient, |values| match sum {
            None => *sum = Some(values.to_vec()),
            Some(sum) => kernels::add(sum, values),
        })
    })
}

/// Lends a tensor's values, in row-major order.
pub(super) fn read<T>(tensor: &Tensor, with: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { bail!("the tensor could not be brought to the CPU") };
    Ok(with(&cpu.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()]))
}
