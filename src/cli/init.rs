//! `autodidact init`: a commented configuration and the prompts, to edit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::terminal::print;
use crate::config::DEFAULT_TOML;
use crate::text;

#[derive(Args)]
pub(super) struct InitArgs {
    /// Folder to write into
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

pub(super) fn perform(args: &InitArgs) -> Result<ExitCode> {
    let prompts = args.dir.join("prompts");
    // The configuration that is written uses the prompts that are written.
    let config = DEFAULT_TOML.replace("\nprompts = \"\"\n", "\nprompts = \"prompts\"\n");
    let mut files = vec![(args.dir.join("autodidact.toml"), config.as_str())];
    files.extend(text::TEMPLATES.map(|(name, source)| (prompts.join(name), source)));
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.exists())
        && !args.force
    {
        bail!("{} exists already; nothing was written (use --force to overwrite)", taken.display());
    }
    std::fs::create_dir_all(&prompts).with_context(|| format!("cannot create {}", prompts.display()))?;
    for (path, content) in &files {
        write(path, content)?;
        print(&format!("wrote {}\n", path.display()))?;
    }
    print("Edit autodidact.toml, then `autodidact run`.\n")?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
