//! Tasks from files: JSON lines, and the public benchmarks as they are published.
//!
//! No row is dropped silently. Rows that can't be used are one error that names line, value and
//! reason of each. A row that is left out, because it repeats another or overlaps with a measuring
//! one, is in the [`Report`]. A row without a split gets one from a hash of its question; rows that
//! nearly repeat one another get the same split. So new rows move only rows that they nearly
//! repeat. The caller passes the contents; no file is opened here.

mod choices;
mod columns;
mod lines;
mod overlap;
mod rows;
mod sniff;
mod tables;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};

pub use choices::ChoiceRule;
pub use overlap::Overlap;

use super::normalised_question;
use crate::data::settings::{AnswerForm, TaskFormat, TasksConfig};
use crate::domain::{Split, Task};
use rows::{ParsedRow, Row};

/// A file of tasks.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path, for messages and ids.
    pub name: String,
    /// The bytes of the file, unchanged.
    pub contents: Vec<u8>,
    /// Whether all its rows are held out.
    pub heldout: bool,
    /// The names of the files that its lines were, if each was a separate file.
    pub rows: Vec<String>,
}

/// What was read, recognised and left out of task files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub files: Vec<FileReport>,
    /// Rows of published files with the question of an earlier row of the same file; one message
    /// each.
    pub repeated: Vec<String>,
    /// Rows of published files that can't be used and are left out; one message each.
    pub odd: Vec<String>,
    /// Rows removed because a row of a measuring split overlaps with them.
    pub overlaps: Vec<Overlap>,
    /// How many rows were removed by `tasks.split_max`.
    pub beyond_max: usize,
    /// How many gate and held-out tasks were removed by `tasks.measured_max`.
    pub unmeasured: usize,
}

/// What a task file holds, for `doctor` and the run's summary.
#[derive(Clone, Debug, PartialEq)]
pub struct FileReport {
    pub name: String,
    pub format: TaskFormat,
    /// The mark by which the format was recognised; `None` if it was configured or is the default.
    pub recognised_by: Option<&'static str>,
    pub rows: usize,
    /// How answers name a choice, where that was found from the rows.
    pub choices: Option<ChoiceRule>,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows of format {}", self.name, self.rows, self.format.name())?;
        if let Some(by) = self.recognised_by {
            write!(f, ", recognised by {by}")?;
        }
        match self.choices {
            Some(rule) => write!(f, ", answers are {}", rule.name()),
            None => Ok(()),
        }
    }
}

/// The text of a file, or an error that names the line with the first byte that isn't UTF-8.
pub fn utf8<'a>(contents: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(contents).map_err(|error| {
        let good = &contents[..error.valid_up_to()];
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = contents[error.valid_up_to()];
        anyhow!("{name}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")
    })
}

/// The tasks of all files, in splits that share nothing, and the report of all other rows.
pub(super) fn read(cfg: &TasksConfig, files: Vec<SourceFile>) -> Result<(Vec<Task>, Report)> {
    ensure!(!files.is_empty(), "tasks.kind is \"file\", but no file was read");
    let mut report = Report::default();
    let own_heldout = files.iter().any(|file| file.heldout);
    let several = files.len() > 1;
    let (mut rows, mut names) = (Vec::new(), Names::default());
    let all: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    for file in files {
        let stem = names.unique(&file.name);
        let kept = read_file(cfg, file, &mut report)?;
        let format = report.files.last().map_or(TaskFormat::Jsonl, |file| file.format);
        let prefix = match (format, several) {
            (TaskFormat::Jsonl, false) => "text".to_owned(),
            (TaskFormat::Jsonl, true) => format!("text/{stem}"),
            (format, false) => format.name().to_owned(),
            (format, true) => format!("{}/{stem}", format.name()),
        };
        let place = Rc::new(Placement { prefix, format, own_heldout });
        rows.extend(kept.into_iter().map(|(number, heldout, row)| (place.clone(), number, heldout, row)));
    }
    let runs = overlap::Runs::new(rows.iter().map(|(.., row)| row.question.as_str()), cfg.overlap_words);
    let hashes = group_hashes(&runs, rows.iter().map(|(.., row)| hash(cfg.seed, &row.question)));
    let placed = rows.into_iter().zip(hashes);
    let mut tasks: Vec<Task> =
        placed.map(|((place, number, heldout, row), hash)| place.task(row, number, heldout, hash)).collect();
    let name = all.join(", ");
    check_splits(&tasks, &name)?;
    report.overlaps = overlap::remove(&mut tasks, &runs);
    tasks.sort_by_key(|task: &Task| task.split);
    report.beyond_max = capped(&mut tasks, cfg.seed, |_| cfg.split_max);
    check_splits(&tasks, &name).with_context(|| {
        format!("{} rows overlap with measuring ones and were removed", report.overlaps.len())
    })?;
    Ok((tasks, report))
}

