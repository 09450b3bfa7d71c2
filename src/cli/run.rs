//! `autodidact run`: drives the loop and ends with what it gave.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use super::doctor::Fitted;
use super::events::EventLines;
use super::inspect::{VERDICT, run_text, style};
use super::process::give_back_freed_memory;
use super::profile::{ProfileArgs, Profiler};
use super::progress::{Progress, Shows};
use super::terminal::{note, print};
use super::{Common, EXIT_STOPPED, block_on};
use crate::config::Config;
use crate::domain::{Arm, RunState};
use crate::improve::{self, Event, Expected, Host, Outcome};
use crate::policy::PolicyKind;
use crate::profile::Report;
use crate::report::{self, RunReport, RunWithProfile};
use crate::store::Run;

#[derive(Args)]
pub(super) struct RunArgs {
    /// Run control arms in addition to the loop proper, at the same budget: random, oracle (reads
    /// gold answers), format (any answer that can be one) or easy-only; several with commas
    #[arg(long, value_name = "ARM", value_parser = control_arm, value_delimiter = ',')]
    control: Vec<Arm>,
    /// Hours that the run may work, report included (short for --set run.hours=…): measuring and
    /// iterations are made to fit; control arms share them
    #[arg(long, value_name = "HOURS")]
    hours: Option<f64>,
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

    /// The hours that are asked for.
    pub(super) fn hours(&self) -> Option<f64> {
        self.hours
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
    let lines = common.json.then(|| EventLines::new(common.quiet));
    match (drive(common, config, args, lines.as_ref()), &lines) {
        (Err(error), Some(lines)) => lines.failed(error),
        (ended, _) => ended,
    }
}

/// Runs the arm, and ends with what it gave.
fn drive(common: &Common, config: &Config, args: &RunArgs, lines: Option<&EventLines>) -> Result<ExitCode> {
    let progress = Progress::new(common.shows());
    let first = args.control.first().copied().unwrap_or(Arm::Reward);
    let began = Instant::now();
    let (config, expected) = &fitted(common, config, args)?;
    // The hours are those of this process, too.
    let expected = expected.map(|found| Expected { probe: began.elapsed().as_secs_f64(), ..found });
    let pulse = Pulse::start(began);
    let profiler = Profiler::start(args.profile).map(|profiler| profiler.of_arm(config, first));
    let host = Host {
        now: &now,
        seconds: &|| began.elapsed().as_secs_f64(),
        memory_free: &|| super::doctor::memory_free().ok(),
        keep_alive: &|beat| pulse.set(beat),
        expected,
        stop: &STOP,
        on_event: &|event| {
            if matches!(event, Event::PhaseDone { .. }) {
                give_back_freed_memory();
            }
            if let Some(profiler) = &profiler {
                profiler.on_event(&event);
            }
            if let Some(lines) = lines {
                lines.on_event(&event);
            }
            progress.on_event(event);
        },
        crash_at: args.crash_at,
        milestones: AtomicU64::new(0),
    };
    let kind = if args.policy == "scripted" { PolicyKind::Scripted } else { PolicyKind::Model };
    let mut arms = args.control.clone();
    if arms.is_empty() {
        arms.push(Arm::Reward);
    } else if block_on(needs_main(config))? {
        note(&format!("the control arm `{first}` is compared with the loop proper, which comes first"));
        arms.insert(0, Arm::Reward);
    }
    let mut outcome = block_on(improve::run(&host, config, kind, arms[0]))?;
    for &arm in &arms[1..] {
        if outcome.state == RunState::Done {
            outcome = block_on(improve::run(&host, config, kind, arm))?;
        }
    }
    if args.control.len() > 1 && outcome.state == RunState::Done {
        // The loop's report has all arms next to one another.
        outcome.run = block_on(main_run(config))?.map_or(outcome.run, |main| main.id);
    }
    progress.finish();
    let profile = profiler.map(|profiler| profiler.finish());
    block_on(summary(config, args, &outcome, profile, lines))?;
    Ok(match outcome.state {
        RunState::Stopped => ExitCode::from(EXIT_STOPPED),
        _ => ExitCode::SUCCESS,
    })
}

/// Calls what a run leaves as a sign of life, every few seconds, from a thread: a unit can take
/// minutes.
struct Pulse(Arc<Mutex<Beat>>);

type Beat = Option<Box<dyn Fn(f64) + Send>>;

impl Pulse {
    const EVERY: Duration = Duration::from_secs(5);

    fn start(began: Instant) -> Self {
        let beat = Arc::new(Mutex::new(Beat::None));
        let own = Arc::downgrade(&beat);
        std::thread::spawn(move || {
            while let Some(beat) = own.upgrade() {
                // A poisoned lock means a panic elsewhere is already being reported.
                if let Ok(beat) = beat.lock()
                    && let Some(beat) = beat.as_ref()
                {
                    beat(began.elapsed().as_secs_f64());
                }
                drop(beat);
                std::thread::sleep(Self::EVERY);
            }
        });
        Self(beat)
    }

