//! What a run shows while it works: bars on a terminal, plain lines otherwise.
//!
//! Trajectories are committed in units of half a minute. Between two commits the bar moves by the
//! tokens that were drawn since, at the tokens that a trajectory of this phase took so far.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::terminal::note;
use crate::domain::stats::p_text;
use crate::domain::{Arm, Phase};
use crate::improve::{Event, Plan};
use crate::inspect::brief;

/// Turns the loop's events into lines and bars on standard error.
pub(super) struct Progress {
    state: Mutex<State>,
    shows: Shows,
}

/// How much is shown.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shows {
    Everything,
    /// Only what the user should know (`--quiet`).
    Warnings,
    /// Nothing at all (`--json`).
    Nothing,
}

/// Seconds between two plain lines of one phase.
pub(super) const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Columns that a line keeps to.
const WIDTH: usize = 80;
/// Share of a phase below which nothing is said about what is left of it.
const SHARE_MIN: f64 = 0.02;

struct State {
    bars: Option<Bars>,
    plan: Plan,
    began: Instant,
    phase: Option<Work>,
    /// Tokens of a unit, from the last phase of that name.
    each: HashMap<Phase, f64>,
    /// A bar that no terminal shows would leave a log silent: a line this often stands for it.
    last_line: Instant,
    /// How long each finished iteration took.
    took: Vec<f64>,
    iteration_began: Instant,
    /// When a run with hours ends.
    ends: Option<Instant>,
}

/// The bars of a terminal: the phase's, and the whole run's below it.
struct Bars {
    all: MultiProgress,
    phase: ProgressBar,
    total: ProgressBar,
}

/// A phase that is worked on.
struct Work {
    iteration: u32,
    phase: Phase,
    units: u64,
    committed: u64,
    tokens: u64,
    tokens_at_commit: u64,
    /// Tokens of a unit, before one is committed.
    each: Option<f64>,
    began: Instant,
}

impl Work {
    /// Units that are done, with those that are drawn and not yet committed.
    fn done(&self) -> f64 {
        let committed = self.committed as f64;
        let since = (self.tokens - self.tokens_at_commit) as f64;
        let pending = self.each().map_or(0.0, |each| since / each);
        (committed + pending).min(self.units as f64)
    }

    fn each(&self) -> Option<f64> {
        let measured = (self.committed > 0).then(|| self.tokens_at_commit as f64 / self.committed as f64);
        measured.or(self.each).filter(|each| *each > 0.0)
    }

    fn share(&self) -> f64 {
        if self.units == 0 { 0.0 } else { self.done() / self.units as f64 }
    }

    /// Seconds until the phase is done; `None` until that can be known.
    fn left(&self) -> Option<f64> {
        let (share, elapsed) = (self.share(), self.began.elapsed().as_secs_f64());
        (share >= SHARE_MIN && self.units > 3).then(|| elapsed * (1.0 - share) / share)
    }

    fn rate(&self) -> Option<String> {
        let rate = self.tokens as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        (self.tokens > 0).then(|| format!("{} tokens/s", grouped(rate as u64)))
    }

    /// `1,214/2,400  8,512 tokens/s  14 s left`.
    fn figures(&self) -> String {
        let mut parts = Vec::new();
        if self.units > 3 {
            parts.push(format!("{}/{}", grouped(self.done() as u64), grouped(self.units)));
        }
        parts.extend(self.rate());
        parts.push(format!("{} left", time(self.left())));
        parts.join("  ")
    }
}

impl Progress {
    pub(super) fn new(shows: Shows) -> Self {
        let now = Instant::now();
        let state = State {
            bars: None,
            plan: Plan::default(),
            began: now,
            phase: None,
            each: HashMap::new(),
            last_line: now,
            took: Vec::new(),
            iteration_began: now,
            ends: None,
        };
        Self { state: Mutex::new(state), shows }
    }

    /// Takes the bars away: what follows is the report.
    pub(super) fn finish(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.clear();
        }
    }

    pub(super) fn on_event(&self, event: Event) {
        let is_warning = matches!(event, Event::Waiting { .. } | Event::Warning { .. });
        if self.shows == Shows::Nothing || (self.shows == Shows::Warnings && !is_warning) {
            return;
        }
        // A poisoned lock means a panic elsewhere is already being reported.
        let Ok(mut state) = self.state.lock() else { return };
        match event {
            Event::Waiting { message } => state.line(&message),
            Event::Started { run, arm, resumed, plan } => state.start(run, arm, resumed, plan),
            Event::Planned { iteration, tasks, seconds, left_seconds, iterations } => {
                state.planned(iteration, tasks, (seconds, left_seconds), iterations)
            }
            Event::PhaseStarted { iteration, phase, units } => state.begin(iteration, phase, units),
            Event::Part { part } => state.part(part),
            Event::Advanced { units } => state.advance(units),
            Event::Tokens { tokens } => state.tokens(tokens),
            Event::PhaseDone { iteration, phase, seconds, note } => {
                state.done(iteration, phase, seconds, &note)
            }
            Event::IterationDone { iteration } => state.iteration_done(iteration),
            Event::Warning { message } => state.line(&format!("warning: {message}")),
        }
    }
}

