//! Where the time goes: a stopwatch that every room may carry, and the nouns of what it measures.
//!
//! Contract: without [`install`] nothing is recorded, and a [`span`] costs one load of a pointer. With it, each thread
//! adds to its own counters, and [`totals`] sums them: time per [`Operator`] in thread-seconds, calls, floating-point
//! operations by formula, bytes, and [`Tokens`]. Time is exclusive: a span that runs inside another one is taken from
//! it. Spans stand around pieces that one thread computes, not around waiting for other threads, because a thread that
//! waits may be lent somebody else's piece.
//!
//! Recording decides nothing: no room reads what it gives. The clock is handed in, so that none is read here.
//! [`Timeline`] cuts the totals into phases, and [`Report`] is what is written and shown.

mod record;
mod report;
#[cfg(test)]
mod tests;
mod timeline;

pub use record::{Count, Named, Pieces, Product, Span, Totals, Waiting, Work};
pub use record::{
    install, is_on, named, now, product, span, thread_totals, tokens, totals, unnamed, waiting, work,
};
pub use report::{Bandwidth, Machine, OperatorLine, Peak, PhaseLine, Report, TokenCounts};
pub use timeline::{Segment, Timeline};

use crate::named_enum;

/// A kind of work that is measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// `x wᵀ` of linear layers, the output layer's included.
    LinearForward,
    /// Their gradient by the input, `dy w`.
    LinearBackwardInput,
    /// Their gradient by the weight, `dyᵀ x`.
    LinearBackwardWeight,
    /// An adapter's narrow products, forward and backward.
    Adapter,
    /// Laying operands of products out as panels.
    Packing,
    /// Making f32 of weights that are kept in fewer bits.
    Unpacking,
    /// A query row over cached keys and values.
    AttentionDecode,
    /// Attention of training.
    AttentionForward,
    AttentionBackward,
    /// Root-mean-square norms, forward and backward.
    Norm,
    /// Rotary positions.
    Rope,
    /// SwiGLU and GeGLU, forward and backward.
    GatedUnit,
    /// Sums of residuals, biases, scales, gradients of chunks.
    Elementwise,
    /// Log-probabilities of logits, and their gradient.
    LogSoftmax,
    /// Looking up rows of a table, and its gradient.
    Embedding,
    /// Writing keys and values into a sequence's pages.
    Cache,
    /// Drawing tokens from logits.
    Sampling,
    /// Muon (its products included), AdamW (the critique head's, too), clipping.
    Optimizer,
    /// Training the critique head, and its scores.
    CriticHead,
    /// Templates and tokenizer, both ways.
    Text,
    /// Finding answers and grading them.
    Grading,
    /// Reading and writing the store.
    Store,
    /// Writing, loading and hashing weights on disk.
    Checkpoint,
}

named_enum!(Operator {
    LinearForward => "linear_forward",
    LinearBackwardInput => "linear_backward_input",
    LinearBackwardWeight => "linear_backward_weight",
    Adapter => "adapter",
    Packing => "packing",
    Unpacking => "unpacking",
    AttentionDecode => "attention_decode",
    AttentionForward => "attention_forward",
    AttentionBackward => "attention_backward",
    Norm => "norm",
    Rope => "rope",
    GatedUnit => "gated_unit",
    Elementwise => "elementwise",
    LogSoftmax => "log_softmax",
    Embedding => "embedding",
    Cache => "cache",
    Sampling => "sampling",
    Optimizer => "optimizer",
    CriticHead => "critic_head",
    Text => "text",
    Grading => "grading",
    Store => "store",
    Checkpoint => "checkpoint",
});

/// What computes an operator's floating-point operations: each unit has its own peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Fused multiply-adds of f32 vectors.
    F32,
    /// Products of tiles of bf16. Numbers of several parts are several products, each of which counts.
    Bf16Tiles,
}

named_enum!(Unit { F32 => "f32", Bf16Tiles => "bf16 tiles" });

/// What is counted of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tokens {
    /// Drawn from a policy.
    Drawn,
    /// Of prompts, read before drawing; what was remembered of them is not read again.
    Prompted,
    /// Read without drawing, for log-probabilities or scores.
    Read,
    /// Of training examples, prompts included.
    Trained,
}

named_enum!(Tokens { Drawn => "drawn", Prompted => "prompted", Read => "read", Trained => "trained" });
