//! A self-rewarding improvement engine for language models.

pub mod config;
pub mod domain;
pub mod engine;
