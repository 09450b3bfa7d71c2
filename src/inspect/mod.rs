//! Reports as text for a terminal or a file: tables, colours, histograms as bars, token heat.
//!
//! It only draws the structs of [`report`](crate::report) and decides nothing: it reads no store,
//! no clock, no environment and no terminal. Whether to colour, and how wide to be, comes from the
//! caller in a [`Style`].

mod events;
mod grid;
mod iteration;
mod profile;
mod render;
mod run;
mod runs;
mod sql;
mod steps;
mod task;
mod trajectories;
mod trajectory;

pub use events::events;
pub use iteration::{figures, iteration};
pub use profile::profile;
pub use render::{Style, acts_on_terminals};
pub(crate) use render::{brief, dotted, duration, folded};
pub use run::run;
pub use runs::runs;
pub use sql::{sql, sql_csv};
pub use steps::steps;
pub use task::task;
pub use trajectories::trajectories;
pub use trajectory::trajectory;

#[cfg(test)]
mod tests;
