//! The command line: arguments in, exit code out. Only this module and `main` read the clock, the
//! environment and the terminal.
//!
//! Exit codes: 0 done, 1 error, 2 usage, 3 stopped early and resumable.

mod chat;
mod completions;
mod doctor;
mod evaluate;
mod events;
mod export;
mod gc;
mod generate;
mod grade;
mod help;
mod hub;
mod init;
mod inspect;
mod lengths;
mod lines;
mod matmul;
mod meter;
mod policy;
mod pretrain;
mod process;
mod profile;
mod progress;
mod run;
mod skill;
mod terminal;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::config::Config;

pub use process::prepare;
use progress::Shows;

/// Exit code of a run that stopped before its end and can go on.
pub const EXIT_STOPPED: u8 = 3;

#[derive(Parser)]
#[command(
    name = "autodidact",
    version,
    about = "Lets a language model teach itself: rolls out trajectories, scores them, trains on the best, and \
             proves on held-out tasks whether the new weights are better.",
    after_help = "Start with `autodidact run`: it needs no files, no network and no configuration."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub struct Common {
    /// Configuration file (default: autodidact.toml in this folder, if there is one)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one configuration key, e.g. --set run.seed=1; repeatable, wins over file and environment
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Where models run: cpu, cuda, cuda:N, metal (short for --set run.device=…)
    #[arg(long, global = true, value_name = "DEVICE")]
    device: Option<String>,
    /// Print machine-readable JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress, only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Show more: token lengths in `doctor`
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Work in this folder: as if the command were typed there
    #[arg(short = 'C', long = "directory", global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a run, or resume it: the same command after any interruption
    #[command(visible_alias = "resume")]
    Run(run::RunArgs),
    /// Write a commented configuration and the prompts, to edit
    Init(init::InitArgs),
    /// Measure a policy on tasks
    Eval(evaluate::EvalArgs),
    /// Draw trajectories for prompts from a file or standard input, as JSON lines
    Generate(generate::GenerateArgs),
    /// Talk with a policy: a conversation through its chat template
    Chat(chat::ChatArgs),
    /// Log-probabilities of given tokens or text under a policy, as JSON lines
    Logprobs(generate::LogprobsArgs),
    /// Read what texts claim, and compare it with their answers, as JSON lines
    Grade(grade::GradeArgs),
    /// Look into a run: its iterations, one iteration, one trajectory
    Inspect(inspect::InspectArgs),
    /// Take a policy away, for other programs to load
    Export(export::ExportArgs),
    /// Check the store and the checkpoints against their hashes
    Verify,
    /// List or remove checkpoints that a crash left and the store does not name
    Gc(gc::GcArgs),
    /// Check the machine, the configuration, and what a run will need
    Doctor(doctor::DoctorArgs),
    /// Make a seed model from the easy levels of a built-in task
    Pretrain(pretrain::PretrainArgs),
    /// Print what a shell needs to complete commands and flags
    Completions(completions::CompletionsArgs),
    /// Print a document for agents that run these commands: purposes, JSON, exit codes, flows
    Skill,
}

impl Command {
    /// The hours that the command's own flag asks for.
    fn hours(&self) -> Option<f64> {
        match self {
            Self::Run(args) => args.hours(),
            Self::Doctor(args) => args.hours(),
            _ => None,
        }
    }
}

/// Parses the arguments, performs the command, and prints its error if it fails.
pub fn main() -> ExitCode {
    let cli = help::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::note(&format!("error: {}", chain(&error)));
            ExitCode::from(1)
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let common = cli.common;
    if let Some(directory) = &common.directory {
        std::env::set_current_dir(directory)
            .with_context(|| format!("cannot work in {} (-C)", directory.display()))?;
    }
    if let Command::Init(args) = &cli.command {
        // It may be there to repair a broken configuration.
        return match args.looks() {
            true => look_and_init(&common, cli.command),
            false => init::perform(args, &common.set),
        };
    }
    if let Command::Grade(args) = &cli.command {
        // Answers are read the same under every configuration.
        return grade::perform(args);
    }
    match &cli.command {
        Command::Completions(args) => return completions::perform(args),
        Command::Skill => return skill::perform(),
        _ => {}
    }
    let mut config = common.load(cli.command.hours())?;
    start_threads(config.run.threads)?;
    let mut command = cli.command;
    hub::resolve_models(&mut config, &mut command, common.json || common.quiet)?;
    matmul::settle(&mut config, &command)?;
    match command {
        Command::Run(args) => run::perform(&common, &config, &args),
        Command::Init(args) => init::perform(&args, &common.set),
        Command::Eval(args) => evaluate::perform(&common, &config, &args),
        Command::Generate(args) => generate::perform(&common, &config, &args),
        Command::Chat(args) => chat::perform(&common, &config, &args),
        Command::Logprobs(args) => generate::logprobs(&config, &args),
        Command::Grade(args) => grade::perform(&args),
        Command::Inspect(args) => inspect::perform(&common, &config, &args),
        Command::Export(args) => export::perform(&common, &config, &args),
        Command::Verify => verify::perform(&common, &config),
        Command::Gc(args) => gc::perform(&common, &config, &args),
        Command::Doctor(args) => doctor::perform(&common, config, &args),
        Command::Pretrain(args) => pretrain::perform(&config, &args),
        Command::Completions(args) => completions::perform(&args),
        Command::Skill => skill::perform(),
    }
}

