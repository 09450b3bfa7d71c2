//! Scores: what is made of a trajectory when its task's gold answer or solution is known.

pub mod grader;

pub use grader::{criteria, grade};
