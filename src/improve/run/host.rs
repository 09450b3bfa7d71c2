//! What the loop needs from the process around it: clock, stop request, and a watcher.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::timetable::Expected;
use crate::domain::{Arm, Phase};

/// What a run is to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub iterations: u32,
    /// Tasks to practise on, to decide promotion with, and to report.
    pub practice: usize,
    pub gate: usize,
    pub heldout: usize,
    /// The run's folder.
    pub dir: String,
}

/// Something worth showing while the loop runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run is in another process's hands, and this one waits a few seconds for it.
    Waiting {
        message: String,
    },
    /// A run was begun or picked up.
    Started {
        run: i64,
        arm: Arm,
        resumed: bool,
        plan: Plan,
    },
    /// A run with hours decided about an iteration before it begins.
    Planned {
        iteration: u32,
        /// Train tasks that it rolls out.
        tasks: u32,
        /// How long it is expected to take.
        seconds: f64,
        /// Time that the run has left.
        left_seconds: f64,
        /// Iterations that the run is expected to have.
        iterations: u32,
    },
    /// A phase began, with this many units to do: trajectories to draw, updates to make, or parts
    /// of the phase.
    PhaseStarted {
        iteration: u32,
        phase: Phase,
        units: u64,
    },
    /// The phase began this part of it.
    Part {
        part: &'static str,
    },
    /// This many units were committed.
    Advanced {
        units: u64,
    },
    /// Tokens were drawn or trained on.
    Tokens {
        tokens: u64,
    },
    PhaseDone {
        iteration: u32,
        phase: Phase,
        seconds: f64,
        note: String,
    },
    /// An iteration was measured and decided.
    IterationDone {
        iteration: u32,
    },
    /// A message for the user, also stored.
    Warning {
        message: String,
    },
}

/// The process around the loop. Compute rooms get none of it.
pub struct Host<'a> {
    /// Wall-clock time as RFC 3339 text, for rows that say when.
    pub now: &'a (dyn Fn() -> String + Sync),
    /// Seconds since some fixed moment, for durations and limits.
    pub seconds: &'a (dyn Fn() -> f64 + Sync),
    /// Bytes of memory that are free, if the system reports it.
    pub memory_free: &'a (dyn Fn() -> Option<u64> + Sync),
    /// Takes what is to be called every few seconds, with the host's seconds, while the run lives.
    pub keep_alive: &'a (dyn Fn(Box<dyn Fn(f64) + Send>) + Sync),
    /// What a run with hours is expected to take, from a probe before it.
    pub expected: Option<Expected>,
    /// Set by the first Ctrl-C: finish the current unit, commit it, stop.
    pub stop: &'a AtomicBool,
    pub on_event: &'a (dyn Fn(Event) + Sync),
    /// Abort the process at this milestone (counted from 1): how the crash tests die in every gap
    /// between two writes. 0 never does.
    pub crash_at: u64,
    pub milestones: AtomicU64,
}

impl Host<'_> {
    /// Marks a place just before or after something durable happened.
    pub fn milestone(&self) {
        let reached = self.milestones.fetch_add(1, Ordering::Relaxed) + 1;
        if reached == self.crash_at {
            std::process::abort();
        }
    }

    /// Whether the user asked the run to stop.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Awaits a write, with a milestone just before it and just after it.
    ///
    /// # Errors
    /// Those of the write.
    pub async fn durable<T, E>(&self, write: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.milestone();
        let written = write.await?;
        self.milestone();
        Ok(written)
    }

    /// Shows how many units a phase has.
    pub fn announce(&self, iteration: u32, phase: Phase, units: usize) {
        (self.on_event)(Event::PhaseStarted { iteration, phase, units: units as u64 });
    }

    /// Reports tokens that were sampled or read.
    pub fn tokens(&self, tokens: usize) {
        (self.on_event)(Event::Tokens { tokens: tokens as u64 });
    }

    /// Reports what the phase does next.
    pub fn part(&self, part: &'static str) {
        (self.on_event)(Event::Part { part });
    }

    /// Reports that `units` of the phase are done.
    pub fn advanced(&self, units: usize) {
        (self.on_event)(Event::Advanced { units: units as u64 });
    }
}
