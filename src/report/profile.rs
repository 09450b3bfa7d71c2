//! Where a run's time went: the file that its last process with `--profile` wrote next to the
//! store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::RunReport;
use crate::domain::{Arm, Phase};
use crate::profile::{Operator, PhaseLine, Report, TokenCounts};

/// A run's report, and where its time went if that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunWithProfile {
    #[serde(flatten)]
    pub report: RunReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Report>,
}

/// The profile of this arm's run in the run's folder: every arm there has its own file.
pub fn profile_path(dir: &Path, arm: Arm) -> PathBuf {
    match arm {
        Arm::Reward => dir.join("profile.json"),
        arm => dir.join(format!("profile-{arm}.json")),
    }
}

/// What the last process with `--profile` measured of this run; `None` if there is no such file, or
/// if it is of another run.
///
/// # Errors
/// If the file can't be read, or another version wrote it.
pub fn measured_profile(dir: &Path, arm: Arm, run: i64) -> Result<Option<Report>> {
    let path = profile_path(dir, arm);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a profile of this version", path.display()))?;
    Ok((report.run == Some(run)).then_some(report))
}

/// A part of a phase, summed over all iterations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseSum {
    pub phase: String,
    /// Empty for what the phase did before its first part.
    pub part: String,
    pub seconds: f64,
    /// Processor time, where the system reports it.
    pub cpu_seconds: Option<f64>,
    /// Of `threads * seconds`, what no operator has.
    pub other_seconds: f64,
    pub tokens: TokenCounts,
    pub flops: u64,
    /// Seconds that the floating-point operations would take at the machine's peak.
    pub seconds_at_peak: Option<f64>,
    /// Thread-seconds of each operator.
    pub operators: Vec<(Operator, f64)>,
}

/// The parts of the phases, in the order in which phases come.
pub fn phase_sums(report: &Report) -> Vec<PhaseSum> {
    let mut sums: Vec<PhaseSum> = Vec::new();
    for line in report.phases.iter().map(PhaseSum::of) {
        match sums.iter_mut().find(|sum| (&sum.phase, &sum.part) == (&line.phase, &line.part)) {
            Some(sum) => sum.add(line),
            None => sums.push(line),
        }
    }
    sums.sort_by_key(PhaseSum::rank);
    sums
}

impl PhaseSum {
    fn of(line: &PhaseLine) -> Self {
        Self {
            phase: line.phase.clone(),
            part: line.part.clone(),
            seconds: line.seconds,
            cpu_seconds: line.cpu_seconds,
            other_seconds: line.other_seconds,
            tokens: line.tokens,
            flops: line.flops,
            seconds_at_peak: line.of_peak.map(|share| share * line.seconds),
            operators: line.operators.iter().map(|o| (o.operator, o.seconds)).collect(),
        }
    }

    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.cpu_seconds = self.cpu_seconds.zip(other.cpu_seconds).map(|(a, b)| a + b);
        self.other_seconds += other.other_seconds;
        self.tokens = self.tokens.plus(other.tokens);
        self.flops += other.flops;
        self.seconds_at_peak = match (self.seconds_at_peak, other.seconds_at_peak) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        for (operator, seconds) in other.operators {
            match self.operators.iter_mut().find(|(known, _)| *known == operator) {
                Some((_, sum)) => *sum += seconds,
                None => self.operators.push((operator, seconds)),
            }
        }
    }

    /// Before every phase: opening. After every phase: closing.
    fn rank(&self) -> usize {
        let phase = Phase::ALL.iter().position(|phase| phase.name() == self.phase);
        match phase {
            Some(place) => place + 1,
            None if self.phase == "close" => Phase::ALL.len() + 1,
            None => 0,
        }
    }
}