impl State {
    fn start(&mut self, run: i64, arm: Arm, resumed: bool, plan: Plan) {
        self.clear();
        (self.began, self.iteration_began, self.took) = (Instant::now(), Instant::now(), Vec::new());
        self.ends = None;
        let arm = if arm == Arm::Reward { String::new() } else { format!(" · control arm {arm}") };
        let verb = if resumed { " · resumed" } else { "" };
        note(&format!(
            "autodidact {} · run {run}{arm} · seed {}{verb}",
            env!("CARGO_PKG_VERSION"),
            plan.seed
        ));
        note(&format!(
            "{} practice · {} gate · {} held-out tasks → {} (Ctrl-C is safe)",
            plan.practice, plan.gate, plan.heldout, plan.dir
        ));
        self.plan = plan;
        if std::io::stderr().is_terminal() {
            self.bars = Some(Bars::new());
            self.show();
        }
    }

    /// A run with hours planned an iteration.
    fn planned(&mut self, iteration: u32, tasks: u32, (seconds, left): (f64, f64), iterations: u32) {
        self.plan.iterations = iterations;
        self.ends = Some(Instant::now() + Duration::from_secs_f64(left.max(0.0)));
        let more = match iterations - iteration {
            0 => "the last iteration".to_owned(),
            n => format!("{n} more after it"),
        };
        let (seconds, left) = (brief(seconds), brief(left));
        let line =
            format!("{iteration:>3} plan              {tasks} tasks, about {seconds} of {left}; {more}");
        self.line(&line);
    }

    fn begin(&mut self, iteration: u32, phase: Phase, units: u64) {
        self.last_line = Instant::now();
        self.phase = Some(Work {
            iteration,
            phase,
            units,
            committed: 0,
            tokens: 0,
            tokens_at_commit: 0,
            each: self.each.get(&phase).copied(),
            began: Instant::now(),
        });
        if let Some(bars) = &self.bars {
            bars.phase.set_prefix(format!("{iteration:>3} {phase:<9}"));
        }
        self.show();
    }

    fn part(&mut self, part: &str) {
        if let (Some(bars), Some(work)) = (&self.bars, &self.phase) {
            bars.phase.set_prefix(format!("{:>3} {:<9} {part}", work.iteration, work.phase));
        }
    }

    fn advance(&mut self, units: u64) {
        if let Some(work) = &mut self.phase {
            work.committed += units;
            work.tokens_at_commit = work.tokens;
        }
        self.show();
    }

    fn tokens(&mut self, tokens: u64) {
        if let Some(work) = &mut self.phase {
            work.tokens += tokens;
        }
        self.show();
    }

    /// Brings the bars up to date; where there are none, a plain line from time to time.
    fn show(&mut self) {
        let Some(work) = &self.phase else { return };
        match &self.bars {
            Some(bars) => {
                bars.phase.set_position((1000.0 * work.share()) as u64);
                bars.phase.set_message(work.figures());
                bars.total.set_position((1000.0 * self.total_share()) as u64);
                bars.total.set_message(format!(
                    "iteration {} of {}  {} · {} left",
                    work.iteration,
                    self.plan.iterations,
                    time(Some(self.began.elapsed().as_secs_f64())),
                    time(self.total_left())
                ));
            }
            None if self.last_line.elapsed() > PLAIN_EVERY => {
                self.last_line = Instant::now();
                let (share, figures) = (100.0 * work.share(), work.figures());
                note(&format!(
                    "{}  iteration {} of {}  {:<9} {share:3.0} %  {figures}",
                    time_of_day(),
                    work.iteration,
                    self.plan.iterations,
                    work.phase
                ));
            }
            None => {}
        }
    }

    /// Share of the iterations; the one that is worked on counts by its time.
    fn total_share(&self) -> f64 {
        let all = f64::from(self.plan.iterations.max(1));
        let Some(work) = &self.phase else { return 0.0 };
        let before = f64::from(work.iteration.saturating_sub(1));
        let within = self.mean().map_or(0.0, |mean| self.iteration_seconds() / mean.max(1e-3));
        ((before + within.min(1.0) * f64::from(u8::from(work.iteration > 0))) / all).min(1.0)
    }

    /// Seconds until the run is done, from the iterations that are; `None` before the first is.
    fn total_left(&self) -> Option<f64> {
        if let Some(ends) = self.ends {
            return Some(ends.saturating_duration_since(Instant::now()).as_secs_f64());
        }
        let (mean, work) = (self.mean()?, self.phase.as_ref()?);
        let whole = f64::from(self.plan.iterations.saturating_sub(work.iteration));
        Some(whole * mean + (mean - self.iteration_seconds()).max(0.0))
    }

