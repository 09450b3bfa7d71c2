//! What happened in a run: its beginning, alarms, messages, its end, and the phases that it finished.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::iteration::summary_of;
use super::run::find;
use crate::domain::{AlarmAction, AlarmRule, Arm, Phase, RunState};
use crate::store::{AlarmRow, EventRow, PhaseRow, Reader, Run};

/// Messages that are read at most: the latest ones.
const MESSAGES_MAX: u32 = 10_000;

/// What happened in a run, or in one iteration of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventsReport {
    pub run: i64,
    pub arm: Arm,
    pub state: RunState,
    /// In order of time.
    pub events: Vec<EventLine>,
    /// Phases that are complete, in order. The store has their durations, not their times.
    pub phases: Vec<PhaseEnd>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventLine {
    /// RFC 3339.
    pub at: String,
    /// `began`; `alarm`; a message's level: `info`, `warning`, `error`; or the run's state once it
    /// ended: `done`, `stopped`.
    pub kind: String,
    pub iteration: Option<u32>,
    pub phase: Option<Phase>,
    /// Of an alarm.
    pub rule: Option<AlarmRule>,
    /// The figure that the alarm's rule watched.
    pub value: Option<f64>,
    /// The limit that the figure broke.
    pub threshold: Option<f64>,
    /// What the alarm's rule did.
    pub action: Option<AlarmAction>,
    pub message: String,
}

/// A phase that is complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseEnd {
    pub iteration: u32,
    pub phase: Phase,
    pub seconds: f64,
    /// What it came to, in words.
    pub note: String,
}

/// Gathers what happened in a run. With an iteration, only its alarms and phases.
///
/// # Errors
/// If there is no such run or iteration.
pub async fn events(reader: &Reader, run: i64, iteration: Option<u32>) -> Result<EventsReport> {
    let run = find(reader, run).await?;
    if let Some(iteration) = iteration {
        summary_of(reader, run.id, iteration).await?;
    }
    let alarms = reader.alarms(run.id).await?;
    let mut messages = reader.events(Some(run.id), MESSAGES_MAX).await?;
    messages.reverse();
    let mut events = merged(&run, alarms, messages);
    events.retain(|event| iteration.is_none() || event.iteration == iteration);
    let phases = reader.phases(run.id).await?.into_iter();
    let phases = phases.filter(|row| iteration.is_none_or(|iteration| row.iteration == iteration));
    let phases = phases.map(phase_end).collect();
    Ok(EventsReport { run: run.id, arm: run.arm, state: run.state, events, phases })
}

/// All of it in order of time.
fn merged(run: &Run, alarms: Vec<AlarmRow>, mut messages: Vec<EventRow>) -> Vec<EventLine> {
    let policy: String = run.base_policy_hash.chars().take(10).collect();
    let begun = format!(
        "planned iterations: {}, seed {}, base policy {policy}, version {}",
        run.iterations, run.seed, run.engine_version
    );
    let mut events = vec![EventLine::plain(&run.started_at, "began", begun)];
    for row in alarms {
        // An alarm is also stored as a message, for whoever reads messages only.
        if let Some(same) = messages.iter().position(|message| message.message == row.alarm.message) {
            messages.remove(same);
        }
        events.push(EventLine {
            iteration: row.iteration,
            phase: row.phase,
            rule: Some(row.alarm.rule),
            value: row.alarm.value,
            threshold: row.alarm.threshold,
            action: Some(row.alarm.action),
            ..EventLine::plain(&row.at, "alarm", row.alarm.message)
        });
    }
    events.extend(messages.into_iter().map(|row| EventLine::plain(&row.at, &row.level, row.message)));
    if run.state != RunState::Running {
        let reason = run.state_reason.clone().unwrap_or_default();
        events.push(EventLine::plain(&run.changed_at, run.state.name(), reason));
    }
    // RFC 3339 in UTC sorts by its text.
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events
}

impl EventLine {
    fn plain(at: &str, kind: &str, message: String) -> Self {
        Self {
            at: at.to_owned(),
            kind: kind.to_owned(),
            iteration: None,
            phase: None,
            rule: None,
            value: None,
            threshold: None,
            action: None,
            message,
        }
    }
}

/// The detail is JSON with a note, or words.
fn phase_end(row: PhaseRow) -> PhaseEnd {
    let parsed: Option<Value> = serde_json::from_str(&row.detail).ok();
    let note = parsed.as_ref().and_then(|detail| detail.get("note")?.as_str().map(str::to_owned));
    PhaseEnd {
        iteration: row.iteration,
        phase: row.phase,
        seconds: row.seconds,
        note: note.unwrap_or(row.detail),
    }
}
