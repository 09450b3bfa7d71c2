//! What a run shows while it works: progress bars on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::note;
use crate::domain::{Arm, Phase};
use crate::improve::Event;

/// Turns the loop's events into lines and bars on standard error.
pub(super) struct Progress {
    state: Mutex<State>,
    quiet: bool,
}

struct State {
    bar: Option<ProgressBar>,
    tokens: u64,
    phase_started: Instant,
    /// A bar that no terminal shows would leave a log silent: say something this often instead.
    last_line: Instant,
    iteration: u32,
}

/// Seconds between two plain lines of one phase.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// `quiet` shows nothing at all (`--json`).
    pub(super) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let state = State { bar: None, tokens: 0, phase_started: now, last_line: now, iteration: 0 };
        Self { state: Mutex::new(state), quiet }
    }

    pub(super) fn on_event(&self, event: Event) {
        if self.quiet {
            return;
        }
        // A poisoned lock means a panic elsewhere is already being reported.
        let Ok(mut state) = self.state.lock() else { return };
        match event {
            Event::Waiting { message } => state.line(&message),
            Event::Started { run, arm, resumed } => started(run, arm, resumed),
            Event::PhaseStarted { iteration, phase, units } => state.begin(iteration, phase, units),
            Event::Part { .. } => {}
            Event::Advanced { units } => state.advance(units),
            Event::Tokens { tokens } => state.tokens(tokens),
            Event::PhaseDone { iteration, phase, seconds, note } => {
                state.done(iteration, phase, seconds, &note)
            }
            Event::IterationDone { .. } => {}
            Event::Warning { message } => state.line(&format!("warning: {message}")),
        }
    }
}

fn started(run: i64, arm: Arm, resumed: bool) {
    let arm = if arm == Arm::Reward { String::new() } else { format!(", control arm `{arm}`") };
    let verb = if resumed { "resuming" } else { "starting" };
    note(&format!("{verb} run {run}{arm}"));
}

impl State {
    fn begin(&mut self, iteration: u32, phase: Phase, units: u64) {
        (self.tokens, self.phase_started, self.last_line) = (0, Instant::now(), Instant::now());
        self.iteration = iteration;
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(units), ProgressDrawTarget::stderr());
        let template = "  {prefix} [{bar:24}] {pos}/{len} {msg} ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("iteration {iteration} {phase:<9}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn advance(&mut self, units: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(units);
        }
    }

    fn tokens(&mut self, tokens: u64) {
        self.tokens += tokens;
        let rate = self.rate();
        match &self.bar {
            Some(bar) => bar.set_message(format!("{rate} tokens/s")),
            None if self.last_line.elapsed() > PLAIN_EVERY => {
                self.last_line = Instant::now();
                let (iteration, tokens) = (self.iteration, self.tokens);
                note(&format!("  iteration {iteration}: {tokens} tokens so far, {rate} tokens/s"));
            }
            None => {}
        }
    }

    fn rate(&self) -> u64 {
        (self.tokens as f64 / self.phase_started.elapsed().as_secs_f64().max(1e-3)) as u64
    }

    fn done(&mut self, iteration: u32, phase: Phase, seconds: f64, note: &str) {
        let rate = if self.tokens > 0 { format!("  ({} tokens/s)", self.rate()) } else { String::new() };
        self.line(&format!("  iteration {iteration} {phase:<9} {seconds:6.1} s  {note}{rate}"));
    }

    /// Prints a line where a bar may be.
    fn line(&mut self, text: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        note(text);
    }
}
