//! What happened: each question about a store is answered with a plain struct, which serialises to
//! the JSON that `--json` prints. One file per question.
//!
//! Contract of the JSON: a field keeps its name and its meaning; fields may be added; what is not
//! known (yet) is null. Shares are in [0, 1], gains in percentage points, durations in seconds.
//!
//! A long list comes in [`Page`]s, which the store reads in SQL. Reports only read, also while the
//! run is live. The room draws nothing, knows no terminal, and reads no clock or environment.
//!
//! Some figures measure how well the loop judged itself by reading gold answers. They are marked
//! so, and nothing in the loop reads them. The room computes no verdict: its caller passes a
//! [`Verdict`].

mod compare;
mod datasette;
mod events;
mod iteration;
mod iterations;
mod origin;
mod page;
mod profile;
mod run;
mod runs;
mod scores;
mod sql;
mod state;
mod steps;
mod task;
mod trajectories;
mod trajectory;
mod tree;
mod verdict;

pub use compare::{Gain, Part};
pub use datasette::{DATASETTE_SOURCE, datasette_metadata};
pub use events::{EventLine, EventsReport, PhaseEnd, events};
pub use iteration::{
    CriticReport, EvaluationLine, Example, IterationReport, PhaseLine, ReasonCount, TaskCoverage, iteration,
    known_iteration,
};
pub use iterations::{
    CommonAnswer, ConstantAnswer, ConstantOfLevel, CriticLine, GateLine, IterationLine, Measure, Precision,
};
pub use origin::{Origin, origin};
pub use page::Page;
pub use profile::{PhaseSum, RunWithProfile, measured_profile, phase_sums, profile_path};
pub use run::{ControlReport, NextPhase, RunReport, run};
pub use runs::{RunLine, RunsReport, runs};
pub use scores::ScoreDistribution;
pub use sql::{SqlCell, SqlReport, sql};
pub use state::{State, Worker, current_run};
pub use steps::{StepsReport, UpdateLine, steps};
pub use task::{AnswerShare, TaskAttempts, TaskReport, known_task, task};
pub use trajectories::{TrajectoryLine, trajectories};
pub use trajectory::{ScoreLine, SelectionLine, StepLine, TaskLine, TrajectoryReport, trajectory};
pub use tree::{ThoughtLine, TokenText};
pub use verdict::Verdict;

#[cfg(test)]
pub(crate) mod tests;
