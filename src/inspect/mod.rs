//! Reports for the terminal: what a run did, iteration by iteration, down to the single thought.
//!
//! Each report is a plain struct gathered from the store's rows (`--json` prints it as it is) that can be rendered as
//! text. Inspecting never writes and works while the run is live. It reads no clock, environment or terminal:
//! whether to colour, and how wide to be, comes from the caller in a [`Style`].
//!
//! Contract of the JSON: a field keeps its name and meaning; new ones may be added; what isn't known (yet) is null.
//! Shares are in [0, 1], gains in percentage points, durations in seconds.
//!
//! Some figures tell how well the loop judged itself by reading gold answers. They are marked so, and nothing
//! in the loop sees them.

mod iteration;
mod outcomes;
mod profile;
mod render;
mod run;
mod runs;
mod sql;
mod trajectory;

pub use iteration::{
    CriticReport, EvaluationLine, IterationReport, PhaseLine, ReasonCount, ScoreDistribution, TaskCoverage,
    iteration,
};
pub use outcomes::Gain;
pub use profile::profile;
pub use render::Style;
pub use run::{
    ControlReport, CriticLine, GateLine, IterationLine, Measure, NextPhase, Precision, RunReport, run,
};
pub use runs::{RunLine, RunsReport, runs};
pub use sql::table;
pub use trajectory::{
    ScoreLine, SelectionLine, StepLine, TaskLine, ThoughtLine, TokenText, TrajectoryReport, trajectory,
};

#[cfg(test)]
mod tests;
