//! What is written of a profile: times, work, and shares of what the machine can do.
//!
//! An operator's seconds are thread-seconds of wall-clock time, so on a machine that others use
//! they hold the time that a thread had to wait for a core, too. What of `threads × seconds` no
//! operator has is "other": threads without work, and code that isn't measured apart.

use serde::{Deserialize, Serialize};

use super::{Count, Operator, Segment, Tokens, Totals, Unit};

/// What the machine can do, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub threads: usize,
    pub instruction_set: String,
    pub peaks: Vec<Peak>,
    pub memory: Bandwidth,
}

/// Most floating-point operations per second of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    pub unit: Unit,
    pub one_thread_flops_per_s: f64,
    pub all_threads_flops_per_s: f64,
}

/// Bytes per second of reading a buffer that is larger than most caches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    pub one_thread_bytes_per_s: f64,
    pub all_threads_bytes_per_s: f64,
}

/// Where the time of one process went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run in the store that the process worked on; null for commands without one.
    pub run: Option<i64>,
    /// Whether the run had begun in an earlier process, whose time is not in here.
    pub resumed: bool,
    /// Whether the process has ended. If it was killed, the file holds what was known at its last
    /// finished phase.
    pub ended: bool,
    pub engine_version: String,
    pub machine: Machine,
    /// From the start of the process to its last finished phase.
    pub seconds: f64,
    /// Of `threads * seconds`, what no operator has.
    pub other_seconds: f64,
    pub tokens: TokenCounts,
    pub flops: u64,
    /// Floating-point operations as a share of what all threads could have done.
    pub of_peak: Option<f64>,
    /// Over all phases, the longest first.
    pub operators: Vec<OperatorLine>,
    /// In order.
    pub phases: Vec<PhaseLine>,
}

/// A phase of one iteration, or a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseLine {
    /// Null before the first iteration and after the last.
    pub iteration: Option<u32>,
    pub phase: String,
    /// Empty for what the phase did before its first part.
    pub part: String,
    pub seconds: f64,
    /// Processor time of the whole process; null where the system doesn't report it.
    pub cpu_seconds: Option<f64>,
    /// Of `threads * seconds`, what no operator has.
    pub other_seconds: f64,
    pub tokens: TokenCounts,
    pub flops: u64,
    /// Floating-point operations as a share of what all threads could have done.
    pub of_peak: Option<f64>,
    /// The longest first.
    pub operators: Vec<OperatorLine>,
}

/// One operator in one phase, or in all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorLine {
    pub operator: Operator,
    /// Thread-seconds.
    pub seconds: f64,
    /// Of `threads * seconds` of the phase.
    pub share: f64,
    /// Pieces that one thread computed.
    pub pieces: u64,
    pub flops: u64,
    pub flops_per_s: f64,
    /// Of a thread's share of the peak while all threads compute; null without floating-point
    /// operations.
    pub of_peak: Option<f64>,
    /// Weights, keys and values that were read, some of them from caches.
    pub bytes: u64,
    pub bytes_per_s: f64,
}

/// Tokens by what was done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Drawn from a policy.
    pub drawn: u64,
    /// Of prompts, read before drawing.
    pub prompted: u64,
    /// Read without drawing.
    pub read: u64,
    /// Of training examples, prompts included.
    pub trained: u64,
}

impl TokenCounts {
    fn of(totals: &Totals) -> Self {
        Self {
            drawn: totals.tokens(Tokens::Drawn),
            prompted: totals.tokens(Tokens::Prompted),
            read: totals.tokens(Tokens::Read),
            trained: totals.tokens(Tokens::Trained),
        }
    }

