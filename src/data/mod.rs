//! Datasets: built-in tasks and tasks from a file, in splits that never share a question.
//!
//! Built-in tasks are pure functions of (`tasks.seed`, id): the 12th held-out task does not depend
//! on the sizes of the other splits. Easy and anchor tasks have an answer and a solution. All other
//! tasks have an answer only, and the [`Split`] decides who may read it. This room opens no file:
//! the caller passes the contents.

pub mod countdown;
mod draw;
mod files;
pub mod relations;
mod settings;
#[cfg(test)]
mod tests;
mod variants;

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha8Rng;

pub use files::{ChoiceRule, FileReport, Overlap, Report, SourceFile, utf8};
pub use settings::{AnswerForm, FieldNames, TaskFormat, TaskSource, TasksConfig, VariantForm};
pub use variants::{Renaming, Variants};

use crate::domain::{Address, Purpose, Split, Task, TaskKind};

/// Draws of one task before its level counts as exhausted.
const ATTEMPTS_MAX: u32 = 1000;

/// Tasks, and what their files were.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// All tasks of all splits, easy ones first.
    pub tasks: Vec<Task>,
    /// Of built-in tasks only what `tasks.measured_max` removed.
    pub report: Report,
}

/// All tasks of all splits, easy ones first. `files` are read if `tasks.kind` is `file`, and
/// ignored otherwise.
///
/// # Errors
/// If a file has unusable rows (all of them are listed), if a level has too few different tasks, or
/// if two splits share a question.
pub fn dataset(cfg: &TasksConfig, files: Vec<SourceFile>) -> Result<Dataset> {
    let (mut tasks, mut report) = match cfg.kind {
        TaskSource::File => files::read(cfg, files)?,
        _ => (built_in(cfg)?, Report::default()),
    };
    check_contamination(&tasks)?;
    report.unmeasured = files::capped(&mut tasks, cfg.seed, |split| match split {
        Split::Gate | Split::HeldOut => cfg.measured_max,
        _ => 0,
    });
    Ok(Dataset { tasks, report })
}

