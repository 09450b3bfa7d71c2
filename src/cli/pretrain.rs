//! `autodidact pretrain`: makes a seed model from the easy levels of a built-in task.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::terminal::{note, print};
use crate::config::Config;
use crate::data::Pretraining;
use crate::domain::{Address, Purpose};
use crate::model::ModelConfig;
use crate::policy::{PolicyKind, checkpoints};
use crate::text::Text;
use crate::train;

#[derive(Args)]
pub(super) struct PretrainArgs {
    /// Folder to write the checkpoint to: config.json, model.safetensors and the tokenizer
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Shape of the model, a Hugging Face config.json (default: the embedded seed's)
    #[arg(long, value_name = "FILE")]
    shape: Option<PathBuf>,
}

/// Updates between two lines of progress.
const REPORT_EVERY: u32 = 50;

fn shape(args: &PretrainArgs, text: &Text) -> Result<ModelConfig> {
    let Some(path) = &args.shape else { return Ok(ModelConfig::seed(text.vocab_size())) };
    let json = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ModelConfig::parse(&json).with_context(|| format!("cannot use {}", path.display()))
}

pub(super) fn perform(config: &Config, args: &PretrainArgs) -> Result<ExitCode> {
    if args.out.exists() {
        bail!("{} exists already; choose another folder or remove it", args.out.display());
    }
    let text = PolicyKind::Model.text(config)?;
    let shape = shape(args, &text)?;
    let pretrain = &config.pretrain;
    let mut tasks =
        Pretraining::new(&config.tasks, &Address::new(pretrain.seed, Purpose::Dataset, 0, "pretrain", &[]))?;
    let next = || {
        let task = tasks.next().context("the stream of tasks has ended")??;
        let solution = task.solution.as_deref().context("a pretraining task has a solution")?;
        Ok(train::example_from_solution(
            &text.prompt_ids_of(task.kind, &task.question)?,
            &text.completion_ids(solution)?,
            &task.id,
        ))
    };
    let (began, mut tokens) = (Instant::now(), 0);
    let weights = train::pretrain(pretrain, &shape, next, |report| {
        tokens += report.tokens;
        if report.step % REPORT_EVERY == 0 || report.step == pretrain.steps {
            let seconds = began.elapsed().as_secs_f64();
            note(&format!(
                "  update {} (at most {})  loss {:.4}  {} tokens/s",
                report.step,
                pretrain.steps,
                report.loss,
                (tokens as f64 / seconds) as u64
            ));
        }
        Ok(())
    })?;
    checkpoints::write(&args.out, |dir| {
        weights.save(dir)?;
        text.save(dir)
    })?;
    print(&format!("wrote {} (policy {})\n", args.out.display(), weights.hash()))?;
    print(&format!(
        "Measure it with `autodidact eval --model {0}`, improve it with `autodidact run --set model.path={0}`.\n",
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