    fn iteration_seconds(&self) -> f64 {
        self.iteration_began.elapsed().as_secs_f64()
    }

    fn mean(&self) -> Option<f64> {
        (!self.took.is_empty()).then(|| self.took.iter().sum::<f64>() / self.took.len() as f64)
    }

    fn done(&mut self, iteration: u32, phase: Phase, seconds: f64, note: &str) {
        let rate = self.phase.as_ref().and_then(Work::rate);
        if let Some(work) = self.phase.take().filter(|work| work.phase == phase) {
            let each = work.tokens as f64 / work.units.max(1) as f64;
            if work.tokens > 0 {
                self.each.insert(phase, each);
                // What an evaluation draws is as long as what a rollout draws.
                self.each.entry(Phase::Rollout).or_insert(each);
            }
        }
        let mut line = format!("{iteration:>3} {phase:<9} {:>6}  {}", brief(seconds), reworded(note));
        if let Some(rate) = rate.filter(|rate| line.chars().count() + 2 + rate.len() < WIDTH) {
            line += &format!("  {rate}");
        }
        self.line(&line);
    }

    fn iteration_done(&mut self, iteration: u32) {
        // The base is only measured: what that took is no measure of an iteration.
        if iteration > 0 {
            self.took.push(self.iteration_seconds());
        }
        self.iteration_began = Instant::now();
    }

    /// Prints a line above the bars.
    fn line(&mut self, text: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| note(text)),
            None => note(text),
        }
    }

    fn clear(&mut self) {
        if let Some(bars) = self.bars.take() {
            // A terminal that is gone shows nothing anyway.
            bars.all.clear().unwrap_or_default();
        }
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let bar = |template: &str| {
            let bar = all.add(ProgressBar::new(1000));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        };
        let phase = bar("{prefix:<21} {bar:14}  {msg}");
        let total = bar("total                 {bar:14}  {msg}");
        Self { phase, total, all }
    }
}

/// `1,234`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `14 s`, `4:10`, `2:05:00`; a dash for what is not known.
pub(super) fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "–".to_owned() };
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, min, s) => format!("{min}:{s:02}"),
        (h, min, s) => format!("{h}:{min:02}:{s:02}"),
    }
}

/// `02:51:13`, in UTC.
pub(super) fn time_of_day() -> String {
    let now = humantime::format_rfc3339_seconds(super::process::now()).to_string();
    now.get(11..19).unwrap_or_default().to_owned()
}

/// A stored note for people, on a line: the gate's has its p-value with all digits.
fn reworded(note: &str) -> String {
    let Some((before, p)) = note.split_once("McNemar p = ") else {
        return note.replace("self-annotated", "annotated");
    };
    let (decision, gain) = before.split_once(" on ").unwrap_or((before, ""));
    let gain = gain.split_once(": ").map_or("", |(_, gain)| gain);
    p.parse().map_or_else(|_| note.to_owned(), |p| format!("{decision}: {gain}{}", p_text(p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(units: u64, committed: u64, tokens: u64, tokens_at_commit: u64, each: Option<f64>) -> Work {
        let began = Instant::now() - Duration::from_secs(10);
        let (iteration, phase) = (1, Phase::Rollout);
        Work { iteration, phase, units, committed, tokens, tokens_at_commit, each, began }
    }

    #[test]
    fn what_is_drawn_counts_before_it_is_committed() {
        assert_eq!(work(2400, 0, 5000, 0, None).done(), 0.0, "nothing is known of a trajectory's length");
        assert_eq!(work(2400, 0, 5000, 0, Some(50.0)).done(), 100.0);
        assert_eq!(work(2400, 100, 5000, 4000, Some(7.0)).done(), 125.0, "what was measured here counts");
        assert_eq!(work(100, 90, 9000, 900, None).done(), 100.0, "never more than there are");
        assert_eq!(work(0, 0, 0, 0, None).share(), 0.0);
    }

    #[test]
    fn what_is_left_is_shown_once_it_can_be_known() {
        assert_eq!(work(2400, 0, 5000, 0, None).left(), None);
        let left = work(1000, 250, 0, 0, None).left().unwrap();
        assert!((29.0..31.0).contains(&left), "{left}");
        assert_eq!(work(3, 1, 0, 0, None).left(), None, "three parts of unequal size");
        let figures = work(2400, 1214, 85_000, 85_000, None).figures();
        assert!(figures.starts_with("1,214/2,400  8,") && figures.ends_with(" s left"), "{figures}");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([None, Some(14.2), Some(250.0), Some(7500.0)].map(time), ["–", "14 s", "4:10", "2:05:00"]);
        let gate = "no regression on 200 gate tasks: +5.0 points [-1.0, +9.0], McNemar p = 1.00e0";
        assert_eq!(reworded(gate), "no regression: +5.0 points [-1.0, +9.0], p = 1");
        assert_eq!(reworded("kept 3 of 4"), "kept 3 of 4");
        assert_eq!(time_of_day().len(), 8);
    }
}
