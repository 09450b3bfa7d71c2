//! Training the head: cross-entropy on thoughts and trajectories, and a penalty for inconsistency.
//!
//! Graded trajectories teach every thought by criterion; annotated ones, which have one soft label
//! for the whole, teach the worst thought. Each trajectory is evaluated twice under feature noise,
//! and the squared difference of the two probabilities is a penalty. Calibration (Platt) is fitted
//! on predictions for trajectories that the predicting head did not train on.
//!
//! Fixed chunks are summed in order: the result does not depend on threads.

use anyhow::{Result, ensure};
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

use super::aggregate::{sigmoid, softplus, worst};
use super::calibrate::Platt;
use super::features::Standard;
use super::network::{K, Network, Normals};
use super::{CriticConfig, Labelled};
use crate::domain::Address;
use crate::ops::optimizer::{AdamW, Parameter};
use crate::profile::{self, Operator};

/// Trajectories per update.
const BATCH: usize = 32;
/// Trajectories whose gradients are summed by one task.
const CHUNK: usize = 8;
/// Folds of the cross-fitted calibration.
const FOLDS: usize = 4;
/// Normal numbers shared by all evaluations; each starts at its own place.
const NOISE_POOL: usize = 1 << 16;

/// Streams below the caller's address.
const STREAM_INIT: u32 = 0;
const STREAM_NOISE: u32 = 1;
const STREAM_ORDER: u32 = 2;
const STREAM_FOLDS: u32 = 3;

/// See [`super::Critic::fit`].
pub(super) fn fit(
    sets: &[Labelled],
    config: &CriticConfig,
    address: &Address,
) -> Result<(Network, Standard, [Platt; K])> {
    let inputs = check(sets)?;
    let standard = Standard::of(sets.iter().flat_map(|s| &s.thoughts), inputs);
    let rows: Vec<Row> = sets.iter().map(|set| Row::new(set, &standard)).collect();
    let everything: Vec<&Row> = rows.iter().collect();
    let (network, platt) = rayon::join(
        || train(&everything, inputs, config, address),
        || calibrate(&rows, inputs, config, address),
    );
    Ok((network?, standard, platt?))
}

fn check(sets: &[Labelled]) -> Result<usize> {
    let Some(inputs) = sets.iter().flat_map(|s| s.thoughts.first()).map(Vec::len).next() else {
        anyhow::bail!("the critic has no trajectory to learn from; raise critic.bootstrap");
    };
    for (i, set) in sets.iter().enumerate() {
        ensure!(!set.thoughts.is_empty(), "labelled trajectory {i} has no thoughts");
        for thought in &set.thoughts {
            ensure!(
                thought.len() == inputs,
                "labelled trajectory {i} has a thought of {} features; others have {inputs}",
                thought.len()
            );
            ensure!(
                thought.iter().all(|v| v.is_finite()),
                "labelled trajectory {i} has a feature that is not finite"
            );
        }
        if let Some(criteria) = &set.criteria {
            ensure!(
                criteria.len() == set.thoughts.len(),
                "labelled trajectory {i} has {} thoughts and verdicts on {}",
                set.thoughts.len(),
                criteria.len()
            );
        }
        let label_ok = set.good.is_none_or(|g| (0.0..=1.0).contains(&g));
        ensure!(label_ok, "labelled trajectory {i} has the label {:?}; it must lie in [0, 1]", set.good);
        ensure!(
            set.weight >= 0.0 && set.weight.is_finite(),
            "labelled trajectory {i} has weight {}",
            set.weight
        );
    }
    Ok(inputs)
}

/// A labelled trajectory, standardised.
struct Row {
    /// (thoughts, inputs)
    x: Vec<f32>,
    good: Option<f64>,
    /// Target of every output, per thought.
    criteria: Option<Vec<[f64; K]>>,
    weight: f64,
}

impl Row {
    fn new(set: &Labelled, standard: &Standard) -> Self {
        let targets = |c: &crate::domain::Criteria| {
            let all = c.coherence && c.accuracy && c.completeness;
            [all, c.coherence, c.accuracy, c.completeness].map(|b| f64::from(u8::from(b)))
        };
        Self {
            x: standard.apply(&set.thoughts),
            good: set.good.map(f64::from),
            criteria: set.criteria.as_ref().map(|criteria| criteria.iter().map(targets).collect()),
            weight: f64::from(set.weight),
        }
    }

    /// What each output should say of the whole trajectory, where that is known.
    fn targets(&self) -> [Option<f64>; K] {
        let all =
            |k: usize| self.criteria.as_ref().map(|c| c.iter().map(|targets| targets[k]).fold(1.0, f64::min));
        std::array::from_fn(|k| if k == 0 { self.good.or_else(|| all(0)) } else { all(k) })
    }
}