/// The usable rows of one file with their numbers and whether they are held out.
fn read_file(cfg: &TasksConfig, file: SourceFile, report: &mut Report) -> Result<Vec<(usize, bool, Row)>> {
    let SourceFile { name, contents, heldout, rows: sources } = file;
    let contents = match columns::is_parquet(&contents) {
        true => columns::json_lines(contents, &name)?,
        false => unpack::unpacked(contents, &name)?,
    };
    let text = utf8(&contents, &name)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    ensure!(!text.is_empty(), "{name} is empty (0 bytes); write one JSON object per line");
    let (format, recognised_by) = match cfg.format {
        TaskFormat::Auto if cfg.fields.is_empty() && cfg.answer == AnswerForm::Auto => {
            sniff::format(text, &name)
        }
        TaskFormat::Auto => (TaskFormat::Jsonl, None),
        format => (format, None),
    };
    let Contents { rows: read, choices, odd } =
        parsed(cfg, format, text).with_context(|| format!("{name} is not a {} file", format.name()))?;
    ensure!(!read.is_empty(), "{name} has only blank lines; write one JSON object per line");
    let problem = |read: &ParsedRow, problem: &anyhow::Error| match sources.get(read.number - 1) {
        Some(source) => format!("{source}: {problem:#}"),
        None => read.problem(problem),
    };
    let (mut kept, mut problems) = (Vec::new(), Vec::new());
    let mut seen: HashMap<String, (usize, Option<String>)> = HashMap::new();
    let total = read.len();
    for mut read in read {
        let row = match std::mem::replace(&mut read.row, Err(anyhow!("taken"))) {
            Ok(row) => row,
            Err(reason) => {
                problems.push(problem(&read, &reason));
                continue;
            }
        };
        let (first, answer) = seen
            .entry(normalised_question(&row.question))
            .or_insert_with(|| (read.number, row.answer.clone()));
        let (first, unit) = (*first, read.unit);
        let but = match (answer, &row.answer) {
            (Some(before), Some(now)) if before != now => {
                format!(", with the answer {} instead of {}", rows::quoted(now), rows::quoted(before))
            }
            _ => String::new(),
        };
        if first == read.number {
            // The rows of a held-out file are held out, even if they name another split.
            kept.push((read.number, heldout, row));
        } else if format == TaskFormat::Jsonl {
            problems.push(problem(&read, &anyhow!("the same question as {unit} {first}{but}")));
        } else {
            let number = read.number;
            report.repeated.push(format!("{name}, {unit} {number}: asks what {unit} {first} asks{but}"));
        }
    }
    if !problems.is_empty() {
        let by = recognised_by
            .map(|by| format!(" (read as {}, because it has {by})", format.name()))
            .unwrap_or_default();
        bail!("{name}: {} of its rows can't be used{by}:{}", problems.len(), rows::listed(&problems));
    }
    report.odd.extend(odd.into_iter().map(|odd| format!("{name}, {odd}")));
    report.files.push(FileReport { name, format, recognised_by, rows: total, choices });
    Ok(kept)
}

/// The rows of one file.
#[derive(Default)]
struct Contents {
    rows: Vec<ParsedRow>,
    /// How answers name a choice, where that was found from the rows.
    choices: Option<ChoiceRule>,
    /// What is wrong with rows of a published file that are left out.
    odd: Vec<String>,
}

impl From<Vec<ParsedRow>> for Contents {
    fn from(rows: Vec<ParsedRow>) -> Self {
        Self { rows, ..Self::default() }
    }
}

fn parsed(cfg: &TasksConfig, format: TaskFormat, text: &str) -> Result<Contents> {
    match format {
        TaskFormat::Bbh => tables::bbh(text),
        TaskFormat::Game24 => tables::game24(text).map(Contents::from),
        TaskFormat::Mmlu if !text.trim_start().starts_with(['{', '[']) => {
            tables::mmlu(text).map(Contents::from)
        }
        _ => {
            let reader = lines::RowReader { format, kind: cfg.answer.kind(), fields: &cfg.fields };
            let (rows, choices) = lines::read(text, &reader)?;
            Ok(Contents { rows, choices, ..Contents::default() })
        }
    }
}