    fn set(&self, beat: Box<dyn Fn(f64) + Send>) {
        if let Ok(mut set) = self.0.lock() {
            *set = Some(beat);
        }
    }
}

/// The configuration for the hours that the loop proper has: its control arms share them.
fn fitted(common: &Common, config: &Config, args: &RunArgs) -> Result<(Config, Option<Expected>)> {
    let mut config = config.clone();
    config.run.hours /= (1 + args.control.len()) as f64;
    if !args.needs_model() {
        return Ok((config, None));
    }
    let (config, Fitted { line, expected }) = super::doctor::fit_hours(&config)?;
    if let Some(line) = line.filter(|_| common.shows() == Shows::Everything) {
        note(&line);
    }
    Ok((config, expected))
}

/// Whether the loop proper has yet to be run, or to be ended, before a control arm.
async fn needs_main(config: &Config) -> Result<bool> {
    if !Path::new(&config.run.dir).join(improve::STORE_FILE).exists() {
        return Ok(true);
    }
    // An older schema is brought up to date by the run, which then finds what is missing.
    let main = main_run(config).await;
    Ok(main.is_ok_and(|main| main.is_none_or(|main| main.state != RunState::Done)))
}

/// The stored run of the loop proper.
async fn main_run(config: &Config) -> Result<Option<Run>> {
    super::inspect::reader(config).await?.run_of_arm(Arm::Reward).await
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
    humantime::format_rfc3339_seconds(super::process::now()).to_string()
}

async fn summary(
    config: &Config,
    args: &RunArgs,
    outcome: &Outcome,
    profile: Option<Report>,
    lines: Option<&EventLines>,
) -> Result<()> {
    let reader = super::inspect::reader(config).await?;
    let report = report::run(&reader, outcome.run, VERDICT).await?;
    let report = RunWithProfile { report, profile };
    if let Some(lines) = lines {
        return lines.last(outcome.stopped.as_deref(), &report);
    }
    print(&run_text(&report, &style()))?;
    if let Some(reason) = &outcome.stopped {
        return print(&format!("\nstopped: {reason}\nThe same command resumes from here.\n"));
    }
    let kept = match report.report.iterations.iter().rfind(|line| line.kept > 0) {
        Some(line) => reader.selections(outcome.run, line.iteration).await?,
        None => Vec::new(),
    };
    let kept = kept.iter().find(|selection| selection.reason.is_kept()).map(|selection| selection.trajectory);
    print(&format!("\n{}", next_steps(config, args, &report.report, kept)))
}

/// Commands that show something new, one a line, after anything that the user should know first.
fn next_steps(config: &Config, args: &RunArgs, report: &RunReport, kept: Option<i64>) -> String {
    let planned = report.iterations_planned;
    let mut notes = String::new();
    if report.arm == Arm::Reward && config.run.hours == 0.0 && planned > config.run.iterations {
        notes += &format!(
            "run.iterations = {} asks for fewer than the {planned} that are done; nothing was removed.\n",
            config.run.iterations
        );
    }
    if !args.needs_model() {
        notes += "A scripted run: a script wrote the answers, and no weights were trained.\n\
                  It shows the loop, not a gain.\n";
    }
    let promoted =
        report.iterations.iter().filter(|line| line.promoted == Some(true)).map(|line| line.iteration);
    let which = if report.arm == Arm::Reward { String::new() } else { format!(" --run {}", report.run) };
    let mut steps = Vec::new();
    if let Some(id) = kept {
        steps.push((format!("inspect trajectory {id}"), "a kept one: thoughts and scores".to_owned()));
    }
    if args.needs_model() {
        let policy = match promoted.max() {
            Some(iteration) => format!("the new policy (iteration {iteration})"),
            None => "the base policy: no candidate was promoted".to_owned(),
        };
        steps.push((format!("generate{which} q.jsonl"), format!("ask {policy}")));
        steps.push((format!("export policy{which} --out night"), "take it away".to_owned()));
    }
    if report.arm == Arm::Reward {
        let more = match config.run.hours > 0.0 {
            true => format!("run --hours {}", (20.0 * config.run.hours).round() / 10.0),
            false => format!("run --set run.iterations={}", planned + 3),
        };
        steps.push((more, "go on from here".to_owned()));
    } else {
        steps.push(("inspect run".to_owned(), "the loop proper, next to its arms".to_owned()));
    }
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let lines = steps.iter().map(|(command, what)| format!("  autodidact {command:<width$}  {what}\n"));
    notes + &lines.collect::<String>()
}
