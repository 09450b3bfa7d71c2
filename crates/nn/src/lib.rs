//! The tensor rooms: [`ops`] (operators over the kernels), [`model`] (decoders), [`engine`] (what samples and reads
//! them) and [`train`].
//!
//! They form one chain: engine and train import model, model imports ops. None of them reads a file of the run, the
//! store, the clock or text.

pub mod engine;
pub mod model;
pub mod ops;
pub mod train;

use autodidact_domain::{self as domain, profile};
use autodidact_gguf as gguf;
