//! The integration tests, in one binary: each module is a subject, [`sandbox`] runs the built program.

mod benchmarks;
mod crash;
mod errors;
mod gguf;
mod grading;
mod lora;
mod model;
mod sandbox;
mod tidy;
