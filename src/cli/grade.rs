//! `autodidact grade`: what a text claims, whether that is the answer, and why, as JSON lines.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lines;
use super::terminal::json_line;
use crate::answer::{self, Why};
use crate::domain::TaskKind;
use crate::domain::expression::Expression;

/// What Game of 24 asks for where no target is given.
const TARGET: i64 = 24;

/// Arguments of `autodidact grade`.
#[derive(Args)]
pub(super) struct GradeArgs {
    /// Form of the answers
    #[arg(long, value_enum)]
    kind: Form,
    /// JSON lines with "text", and if known "answer" and "choices" (default: standard input)
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A number, compared by its value
    Number,
    /// The letter of an option
    Choice,
    /// A formula in LaTeX
    Math,
    /// Words, compared one by one
    Exact,
    /// A number if it is one, else words
    Auto,
    /// An expression that makes 24
    Game24,
}

impl Form {
    const fn kind(self) -> TaskKind {
        match self {
            Self::Number => TaskKind::Number,
            Self::Choice => TaskKind::Choice,
            Self::Math => TaskKind::Math,
            Self::Exact => TaskKind::Exact,
            Self::Auto => TaskKind::Text,
            Self::Game24 => TaskKind::Game24,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Choice => "the letter of an option",
            Self::Math => "a formula",
            Self::Exact | Self::Auto => "a text",
            Self::Game24 => "numbers, a target or an expression",
        }
    }
}

/// A completion and what it is compared with.
#[derive(Deserialize)]
struct Line {
    text: String,
    answer: Option<Value>,
    choices: Option<Choices>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choices {
    Count(usize),
    Texts(Vec<String>),
}

impl Choices {
    fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Texts(texts) => texts.len(),
        }
    }

    fn texts(&self) -> &[String] {
        match self {
            Self::Count(_) => &[],
            Self::Texts(texts) => texts,
        }
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Verdict {
    claimed: Option<String>,
    /// `None` if there is nothing to compare with.
    correct: Option<bool>,
    why: String,
}

/// Writes a verdict for every line of the input.
pub(super) fn perform(args: &GradeArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    grade_all(args.kind, lines::open(args.input.as_deref())?, &mut out)?;
    Ok(ExitCode::SUCCESS)
}

/// A verdict for every line that isn't blank. An error comes after the verdicts of all lines before.
fn grade_all(form: Form, reader: impl BufRead, out: &mut impl Write) -> Result<()> {
    for numbered in lines::numbered(reader) {
        let (number, text) = numbered?;
        let verdict = line(&text).and_then(|line| verdict(form, &line));
        let verdict = verdict.with_context(|| format!("in line {number}"))?;
        json_line(out, &verdict)?;
    }
    out.flush()?;
    Ok(())
}

/// serde_json's line number is always 1 here and would mislead, so it is left out.
fn line(text: &str) -> Result<Line> {
    serde_json::from_str(text).map_err(|error| {
        anyhow::anyhow!(
            "not an object with \"text\" (and \"answer\", \"choices\"): {}",
            error.to_string().replace(" at line 1 column", " at column")
        )
    })
}

fn verdict(form: Form, line: &Line) -> Result<Verdict> {
    if let Some(choices) = &line.choices {
        ensure!(
            (2..=26).contains(&choices.count()),
            "\"choices\" has {} options; give 2 to 26, or their number",
            choices.count()
        );
    }
    let claimed = claimed(form, line);
    let gold = match &line.answer {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        Some(_) => anyhow::bail!("\"answer\" is neither a text nor a number"),
    };
    Ok(match (claimed, gold) {
        (Ok(claimed), None) => {
            Verdict { why: format!("the text claims {claimed}"), correct: None, claimed: Some(claimed) }
        }
        (Err(why), None) => Verdict { claimed: None, correct: None, why: why.to_string() },
        (claimed, Some(gold)) => compared(form, line, claimed, &gold),
    })
}

fn claimed(form: Form, line: &Line) -> Result<String, Why> {
    let claimed = answer::explain(form.kind(), &line.text);
    let Some(choices) = line.choices.as_ref().filter(|_| form == Form::Choice) else { return claimed };
    match claimed {
        Ok(letter) if !within(&letter, choices.count()) => Err(Why::Beyond(letter)),
        Err(Why::NoClaim | Why::NoneOfKind) => answer::option_named(&line.text, choices.texts())
            .ok_or_else(|| claimed.err().unwrap_or(Why::NoClaim)),
        claimed => claimed,
    }
}

/// Whether a letter is one of the first `count`.
fn within(letter: &str, count: usize) -> bool {
    letter.bytes().next().is_some_and(|letter| usize::from(letter.wrapping_sub(b'A')) < count)
}

fn compared(form: Form, line: &Line, claimed: Result<String, Why>, gold: &str) -> Verdict {
    if form == Form::Game24 {
        return made(claimed, gold);
    }
    let by_text = || {
        let options = line.choices.as_ref().map_or(&[][..], Choices::texts);
        let mut equal = ('A'..='Z').zip(options).filter(|(_, option)| option.trim() == gold.trim());
        equal
            .next()
            .map(|(letter, _)| letter.to_string())
            .filter(|_| form == Form::Choice && equal.next().is_none())
    };
    let Some(value) = by_text().or_else(|| answer::gold(form.kind(), gold)) else {
        let why = format!("the answer {gold:?} can't be read as {}", form.name());
        return Verdict { claimed: claimed.ok(), correct: None, why };
    };
    match claimed {
        Err(why) => Verdict { claimed: None, correct: Some(false), why: why.to_string() },
        Ok(claimed) => {
            let correct = answer::are_equal(form.kind(), &claimed, &value);
            let verb = if correct { "equals" } else { "does not equal" };
            Verdict {
                why: format!("{claimed} {verb} {value}"),
                correct: Some(correct),
                claimed: Some(claimed),
            }
        }
    }
}

/// A verdict on an expression. The answer is the question, the numbers, an expression of them, or
/// only the target.
fn made(claimed: Result<String, Why>, gold: &str) -> Verdict {
    let numbers: Option<Vec<i64>> = gold.split_whitespace().map(|word| word.parse().ok()).collect();
    let (given, target) = match numbers.as_deref() {
        Some([target]) => (None, *target),
        Some(numbers @ [_, _, ..]) => (Some(numbers.to_vec()), TARGET),
        _ => match (Expression::parse(gold), answer::puzzle(gold)) {
            (Some(expression), _) => (Some(expression.numbers()), TARGET),
            (None, Some((given, target))) => (Some(given), target),
            (None, None) => {
                let why = format!("the answer {gold:?} can't be read as {}", Form::Game24.name());
                return Verdict { claimed: claimed.ok(), correct: None, why };
            }
        },
    };
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(why) => return Verdict { claimed: None, correct: Some(false), why: why.to_string() },
    };
    let expression = Expression::parse(&claimed);
    let reaches = expression.as_ref().is_some_and(|e| e.equals(target));
    let uses = given.as_ref().is_none_or(|given| expression.is_some_and(|e| e.uses_exactly(given)));
    let why = match (reaches, uses) {
        (true, true) => format!("{claimed} is {target}"),
        (false, _) => format!("{claimed} is not {target}"),
        (true, false) => format!("{claimed} is {target}, but of other numbers"),
    };
    Verdict { claimed: Some(claimed), correct: Some(reaches && uses), why }
}

