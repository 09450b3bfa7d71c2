//! `autodidact run`: drives the loop and ends with what it gave.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use super::inspect::{VERDICT, run_text, style};
use super::process::give_back_freed_memory;
use super::profile::{ProfileArgs, Profiler};
use super::progress::Progress;
use super::terminal::{note, pretty, print};
use super::{Common, EXIT_STOPPED, block_on};
use crate::config::Config;
use crate::domain::{Arm, RunState};
use crate::improve::{self, Event, Host, Outcome};
use crate::policy::{PolicyKind, checkpoints};
use crate::profile::Report;
use crate::report::{self, RunWithProfile};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Run a control arm in addition to the loop proper, at the same budget: random, oracle (reads
    /// gold answers) or easy-only
    #[arg(long, value_name = "ARM", value_parser = control_arm)]
    control: Option<Arm>,
    /// What produces tokens: the model, or a script without weights that exercises the loop
    #[arg(long, value_name = "POLICY", default_value = "model", value_parser = ["model", "scripted"])]
    policy: String,
    #[command(flatten)]
    profile: ProfileArgs,
    /// Abort at this write (for crash tests)
    #[arg(long, hide = true, default_value_t = 0)]
    crash_at: u64,
}

impl RunArgs {
    /// Whether the run is one of the configured model.
    pub(super) fn needs_model(&self) -> bool {
        self.policy == "model"
    }
}

fn control_arm(text: &str) -> Result<Arm, String> {
    match text.parse()? {
        Arm::Reward => Err("`reward` is the loop proper: leave --control out".into()),
        arm => Ok(arm),
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

pub(super) fn perform(common: &Common, config: &Config, args: &RunArgs) -> Result<ExitCode> {
    on_interrupt()?;
    let progress = Progress::new(common.json);
    let arm = args.control.unwrap_or(Arm::Reward);
    let profiler = Profiler::start(args.profile).map(|profiler| profiler.of_arm(config, arm));
    let began = Instant::now();
    let host = Host {
        now: &now,
        seconds: &|| began.elapsed().as_secs_f64(),
        memory_free: &|| super::doctor::memory_free().ok(),
        stop: &STOP,
        on_event: &|event| {
            if matches!(event, Event::PhaseDone { .. }) {
                give_back_freed_memory();
            }
            if let Some(profiler) = &profiler {
                profiler.on_event(&event);
            }
            progress.on_event(event);
        },
        crash_at: args.crash_at,
        milestones: AtomicU64::new(0),
    };
    let kind = if args.policy == "scripted" { PolicyKind::Scripted } else { PolicyKind::Model };
    let outcome = block_on(improve::run(&host, config, kind, arm))?;
    let profile = profiler.map(|profiler| profiler.finish());
    block_on(summary(common, config, &outcome, profile))?;
    Ok(match outcome.state {
        RunState::Stopped => ExitCode::from(EXIT_STOPPED),
        _ => ExitCode::SUCCESS,
    })
}

/// First Ctrl-C: finish the unit and stop; second: stop now. Both resume.
fn on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            note("stopped now; the same command resumes");
            std::process::exit(i32::from(EXIT_STOPPED));
        }
        note("finishing the current unit; press Ctrl-C again to stop now");
    })
    .context("cannot handle Ctrl-C")
}

/// Wall-clock time as RFC 3339 in UTC, to the second.
fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

async fn summary(common: &Common, config: &Config, outcome: &Outcome, profile: Option<Report>) -> Result<()> {
    let reader = super::inspect::reader(config).await?;
    let report = report::run(&reader, outcome.run, VERDICT).await?;
    let report = RunWithProfile { report, profile };
    if common.json {
        return print(&pretty(&report)?);
    }
    print(&run_text(&report, &style()))?;
    print(&match &outcome.stopped {
        Some(reason) => format!("\nstopped: {reason}\nThe same command resumes from here.\n"),
        None => format!("\n{}\n", next_steps(config)),
    })
}

fn next_steps(config: &Config) -> String {
    let dir = &config.run.dir;
    format!(
        "Everything is in {dir}/{}; the weights are in {dir}/{}.\n\
         Next: `autodidact inspect iteration 1` for what was kept and why, `autodidact inspect trajectory 1` for \
         one of them,\n      `autodidact run --control random` for the same budget spent at random, `autodidact \
         verify` to check every hash.",
        improve::STORE_FILE,
        checkpoints::FOLDER
    )
}
