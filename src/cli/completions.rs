//! `autodidact completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

use super::help;
use super::terminal::print;

#[derive(Args)]
#[command(
    after_help = "Write it where your shell looks for completions, as in the examples; for PowerShell and elvish, \
                  evaluate it in your profile. Start a new shell then."
)]
pub(super) struct CompletionsArgs {
    /// The shell to write for
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub(super) fn perform(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "autodidact", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
