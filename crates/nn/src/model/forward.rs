//! The training forward: several sequences packed into one row dimension, differentiable down to
//! every parameter.
//!
//! A decoder (Touvron et al. 2023) of flags: norms before or after the blocks; grouped-query
//! attention with optional rotary positions, window, norms of queries and keys, biases and soft
//! cap; a gated feed-forward or a mixture of them. It stops at the final norm, so that a loss can
//! join the output layer and the log-softmax in one operator ([`logprobs`]). It uses the same
//! kernels as [`super::decode`], so its bits are the same. Left out: dropout, because the policy
//! that trains must be the policy that samples (an adapter's dropout is the exception, where it is
//! configured); a router's auxiliary losses, because training only follows the objective.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::config::{Activation, Experts, ModelConfig, QkNorm};
use super::frozen::is_router;
use super::tensor_cache::TensorCache;
use super::{Adapter, Dropout, Frozen, Lora, Weights};
use crate::ops::kernels::{Arithmetic, RopeTable, rows_of_experts};
use crate::ops::{self, SharedPacking};

/// The weights that a forward pass reads, borrowed, and which of them get a gradient.
#[derive(Clone, Copy)]
pub enum Parameters<'a> {
    /// All weights get a gradient. Matrix products are in this arithmetic.
    Full(&'a Weights, Arithmetic),
    /// Only the adapter gets a gradient, if there is one.
    Frozen(&'a Frozen, Option<Adapted<'a>>),
}

/// An adapter in a forward pass.
#[derive(Clone, Copy)]
pub struct Adapted<'a> {
    pub adapter: &'a Adapter,
    /// The randomness of dropout; `None` drops nothing.
    pub dropout: Option<&'a Dropout>,
}

impl Weights {
    /// A view for a forward pass, with products in f32.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters::Full(self, Arithmetic::F32)
    }
}

impl Frozen {
    /// A view for a forward pass.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters::Frozen(self, None)
    }
}

impl Lora {
    /// A view for a forward pass without dropout.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters::Frozen(&self.base, Some(Adapted { adapter: &self.adapter, dropout: None }))
    }
}

impl<'a> Parameters<'a> {
    pub(super) fn config(self) -> &'a ModelConfig {
        match self {
            Self::Full(weights, _) => &weights.config,
            Self::Frozen(frozen, _) => &frozen.config,
        }
    }

    /// The arithmetic of matrix products.
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Self::Full(_, arithmetic) => arithmetic,
            Self::Frozen(frozen, _) => frozen.arithmetic(),
        }
    }

    fn rope(self, index: usize) -> Option<Arc<RopeTable>> {
        match self {
            Self::Full(weights, _) => weights.rope(index),
            Self::Frozen(frozen, _) => frozen.rope(index),
        }
    }

    /// A norm's weight, or a bias.
    fn vector(self, name: &str) -> Result<&'a Tensor> {
        match self {
            Self::Full(weights, _) => weights.tensor(name),
            Self::Frozen(frozen, _) => frozen.vector(name),
        }
    }

    fn has_vector(self, name: &str) -> bool {
        match self {
            Self::Full(weights, _) => weights.tensors.contains_key(name),
            Self::Frozen(frozen, _) => frozen.has_vector(name),
        }
    }

    /// x wᵀ of the layer called `module`. Modules that read the same x may share its packed layout.
    fn linear(self, x: &Tensor, module: &str, shared: Option<&SharedPacking>) -> Result<Tensor> {
        let name = format!("{module}.weight");
        match self {
            Self::Full(weights, arithmetic) => {
                let arithmetic = if is_router(&name) { Arithmetic::F32 } else { arithmetic };
                ops::linear_with(arithmetic, x, weights.tensor(&name)?, shared)
            }
            Self::Frozen(frozen, None) => ops::frozen_linear(x, frozen.matrix(&name)?),
            Self::Frozen(frozen, Some(Adapted { adapter, dropout })) => {
                adapter.linear(x, module, frozen.matrix(&name)?, dropout)
            }
        }
    }

    /// x wᵀ of the output layer, before any cap.
    pub(super) fn output(self, x: &Tensor) -> Result<Tensor> {
        let name = self.config().output_name();
        match self {
            Self::Full(weights, arithmetic) => ops::linear_by(arithmetic, x, weights.tensor(name)?),
            Self::Frozen(frozen, _) => ops::frozen_linear(x, frozen.matrix(name)?),
        }
    }

    fn embed(self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Full(weights, _) => ops::embedding(weights.tensor("model.embed_tokens.weight")?, ids),
            Self::Frozen(frozen, _) => frozen.embed(ids),
        }
    }
}

