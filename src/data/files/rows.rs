//! What every reader returns: rows with their place in the file, or the reason why a row can't be
//! used.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::answer;
use crate::domain::{Split, TaskKind};

/// Most problems that a message lists; it counts the others.
const PROBLEMS_SHOWN: usize = 20;

/// Longest question, answer or solution, in bytes.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// Most of a value that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// Whole numbers below this one are exact as 64-bit floats.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A row that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub kind: TaskKind,
    pub question: String,
    pub answer: Option<String>,
    pub level: u32,
    pub split: Option<Split>,
    pub solution: Option<String>,
}

/// A row of a file, or why it can't be used.
pub(super) struct ParsedRow {
    /// What `number` counts: lines, or the entries of a list.
    pub unit: &'static str,
    /// From 1.
    pub number: usize,
    /// The row as it is written, for messages.
    pub source: String,
    pub row: Result<Row>,
}

impl ParsedRow {
    /// The row's place and what is wrong with it.
    pub(super) fn problem(&self, problem: &anyhow::Error) -> String {
        format!("{} {}: {problem:#}: {}", self.unit, self.number, quoted(&self.source))
    }
}

impl Row {
    /// A row with a question and an answer.
    pub(super) fn new(kind: TaskKind, question: impl Into<String>, answer: impl Into<String>) -> Self {
        let (question, answer) = (question.into(), Some(answer.into()));
        Self { kind, question, answer, level: 1, split: None, solution: None }
    }

    pub(super) fn with_solution(self, solution: impl Into<String>) -> Self {
        Self { solution: Some(solution.into()), ..self }
    }

    pub(super) fn at_level(self, level: u32) -> Self {
        Self { level, ..self }
    }

    /// An error if a field is empty or too long, if the split needs an answer and there is none, or if
    /// the answer can't be read as its kind: then every attempt would be wrong.
    pub(super) fn checked(self) -> Result<Self> {
        let fields = [
            ("question", Some(&self.question)),
            ("answer", self.answer.as_ref()),
            ("solution", self.solution.as_ref()),
        ];
        for (field, value) in fields.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            let bytes = value.len();
            ensure!(!value.trim().is_empty(), "the {field} is empty");
            ensure!(bytes <= FIELD_BYTES_MAX, "the {field} has {bytes} bytes; at most {FIELD_BYTES_MAX}");
        }
        self.check_labels()?;
        if let Some(gold) = self.answer.as_deref().filter(|gold| answer::gold(self.kind, gold).is_none()) {
            let form = match self.kind {
                TaskKind::Number => "a number",
                TaskKind::Choice => "the letter of a choice",
                TaskKind::Math => "a formula",
                _ => "words",
            };
            bail!("the answer {} can't be read as {form}", quoted(gold));
        }
        Ok(self)
    }

    /// Every split but `train` needs an answer.
    fn check_labels(&self) -> Result<()> {
        let Some(split) = self.split else {
            ensure!(
                self.answer.is_some(),
                "it has neither an answer nor a split; only `train` rows can do without"
            );
            return Ok(());
        };
        ensure!(self.answer.is_some() || split == Split::Train, "a row of split `{split}` needs an answer");
        Ok(())
    }
}

/// An answer as text. Numbers are accepted if reading them loses no digit.
pub(super) fn answer_text(answer: &Value) -> Result<String> {
    let exact = |number: &serde_json::Number| {
        number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|f| f.abs() < EXACT_BELOW)
    };
    match answer {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if exact(number) => Ok(number.to_string()),
        Value::Number(number) => bail!("the answer {number} is too large for a number; write it as a text"),
        _ => bail!("the answer is neither a text nor a number"),
    }
}

/// The question with its choices below it, one lettered line each.
pub(super) fn with_choices(question: &str, choices: &[String]) -> Result<String> {
    ensure!((2..=26).contains(&choices.len()), "it has {} choices; 2 to 26", choices.len());
    let mut text = question.trim_end().to_owned();
    for (letter, choice) in ('A'..='Z').zip(choices) {
        let _ = write!(text, "\n({letter}) {}", choice.trim());
    }
    Ok(text)
}

/// The letter of the choice at `index`.
pub(super) fn letter(index: usize) -> Result<String> {
    let letter = ('A'..='Z').nth(index);
    letter.map(String::from).ok_or_else(|| anyhow::anyhow!("choice {index} is beyond Z"))
}

/// The first problems, one per line, and how many more there are.
pub(super) fn listed(problems: &[String]) -> String {
    let mut text: String = problems.iter().take(PROBLEMS_SHOWN).map(|p| format!("\n  - {p}")).collect();
    if problems.len() > PROBLEMS_SHOWN {
        let _ = write!(text, "\n  - and {} more", problems.len() - PROBLEMS_SHOWN);
    }
    text
}

pub(super) fn quoted(value: &str) -> String {
    let short: String = value.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if short.len() < value.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}