/// Names of files without folders and extensions, each once.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
}

impl Names {
    fn unique(&mut self, path: &str) -> String {
        let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let stem = file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("file").to_owned();
        let mut name = stem.clone();
        let mut copies = 1;
        while !self.taken.insert(name.clone()) {
            copies += 1;
            name = format!("{stem}-{copies}");
        }
        name
    }
}

/// How the rows of one file become tasks.
struct Placement {
    /// The beginning of their ids.
    prefix: String,
    format: TaskFormat,
    /// Whether some file is held out as a whole, so that no other row has to be.
    own_heldout: bool,
}

impl Placement {
    fn task(&self, row: Row, number: usize, heldout: bool, hash: blake3::Hash) -> Task {
        let split = match (heldout, row.split) {
            (true, _) => Split::HeldOut,
            (false, Some(split)) => split,
            (false, None) => self.assigned(hash),
        };
        Task {
            id: format!("{}/{split}/{number:06}", self.prefix),
            kind: row.kind,
            split,
            level: row.level,
            question: row.question,
            answer: row.answer,
            // Only tasks of the labelled splits keep their solutions.
            solution: row.solution.filter(|_| matches!(split, Split::Easy | Split::Anchor)),
        }
    }

    /// A split by the hash of the row's group. The user's own rows become train, gate and held-out
    /// as 6 : 2 : 2; rows to learn from with labels have to name their split. Published rows become
    /// easy, anchor, gate, held-out and train as 2 : 1 : 4 : 4 : 9. If a separate file is held out,
    /// the held-out share becomes train.
    fn assigned(&self, hash: blake3::Hash) -> Split {
        let byte = hash.as_bytes()[0];
        match (self.format, self.own_heldout) {
            (TaskFormat::Jsonl, own_heldout) => match byte % 10 {
                0..6 => Split::Train,
                6..8 => Split::Gate,
                _ if own_heldout => Split::Train,
                _ => Split::HeldOut,
            },
            (_, own_heldout) => match byte % 20 {
                0..2 => Split::Easy,
                2 => Split::Anchor,
                3..7 => Split::Gate,
                7..11 if !own_heldout => Split::HeldOut,
                _ => Split::Train,
            },
        }
    }
}

/// For each row the smallest hash of its group, so that rows that nearly repeat one another get the
/// same split.
fn group_hashes(runs: &overlap::Runs, hashes: impl Iterator<Item = blake3::Hash>) -> Vec<blake3::Hash> {
    let (groups, hashes) = (runs.groups(), hashes.collect::<Vec<_>>());
    let mut smallest = hashes.clone();
    for (&group, hash) in groups.iter().zip(&hashes) {
        if hash.as_bytes() < smallest[group].as_bytes() {
            smallest[group] = *hash;
        }
    }
    groups.into_iter().map(|group| smallest[group]).collect()
}

/// The hash that decides the split of a row and its rank under `tasks.split_max`.
fn hash(seed: u64, question: &str) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 split of a task v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(normalised_question(question).as_bytes());
    hasher.finalize()
}

/// Keeps at most `max` tasks of each split (0 keeps all), by rank of the hash; returns how many it
/// removed.
pub(super) fn capped(tasks: &mut Vec<Task>, seed: u64, max: impl Fn(Split) -> usize) -> usize {
    let before = tasks.len();
    for &split in Split::ALL {
        let max = max(split);
        if max == 0 {
            continue;
        }
        let mut ranked: Vec<_> = tasks.iter().filter(|task| task.split == split).collect();
        // The first byte has decided the split.
        ranked.sort_by_cached_key(|task| hash(seed, &task.question).as_bytes()[1..].to_vec());
        let keep: HashSet<String> = ranked.into_iter().take(max).map(|task| task.id.clone()).collect();
        tasks.retain(|task| task.split != split || keep.contains(&task.id));
    }
    before - tasks.len()
}

/// An error if there is no task to practise on or none to measure with.
fn check_splits(tasks: &[Task], name: &str) -> Result<()> {
    let missing: Vec<&str> = [Split::Train, Split::Gate, Split::HeldOut]
        .into_iter()
        .filter(|&split| !tasks.iter().any(|task| task.split == split))
        .map(Split::name)
        .collect();
    if !missing.is_empty() {
        bail!(
            "{name} has {} usable rows and none in split {}; add rows, or give them \"split\"",
            tasks.len(),
            missing.join(", ")
        );
    }
    Ok(())
}
