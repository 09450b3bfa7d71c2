//! What `model.matmul = "auto"` means here: what the run in `run.dir` began with, or what suits the processor.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Command;
use crate::config::{Config, Matmul};
use crate::ops::kernels::has_tiles;

/// Replaces "auto" by what it means, for commands that run a model.
pub(super) fn settle(config: &mut Config, command: &Command) -> Result<()> {
    let runs_a_model = match command {
        Command::Run(_)
        | Command::Eval(_)
        | Command::Generate(_)
        | Command::Chat(_)
        | Command::Logprobs(_)
        | Command::Doctor(_) => true,
        Command::Init(_)
        | Command::Grade(_)
        | Command::Inspect(_)
        | Command::Export(_)
        | Command::Verify
        | Command::Gc(_)
        | Command::Pretrain(_)
        | Command::Completions(_)
        | Command::Skill => false,
    };
    if config.model.matmul != Matmul::Auto || config.run.device != "cpu" || !runs_a_model {
        return Ok(());
    }
    let suited = if has_tiles() { Matmul::Bf16 } else { Matmul::F32 };
    config.model.matmul = begun_with(config)?.unwrap_or(suited);
    Ok(())
}

/// What the run in `run.dir` computes with, if there is one. Runs store it where it is not f32.
fn begun_with(config: &Config) -> Result<Option<Matmul>> {
    let Some(stored) = super::inspect::begun_with(config)? else { return Ok(None) };
    match &stored["model"]["matmul"] {
        Value::Null => Ok(Some(Matmul::F32)),
        value => Ok(Some(serde_json::from_value(value.clone()).context("the run's model.matmul")?)),
    }
}
