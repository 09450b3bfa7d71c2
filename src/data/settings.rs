//! The section `tasks`: where tasks come from, and how their files are written.
//!
//! Defaults live in the configuration's own file; nothing here has one.

use std::collections::{BTreeMap, BTreeSet};

use autodidact_domain::check::Check;
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
    /// The kind every task of this source has. Tasks from a file may be of other kinds, see
    /// [`TasksConfig::task_kind`].
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

    /// The kind of its tasks, if the format determines it.
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
}

/// The keys under which somebody else's JSONL file has what a task needs. Dots lead to nested keys;
/// an empty key stands for what the file lacks.
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
    /// Whether no field has another name.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Another way to ask the tasks of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantForm {
    /// The words, with `{question}` where the task's own question belongs.
    pub question: String,
    /// What an answer to these words means as an answer to the task; one that isn't named means
    /// itself.
    #[serde(default)]
    pub answers: BTreeMap<String, String>,
}

impl VariantForm {
    /// Stands for the task's question.
    pub(super) const PLACE: &str = "{question}";

    /// Whether the question can be put in its place, and every answer differs from the others.
    fn is_usable(&self) -> bool {
        let meant: BTreeSet<&String> = self.answers.values().collect();
        self.question.matches(Self::PLACE).count() == 1 && meant.len() == self.answers.len()
    }
}

/// The section `[tasks]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    pub kind: TaskSource,
    pub file: String,
    pub heldout_file: String,
    pub format: TaskFormat,
    pub fields: FieldNames,
    pub answer: AnswerForm,
    pub few_shot: bool,
    pub permute_options: bool,
    pub variants: Vec<VariantForm>,
    pub split_max: usize,
    /// Most gate tasks, and most held-out tasks.
    pub measured_max: usize,
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

impl TasksConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        let from_file = self.kind == TaskSource::File;
        let file_ok = from_file != self.file.is_empty();
        check(file_ok, "tasks.file", &self.file, "needed for kind = \"file\", and only then");
        self.check_files(from_file, check);
        for (key, levels) in
            [("tasks.easy_levels", self.easy_levels), ("tasks.hard_levels", self.hard_levels)]
        {
            let ok = 1 <= levels[0] && levels[0] <= levels[1] && levels[1] <= 64;
            check(ok, key, &levels, "lowest and highest level, from 1 to 64");
        }
        let counts = [
            ("tasks.easy", self.easy),
            ("tasks.anchor", self.anchor),
            ("tasks.train", self.train),
            ("tasks.gate", self.gate),
            ("tasks.heldout", self.heldout),
        ];
        for (key, count) in counts {
            check((1..=1_000_000).contains(&count), key, &count, "1 to 1000000");
        }
    }

    fn check_files(&self, from_file: bool, check: &mut Check) {
        let needs_file = "only for kind = \"file\"";
        check(
            from_file || self.heldout_file.is_empty(),
            "tasks.heldout_file",
            &self.heldout_file,
            needs_file,
        );
        check(from_file || self.format == TaskFormat::Auto, "tasks.format", &self.format, needs_file);
        check(from_file || self.answer == AnswerForm::Auto, "tasks.answer", &self.answer, needs_file);
        check(from_file || self.fields.is_empty(), "tasks.fields", &self.fields, needs_file);
        check(
            from_file || self.variants.is_empty(),
            "tasks.variants",
            &self.variants,
            "only for kind = \"file\": the built-in tasks have their own",
        );
        for form in &self.variants {
            let wanted = "words with {question} once in them, and answers that mean different ones";
            check(form.is_usable(), "tasks.variants", form, wanted);
        }
        let own = matches!(self.format, TaskFormat::Auto | TaskFormat::Jsonl);
        let needs_jsonl = "only for format = \"jsonl\"";
        check(own || self.fields.is_empty(), "tasks.fields", &self.fields, needs_jsonl);
        check(own || self.answer == AnswerForm::Auto, "tasks.answer", &self.answer, needs_jsonl);
        let named = self.fields.is_empty() || !self.fields.question.is_empty();
        check(
            named,
            "tasks.fields.question",
            &self.fields.question,
            "name the field that holds the question",
        );
        let words_ok = self.overlap_words == 0 || (4..=1000).contains(&self.overlap_words);
        check(words_ok, "tasks.overlap_words", &self.overlap_words, "4 to 1000 words, or 0");
    }
}