/// The log-odds that a whole trajectory is good, per output, from its standardised thoughts.
pub(super) fn trajectory_logits(network: &Network, x: &[f32]) -> [f64; K] {
    let _span = profile::span(Operator::CriticHead);
    let (z, _) = network.forward(x);
    let of = |k: usize| z.iter().map(move |z| f64::from(z[k]));
    std::array::from_fn(|k| of(k).nth(worst(of(k))).unwrap_or_default())
}

/// Trains one network on `rows`.
fn train(rows: &[&Row], inputs: usize, config: &CriticConfig, address: &Address) -> Result<Network> {
    let mut network = Network::new(inputs, config.width, &address.child(STREAM_INIT));
    let mut optimizer = AdamW::default();
    let mut normals = Normals::new(&address.child(STREAM_NOISE));
    let pool: Vec<f32> = (0..NOISE_POOL).map(|_| config.noise * normals.draw()).collect();
    let updates = config.epochs as usize * rows.len().div_ceil(BATCH);
    let mut update: u32 = 0;
    for epoch in 0..config.epochs {
        let mut stream = address.child(STREAM_ORDER).child(epoch).stream();
        let order = shuffled(rows.len(), &mut stream);
        for batch in order.chunks(BATCH) {
            let places: Vec<[usize; 2]> = batch
                .iter()
                .map(|_| [0; 2].map(|_: usize| stream.next_u32() as usize % NOISE_POOL))
                .collect();
            let gradient = batch_gradient(&network, rows, batch, &places, &pool, config.inconsistency);
            let rate = f64::from(config.learning_rate) * (1.0 - f64::from(update) / updates as f64);
            update += 1;
            step(&mut optimizer, &mut network, &gradient, update, [rate, f64::from(config.weight_decay)])?;
        }
    }
    Ok(network)
}

/// One update of every tensor; biases don't decay.
fn step(
    optimizer: &mut AdamW,
    network: &mut Network,
    gradient: &[f32],
    update: u32,
    [learning_rate, decay]: [f64; 2],
) -> Result<()> {
    let tensors = network.tensors();
    let (mut rest, mut parameters) = (network.parameters.as_mut_slice(), Vec::new());
    for (name, shape, range) in &tensors {
        let (values, after) = rest.split_at_mut(range.len());
        let weight_decay = if shape.len() > 1 { decay } else { 0.0 };
        let gradient = &gradient[range.clone()];
        parameters.push(Parameter { name, shape, values, gradient, learning_rate, weight_decay, update });
        rest = after;
    }
    optimizer.step(&mut parameters)
}

