//! JSON, one object per line or in one list: rows with the program's own fields, rows with fields
//! that `tasks.fields` names, and the benchmarks that are published as JSON.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::choices::{Asked, ChoiceRule};
use super::rows::{ParsedRow, Row, answer_text, letter, with_choices};
use crate::data::settings::{FieldNames, TaskFormat};
use crate::domain::{Split, TaskKind};

/// Most rows of a file.
pub(super) const ROWS_MAX: usize = 1_000_000;
/// Longest row, in bytes.
const ROW_BYTES_MAX: usize = 8 << 20;

/// A row with the program's own fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnRow {
    question: String,
    answer: Option<Value>,
    level: Option<Value>,
    split: Option<Split>,
    solution: Option<String>,
}

/// Reads the rows of one file.
pub(super) struct RowReader<'a> {
    pub format: TaskFormat,
    /// Kind of a task whose format doesn't decide it.
    pub kind: TaskKind,
    pub fields: &'a FieldNames,
}

/// Every row of the file, and how answers name a choice where rows have choices.
pub(super) fn read(text: &str, reader: &RowReader) -> Result<(Vec<ParsedRow>, Option<ChoiceRule>)> {
    let found: Vec<(&str, usize, String)> = if text.trim_start().starts_with('[') {
        let Entries(entries) =
            serde_json::from_str(text).context("it begins with `[` and is not a JSON list of rows")?;
        let entries = entries.into_iter().enumerate();
        entries.map(|(index, entry)| ("entry", index + 1, entry.to_string())).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let count = lines.clone().take(ROWS_MAX + 1).count();
        ensure!(count <= ROWS_MAX, "it has more than {ROWS_MAX} rows; split it into several files");
        let lines = lines.map(|(index, line)| ("line", index + 1, line.to_owned()));
        indented(text).unwrap_or_else(|| lines.collect())
    };
    let read: Vec<Result<Found>> =
        found.iter().map(|(.., source)| object(source).and_then(|source| reader.row(source))).collect();
    let asked = read.iter().filter_map(|row| match row {
        Ok(Found::Asked(asked)) => Some(asked),
        _ => None,
    });
    let rule = asked.clone().next().map(|_| ChoiceRule::of(asked)).transpose()?;
    let rows = found.into_iter().zip(read).map(|((unit, number, source), row)| {
        let row = row.and_then(|found| match (found, rule) {
            (Found::Row(row), _) => Ok(row),
            (Found::Asked(asked), rule) => rule.unwrap_or(ChoiceRule::Letter).row(asked),
        });
        ParsedRow { unit, number, source, row: row.and_then(Row::checked) }
    });
    Ok((rows.collect(), rule))
}

/// The objects of a file in which they go over several lines, with the line where each begins;
/// `None` if the first one doesn't, or if the text is anything else.
fn indented(text: &str) -> Option<Vec<(&'static str, usize, String)>> {
    let first = text.lines().find(|line| !line.trim().is_empty())?;
    if serde_json::from_str::<serde::de::IgnoredAny>(first).is_ok() {
        return None;
    }
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut counted, mut line) = (Vec::new(), 0, 1);
    loop {
        let blank = text[objects.byte_offset()..].len() - text[objects.byte_offset()..].trim_start().len();
        let start = objects.byte_offset() + blank;
        let Some(object) = objects.next() else { return Some(found) };
        line += text[counted..start].matches('\n').count();
        counted = start;
        found.push(("line", line, object.ok()?.to_string()));
    }
}

/// What one object of the file is.
enum Found {
    Row(Row),
    /// A row with choices, whose answer the rule of the whole file reads.
    Asked(Asked),
}

