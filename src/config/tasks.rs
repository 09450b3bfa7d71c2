//! The section `tasks`: where tasks come from, and how their files are written.
//!
//! Keys that files need are left out of the stored form while they have their default: a run that began before
//! they existed is still the same run.

use serde::{Deserialize, Serialize};

use crate::domain::TaskKind;

/// Where tasks come from; [`TaskSource::File`] means `tasks.file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskSource {
    Relations,
    Countdown,
    File,
}

impl TaskSource {
    /// The kind every task of this source has; tasks from a file may be of others, see [`TasksConfig::task_kind`].
    pub fn kind(self) -> TaskKind {
        match self {
            Self::Relations => TaskKind::Relations,
            Self::Countdown => TaskKind::Countdown,
            Self::File => TaskKind::Text,
        }
    }
}

/// How a file of tasks is written: as its benchmark publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskFormat {
    /// As its contents say.
    Auto,
    /// One object per line, in this program's own fields or in those that `tasks.fields` names.
    Jsonl,
    Gsm8k,
    Math,
    Mmlu,
    CommonsenseQa,
    Arc,
    Bbh,
    HumanEval,
    Game24,
}

impl TaskFormat {
    /// The name in the configuration, in ids and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Jsonl => "jsonl",
            Self::Gsm8k => "gsm8k",
            Self::Math => "math",
            Self::Mmlu => "mmlu",
            Self::CommonsenseQa => "commonsenseqa",
            Self::Arc => "arc",
            Self::Bbh => "bbh",
            Self::HumanEval => "humaneval",
            Self::Game24 => "game24",
        }
    }

    /// The kind of its tasks, where the format alone decides.
    pub const fn kind(self) -> Option<TaskKind> {
        match self {
            Self::Auto | Self::Jsonl | Self::Bbh => None,
            Self::Gsm8k => Some(TaskKind::Number),
            Self::Math => Some(TaskKind::Math),
            Self::Mmlu | Self::CommonsenseQa | Self::Arc => Some(TaskKind::Choice),
            Self::HumanEval => Some(TaskKind::Code),
            Self::Game24 => Some(TaskKind::Game24),
        }
    }

    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// What the answers of a JSONL file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerForm {
    /// Free text, in which numbers are recognised.
    Auto,
    Number,
    Choice,
    Math,
    Exact,
}

impl AnswerForm {
    /// The kind of a task with such an answer.
    pub const fn kind(self) -> TaskKind {
        match self {
            Self::Auto => TaskKind::Text,
            Self::Number => TaskKind::Number,
            Self::Choice => TaskKind::Choice,
            Self::Math => TaskKind::Math,
            Self::Exact => TaskKind::Exact,
        }
    }

    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Where a JSONL file of somebody else's keeps what a task needs: keys, with dots for nested ones; empty for what
/// isn't there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldNames {
    pub question: String,
    pub choices: String,
    pub answer: String,
    pub solution: String,
    pub level: String,
    pub split: String,
}

impl FieldNames {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_default_overlap(words: &usize) -> bool {
    *words == 13
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    pub kind: TaskSource,
    pub file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub heldout_file: String,
    #[serde(skip_serializing_if = "TaskFormat::is_auto")]
    pub format: TaskFormat,
    #[serde(skip_serializing_if = "FieldNames::is_empty")]
    pub fields: FieldNames,
    #[serde(skip_serializing_if = "AnswerForm::is_auto")]
    pub answer: AnswerForm,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub few_shot: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub split_max: usize,
    #[serde(skip_serializing_if = "is_default_overlap")]
    pub overlap_words: usize,
    pub seed: u64,
    /// Lowest and highest level, both included.
    pub easy_levels: [u32; 2],
    /// Lowest and highest level, both included.
    pub hard_levels: [u32; 2],
    pub easy: usize,
    pub anchor: usize,
    pub train: usize,
    pub gate: usize,
    pub heldout: usize,
}

impl TasksConfig {
    /// The kind of a task that nothing but the configuration is known of.
    pub fn task_kind(&self) -> TaskKind {
        match self.kind {
            TaskSource::File => self.format.kind().unwrap_or(self.answer.kind()),
            built_in => built_in.kind(),
        }
    }
}