    /// All tokens.
    pub fn sum(self) -> u64 {
        self.drawn + self.prompted + self.read + self.trained
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            drawn: self.drawn + other.drawn,
            prompted: self.prompted + other.prompted,
            read: self.read + other.read,
            trained: self.trained + other.trained,
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// `a / b`, 0 if nothing took no time.
fn rate(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl Machine {
    /// Seconds that all threads together would need at their peak.
    fn least_seconds(&self, flops: &[u64]) -> Option<f64> {
        if flops.iter().all(|&n| n == 0) {
            return None;
        }
        let of_unit = |unit: &Unit| {
            // A unit that the machine hasn't got did nothing.
            if flops[*unit as usize] == 0 {
                return Some(0.0);
            }
            let peak = self.peaks.iter().find(|peak| peak.unit == *unit)?.all_threads_flops_per_s;
            Some(rate(flops[*unit as usize] as f64, peak))
        };
        Unit::ALL.iter().map(of_unit).sum()
    }

    fn thread_seconds(&self, seconds: f64) -> f64 {
        seconds * self.threads as f64
    }

    fn line(&self, operator: Operator, count: Count, wall: f64) -> OperatorLine {
        let (seconds, flops) = (seconds(count.ns), count.flops.iter().sum());
        OperatorLine {
            operator,
            seconds,
            share: rate(seconds, self.thread_seconds(wall)),
            pieces: count.spans,
            flops,
            flops_per_s: rate(flops as f64, seconds),
            of_peak: self.least_seconds(&count.flops).map(|least| rate(self.thread_seconds(least), seconds)),
            bytes: count.bytes,
            bytes_per_s: rate(count.bytes as f64, seconds),
        }
    }

    fn lines(&self, totals: &Totals, wall: f64) -> Vec<OperatorLine> {
        let counts = Operator::ALL.iter().map(|&operator| (operator, totals.of(operator)));
        let known = counts.filter(|(_, count)| *count != Count::default());
        let mut lines: Vec<OperatorLine> = known.map(|(o, count)| self.line(o, count, wall)).collect();
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        lines
    }

    fn other(&self, lines: &[OperatorLine], wall: f64) -> f64 {
        (self.thread_seconds(wall) - lines.iter().map(|line| line.seconds).sum::<f64>()).max(0.0)
    }

    /// All floating-point operations, and their share of the peak.
    fn flops(&self, totals: &Totals, wall: f64) -> (u64, Option<f64>) {
        let of_unit = |u: usize| totals.operators.iter().map(|count| count.flops[u]).sum::<u64>();
        let flops: Vec<u64> = (0..Unit::ALL.len()).map(of_unit).collect();
        (flops.iter().sum(), self.least_seconds(&flops).map(|least| rate(least, wall)))
    }

    fn phase(&self, segment: &Segment) -> PhaseLine {
        let Segment { iteration, phase, part, ns, cpu_ns, totals } = segment;
        let wall = seconds(*ns);
        let operators = self.lines(totals, wall);
        let (flops, of_peak) = self.flops(totals, wall);
        PhaseLine {
            iteration: *iteration,
            phase: phase.clone(),
            part: part.clone(),
            seconds: wall,
            cpu_seconds: cpu_ns.map(seconds),
            other_seconds: self.other(&operators, wall),
            tokens: TokenCounts::of(totals),
            flops,
            of_peak,
            operators,
        }
    }
}

impl Report {
    /// Of the segments that are known so far, for a process that is still at work and has no run.
    pub fn of(machine: &Machine, segments: &[Segment]) -> Self {
        let wall = seconds(segments.iter().map(|segment| segment.ns).sum());
        let totals = segments.iter().fold(Totals::default(), |sum, s| sum.plus(&s.totals));
        let operators = machine.lines(&totals, wall);
        let (flops, of_peak) = machine.flops(&totals, wall);
        Self {
            run: None,
            resumed: false,
            ended: false,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: machine.clone(),
            seconds: wall,
            other_seconds: machine.other(&operators, wall),
            tokens: TokenCounts::of(&totals),
            flops,
            of_peak,
            operators,
            phases: segments.iter().map(|segment| machine.phase(segment)).collect(),
        }
    }
}