/// A JSON list that is not longer than a file may be.
struct Entries(Vec<Value>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> serde::de::Visitor<'de> for Bounded {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                write!(f, "a list of at most {ROWS_MAX} rows")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    if entries.len() == ROWS_MAX {
                        return Err(serde::de::Error::custom(format!("it has more than {ROWS_MAX} rows")));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

fn object(line: &str) -> Result<&str> {
    ensure!(line.len() <= ROW_BYTES_MAX, "it has {} bytes; at most {ROW_BYTES_MAX}", line.len());
    ensure!(line.trim_start().starts_with('{'), "not a JSON object");
    Ok(line)
}

/// Parses one line. serde_json's line number is always 1 here and would mislead, so it is left out.
fn json<'t, T: Deserialize<'t>>(line: &'t str) -> Result<T> {
    serde_json::from_str(line)
        .map_err(|error| anyhow!("{}", error.to_string().replace(" at line 1 column", " at column")))
}

impl RowReader<'_> {
    fn row(&self, line: &str) -> Result<Found> {
        if matches!(self.format, TaskFormat::Jsonl | TaskFormat::Auto) && self.fields.is_empty() {
            return self.own(json(line)?).map(Found::Row);
        }
        let value: Value = json(line)?;
        let row = match self.format {
            TaskFormat::Mmlu => return mmlu(&value).map(Found::Asked),
            TaskFormat::Gsm8k => gsm8k(&value),
            TaskFormat::Math => math(&value),
            TaskFormat::CommonsenseQa | TaskFormat::Arc => answer_key(&value),
            TaskFormat::HumanEval => human_eval(&value),
            _ => return self.mapped(&value),
        };
        row.map(Found::Row)
    }

    fn own(&self, row: OwnRow) -> Result<Row> {
        let OwnRow { question, answer, level: written, split, solution } = row;
        let level = match written {
            None => 1,
            Some(value) => {
                level(&value).with_context(|| format!("the level is {value}; it must be a whole number"))?
            }
        };
        let answer = answer.as_ref().map(answer_text).transpose()?;
        Ok(Row { kind: self.kind, question, answer, level, split, solution })
    }

    /// A row with the fields that `tasks.fields` names.
    fn mapped(&self, value: &Value) -> Result<Found> {
        let names = self.fields;
        let found = |name: &str| at(value, name).filter(|value| !name.is_empty() && !value.is_null());
        let text = |name: &str| -> Result<Option<String>> {
            found(name)
                .map(|value| answer_text(value).map_err(|_| anyhow!("{name} is not a text")))
                .transpose()
        };
        let question = text(&names.question)?.with_context(|| format!("there is no {}", names.question))?;
        let level = match found(&names.level) {
            None => 1,
            Some(value) => {
                level(value).with_context(|| format!("{} is not a level: {value}", names.level))?
            }
        };
        let split = text(&names.split)?.map(|name| split(&name)).transpose()?;
        let solution = text(&names.solution)?;
        let row = Row { kind: self.kind, question, answer: None, level, split, solution };
        let answer = found(&names.answer);
        match found(&names.choices) {
            None => Ok(Found::Row(Row { answer: answer.map(answer_text).transpose()?, ..row })),
            Some(choices) => Ok(Found::Asked(Asked {
                row,
                choices: texts(choices).context("the choices are not a list of texts")?,
                answer: answer.cloned(),
            })),
        }
    }
}

/// The value under `a.b`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value.get(path).or_else(|| path.split('.').try_fold(value, |value, key| value.get(key)))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    let found = at(value, key).with_context(|| format!("there is no {key}"))?;
    found.as_str().with_context(|| format!("{key} is not a text"))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| answer_text(text).ok()).collect()
}

/// `3`, `3.0`, `"3"` and `"Level 3"`.
fn level(value: &Value) -> Option<u32> {
    let text = answer_text(value).ok()?;
    let text = text.trim().trim_start_matches("Level").trim();
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}

/// A split by the program's own name, or by a usual one (test, validation, valid, dev).
fn split(name: &str) -> Result<Split> {
    match name {
        "test" => Ok(Split::HeldOut),
        "validation" | "valid" | "dev" => Ok(Split::Gate),
        name => name.parse().map_err(|error| anyhow!("split: {error}, test, validation")),
    }
}

/// GSM8K (Cobbe et al. 2021, arXiv:2110.14168): the answer is a solution that ends in `#### n`;
/// `<<3*4=12>>` are notes for a calculator, left out here. The solution is written in the form that
/// the prompts ask for.
fn gsm8k(value: &Value) -> Result<Row> {
    let (question, whole) = (text(value, "question")?, text(value, "answer")?);
    let (steps, answer) = whole.rsplit_once("####").context("the answer has no `####`")?;
    let (mut plain, mut rest) = (String::new(), steps.trim_end());
    while let Some((before, after)) = rest.split_once("<<") {
        plain.push_str(before);
        rest = after.split_once(">>").map_or(after, |(_, after)| after);
    }
    let answer = answer.trim();
    Ok(Row::new(TaskKind::Number, question, answer)
        .with_solution(format!("{plain}{rest}\nThe answer is {answer}.")))
}

