//! What a run is doing, as it can be seen from outside.

use anyhow::Result;
use serde::Serialize;

use crate::domain::{RunState, named_enum};
use crate::store::Reader;

/// A run's state. The store has `running` until somebody writes something else, and a process that
/// is killed writes nothing: then nobody holds the run's lock, and it was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Interrupted,
    Done,
    Stopped,
}

named_enum!(State {
    Running => "running",
    Interrupted => "interrupted",
    Done => "done",
    Stopped => "stopped",
});

impl From<RunState> for State {
    fn from(stored: RunState) -> Self {
        match stored {
            RunState::Running => Self::Running,
            RunState::Done => Self::Done,
            RunState::Stopped => Self::Stopped,
        }
    }
}

impl State {
    /// What the stored state means, given whether the run is worked on.
    #[must_use]
    pub fn seen(self, is_worked_on: bool) -> Self {
        match self {
            Self::Running if !is_worked_on => Self::Interrupted,
            state => state,
        }
    }
}

/// The process that works on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Worker {
    pub pid: Option<u32>,
    /// Seconds since the store was last written.
    pub last_write_s: Option<u64>,
}

/// The run that a process with the folder's lock is working on: the one that began to run last.
pub async fn current_run(reader: &Reader) -> Result<Option<i64>> {
    let runs = reader.runs().await?;
    let running = runs.into_iter().filter(|run| run.state == RunState::Running);
    Ok(running.max_by(|a, b| a.changed_at.cmp(&b.changed_at).then(a.id.cmp(&b.id))).map(|run| run.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_is_worked_on_is_running() {
        assert_eq!(State::from(RunState::Running).seen(true), State::Running);
        assert_eq!(State::from(RunState::Running).seen(false), State::Interrupted);
        assert_eq!(State::from(RunState::Done).seen(false), State::Done);
        assert_eq!(State::from(RunState::Stopped).seen(true), State::Stopped);
    }
}
