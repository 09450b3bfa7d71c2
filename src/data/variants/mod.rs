//! Variants: a task in other words, and what an answer to those words means for the task.
//!
//! Everything here is a pure function of the settings, the task and an address or a question, so
//! the store keeps the question of a variant and nothing else about it.

mod options;

use std::collections::BTreeMap;

use self::options::Options;
use super::settings::{TasksConfig, VariantForm};
use super::{countdown, relations};
use crate::answer;
use crate::domain::{Address, AnswerMap, Task, TaskKind, Variant};

/// How the tasks of a configuration are asked in other words.
#[derive(Clone, Copy, Debug)]
pub struct Variants<'c> {
    permute_options: bool,
    /// The declared forms; a task's own words come before them.
    forms: &'c [VariantForm],
}

impl<'c> Variants<'c> {
    /// The configured variants.
    pub fn new(cfg: &'c TasksConfig) -> Self {
        Self { permute_options: cfg.permute_options, forms: &cfg.variants }
    }

    /// Whether any of these tasks can be asked in other words.
    pub fn exist_for<'t>(&self, mut tasks: impl Iterator<Item = &'t Task>) -> bool {
        !self.forms.is_empty() || tasks.any(|task| !task.kind.is_from_file() || self.options(task).is_some())
    }

    /// A meaning-preserving variant of `task`; `None` if it is asked in its own words here. It is a
    /// pure function of the settings, the task and the address.
    pub fn variant(&self, task: &Task, address: &Address) -> Option<Variant> {
        let question = match task.kind {
            TaskKind::Relations => relations::variant(&task.question, &mut address.stream())?,
            TaskKind::Countdown => countdown::variant(&task.question, &mut address.stream())?,
            _ => self.of_file(task, address)?,
        };
        Some(Variant { address: address.clone(), question })
    }

    /// The options of a task, if they may be moved.
    fn options<'t>(&self, task: &'t Task) -> Option<Options<'t>> {
        let may = self.permute_options && task.kind == TaskKind::Choice;
        if may { Options::parse(&task.question) } else { None }
    }

    /// The last number of the address counts the variants of a task: the options move first, and when
    /// each has stood at each place the next form begins.
    fn of_file(&self, task: &Task, address: &Address) -> Option<String> {
        let options = self.options(task);
        let round = options.as_ref().map_or(1, Options::count);
        let nth = address.branch.last().copied().unwrap_or_default() / round;
        let forms = self.forms.len() as u32 + 1;
        let form = (nth % forms).checked_sub(1).map(|declared| &self.forms[declared as usize]);
        let permuted = options.map(|options| options.permuted(address));
        match form {
            None => permuted,
            Some(form) => {
                let asked = permuted.as_ref().unwrap_or(&task.question);
                Some(form.question.replacen(VariantForm::PLACE, asked, 1))
            }
        }
    }

    /// What answers to `question`, a variant of the task or its own, mean for the task. An answer that
    /// isn't in the map means itself.
    pub fn answers(&self, task: &Task, question: &str) -> AnswerMap {
        self.read(task, question).unwrap_or_default()
    }

    /// The same; `None` if the question is no variant of the task.
    fn read(&self, task: &Task, question: &str) -> Option<AnswerMap> {
        if !task.kind.is_from_file() || question == task.question {
            return Some(AnswerMap::new());
        }
        let own = std::iter::once((question, AnswerMap::new()));
        let declared = self.forms.iter().filter_map(|form| {
            let (before, after) = form.question.split_once(VariantForm::PLACE)?;
            Some((question.strip_prefix(before)?.strip_suffix(after)?, meant(task.kind, &form.answers)))
        });
        own.chain(declared).find_map(|(asked, answers)| {
            if asked == task.question {
                return Some(answers);
            }
            let letters = Options::parse(asked)?.letters_in(&self.options(task)?)?;
            let letter = |(from, to): (String, String)| (from, answers.get(&to).cloned().unwrap_or(to));
            Some(letters.into_iter().map(letter).collect())
        })
    }

    /// How completions of one question of `task` are written for another; `None` if the two aren't
    /// variants of each other, or if answers differ in what can't be rewritten.
    pub fn renaming(&self, task: &Task, from: &str, to: &str) -> Option<Renaming> {
        match task.kind {
            TaskKind::Relations => relations::Renaming::between(from, to).map(Renaming::Names),
            // The variants of a countdown differ only in the order of the question's numbers.
            TaskKind::Countdown => Some(Renaming::None),
            kind => {
                let (from, to) = (self.read(task, from)?, self.read(task, to)?);
                if from == to {
                    return Some(Renaming::None);
                }
                if kind != TaskKind::Choice {
                    return None;
                }
                let back: BTreeMap<&String, &String> = to.iter().map(|(there, own)| (own, there)).collect();
                let letter = |letter: char| {
                    let letter = letter.to_string();
                    let own = from.get(&letter).unwrap_or(&letter);
                    let there = back.get(own).map_or_else(|| own.clone(), |there| (*there).clone());
                    (letter, there)
                };
                Some(Renaming::Letters(('A'..='Z').map(letter).collect()))
            }
        }
    }
}

/// A declared map with its answers as completions claim them.
fn meant(kind: TaskKind, declared: &BTreeMap<String, String>) -> AnswerMap {
    let read = |text: &String| answer::gold(kind, text).unwrap_or_else(|| text.clone());
    declared.iter().map(|(there, own)| (read(there), read(own))).collect()
}

/// Rewrites a completion that answers one question into the words of a variant of that question.
#[derive(Clone, Debug)]
pub enum Renaming {
    /// The words are the same.
    None,
    /// People have other names.
    Names(relations::Renaming),
    /// Options have other letters.
    Letters(BTreeMap<String, String>),
}

impl Renaming {
    /// The completion `text` of the one question as a completion of the other. Parts that are
    /// rewritten one by one concatenate to the whole rewritten.
    pub fn apply(&self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Names(names) => names.apply(text),
            Self::Letters(letters) => options::relettered(text, letters),
        }
    }
}

#[cfg(test)]
mod tests;
