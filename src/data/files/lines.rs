//! JSON, one object per line or in one list: the program's own fields, other people's fields by name, and the
//! benchmarks that are published so.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::rows::{Read, Row, answer_text, letter, with_choices};
use crate::config::{FieldNames, TaskFormat};
use crate::domain::{Split, TaskKind};

/// The program's own row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnRow {
    question: String,
    answer: Option<Value>,
    #[serde(default = "one")]
    level: u32,
    split: Option<Split>,
    solution: Option<String>,
}

fn one() -> u32 {
    1
}

/// How the rows of a file are to be understood.
pub(super) struct Reading<'a> {
    pub format: TaskFormat,
    /// Kind of a task whose format doesn't decide it.
    pub kind: TaskKind,
    pub fields: &'a FieldNames,
}

/// Every row of the file.
pub(super) fn read(text: &str, reading: &Reading) -> Result<Vec<Read>> {
    if !text.trim_start().starts_with('[') {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(index, line): (usize, &str)| Read {
            unit: "line",
            number: index + 1,
            source: line.to_owned(),
            row: object(line).and_then(|line| reading.row(line)).and_then(Row::checked),
        };
        return Ok(lines.map(read).collect());
    }
    let entries: Vec<Value> = serde_json::from_str(text).context("it begins with `[` and is no JSON list")?;
    let read = |(index, entry): (usize, Value)| {
        let source = entry.to_string();
        let row = object(&source).and_then(|entry| reading.row(entry)).and_then(Row::checked);
        Read { unit: "entry", number: index + 1, source, row }
    };
    Ok(entries.into_iter().enumerate().map(read).collect())
}

fn object(line: &str) -> Result<&str> {
    ensure!(line.trim_start().starts_with('{'), "not a JSON object");
    Ok(line)
}

/// Within a line, serde_json's line number is always 1 and would mislead.
fn json<'t, T: Deserialize<'t>>(line: &'t str) -> Result<T> {
    serde_json::from_str(line)
        .map_err(|error| anyhow!("{}", error.to_string().replace(" at line 1 column", " at column")))
}

impl Reading<'_> {
    fn row(&self, line: &str) -> Result<Row> {
        if matches!(self.format, TaskFormat::Jsonl | TaskFormat::Auto) && self.fields.is_empty() {
            return self.own(json(line)?);
        }
        let value: Value = json(line)?;
        match self.format {
            TaskFormat::Gsm8k => gsm8k(&value),
            TaskFormat::Math => math(&value),
            TaskFormat::Mmlu => mmlu(&value),
            TaskFormat::CommonsenseQa | TaskFormat::Arc => answer_key(&value),
            TaskFormat::HumanEval => human_eval(&value),
            _ => self.mapped(&value),
        }
    }

    fn own(&self, row: OwnRow) -> Result<Row> {
        let OwnRow { question, answer, level, split, solution } = row;
        let answer = answer.as_ref().map(answer_text).transpose()?;
        Ok(Row { kind: self.kind, question, answer, level, split, solution })
    }

    /// A row of somebody else's fields.
    fn mapped(&self, value: &Value) -> Result<Row> {
        let names = self.fields;
        let found = |name: &str| at(value, name).filter(|value| !name.is_empty() && !value.is_null());
        let text = |name: &str| -> Result<Option<String>> {
            found(name).map(|value| answer_text(value).map_err(|_| anyhow!("{name} is no text"))).transpose()
        };
        let question = text(&names.question)?.with_context(|| format!("there is no {}", names.question))?;
        let answer = found(&names.answer).map(answer_text).transpose()?;
        let level = match found(&names.level) {
            None => 1,
            Some(value) => level(value).with_context(|| format!("{} is no level: {value}", names.level))?,
        };
        let split = text(&names.split)?.map(|name| split(&name)).transpose()?;
        let row = Row { kind: self.kind, question, answer, level, split, solution: text(&names.solution)? };
        match found(&names.choices) {
            None => Ok(row),
            Some(choices) => chosen(row, &texts(choices).context("the choices are no list of texts")?),
        }
    }
}

/// The question with its choices, and the answer as the letter of one: it is a letter, a place from 0, or the text
/// of a choice.
fn chosen(row: Row, choices: &[String]) -> Result<Row> {
    let question = with_choices(&row.question, choices)?;
    let answer = row.answer.as_deref().map(|answer| choice(answer, choices)).transpose()?;
    Ok(Row { kind: TaskKind::Choice, question, answer, ..row })
}

