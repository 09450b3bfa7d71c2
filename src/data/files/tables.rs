//! Benchmarks that are published as comma-separated tables, or as one object with a list of
//! examples.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use super::Contents;
use super::rows::{ParsedRow, Row, with_choices};
use crate::domain::TaskKind;

/// BIG-Bench Hard (Suzgun et al. 2022, arXiv:2210.09261): one object with `examples`, each `input`
/// and `target`.
#[derive(Deserialize)]
struct Bbh {
    examples: Vec<BbhExample>,
}

#[derive(Deserialize)]
struct BbhExample {
    input: String,
    target: String,
}

/// Whether the text is an object with a list of examples, each with `input` and `target`.
pub(super) fn is_bbh(text: &str) -> bool {
    serde_json::from_str::<Bbh>(text).is_ok()
}

/// A target that names an option makes its row a choice; the other rows are numbers, or exact texts.
///
/// In a file of choices, a target that isn't a letter must be the text of one option. Such a row is
/// left out otherwise, and listed: published files have a few of them.
pub(super) fn bbh(text: &str) -> Result<Contents> {
    let Bbh { examples } = serde_json::from_str(text)
        .map_err(|error| anyhow!("it is not an object with `examples` of `input` and `target`: {error}"))?;
    let count = |is: fn(&str) -> bool| examples.iter().filter(|example| is(example.target.trim())).count();
    let kind = match (count(|target| option(target).is_some()), count(is_number)) {
        (options, _) if 2 * options > examples.len() => TaskKind::Choice,
        (_, numbers) if numbers == examples.len() => TaskKind::Number,
        _ => TaskKind::Exact,
    };
    let mut contents = Contents::default();
    for (index, example) in examples.iter().enumerate() {
        let (number, target) = (index + 1, example.target.trim());
        let answer = match kind {
            TaskKind::Choice => {
                option(target).map(str::to_owned).or_else(|| option_of(&example.input, target))
            }
            _ => Some(target.to_owned()),
        };
        let source = example.input.clone();
        match answer {
            Some(answer) => {
                let row = Row::new(kind, example.input.as_str(), answer).checked();
                contents.rows.push(ParsedRow { unit: "example", number, source, row });
            }
            None => {
                contents.odd.push(format!("example {number}: the target {target:?} is none of its options"))
            }
        }
    }
    Ok(contents)
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The letter of the only option with this text: a line `(B) text` of the input.
fn option_of(input: &str, text: &str) -> Option<String> {
    let options = input.lines().filter_map(|line| {
        let (letter, option) = line.trim().split_at_checked(3)?;
        (option.trim() == text).then(|| self::option(letter)).flatten()
    });
    let letters: Vec<&str> = options.collect();
    match letters.as_slice() {
        [letter] => Some((*letter).to_owned()),
        _ => None,
    }
}

/// `(B)` → `B`.
fn option(target: &str) -> Option<&str> {
    let letter = target.strip_prefix('(')?.strip_suffix(')')?;
    (letter.len() == 1 && letter.as_bytes()[0].is_ascii_uppercase()).then_some(letter)
}

/// The header of Game of 24's table.
const PUZZLES: &str = "Puzzles";

/// Whether the first line is the header of Game of 24's table.
pub(super) fn is_game24(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.split(',').any(|column| column.trim() == PUZZLES))
}

/// Game of 24 as Yao et al. 2023 (arXiv:2305.10601) use it: puzzles by rank of difficulty. A level
/// has a hundred ranks.
pub(super) fn game24(text: &str) -> Result<Vec<ParsedRow>> {
    let mut rows = table(text)?.into_iter();
    let header = rows.next().map(|(_, columns)| columns).unwrap_or_default();
    let at = |name: &str| header.iter().position(|column| column.trim() == name);
    let puzzles = at(PUZZLES).context("the first line has no column `Puzzles`")?;
    let rank = at("Rank");
    let read = |(number, columns): (usize, Vec<String>)| {
        let row = columns.get(puzzles).context("there is no puzzle").and_then(|puzzle| {
            let numbers: Vec<&str> = puzzle.split_whitespace().collect();
            let plain = |n: &&str| n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit());
            ensure!(
                numbers.len() >= 2 && numbers.iter().all(plain),
                "the puzzle {puzzle:?} is not a list of numbers"
            );
            let rank: Option<u32> = rank.and_then(|at| columns.get(at)?.trim().parse().ok());
            let level = rank.map_or(1, |rank| 1 + rank.saturating_sub(1) / 100);
            Row::new(TaskKind::Game24, format!("Use {} to make 24.", numbers.join(" ")), "24")
                .at_level(level)
                .checked()
        });
        ParsedRow { unit: "line", number, source: columns.join(","), row }
    };
    Ok(rows.map(read).collect())
}

/// Whether the first line looks like a question with choices and the letter of one.
pub(super) fn is_mmlu(text: &str) -> bool {
    let rows = table(text).unwrap_or_default();
    let letters =
        |columns: &[String]| columns.len() >= 4 && columns.last().is_some_and(|last| is_letter(last));
    rows.iter().take(2).any(|(_, columns)| letters(columns))
}

fn is_letter(text: &str) -> bool {
    matches!(text.trim().as_bytes(), [b'A'..=b'Z'])
}

/// MMLU (Hendrycks et al. 2020, arXiv:2009.03300): question, choices, and the letter of the right
/// one; the published files have no header, others begin with one, perhaps with a column of numbers
/// before.
pub(super) fn mmlu(text: &str) -> Result<Vec<ParsedRow>> {
    let mut rows = table(text)?;
    let has_header =
        rows.first().is_some_and(|(_, columns)| columns.last().is_some_and(|last| !is_letter(last)));
    let header = if has_header { rows.remove(0).1 } else { Vec::new() };
    let names = ["question", "prompt"];
    let first =
        header.iter().position(|name| names.contains(&name.trim().to_lowercase().as_str())).unwrap_or(0);
    let read = |(number, columns): (usize, Vec<String>)| {
        let row = match columns.get(first..).unwrap_or_default() {
            [question, choices @ .., answer] if choices.len() >= 2 => choice_row(question, choices, answer),
            _ => {
                Err(anyhow!("it has {} columns; a question, choices and a letter are needed", columns.len()))
            }
        };
        ParsedRow { unit: "line", number, source: columns.join(","), row }
    };
    Ok(rows.into_iter().map(read).collect())
}

fn choice_row(question: &str, choices: &[String], answer: &str) -> Result<Row> {
    let answer = answer.trim();
    ensure!(is_letter(answer), "the last column {answer:?} is not a letter");
    let place = usize::from(answer.as_bytes()[0] - b'A');
    ensure!(place < choices.len(), "the answer {answer} is none of its {} choices", choices.len());
    Row::new(TaskKind::Choice, with_choices(question, choices)?, answer).checked()
}

/// The rows of the table, each with the number of its first line, from 1. Blank lines are skipped.
fn table(text: &str) -> Result<Vec<(usize, Vec<String>)>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.context("it is not a table of comma-separated values")?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        rows.push((line, record.iter().map(str::to_owned).collect()));
    }
    Ok(rows)
}
