//! `run --json`: what happens in a run as JSON lines on standard output, the report last.
//!
//! Contract: each line is an object with `event` and `time`. A field keeps its name and meaning;
//! events and fields may be added. The last line is `report`, `stopped` or `error`.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::terminal::{is_gone, json_line};
use crate::domain::{Arm, Phase};
use crate::improve::Event;

/// Least time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Turns the loop's events into lines.
pub(super) struct EventLines {
    state: Mutex<State>,
    /// Whether only warnings and the last line are wanted.
    quiet: bool,
}

#[derive(Default)]
struct State {
    run: Option<i64>,
    work: Option<Work>,
}

/// A phase that is worked on.
struct Work {
    iteration: u32,
    phase: Phase,
    units: u64,
    done: u64,
    tokens: u64,
    began: Instant,
    shown: Instant,
}

/// A line, without what every line has. Its fields are in the order in which they are printed.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Line<'a, R = ()> {
    Message {
        #[serde(skip)]
        event: &'static str,
        message: &'a str,
    },
    Started {
        arm: Arm,
        resumed: bool,
        version: &'static str,
        seed: u64,
        iterations: u32,
        practice: usize,
        gate: usize,
        heldout: usize,
        dir: &'a str,
    },
    Planned {
        iteration: u32,
        tasks: u32,
        seconds: f64,
        left_seconds: f64,
        iterations: u32,
    },
    Phase {
        iteration: u32,
        phase: Phase,
        units: u64,
    },
    Progress {
        iteration: u32,
        phase: Phase,
        done: u64,
        units: u64,
        tokens: u64,
        seconds: f64,
    },
    PhaseDone {
        iteration: u32,
        phase: Phase,
        seconds: f64,
        note: &'a str,
    },
    IterationDone {
        iteration: u32,
    },
    Report {
        report: R,
    },
    Stopped {
        reason: &'a str,
        report: R,
    },
}

/// What every line has, and the rest of it.
#[derive(Serialize)]
struct Stamped<'a, R: Serialize> {
    event: &'static str,
    /// RFC 3339, in UTC.
    time: String,
    run: Option<i64>,
    #[serde(flatten)]
    line: &'a Line<'a, R>,
}

impl EventLines {
    pub(super) fn new(quiet: bool) -> Self {
        Self { state: Mutex::default(), quiet }
    }

    /// Prints what happened, if it is worth a line now. Progress is advisory: that it can't be
    /// written is no reason to stop.
    pub(super) fn on_event(&self, event: &Event) {
        // A poisoned lock means a panic elsewhere is already being reported.
        let Ok(mut state) = self.state.lock() else { return };
        let line = state.line(event).filter(|line| !self.quiet || matches!(line, Line::Message { .. }));
        let _advisory = line.map(|line| write(state.run, &line));
    }

    /// Prints the last line of a run that ended or stopped.
    ///
    /// # Errors
    /// Standard output can't be written, for example because its disk is full.
    pub(super) fn last(&self, stopped: Option<&str>, report: &impl Serialize) -> Result<()> {
        self.end(&match stopped {
            None => Line::Report { report },
            Some(reason) => Line::Stopped { reason, report },
        })
    }

    /// Prints the last line of a run that failed, and hands the error on.
    pub(super) fn failed<T>(&self, error: anyhow::Error) -> Result<T> {
        let message = super::chain(&error);
        let line: Line = Line::Message { event: "error", message: &message };
        let _reported_anyway = self.end(&line);
        Err(error)
    }

    fn end(&self, line: &Line<impl Serialize>) -> Result<()> {
        let Ok(state) = self.state.lock() else { bail!("the run ended in a panic") };
        write(state.run, line)
    }
}