fn choice(answer: &str, choices: &[String]) -> Result<String> {
    let answer = answer.trim();
    let by_text = choices.iter().position(|choice| choice.trim() == answer);
    let by_letter = || match answer.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    };
    let index = by_text.or_else(by_letter).or_else(|| answer.parse().ok());
    match index.filter(|index| *index < choices.len()) {
        Some(index) => letter(index),
        None => bail!("the answer {answer:?} is none of its {} choices", choices.len()),
    }
}

/// The value under `a.b`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value.get(path).or_else(|| path.split('.').try_fold(value, |value, key| value.get(key)))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    let found = at(value, key).with_context(|| format!("there is no {key}"))?;
    found.as_str().with_context(|| format!("{key} is no text"))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| answer_text(text).ok()).collect()
}

/// `3`, `"3"` and `"Level 3"`.
fn level(value: &Value) -> Option<u32> {
    let text = answer_text(value).ok()?;
    text.trim().trim_start_matches("Level").trim().parse().ok()
}

/// The program's names of splits, and the usual ones of others.
fn split(name: &str) -> Result<Split> {
    match name {
        "test" => Ok(Split::HeldOut),
        "validation" | "valid" | "dev" => Ok(Split::Gate),
        name => name.parse().map_err(|error| anyhow!("split: {error}, test, validation")),
    }
}

/// GSM8K (Cobbe et al. 2021, arXiv:2110.14168): the answer is a solution that ends in `#### n`; `<<3*4=12>>` are
/// notes for a calculator. The solution is told as the prompts ask for it.
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

/// MATH (Hendrycks et al. 2021, arXiv:2103.03874): the answer stands boxed in the solution, if not by itself.
fn math(value: &Value) -> Result<Row> {
    let (question, solution) = (text(value, "problem")?, text(value, "solution")?);
    let own = value.get("answer").map(answer_text).transpose()?;
    let answer =
        own.or_else(|| last_boxed(solution).map(str::to_owned)).context("the solution boxes no answer")?;
    let level = value.get("level").and_then(level).unwrap_or(1);
    Ok(Row::new(TaskKind::Math, question, answer).with_solution(solution).at_level(level))
}

/// What stands in the last `\boxed{…}` or `\fbox{…}`.
fn last_boxed(text: &str) -> Option<&str> {
    let start =
        ["\\boxed{", "\\fbox{"].iter().filter_map(|mark| Some(text.rfind(mark)? + mark.len())).max()?;
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

/// MMLU (Hendrycks et al. 2020, arXiv:2009.03300) as JSON: choices in a list, the answer by place or letter.
fn mmlu(value: &Value) -> Result<Row> {
    let choices = value.get("choices").and_then(texts).context("the choices are no list of texts")?;
    let answer = match value.get("answer").context("there is no answer")? {
        Value::Number(place) => {
            let place = place.as_u64().filter(|place| (*place as usize) < choices.len());
            letter(place.context("the answer is no choice's place, counted from 0")? as usize)?
        }
        other => choice(&answer_text(other)?, &choices)?,
    };
    Ok(Row::new(TaskKind::Choice, with_choices(text(value, "question")?, &choices)?, answer))
}

/// CommonsenseQA (Talmor et al. 2019, arXiv:1811.00937) and ARC (Clark et al. 2018, arXiv:1803.05457), as
/// published and as on the Hugging Face hub.
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
        pairs.context("the choices have no `label` and `text` each")?.into_iter().unzip();
    let key = text(value, "answerKey")?;
    ensure!(!key.is_empty(), "the answerKey is empty: the test file without answers measures nothing");
    let place = labels.iter().position(|label| label == key);
    let place = place.with_context(|| format!("the answerKey {key:?} is none of its labels"))?;
    Ok(Row::new(TaskKind::Choice, with_choices(question, &texts)?, letter(place)?))
}

/// HumanEval (Chen et al. 2021, arXiv:2107.03374): the gold answer is the program that checks.
fn human_eval(value: &Value) -> Result<Row> {
    let (prompt, entry) = (text(value, "prompt")?, text(value, "entry_point")?);
    let check = format!("{}\n\ncheck({entry})\n", text(value, "test")?.trim_end());
    let row = Row::new(TaskKind::Code, prompt, check);
    Ok(match value.get("canonical_solution").and_then(Value::as_str) {
        Some(solution) => row.with_solution(solution),
        None => row,
    })
}
