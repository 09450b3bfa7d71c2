//! The integration tests, in one binary: each module is a subject, [`sandbox`] runs the built program.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod benchmarks;
mod cards;
mod crash;
mod errors;
mod files;
mod first_hour;
mod gguf;
mod grading;
mod hub;
mod hub_server;
mod inspect;
mod inspect_lists;
mod inspect_sql;
mod judge;
mod lora;
mod model;
mod policies;
mod profile;
mod programs;
mod safety;
mod sandbox;
mod stores;
mod terminal;
mod tidy;
mod transcript;
mod typed;
