//! The gradient of one update: chunks in parallel, each with its own backward pass, summed in chunk order.
//!
//! Which thread computes a chunk, and when, can't change a bit: a chunk's gradient depends only on the chunk,
//! and the sum is taken in the order of chunks. At most as many chunk gradients as threads exist at a time.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use candle_core::{Tensor, Var};
use rayon::ThreadPool;
use rayon::prelude::*;

use super::memory::Passes;
use super::pack::{Pack, chunks, pack};
use super::trainable::Pass;
use super::{Example, Group, LossParts, Member, Objective, Trainable};
use crate::model::{self, Forward};
use crate::ops::{self, Gradients, kernels, with_values};

/// Sources named in an error; the rest are counted.
const SOURCES_NAMED: usize = 8;

/// Loss and gradient of one update.
pub(super) struct StepGradient {
    /// In nats: the sum of its parts.
    pub loss: f64,
    pub parts: LossParts,
    pub targets: usize,
    /// One per trainable tensor, in order of name; `None` where no chunk's backward pass reached the tensor.
    pub gradients: Vec<Option<Vec<f32>>>,
}

pub(super) struct ChunkGradient {
    pub parts: LossParts,
    pub gradients: Vec<Option<Tensor>>,
}

/// The loss that `objective` gives of `groups`, and its gradient by everything trainable, for update `step`.
pub(super) fn of_step(
    pool: &ThreadPool,
    trainable: &Trainable,
    objective: Objective,
    passes: Passes,
    step: u32,
    groups: &[&Group],
) -> Result<StepGradient> {
    groups.iter().flat_map(|group| &group.examples).try_for_each(Example::check)?;
    let groups: Vec<&Group> = groups.iter().copied().filter(|group| group.targets() > 0).collect();
    let targets: usize = groups.iter().map(|group| group.targets()).sum();
    ensure!(targets > 0, "no example of the update has a target token: there is nothing to learn from");
    let lengths: Vec<usize> = groups.iter().map(|group| group.tokens()).collect();
    let chunks: Vec<_> = chunks(&lengths, passes.tokens).into_iter().enumerate().collect();
    let trained: Vec<_> = trainable.tensors().values().collect();

    let mut sum =
        StepGradient { loss: 0.0, parts: LossParts::new(), targets, gradients: vec![None; trained.len()] };
    let at_once = pool.current_num_threads().clamp(1, chunks.len().max(1));
    for wave in chunks.chunks(at_once) {
        let compute = |(index, chunk): &(usize, Range<usize>)| {
            let groups = &groups[chunk.clone()];
            let examples: Vec<&Example> = groups.iter().flat_map(|group| &group.examples).collect();
            let pack = pack(&examples);
            let recomputed = passes.recomputed(trainable.config(), pack.ids.len(), at_once);
            let loss = |logprobs: &[f32]| evaluate(objective, groups, logprobs, targets);
            of_chunk(&trainable.pass(step, *index), &trained, &pack, recomputed, loss)
        };
        // Each chunk has its own thread, always the same: memory that one update frees there is found by the next.
        let computed = pool.broadcast(|thread| wave.get(thread.index()).map(compute));
        for computed in computed.into_iter().flatten() {
            let computed = computed?;
            for (part, value) in computed.parts {
                *sum.parts.entry(part).or_default() += value;
            }
            pool.install(|| add(&mut sum.gradients, &computed.gradients))?;
        }
    }
    sum.parts.values_mut().for_each(|part| *part /= targets as f64);
    sum.loss = sum.parts.values().sum();
    Ok(sum)
}

/// Gradient of what `loss` makes of the log-probabilities of the chunk's targets (N): its parts, and its derivative by each
/// of them. Of the first `recomputed` layers only the inputs are kept.
pub(super) fn of_chunk(
    pass: &Pass,
    trained: &[&Var],
    pack: &Pack,
    recomputed: usize,
    loss: impl FnOnce(&[f32]) -> Result<(LossParts, Vec<f32>)>,
) -> Result<ChunkGradient> {
    let forward = Forward::new(pass.parameters(), &pack.ids, &pack.starts)?;
    let mut sums = Sums { trained, sums: vec![None; trained.len()] };
    let logprobs = |x: &Tensor| {
        let predicting = ops::embedding(&forward.norm(x)?, &pack.rows)?; // (N, D)
        model::logprobs(pass.parameters(), &predicting, &pack.targets) // (N)
    };
    let inputs = if recomputed > 0 { Some(layer_inputs(&forward, &pack.ids, recomputed)?) } else { None };
    let (logprobs, backward) = ops::record(trained[0], || {
        let first = match &inputs {
            Some((_, top)) => top.as_tensor().clone(),
            None => forward.embed(&pack.ids)?,
        };
        logprobs(&(recomputed..forward.layers()).try_fold(first, |x, index| forward.layer(index, &x))?)
    })?;
    let (parts, slopes) = loss(&logprobs.to_vec1()?)?;
    let gradient = Tensor::from_vec(slopes, logprobs.shape(), logprobs.device())?;
    let mut gradients = backward.run(&logprobs, gradient)?;
    sums.take(&mut gradients)?;
    if let Some((inputs, top)) = inputs {
        back_by_layers(&forward, inputs, of(&mut gradients, &top)?, &pack.ids, &mut sums)?;
    }
    Ok(ChunkGradient { parts, gradients: sums.sums })
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

/// Goes back through the layers, of which only the inputs were kept: each is recomputed in a separate pass
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
        let (output, backward) = ops::record(&input, || forward.layer(index, input.as_tensor()))?;
        let mut gradients = backward.run(&output, gradient)?;
        gradient = of(&mut gradients, &input)?;
        sums.take(&mut gradients)?;
    }
    let (embedded, backward) = ops::record(&gradient, || forward.embed(ids))?;
    sums.take(&mut backward.run(&embedded, gradient)?)
}

fn of(gradients: &mut Gradients, var: &Var) -> Result<Tensor> {
    gradients
        .take(var.as_tensor())
        .context("no gradient reaches the residual stream: a layer cuts the backward pass")
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

/// Loss parts and slopes of a chunk's log-probabilities, group by group; the error names examples where one is not finite.
fn evaluate(
    objective: Objective,
    groups: &[&Group],
    logprobs: &[f32],
    targets: usize,
) -> Result<(LossParts, Vec<f32>)> {
    let (mut rest, mut broken) = (logprobs, Vec::new());
    let (mut parts, mut slopes) = (LossParts::new(), Vec::with_capacity(logprobs.len()));
    for group in groups {
        let mut members = Vec::with_capacity(group.examples.len());
        for example in &group.examples {
            let (logprobs, others) = rest.split_at(example.targets());
            if logprobs.iter().any(|l| !l.is_finite()) {
                broken.push(example);
            }
            members.push(Member { example, logprobs });
            rest = others;
        }
        slopes.extend(objective.evaluate(&members, targets, &mut parts));
    }
    ensure!(broken.is_empty(), "the loss is not finite on {}", sources(&broken));
    Ok((parts, slopes))
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
        with_values(gradient, |values| match sum {
            None => *sum = Some(values.to_vec()),
            Some(sum) => kernels::add(sum, values),
        })
    })
}
