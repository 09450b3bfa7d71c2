//! The nouns: plain data that travels between the rooms.
//!
//! Nothing here reads a file, a clock or a tensor, and nothing speaks SQL. Every other room may import this
//! one; this one imports no other. [`profile`], the stopwatch that every room may carry, lives here
//! for that reason.

#![forbid(unsafe_code)]

mod address;
mod alarm;
mod caught;
pub mod check;
pub mod expression;
mod generate;
pub mod profile;
mod run;
mod score;
mod snapshot;
pub mod stats;
mod task;
mod trajectory;

pub use address::{Address, Purpose};
pub use alarm::{Alarm, AlarmAction, AlarmRule};
pub use caught::caught;
pub use generate::{
    Boundary, Capabilities, Choice, Completion, Decoding, Generate, ReadRequest, Reading, Request, Sampling,
    Stops,
};
pub use run::{Arm, Phase, Progress, RunState, next_phase};
pub use score::{
    Criteria, Grade, Reward, Score, ScoreError, Scorer, ScorerName, ScorerSpec, Selection, SelectionReason,
};
pub use snapshot::Snapshot;
pub use task::{AnswerMap, Split, Task, TaskKind, Variant};
pub use trajectory::{FinishReason, Leaf, LogprobKind, PruneReason, Strategy, Thought, Trajectory, Tree};

/// Implements `Display`, `FromStr` and the list of names for a field-less enum whose names are stored.
#[macro_export]
macro_rules! named_enum {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in order of declaration.
            pub const ALL: &'static [$type] = &[$(<$type>::$variant),+];

            /// The stable name, as stored and printed.
            pub const fn name(self) -> &'static str {
                match self { $(<$type>::$variant => $name),+ }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.name()) }
        }
        impl std::str::FromStr for $type {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $($name => Ok(<$type>::$variant),)+
                    _ => Err(format!("`{s}` is not one of {}", [$($name),+].join(", "))),
                }
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.name())
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