/// The question in lower case and with single blanks, so that questions that differ only in those
/// are equal.
pub fn normalised_question(question: &str) -> String {
    question.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// A text that is equal for two questions if solving one solves the other: if they are the same
/// question or exact variants of each other.
fn identity(kind: TaskKind, question: &str) -> String {
    let exact = match kind {
        TaskKind::Relations => relations::Chain::parse(question).map(|(chain, _)| chain.identity()),
        TaskKind::Countdown => countdown::identity(question),
        _ => None,
    };
    exact.unwrap_or_else(|| normalised_question(question))
}

/// Fails if a question of one split is also in another, up to exact variants.
fn check_contamination(tasks: &[Task]) -> Result<()> {
    let mut seen: HashMap<String, &Task> = HashMap::new();
    for task in tasks {
        let first = *seen.entry(identity(task.kind, &task.question)).or_insert(task);
        if first.split != task.split {
            bail!(
                "task {} ({}) and task {} ({}) ask the same question, so measuring would be training: {:?}; \
                 remove one of them",
                first.id,
                first.split,
                task.id,
                task.split,
                task.question
            );
        }
    }
    Ok(())
}

/// A generated task without id and split.
struct Generated {
    question: String,
    answer: String,
    solution: String,
}

fn generate(source: TaskSource, level: u32, rng: &mut ChaCha8Rng) -> Result<Generated> {
    match source {
        TaskSource::Relations => {
            let (question, chain) = relations::draw(level, rng)?;
            let (answer, solution) =
                chain.answer().zip(chain.solution()).context("a drawn chain is walkable")?;
            Ok(Generated { question, answer, solution })
        }
        TaskSource::Countdown => {
            let countdown::Drawn { question, answer, solution } = countdown::draw(level, rng)?;
            Ok(Generated { question, answer, solution })
        }
        TaskSource::File => bail!("tasks from a file can't be generated"),
    }
}

/// The questions that are in use: the split of each identity, and the text of each question.
#[derive(Default)]
struct Taken {
    split_of: HashMap<String, Split>,
    questions: HashSet<String>,
}

impl Taken {
    /// Takes `question` for `split`. False if another split has the question or a variant of it, or
    /// if any split has the very same text.
    fn take(&mut self, kind: TaskKind, question: &str, split: Split) -> bool {
        let owner = *self.split_of.entry(identity(kind, question)).or_insert(split);
        owner == split && self.questions.insert(question.to_owned())
    }
}

/// An error that names the key if a configured level is above the highest one of a built-in kind.
fn check_levels(cfg: &TasksConfig) -> Result<()> {
    let highest = match cfg.kind {
        TaskSource::Relations => relations::LEVEL_MAX,
        TaskSource::Countdown => countdown::LEVEL_MAX,
        TaskSource::File => return Ok(()),
    };
    for (key, levels) in [("easy_levels", cfg.easy_levels), ("hard_levels", cfg.hard_levels)] {
        ensure!(
            levels[1] <= highest,
            "tasks.{key} = {levels:?}: {} has levels 1 to {highest}",
            cfg.kind.kind()
        );
    }
    Ok(())
}

fn built_in(cfg: &TasksConfig) -> Result<Vec<Task>> {
    check_levels(cfg)?;
    // Measuring splits draw first, so that their tasks don't depend on the sizes of the other
    // splits.
    let order = [
        (Split::HeldOut, cfg.heldout),
        (Split::Gate, cfg.gate),
        (Split::Train, cfg.train),
        (Split::Anchor, cfg.anchor),
        (Split::Easy, cfg.easy),
    ];
    let mut taken = Taken::default();
    let mut tasks = Vec::with_capacity(order.iter().map(|&(_, count)| count).sum());
    for (split, count) in order {
        let levels = levels(cfg, split);
        let weight = |level: u32| if is_labelled(split) { level } else { 1 };
        for (index, level) in spread(levels, weight).take(count).enumerate() {
            tasks.push(draw_task(cfg, split, index, level, &mut taken)?);
        }
    }
    tasks.sort_by_key(|task| task.split);
    Ok(tasks)
}

fn is_labelled(split: Split) -> bool {
    matches!(split, Split::Easy | Split::Anchor)
}

fn levels(cfg: &TasksConfig, split: Split) -> [u32; 2] {
    if is_labelled(split) { cfg.easy_levels } else { cfg.hard_levels }
}

/// An endless sequence of levels. In every prefix of it each level has its share by weight.
fn spread([low, high]: [u32; 2], weight: impl Fn(u32) -> u32) -> impl Iterator<Item = u32> {
    let weights: Vec<i64> = (low..=high).map(|level| i64::from(weight(level))).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    std::iter::repeat_with(move || {
        let mut best = 0;
        for (i, weight) in weights.iter().enumerate() {
            credit[i] += weight;
            if credit[i] > credit[best] {
                best = i;
            }
        }
        credit[best] -= total;
        low + best as u32
    })
}

fn draw_task(cfg: &TasksConfig, split: Split, index: usize, level: u32, taken: &mut Taken) -> Result<Task> {
    let kind = cfg.kind.kind();
    let id = format!("{kind}/{split}/{index:06}");
    let mut rng = Address::new(cfg.seed, Purpose::Dataset, 0, &id, &[]).stream();
    for _ in 0..ATTEMPTS_MAX {
        let generated = generate(cfg.kind, level, &mut rng)?;
        if taken.take(kind, &generated.question, split) {
            let solution = is_labelled(split).then_some(generated.solution);
            return Ok(Task {
                id,
                kind,
                split,
                level,
                question: generated.question,
                answer: Some(generated.answer),
                solution,
            });
        }
    }
    bail!(
        "level {level} of {kind} has no task left for {id} that no other split has ({ATTEMPTS_MAX} draws); \
         lower tasks.{split} or widen the levels"
    )
}

/// An endless sequence of tasks of the easy levels, with solutions, to pretrain a seed model on.
///
/// Task `i` is a pure function of the address and `i`. A level is drawn with a weight proportional
/// to itself. No task is in the gate, held-out or anchor split, and none is a variant of a task
/// there.
pub struct Pretraining {
    source: TaskSource,
    levels: [u32; 2],
    address: Address,
    next: u32,
    excluded: HashSet<String>,
}

impl Pretraining {
    /// A stream of pretraining tasks whose draws begin at `address`.
    pub fn new(cfg: &TasksConfig, address: &Address) -> Result<Self> {
        if cfg.kind == TaskSource::File {
            bail!(
                "pretraining needs tasks that can be generated: tasks.kind relations or countdown, not file"
            );
        }
        let measuring = |task: &Task| matches!(task.split, Split::Gate | Split::HeldOut | Split::Anchor);
        let excluded =
            built_in(cfg)?.iter().filter(|t| measuring(t)).map(|t| identity(t.kind, &t.question)).collect();
        Ok(Self { source: cfg.kind, levels: cfg.easy_levels, address: address.clone(), next: 0, excluded })
    }

    fn draw(&self, index: u32) -> Result<Task> {
        let kind = self.source.kind();
        let mut rng = self.address.child(index).stream();
        for _ in 0..ATTEMPTS_MAX {
            let level = weighted_level(self.levels, &mut rng);
            let generated = generate(self.source, level, &mut rng)?;
            if !self.excluded.contains(&identity(kind, &generated.question)) {
                return Ok(Task {
                    id: format!("{kind}/pretrain/{index:06}"),
                    kind,
                    split: Split::Easy,
                    level,
                    question: generated.question,
                    answer: Some(generated.answer),
                    solution: Some(generated.solution),
                });
            }
        }
        bail!(
            "levels {:?} have no task left to pretrain on that the measuring splits don't have",
            self.levels
        )
    }
}

impl Iterator for Pretraining {
    type Item = Result<Task>;

    /// The next task. The sequence ends after 2^32 tasks.
    fn next(&mut self) -> Option<Result<Task>> {
        let index = self.next;
        self.next = index.checked_add(1)?;
        Some(self.draw(index))
    }
}

/// A level drawn with weight proportional to itself.
fn weighted_level([low, high]: [u32; 2], rng: &mut ChaCha8Rng) -> u32 {
    let mut left = draw::below(rng, (low..=high).sum());
    for level in low..high {
        match left.checked_sub(level) {
            Some(rest) => left = rest,
            None => return level,
        }
    }
    high
}

/// A wrong solution in the form of the gold one: at least one thought is wrong, and so is the
/// answer. `None` for a task without a solution and for a kind that can't be corrupted.
pub fn corrupted(task: &Task, address: &Address) -> Option<String> {
    task.solution.as_ref()?;
    let mut rng = address.stream();
    match task.kind {
        TaskKind::Relations => relations::corrupted(&task.question, &mut rng),
        TaskKind::Countdown => countdown::corrupted(&task.question, &mut rng),
        _ => None,
    }
}

/// A labelled task made from its question only, by solving it; `None` for kinds that can't be
/// solved here. A policy without weights answers from it.
pub fn solved(kind: TaskKind, question: &str) -> Option<Task> {
    if kind != TaskKind::Relations {
        return None;
    }
    let (chain, _) = relations::Chain::parse(question)?;
    Some(Task {
        id: String::new(),
        kind,
        split: Split::Easy,
        level: 0,
        question: question.to_owned(),
        answer: Some(chain.answer()?),
        solution: Some(chain.solution()?),
    })
}
