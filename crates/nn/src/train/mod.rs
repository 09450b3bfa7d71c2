//! Training: kept trajectories and gold solutions in, better weights out.
//!
//! An [`Objective`] defines what an update minimises. Replay of labelled easy tasks is mixed in.
//! Weight decay is decoupled. Token ids and masks arrive ready. This room never tokenizes, never
//! reads the store and never decides what is worth learning.
//!
//! Same weights, hyper-parameters and examples give the same new weights, bit for bit, for any
//! thread count and however often the work was interrupted: see [`Trainer`].

mod example;
mod gradient;
mod memory;
mod objective;
mod pack;
mod pretrain;
mod read;
mod schedule;
pub mod settings;
mod state;
#[cfg(test)]
mod tests;
mod trainable;
mod trainer;
mod update;

pub use example::{Example, Group, Source, example_from_solution, examples_from_tree};
pub use memory::{Passes, memory_bytes};
pub use objective::{LossParts, Member, Objective};
pub use pack::{CHUNK_TOKENS, Pack, chunks, pack};
pub use pretrain::pretrain;
pub use read::logprobs;
pub use schedule::{LearningRate, schedule};
pub use trainable::Trainable;
pub use trainer::{Hyper, StepReport, Trainer};
pub use update::optimizer_flops;