/// 0..n in random order (Fisher and Yates).
pub(super) fn shuffled(n: usize, stream: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (stream.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

fn batch_gradient(
    network: &Network,
    rows: &[&Row],
    batch: &[usize],
    places: &[[usize; 2]],
    pool: &[f32],
    inconsistency: f32,
) -> Vec<f32> {
    let total: f64 = batch.iter().map(|&i| rows[i].weight).sum::<f64>().max(1e-9);
    let chunk = |(batch, places): (&[usize], &[[usize; 2]])| {
        let _span = profile::span(Operator::CriticHead);
        let mut gradient = vec![0.0; network.parameters.len()];
        for (&i, places) in batch.iter().zip(places) {
            let views = places.map(|place| noisy(&rows[i].x, pool, place));
            loss(network, rows[i], &views, f64::from(inconsistency), rows[i].weight / total, &mut gradient);
        }
        gradient
    };
    let parts: Vec<Vec<f32>> = batch.par_chunks(CHUNK).zip(places.par_chunks(CHUNK)).map(chunk).collect();
    parts
        .into_iter()
        .reduce(|mut sum, part| {
            sum.iter_mut().zip(&part).for_each(|(s, p)| *s += p);
            sum
        })
        .unwrap_or_default()
}

/// `x` with the noise that stands at a place of the pool, which begins again at its end.
fn noisy(x: &[f32], pool: &[f32], place: usize) -> Vec<f32> {
    let (mut view, mut noise) = (x.to_vec(), &pool[place..]);
    let mut rest = view.as_mut_slice();
    while !rest.is_empty() {
        let (now, after) = rest.split_at_mut(rest.len().min(noise.len()));
        now.iter_mut().zip(noise).for_each(|(x, n)| *x += n);
        (rest, noise) = (after, pool);
    }
    view
}

/// The loss of one trajectory seen twice; adds its gradient times `scale` to `gradient`.
fn loss(
    network: &Network,
    row: &Row,
    views: &[Vec<f32>; 2],
    inconsistency: f64,
    scale: f64,
    gradient: &mut [f32],
) -> f64 {
    let seen = views.each_ref().map(|view| network.forward(view));
    let z = seen.each_ref().map(|(z, _)| z.iter().map(|z| z.map(f64::from)).collect::<Vec<[f64; K]>>());
    let mut dz = z.each_ref().map(|z| vec![[0.0f64; K]; z.len()]);
    let mut total = 0.0;
    let mut lowest = [0; 2];
    for v in 0..2 {
        total += 0.5 * thought_loss(row, &z[v], &mut dz[v]);
        lowest[v] = worst(z[v].iter().map(|z| z[0]));
        if let Some(good) = row.good {
            let logit = z[v][lowest[v]][0];
            total += 0.5 * (softplus(logit) - good * logit);
            dz[v][lowest[v]][0] += 0.5 * (sigmoid(logit) - good);
        }
    }
    let p = [0, 1].map(|v: usize| sigmoid(z[v][lowest[v]][0]));
    let difference = p[0] - p[1];
    total += inconsistency * difference * difference;
    for (v, sign) in [(0, 1.0), (1, -1.0)] {
        dz[v][lowest[v]][0] += sign * inconsistency * 2.0 * difference * p[v] * (1.0 - p[v]);
        let dz: Vec<[f32; K]> = dz[v].iter().map(|dz| dz.map(|d| (d * scale) as f32)).collect();
        network.backward(&views[v], &seen[v].1, &dz, gradient);
    }
    total * scale
}

/// Cross-entropy of every thought and output against the verdicts, if there are any.
fn thought_loss(row: &Row, z: &[[f64; K]], dz: &mut [[f64; K]]) -> f64 {
    let mut total = 0.0;
    for ((targets, z), dz) in row.criteria.iter().flatten().zip(z).zip(dz) {
        for k in 0..K {
            total += (softplus(z[k]) - targets[k] * z[k]) / K as f64;
            dz[k] += 0.5 * (sigmoid(z[k]) - targets[k]) / K as f64;
        }
    }
    total
}

/// Platt scaling per output on cross-fitted predictions: each fold is predicted by a head that did
/// not see it.
fn calibrate(rows: &[Row], inputs: usize, config: &CriticConfig, address: &Address) -> Result<[Platt; K]> {
    let folds = FOLDS.min(rows.len());
    if folds < 2 {
        return Ok([Platt::IDENTITY; K]);
    }
    let order = shuffled(rows.len(), &mut address.child(STREAM_FOLDS).stream());
    let trained = (0..folds).into_par_iter().map(|fold| {
        let rest = (0..rows.len()).filter(|i| i % folds != fold);
        let rest: Vec<&Row> = rest.map(|i| &rows[order[i]]).collect();
        train(&rest, inputs, config, &address.child(STREAM_FOLDS).child(fold as u32))
    });
    // The first fold's error, whichever thread was faster.
    let trained: Vec<Result<Network>> = trained.collect();
    let networks: Vec<Network> = trained.into_iter().collect::<Result<_>>()?;
    let mut observations: [Vec<(f64, f64, f64)>; K] = Default::default();
    for (fold, network) in networks.iter().enumerate() {
        for row in order.iter().skip(fold).step_by(folds).map(|&i| &rows[i]) {
            let logits = trajectory_logits(network, &row.x);
            for (k, target) in row.targets().into_iter().enumerate() {
                observations[k].extend(target.map(|target| (logits[k], target, row.weight)));
            }
        }
    }
    Ok(std::array::from_fn(|k| Platt::fit(&observations[k])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Criteria, Purpose};

    fn row(good: Option<f32>, graded: bool, address: &Address) -> Row {
        let mut normals = Normals::new(address);
        let thoughts = (0..3).map(|_| (0..5).map(|_| normals.draw()).collect()).collect::<Vec<Vec<f32>>>();
        let verdict = |i| Criteria { coherence: i != 1, accuracy: true, completeness: i == 2 };
        let criteria = graded.then(|| (0..3).map(verdict).collect());
        let standard = Standard { mean: vec![0.0; 5], deviation: vec![1.0; 5] };
        Row::new(&Labelled { thoughts, good, criteria, weight: 1.0 }, &standard)
    }

    #[test]
    fn gradient_by_finite_differences() {
        let address = Address::new(1, Purpose::Critic, 0, "", &[]);
        let mut network = Network::new(5, 7, &address);
        let mut normals = Normals::new(&address.child(9));
        network.parameters.iter_mut().for_each(|p| *p += 0.3 * normals.draw());
        for (good, graded) in [(Some(1.0), true), (Some(0.2), false), (None, true), (None, false)] {
            let row = row(good, graded, &address.child(3));
            let views = [0.05, -0.03].map(|s| row.x.iter().map(|x| x + s).collect::<Vec<f32>>());
            let mut gradient = vec![0.0; network.parameters.len()];
            loss(&network, &row, &views, 5.0, 0.7, &mut gradient);
            for i in 0..network.parameters.len() {
                let at = |d: f32| {
                    let mut shifted = network.clone();
                    shifted.parameters[i] += d;
                    loss(&shifted, &row, &views, 5.0, 0.7, &mut vec![0.0; gradient.len()])
                };
                let numeric = (at(5e-3) - at(-5e-3)) / 1e-2;
                let (got, error) = (f64::from(gradient[i]), (f64::from(gradient[i]) - numeric).abs());
                assert!(error < 1e-4 + 3e-3 * numeric.abs(), "{i}: {got} against {numeric} ({good:?})");
            }
        }
    }
}