/// Writes a configuration for the model and the tasks that are named.
fn look_and_init(common: &Common, mut command: Command) -> Result<ExitCode> {
    let Command::Init(args) = &command else { anyhow::bail!("this is `init`") };
    let mut config = args.configuration(&common.set)?;
    start_threads(config.run.threads)?;
    hub::resolve_models(&mut config, &mut command, common.quiet)?;
    let Command::Init(args) = &command else { anyhow::bail!("this is `init`") };
    init::perform_looking(args, &common.set, &config)
}

/// Most threads; `run.threads` has the same bound.
const THREADS_MAX: usize = 1024;

/// Starts the threads: those of the configuration, or of rayon's variable, or one for each core.
fn start_threads(configured: usize) -> Result<()> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    let asked = std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse::<usize>().ok());
    if let (0, Some(threads)) = (configured, asked) {
        anyhow::ensure!(
            threads <= THREADS_MAX,
            "{VARIABLE} = {threads}: at most {THREADS_MAX}; 0 uses every core"
        );
    }
    if configured > 0 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(configured);
        pool.build_global().context("cannot start the threads")?;
    }
    Ok(())
}

impl Common {
    /// How much of its progress a command shows.
    fn shows(&self) -> Shows {
        match (self.json, self.quiet) {
            (true, _) => Shows::Nothing,
            (false, true) => Shows::Warnings,
            (false, false) => Shows::Everything,
        }
    }

    /// The configuration from file, environment, `--set`, and the command's own flags.
    fn load(&self, hours: Option<f64>) -> Result<Config> {
        let standard = Path::new("autodidact.toml");
        let path = self.config.as_deref().or_else(|| standard.exists().then_some(standard));
        let text = path
            .map(|p| {
                std::fs::read_to_string(p)
                    .with_context(|| format!("cannot read the configuration {}", p.display()))
            })
            .transpose()?;
        let mut overrides = from_environment(std::env::vars_os());
        overrides.extend(self.set.iter().cloned());
        overrides.extend(self.device.iter().map(|device| ("run.device".to_owned(), device.clone())));
        overrides.extend(hours.map(|hours| ("run.hours".to_owned(), hours.to_string())));
        let from = path.map_or_else(String::new, |p| format!(" (from {})", p.display()));
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let file = text.as_deref().map(|text| (text, folder));
        Config::load_from(file, &overrides).with_context(|| format!("cannot use the configuration{from}"))
    }
}

/// `AUTODIDACT_RUN__SEED=1` → (`run.seed`, `1`), in a fixed order.
fn from_environment(
    vars: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = vars
        .filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            let (section, name) = key.strip_prefix("AUTODIDACT_")?.split_once("__")?;
            Some((format!("{}.{}", section.to_lowercase(), name.to_lowercase()), value))
        })
        .collect();
    pairs.sort();
    pairs
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The error and its causes on one line each.
fn chain(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !lines.iter().any(|l| l.contains(&text)) {
            lines.push(text);
        }
    }
    lines.join("\n  caused by: ")
}

/// `autodidact generate … | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|c| c.downcast_ref::<std::io::Error>().is_some_and(terminal::is_gone))
}

/// A runtime for the rooms that are asynchronous: one thread, since SQLite has its own.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_keys_become_settings() {
        let vars = [
            ("AUTODIDACT_RUN__SEED", "4"),
            ("AUTODIDACT_NOTHING", "1"),
            ("HOME", "/"),
            ("AUTODIDACT_EVAL__SAMPLES", "2"),
        ];
        let pairs = from_environment(vars.iter().map(|(k, v)| (k.into(), v.into())));
        assert_eq!(pairs, [("eval.samples".into(), "2".into()), ("run.seed".into(), "4".into())]);
    }

    #[test]
    fn causes_are_listed_once() {
        let error = anyhow::anyhow!("inner").context("outer: inner").context("top");
        assert_eq!(chain(&error), "top\n  caused by: outer: inner");
    }
}
