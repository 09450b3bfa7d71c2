//! `autodidact export`: what a run has made, as files that other programs load.

mod base;
mod card;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};

use self::base::Base;
use self::card::Card;
use super::inspect::{VERDICT, reader};
use super::policy::{Named, PolicyArgs};
use super::terminal::{pretty, print, safe};
use super::{Common, block_on};
use crate::config::Config;
use crate::improve::STORE_FILE;
use crate::model::GgufType;
use crate::policy::{self, ExportFormat, Policy};
use crate::report;

/// What is noted about a GGUF file.
const NO_CARD: &str = "a GGUF file has no model card; --format merged writes one";

/// What is noted about a card without a licence.
const NO_LICENCE: &str = "fill in the licence in README.md: the base model's isn't known here";

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The weights of a policy, or its adapter
    Policy(PolicyExport),
}

#[derive(Args)]
struct PolicyExport {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Folder to write, which must not exist or be empty; with --format gguf the file, which must not exist
    #[arg(long, value_name = "DIR|FILE.gguf")]
    out: PathBuf,
    /// What is written
    #[arg(long, value_enum, default_value_t = Format::Merged)]
    format: Format,
    /// Type of the matrices, with --format gguf (default: f16)
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A Hugging Face checkpoint with its tokenizer, in the base model's types
    Merged,
    /// An adapter in the format of PEFT (of runs with train.method = "lora")
    Peft,
    /// One GGUF file with the tokenizer, for llama.cpp and what is built on it
    Gguf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Half precision
    F16,
    /// Eight bits in blocks of 32 with a scale each; f16 where rows aren't whole blocks
    #[value(name = "q8_0")]
    Q8_0,
    /// Half the digits of f16, the range of f32
    Bf16,
    /// As they are trained
    F32,
}

impl ExportArgs {
    /// Which policy is taken away.
    pub(super) fn policy(&mut self) -> &mut PolicyArgs {
        let What::Policy(args) = &mut self.what;
        &mut args.policy
    }
}

pub(super) fn perform(common: &Common, config: &Config, args: &ExportArgs) -> Result<ExitCode> {
    let What::Policy(args) = &args.what;
    let format = format(args)?;
    let text = args.policy.text(config)?;
    let store = Path::new(&config.run.dir).join(STORE_FILE);
    ensure!(
        args.policy.is_given() || store.exists(),
        "there is no run in {} to export from; name a policy with --model MODEL, or the run's folder with --set run.dir=…",
        config.run.dir
    );
    let Named { policy, name } = block_on(args.policy.load(config, &text))?;
    let (card, about_card) = match format {
        ExportFormat::Gguf(_) => (String::new(), Some(NO_CARD)),
        _ => block_on(model_card(config, args, &policy, &name, format))?,
    };
    let mut notes = policy::export(&policy, config, &text, &args.out, format, &card)?;
    notes.extend(about_card.map(str::to_owned));
    let out = args.out.display();
    if common.json {
        let json = serde_json::json!({ "policy_hash": policy.hash(), "policy": name, "out": out.to_string(), "notes": notes });
        print(&pretty(&json)?)?;
    } else {
        print(&format!("policy {:.10} ({name}) written to {out}\n", policy.hash()))?;
        let lines: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        print(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The card of the policy, and a note if something is to be filled in.
async fn model_card(
    config: &Config,
    args: &PolicyExport,
    policy: &Policy,
    name: &str,
    format: ExportFormat,
) -> Result<(String, Option<&'static str>)> {
    let store = Path::new(&config.run.dir).join(STORE_FILE);
    let origin = match store.exists() {
        true => report::origin(&reader(config).await?, policy.hash(), VERDICT).await?,
        false => None,
    };
    let model = args.policy.model().map(|model| (model, name));
    let base = Base::find(config, origin.as_ref(), model);
    let card = Card {
        policy_hash: policy.hash(),
        base: &base,
        origin: origin.as_ref(),
        is_adapter: format == ExportFormat::Peft,
    };
    Ok((safe(&card.text(), false).into_owned(), base.licence.is_none().then_some(NO_LICENCE)))
}

fn format(args: &PolicyExport) -> Result<ExportFormat> {
    let kind = args.kind.map(|kind| match kind {
        Kind::F16 => GgufType::F16,
        Kind::Q8_0 => GgufType::Q8_0,
        Kind::Bf16 => GgufType::Bf16,
        Kind::F32 => GgufType::F32,
    });
    Ok(match (args.format, kind) {
        (Format::Gguf, kind) => ExportFormat::Gguf(kind.unwrap_or(GgufType::F16)),
        (_, Some(_)) => {
            anyhow::bail!("--type goes with --format gguf; the other formats keep the model's own types")
        }
        (Format::Merged, None) => ExportFormat::Merged,
        (Format::Peft, None) => ExportFormat::Peft,
    })
}