#[cfg(test)]
mod tests {
    use super::lines::LINE_BYTES_MAX;
    use super::*;

    fn graded(form: Form, input: &str) -> (String, Option<String>) {
        let mut out = Vec::new();
        let error = grade_all(form, input.as_bytes(), &mut out).err();
        (String::from_utf8(out).expect("text"), error.map(|error| format!("{error:#}")))
    }

    #[test]
    fn a_line_has_a_verdict_and_its_reason() {
        for (form, input, output) in [
            (
                Form::Number,
                r#"{"text": "The answer is 5.", "answer": "5"}"#,
                r#"{"claimed":"5","correct":true,"why":"5 equals 5"}"#,
            ),
            (
                Form::Number,
                r#"{"text": "The answer is 5.", "answer": 7}"#,
                r#"{"claimed":"5","correct":false,"why":"5 does not equal 7"}"#,
            ),
            (
                Form::Number,
                r#"{"text": "The answer is 5."}"#,
                r#"{"claimed":"5","correct":null,"why":"the text claims 5"}"#,
            ),
            (
                Form::Number,
                r#"{"text": "The answer is 0.0000025.", "answer": 0.0000025}"#,
                r#"{"claimed":"0.0000025","correct":true,"why":"0.0000025 equals 0.0000025"}"#,
            ),
            (
                Form::Choice,
                r#"{"text": "The answer is B or C.", "answer": "B"}"#,
                r#"{"claimed":null,"correct":false,"why":"the claim names several values: B, C"}"#,
            ),
            (
                Form::Choice,
                r#"{"text": "The answer is E.", "answer": "B", "choices": 4}"#,
                r#"{"claimed":null,"correct":false,"why":"E is not one of the options"}"#,
            ),
            (
                Form::Choice,
                r#"{"text": "The answer is Paris.", "answer": "Paris", "choices": ["Rome", "Paris"]}"#,
                r#"{"claimed":"B","correct":true,"why":"B equals B"}"#,
            ),
            (
                Form::Auto,
                r#"{"text": "<think>5", "answer": "5"}"#,
                r#"{"claimed":null,"correct":false,"why":"the thinking block is not closed"}"#,
            ),
            (
                Form::Game24,
                r#"{"text": "The answer is (4+8)(6-4)", "answer": "4 4 6 8"}"#,
                r#"{"claimed":"(4+8)*(6-4)","correct":true,"why":"(4+8)*(6-4) is 24"}"#,
            ),
            (
                Form::Game24,
                r#"{"text": "The answer is 4*6", "answer": "4 4 6 8"}"#,
                r#"{"claimed":"4*6","correct":false,"why":"4*6 is 24, but of other numbers"}"#,
            ),
            (
                Form::Number,
                r#"{"text": "The answer is 5.", "answer": "unknown"}"#,
                r#"{"claimed":"5","correct":null,"why":"the answer \"unknown\" can't be read as a number"}"#,
            ),
        ] {
            assert_eq!(graded(form, input), (format!("{output}\n"), None), "{input}");
        }
    }

    #[test]
    fn a_broken_line_is_named_and_the_verdicts_before_it_stay() {
        let good = r#"{"text": "The answer is 5."}"#;
        for (bad, parts) in [
            ("{", vec!["line 3", "text"]),
            (r#"{"answer": "5"}"#, vec!["line 3", "text"]),
            (r#"{"text": "5", "answer": [5]}"#, vec!["line 3", "answer"]),
            (r#"{"text": "5", "choices": 1}"#, vec!["line 3", "choices"]),
        ] {
            let (out, error) = graded(Form::Number, &format!("{good}\n\n{bad}\n{good}\n"));
            let error = error.expect("an error");
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
            assert_eq!(out.lines().count(), 1);
        }
        let long = format!("{good}\n{{\"text\": \"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        let (out, error) = graded(Form::Number, &long);
        assert!(
            error.is_some_and(|error| error.contains("line 2 has more than")) && out.lines().count() == 1
        );
    }
}