/// Final-norm hidden states (ΣT, hidden) of sequences laid end to end.
///
/// `ids` holds ΣT token ids; sequence `s` is `ids[starts[s]..starts[s + 1]]`, its positions count
/// from 0.
pub fn forward(parameters: Parameters, ids: &[u32], starts: &Arc<Vec<usize>>) -> Result<Tensor> {
    let pass = Forward::new(parameters, ids, starts)?;
    let mut x = pass.embed(ids)?;
    for index in 0..pass.layers() {
        x = pass.layer(index, &x)?;
    }
    pass.norm(&x)
}

/// A forward pass in its parts, for a backward pass that goes layer by layer.
pub struct Forward<'a> {
    parameters: Parameters<'a>,
    config: &'a ModelConfig,
    positions: Arc<Vec<u32>>,
    attention: Attention<'a>,
}

/// What a row attends to.
enum Attention<'a> {
    /// The rows before it in its own sequence. Sequences begin and end at these rows.
    Packed(Arc<Vec<usize>>),
    /// The rows of earlier passes, too.
    Cached(&'a TensorCache),
}

impl<'a> Forward<'a> {
    /// As for [`forward`].
    pub fn new(parameters: Parameters<'a>, ids: &[u32], starts: &Arc<Vec<usize>>) -> Result<Self> {
        let config = parameters.config();
        let positions = positions(ids.len(), starts, config.max_position_embeddings)?;
        Ok(Self { parameters, config, positions, attention: Attention::Packed(starts.clone()) })
    }

    /// A pass over the next tokens of the sequences in `cache`, whose rows are at `positions`.
    pub(super) fn cached(parameters: Parameters<'a>, positions: Vec<u32>, cache: &'a TensorCache) -> Self {
        let (config, attention) = (parameters.config(), Attention::Cached(cache));
        Self { parameters, config, positions: Arc::new(positions), attention }
    }

    /// How many layers the model has.
    pub fn layers(&self) -> usize {
        self.config.layers.len()
    }

    /// The residual stream (ΣT, hidden) before the first layer.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let x = self.parameters.embed(ids)?;
        match self.config.embedding_scale() {
            Some(factor) => ops::scale(&x, factor),
            None => Ok(x),
        }
    }

    /// The residual stream after layer `index`.
    pub fn layer(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let layer = Layer { pass: self, index, prefix: format!("model.layers.{index}.") };
        let norms = self.config.blocks.norms.names();
        let attended = layer.attention(&layer.normed(norms.attention_in, x)?)?;
        let x = ops::add(x, &layer.normed(norms.attention_out, &attended)?)?;
        let gained = layer.mlp(&layer.normed(norms.mlp_in, &x)?)?;
        ops::add(&x, &layer.normed(norms.mlp_out, &gained)?)
    }

    /// The final norm.
    pub fn norm(&self, x: &Tensor) -> Result<Tensor> {
        norm(self.config, x, self.parameters.vector("model.norm.weight")?)
    }
}

/// Log-probabilities (N) of `targets` from final-norm hidden states (N, hidden), with the policy's
/// output layer.
pub fn logprobs(parameters: Parameters, hidden: &Tensor, targets: &Arc<Vec<u32>>) -> Result<Tensor> {
    let config = parameters.config();
    let (name, cap) = (config.output_name(), config.logit_cap());
    match parameters {
        Parameters::Full(weights, arithmetic) => {
            ops::capped_linear_logprob(arithmetic, hidden, weights.tensor(name)?, targets, cap)
        }
        Parameters::Frozen(frozen, _) => ops::frozen_logprob(hidden, frozen.matrix(name)?, targets, cap),
    }
}

/// The output layer (vocab, hidden): the embeddings where they are tied.
pub fn output_weight(weights: &Weights) -> &Tensor {
    weights.tensor(weights.config.output_name()).expect("a policy has an output layer")
}

fn norm(config: &ModelConfig, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let run = if config.blocks.norm_plus_one { ops::rms_norm_plus_one } else { ops::rms_norm };
    run(x, w, config.rms_norm_eps)
}

/// One decoder layer.
struct Layer<'a> {
    pass: &'a Forward<'a>,
    index: usize,
    /// Prefix of its parameters' names.
    prefix: String,
}

