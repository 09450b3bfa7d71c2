//! `--profile`: its clock, and where the measurements go. A run writes them to a file next to the
//! store, again after every phase, so that a process that is killed leaves what was known.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use super::inspect::style;
use super::terminal::note;
use crate::config::Config;
use crate::domain::{Arm, Phase};
use crate::improve::Event;
use crate::inspect;
use crate::ops::kernels::measure_machine;
use crate::profile::{self, Machine, Report, Timeline};
use crate::report::profile_path;

#[derive(Args, Clone, Copy)]
pub(super) struct ProfileArgs {
    /// Measure where the time goes: per phase and per operator, with tokens, floating-point operations and their share
    /// of this machine's measured peak; printed at the end, and of a run written to profile.json in its folder
    #[arg(long)]
    pub profile: bool,
}

/// Cuts the process's time into phases.
pub(super) struct Profiler {
    machine: Machine,
    /// The file that the report is written to, in addition to the terminal.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    timeline: Timeline,
    run: Option<i64>,
    resumed: bool,
    /// The phase that has begun and not ended.
    open: Option<(u32, Phase)>,
    /// The file could not be written, which was said already.
    failed: bool,
}

/// Nanoseconds since the first call.
fn nanoseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Processor time of this process, if the system reports it.
fn cpu_ns() -> Option<u64> {
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = sysinfo::System::new().ok()?;
    let only = sysinfo::ProcessesToUpdate::Some(&[pid]);
    let what = sysinfo::ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(only, false, what);
    Some(system.process(pid)?.accumulated_cpu_time() * 1_000_000)
}

impl Profiler {
    /// Measures the machine, then starts recording; `None` if that wasn't asked for.
    pub(super) fn start(args: ProfileArgs) -> Option<Self> {
        if !args.profile {
            return None;
        }
        let machine = measure_machine(nanoseconds);
        profile::install(nanoseconds);
        let timeline = Timeline::start(cpu_ns());
        let state = State { timeline, run: None, resumed: false, open: None, failed: false };
        Some(Self { machine, path: None, state: Mutex::new(state) })
    }

    /// The same, writing the file of a run of this arm.
    pub(super) fn of_arm(self, config: &Config, arm: Arm) -> Self {
        Self { path: Some(profile_path(Path::new(&config.run.dir), arm)), ..self }
    }

    /// What a run tells of itself.
    pub(super) fn on_event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { run, resumed, .. } => {
                (state.run, state.resumed) = (Some(*run), *resumed);
                state.timeline.phase(None, "open", cpu_ns());
            }
            Event::PhaseStarted { iteration, phase, .. } => state.open = Some((*iteration, *phase)),
            // Asked for every update; asking the system what they cost would cost more.
            Event::Part { part } if state.timeline.is_at(part) => {}
            Event::Part { part } => state.timeline.part(part, cpu_ns()),
            Event::PhaseDone { iteration, phase, .. } => {
                state.open = None;
                state.timeline.phase(Some(*iteration), phase.name(), cpu_ns());
                self.write(&mut state, false);
            }
            _ => {}
        }
    }

    /// What was done since the last phase was this one, of a command that isn't a run.
    pub(super) fn phase(&self, name: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.timeline.phase(None, name, cpu_ns());
    }

    /// Ends a run's profile and writes it.
    pub(super) fn finish(&self) -> Report {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open.take() {
            Some((iteration, phase)) => state.timeline.phase(Some(iteration), phase.name(), cpu_ns()),
            None => state.timeline.phase(None, "close", cpu_ns()),
        }
        self.write(&mut state, true)
    }

    /// Prints the profile of a command that isn't a run, to standard error: its output belongs to the command.
    pub(super) fn show(&self, last: &str) {
        self.phase(last);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let report = Report { ended: true, ..Report::of(&self.machine, state.timeline.segments()) };
        note(&format!("\n{}", inspect::profile(&report, &style()).trim_end()));
    }

    /// The report so far. That its file can't be written is no reason to stop a run; once is enough to say so.
    fn write(&self, state: &mut State, ended: bool) -> Report {
        let (run, resumed) = (state.run, state.resumed);
        let report = Report { run, resumed, ended, ..Report::of(&self.machine, state.timeline.segments()) };
        if let Some(path) = self.path.as_ref().filter(|_| !state.failed)
            && let Err(error) = write(path, &report)
        {
            state.failed = true;
            note(&format!("warning: {}", super::chain(&error)));
        }
        report
    }
}

/// The file appears complete or not at all.
fn write(path: &Path, report: &Report) -> Result<()> {
    let temporary = path.with_extension("json.tmp");
    let written = (|| -> Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all((serde_json::to_string_pretty(report)? + "\n").as_bytes())?;
        file.sync_all()?;
        Ok(fs::rename(&temporary, path)?)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}