impl<R> Line<'_, R> {
    const fn event(&self) -> &'static str {
        match self {
            Self::Message { event, .. } => event,
            Self::Started { .. } => "started",
            Self::Planned { .. } => "planned",
            Self::Phase { .. } => "phase",
            Self::Progress { .. } => "progress",
            Self::PhaseDone { .. } => "phase_done",
            Self::IterationDone { .. } => "iteration_done",
            Self::Report { .. } => "report",
            Self::Stopped { .. } => "stopped",
        }
    }
}

impl State {
    /// The line for an event, if there is one.
    fn line<'a>(&mut self, event: &'a Event) -> Option<Line<'a>> {
        Some(match event {
            Event::Waiting { message } => Line::Message { event: "waiting", message },
            Event::Warning { message } => Line::Message { event: "warning", message },
            Event::Started { run, arm, resumed, plan } => {
                *self = Self { run: Some(*run), work: None };
                Line::Started {
                    arm: *arm,
                    resumed: *resumed,
                    version: env!("CARGO_PKG_VERSION"),
                    seed: plan.seed,
                    iterations: plan.iterations,
                    practice: plan.practice,
                    gate: plan.gate,
                    heldout: plan.heldout,
                    dir: &plan.dir,
                }
            }
            &Event::Planned { iteration, tasks, seconds, left_seconds, iterations } => {
                Line::Planned { iteration, tasks, seconds, left_seconds, iterations }
            }
            Event::PhaseStarted { iteration, phase, units } => {
                let (iteration, phase, units, now) = (*iteration, *phase, *units, Instant::now());
                let work = Work { iteration, phase, units, done: 0, tokens: 0, began: now, shown: now };
                self.work = Some(work);
                Line::Phase { iteration, phase, units }
            }
            Event::Part { .. } => return None,
            Event::Advanced { units } => return self.progress(*units, 0),
            Event::Tokens { tokens } => return self.progress(0, *tokens),
            Event::PhaseDone { iteration, phase, seconds, note } => {
                self.work = None;
                Line::PhaseDone { iteration: *iteration, phase: *phase, seconds: *seconds, note }
            }
            Event::IterationDone { iteration } => Line::IterationDone { iteration: *iteration },
        })
    }

    /// Counts, and makes a line of it from time to time.
    fn progress(&mut self, units: u64, tokens: u64) -> Option<Line<'static>> {
        let work = self.work.as_mut()?;
        work.done += units;
        work.tokens += tokens;
        if work.shown.elapsed() < PROGRESS_EVERY {
            return None;
        }
        work.shown = Instant::now();
        let Work { iteration, phase, units, done, tokens, began, .. } = *work;
        Some(Line::Progress { iteration, phase, done, units, tokens, seconds: began.elapsed().as_secs_f64() })
    }
}

/// Writes a line with the time and the run. A reader that has gone away is no failure.
fn write(run: Option<i64>, line: &Line<impl Serialize>) -> Result<()> {
    let time = humantime::format_rfc3339_millis(super::process::now()).to_string();
    let mut out = io::stdout().lock();
    let stamped = Stamped { event: line.event(), time, run, line };
    match json_line(&mut out, &stamped).and_then(|()| Ok(out.flush()?)) {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_gone) => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_bounded_and_counts_everything() {
        let mut state = State::default();
        assert_eq!(state.line(&Event::Tokens { tokens: 5 }), None, "no phase yet");
        let begun = Event::PhaseStarted { iteration: 1, phase: Phase::Rollout, units: 100 };
        assert_eq!(state.line(&begun).unwrap().event(), "phase");
        for _ in 0..1000 {
            assert_eq!(state.line(&Event::Tokens { tokens: 2 }), None, "within a second");
        }
        state.work.as_mut().unwrap().shown -= PROGRESS_EVERY;
        match state.line(&Event::Advanced { units: 7 }) {
            Some(Line::Progress {
                iteration: 1,
                phase: Phase::Rollout,
                done: 7,
                units: 100,
                tokens: 2000,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(state.line(&Event::Advanced { units: 1 }), None);
    }
}
