//! A mixture of experts' two own operators: the router's weights, and the weighted sum of the experts' outputs.
//!
//! Which experts are chosen has no gradient; what they weigh has.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use super::composed;
use super::kernels::{Routing, add_weighted};
use super::tape::{apply_1, apply_2};
use super::tensor::{Candle, Elements, elements, gradient, is_elsewhere, matrix, output};
use crate::profile::{self, Operator};

/// logits (N, experts) → weights (N, experts), 0 where a row doesn't go.
pub fn route(logits: &Tensor, routing: Routing) -> Result<Tensor> {
    let (logits, _, experts) = matrix("route: logits", logits)?;
    let Routing { experts: expected, top_k, .. } = routing;
    ensure!(experts == expected, "route: logits have {experts} columns for {expected} experts");
    ensure!((1..=experts).contains(&top_k), "route: {top_k} of {experts} experts can't be chosen");
    if is_elsewhere(&logits) {
        return composed::route(&logits, routing);
    }
    Ok(apply_1(&logits, Route { routing })?)
}

struct Route {
    routing: Routing,
}

impl CustomOp1 for Route {
    fn name(&self) -> &'static str {
        "route"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let _span = profile::span(Operator::Elementwise);
        let logits = elements(logits, layout)?;
        let mut weights = vec![0.0; logits.len()];
        self.routing.weights(logits, &mut weights);
        output(weights, layout.shape())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, dweights: &Tensor) -> Candle<Option<Tensor>> {
        let _span = profile::span(Operator::Elementwise);
        let dweights = dweights.contiguous()?;
        let (logits_elements, dweights) = (Elements::of(logits), Elements::of(&dweights));
        let mut dlogits = vec![0.0; logits.elem_count()];
        self.routing.backward(logits_elements.get()?, dweights.get()?, &mut dlogits);
        gradient(dlogits, logits)
    }
}

/// y (M, D), weights (N, experts) → (N, D). Row `m` of `y` is what an expert gave for a row of the result: those of
/// `rows[0]` first, then those of `rows[1]`, and so on; each is multiplied by its weight and added, in that order.
pub fn mix(y: &Tensor, weights: &Tensor, rows: &Arc<Vec<Vec<u32>>>) -> Result<Tensor> {
    let ((y, m, _), (weights, n, experts)) = (matrix("mix: y", y)?, matrix("mix: weights", weights)?);
    let given: usize = rows.iter().map(Vec::len).sum();
    ensure!(experts == rows.len(), "mix: weights have {experts} columns for {} experts", rows.len());
    ensure!(m == given, "mix: y has {m} rows and the experts read {given}");
    let last = rows.iter().flatten().max();
    ensure!(last.is_none_or(|&row| (row as usize) < n), "mix: row {last:?} of {n}");
    if is_elsewhere(&y) {
        return composed::mix(&y, &weights, rows);
    }
    Ok(apply_2(&y, &weights, Mix { rows: rows.clone() })?)
}

struct Mix {
    rows: Arc<Vec<Vec<u32>>>,
}

impl Mix {
    /// (expert, row) of every row of `y`.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.rows.iter().enumerate().flat_map(|(e, rows)| rows.iter().map(move |&row| (e, row as usize)))
    }
}

impl CustomOp2 for Mix {
    fn name(&self) -> &'static str {
        "mix"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        weights: &CpuStorage,
        lw: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let _span = profile::span(Operator::Elementwise);
        let ((n, experts), d) = (lw.shape().dims2()?, ly.shape().dims2()?.1);
        let (y, weights) = (elements(y, ly)?, elements(weights, lw)?);
        let mut out = vec![0.0; n * d];
        for ((e, row), y) in self.places().zip(y.chunks_exact(d.max(1))) {
            add_weighted(&mut out[row * d..][..d], weights[row * experts + e], y);
        }
        output(out, (n, d))
    }

    fn bwd(
        &self,
        y: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        dout: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span(Operator::Elementwise);
        let ((_, experts), d) = (weights.dims2()?, y.dim(1)?);
        let dout = dout.contiguous()?;
        let (ey, ew, edout) = (Elements::of(y), Elements::of(weights), Elements::of(&dout));
        let (ys, ws, dout) = (ey.get()?, ew.get()?, edout.get()?);
        let (mut dy, mut dweights) = (vec![0.0; ys.len()], vec![0.0; ws.len()]);
        let rows = ys.chunks_exact(d.max(1)).zip(dy.chunks_exact_mut(d.max(1)));
        for ((e, row), (y, dy)) in self.places().zip(rows) {
            let dout = &dout[row * d..][..d];
            add_weighted(dy, ws[row * experts + e], dout);
            dweights[row * experts + e] = dout.iter().zip(y).map(|(a, b)| a * b).sum();
        }
        Ok((gradient(dy, y)?, gradient(dweights, weights)?))
    }
}