impl Layer<'_> {
    fn config(&self) -> &ModelConfig {
        self.pass.config
    }

    fn norm_weight(&self, name: &str) -> Result<&Tensor> {
        self.pass.parameters.vector(&format!("{}{name}.weight", self.prefix))
    }

    /// Applies the norm of that name, if the layer has one.
    fn normed(&self, name: Option<&str>, x: &Tensor) -> Result<Tensor> {
        match name {
            Some(name) => norm(self.config(), x, self.norm_weight(name)?),
            None => Ok(x.clone()),
        }
    }

    /// x wᵀ, and the bias where there is one.
    fn linear(&self, x: &Tensor, name: &str, shared: Option<&SharedPacking>) -> Result<Tensor> {
        let parameters = self.pass.parameters;
        let y = parameters.linear(x, &format!("{}{name}", self.prefix), shared)?;
        let bias = format!("{}{name}.bias", self.prefix);
        match parameters.has_vector(&bias) {
            true => ops::add_bias(&y, parameters.vector(&bias)?),
            false => Ok(y),
        }
    }

    /// Queries or keys (ΣT, heads * head_dim), normed and rotated to their positions.
    fn projected(&self, x: &Tensor, which: &str, heads: usize, shared: &SharedPacking) -> Result<Tensor> {
        let mut y = self.linear(x, &format!("self_attn.{which}_proj"), Some(shared))?;
        let (rows, width) = y.dims2()?;
        let norm_name = format!("self_attn.{which}_norm");
        y = match self.config().blocks.qk_norm {
            QkNorm::None => y,
            QkNorm::Head => {
                let heads_apart = ops::reshape(&y, &[rows * heads, self.config().head_dim])?;
                let normed = norm(self.config(), &heads_apart, self.norm_weight(&norm_name)?)?;
                ops::reshape(&normed, &[rows, width])?
            }
            QkNorm::Full => norm(self.config(), &y, self.norm_weight(&norm_name)?)?,
        };
        match self.pass.parameters.rope(self.index) {
            Some(table) => ops::rope(&y, heads, &table, &self.pass.positions),
            None => Ok(y),
        }
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let shared = SharedPacking::default();
        let q = self.projected(x, "q", self.config().num_attention_heads, &shared)?;
        let k = self.projected(x, "k", self.config().num_key_value_heads, &shared)?;
        let v = self.linear(x, "self_attn.v_proj", Some(&shared))?; // (ΣT, kv_heads * head_dim)
        let shape = self.config().attention_shape(self.index, self.pass.parameters.arithmetic());
        let attended = match &self.pass.attention {
            Attention::Packed(starts) => ops::attention(&q, &k, &v, &shape, starts)?,
            Attention::Cached(cache) => cache.attention(self.index, &q, &k, &v, &shape)?,
        };
        self.linear(&attended, "self_attn.o_proj", None)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        match self.config().experts_of(self.index) {
            None => self.dense(x, "mlp."),
            Some(experts) => self.mixture(x, experts),
        }
    }

    fn dense(&self, x: &Tensor, prefix: &str) -> Result<Tensor> {
        let shared = SharedPacking::default();
        let gate = self.linear(x, &format!("{prefix}gate_proj"), Some(&shared))?;
        let up = self.linear(x, &format!("{prefix}up_proj"), Some(&shared))?;
        let activated = match self.config().blocks.activation {
            Activation::Silu => ops::swiglu(&gate, &up)?,
            Activation::GeluTanh => ops::geglu(&gate, &up)?,
        };
        self.linear(&activated, &format!("{prefix}down_proj"), None)
    }

    /// Every expert reads the rows that the router chose for it. Experts without rows are left out
    /// of the graph.
    fn mixture(&self, x: &Tensor, experts: &Experts) -> Result<Tensor> {
        let weights = ops::route(&self.linear(x, "mlp.gate", None)?, experts.routing())?; // (ΣT, E)
        let chosen: Vec<f32> = weights.flatten_all()?.to_vec1()?;
        let rows = Arc::new(rows_of_experts(&chosen, experts.num_experts));
        let outputs = rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        let outputs = outputs.map(|(e, rows)| {
            self.dense(&ops::embedding(x, rows)?, &format!("mlp.experts.{e}.")) // (rows, D)
        });
        let outputs: Vec<Tensor> = outputs.collect::<Result<_>>()?;
        ensure!(
            !outputs.is_empty(),
            "the router of layer {} chose no expert: its weights are damaged",
            self.index
        );
        ops::mix(&ops::stack(&outputs)?, &weights, &rows)
    }
}

/// Each row's position within its sequence.
fn positions(rows: usize, starts: &[usize], positions_max: usize) -> Result<Arc<Vec<u32>>> {
    ensure!(
        starts.first() == Some(&0) && starts.last() == Some(&rows) && starts.is_sorted(),
        "sequence starts {starts:?} don't cut {rows} tokens into sequences: they rise from 0 to {rows}"
    );
    let mut positions = Vec::with_capacity(rows);
    for bounds in starts.windows(2) {
        let len = bounds[1] - bounds[0];
        ensure!(len <= positions_max, "a sequence has {len} tokens; the model reads at most {positions_max}");
        positions.extend(0..len as u32);
    }
    Ok(Arc::new(positions))
}
