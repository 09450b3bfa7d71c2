//! Tasks: reference problems, their splits, and meaning-preserving variants of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Address;
use crate::named_enum;

/// What a split is for. Only the split decides who may read a task's gold answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Labelled easy tasks: replayed in training, and the critique head's bootstrap.
    Easy,
    /// Labelled easy tasks that only measure the critique head.
    Anchor,
    /// Tasks the policy practises on. Training never reads their gold answers.
    Train,
    /// Tasks whose gold answers decide promotion, and nothing else.
    Gate,
    /// Tasks that are only reported.
    HeldOut,
}

named_enum!(Split {
    Easy => "easy",
    Anchor => "anchor",
    Train => "train",
    Gate => "gate",
    HeldOut => "heldout",
});

/// The family of tasks: decides variants, thought boundaries, answer extraction and equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Chains of arithmetic relations between people (built in).
    Relations,
    /// Reach a target from three numbers (built in).
    Countdown,
    /// Free text from a file; the answer is compared after normalisation.
    Text,
    /// From a file: the answer is a number.
    Number,
    /// From a file: the answer is the letter of one of the choices in the question.
    Choice,
    /// From a file: the answer is a formula, boxed in LaTeX.
    Math,
    /// From a file: the answer is a text that is compared word for word.
    Exact,
    /// From a file: the answer is any expression that reaches a target with the given numbers (Game
    /// of 24).
    Game24,
    /// From a file: the answer is code that unit tests judge.
    Code,
}

named_enum!(TaskKind {
    Relations => "relations",
    Countdown => "countdown",
    Text => "text",
    Number => "number",
    Choice => "choice",
    Math => "math",
    Exact => "exact",
    Game24 => "game24",
    Code => "code",
});

impl TaskKind {
    /// Whether such tasks come from a file; the others are generated.
    pub const fn is_from_file(self) -> bool {
        !matches!(self, Self::Relations | Self::Countdown)
    }
}

/// A reference problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Stable and unique within a dataset, e.g. `relations/train/000012`.
    pub id: String,
    pub kind: TaskKind,
    pub split: Split,
    /// Difficulty; for relations the number of hops.
    pub level: u32,
    /// The question, before any prompt template.
    pub question: String,
    /// Gold answer, normalised by the kind. [`Split`] decides who may read it.
    pub answer: Option<String>,
    /// A gold chain of thought. Only labelled easy tasks carry one.
    pub solution: Option<String>,
}

/// What answers to a variant mean for its task, both normalised by the kind. An answer that isn't
/// named means itself.
pub type AnswerMap = BTreeMap<String, String>;

/// A task in other words: same answer, different surface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Where the variant was drawn; the same address always gives the same question.
    pub address: Address,
    pub question: String,
}