/// MATH (Hendrycks et al. 2021, arXiv:2103.03874): the answer is a field, or else the last box of
/// the solution.
fn math(value: &Value) -> Result<Row> {
    let (question, solution) = (text(value, "problem")?, text(value, "solution")?);
    let own = value.get("answer").map(answer_text).transpose()?;
    let answer =
        own.or_else(|| last_boxed(solution).map(str::to_owned)).context("the solution boxes no answer")?;
    let level = value.get("level").and_then(level).unwrap_or(1);
    Ok(Row::new(TaskKind::Math, question, answer).with_solution(solution).at_level(level))
}

/// The contents of the last `\boxed{…}` or `\fbox{…}`. Without braces it is the text up to the
/// end of the formula: `$\boxed 2$`.
fn last_boxed(text: &str) -> Option<&str> {
    let start = ["\\boxed", "\\fbox"].iter().filter_map(|mark| Some(text.rfind(mark)? + mark.len())).max()?;
    let Some(start) = text[start..].starts_with('{').then_some(start + 1) else {
        let bare = text[start..].split(['$', '\n']).next().unwrap_or_default().trim();
        return (!bare.is_empty()).then_some(bare);
    };
    let mut depth = 1usize;
    for (i, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + i]);
        }
    }
    None
}

/// MMLU (Hendrycks et al. 2020, arXiv:2009.03300) as JSON: a list of choices, and an answer that
/// names one.
fn mmlu(value: &Value) -> Result<Asked> {
    let choices = value.get("choices").and_then(texts).context("the choices are not a list of texts")?;
    let answer = value.get("answer").context("there is no answer")?.clone();
    let row = Row { answer: None, ..Row::new(TaskKind::Choice, text(value, "question")?, "") };
    Ok(Asked { row, choices, answer: Some(answer) })
}

/// CommonsenseQA (Talmor et al. 2019, arXiv:1811.00937) and ARC (Clark et al. 2018,
/// arXiv:1803.05457), as published and as on the Hugging Face hub.
fn answer_key(value: &Value) -> Result<Row> {
    let stem = at(value, "question.stem").and_then(Value::as_str);
    let question = match stem {
        Some(stem) => stem,
        None => text(value, "question")?,
    };
    let choices =
        at(value, "question.choices").or_else(|| value.get("choices")).context("there are no choices")?;
    let pairs = match choices {
        Value::Array(choices) => {
            let pair = |choice: &Value| {
                Some((answer_text(choice.get("label")?).ok()?, answer_text(choice.get("text")?).ok()?))
            };
            choices.iter().map(pair).collect::<Option<Vec<_>>>()
        }
        columns => columns.get("label").and_then(texts).zip(columns.get("text").and_then(texts)).and_then(
            |(labels, texts)| (labels.len() == texts.len()).then(|| labels.into_iter().zip(texts).collect()),
        ),
    };
    let (labels, texts): (Vec<_>, Vec<_>) =
        pairs.context("not every choice has a `label` and a `text`")?.into_iter().unzip();
    let key = text(value, "answerKey")?;
    ensure!(!key.is_empty(), "the answerKey is empty: the test file without answers measures nothing");
    let place = labels.iter().position(|label| label == key);
    let place = place.with_context(|| format!("the answerKey {key:?} is none of its labels"))?;
    Ok(Row::new(TaskKind::Choice, with_choices(question, &texts)?, letter(place)?))
}

/// HumanEval (Chen et al. 2021, arXiv:2107.03374): the gold answer is the program that runs the
/// tests.
fn human_eval(value: &Value) -> Result<Row> {
    let (prompt, entry) = (text(value, "prompt")?, text(value, "entry_point")?);
    let check = format!("{}\n\ncheck({entry})\n", text(value, "test")?.trim_end());
    let row = Row::new(TaskKind::Code, prompt, check);
    Ok(match value.get("canonical_solution").and_then(Value::as_str) {
        Some(solution) => row.with_solution(solution),
        None => row,
    })
}
