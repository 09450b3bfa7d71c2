//! Which benchmark a file is, recognised by its contents.

use serde_json::Value;

use super::tables;
use crate::data::settings::TaskFormat;

/// The format, and the mark it was recognised by. JSONL with the program's own fields if no mark is
/// found.
pub(super) fn format(text: &str, name: &str) -> (TaskFormat, Option<&'static str>) {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if tables::is_game24(first) {
        return (TaskFormat::Game24, Some("a column `Puzzles`"));
    }
    if tables::is_bbh(text) {
        return (TaskFormat::Bbh, Some("`examples` with `input` and `target`"));
    }
    let row: Option<Value> = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Value>>(text).ok().and_then(|rows| rows.into_iter().next())
    } else {
        // An object may go over several lines.
        let first = serde_json::Deserializer::from_str(text).into_iter::<Value>().next();
        first.and_then(Result::ok).filter(Value::is_object)
    };
    match row {
        Some(row) => of_object(&row),
        None if name.contains(".csv") && tables::is_mmlu(text) => {
            (TaskFormat::Mmlu, Some("columns that end in the letter of a choice"))
        }
        None => (TaskFormat::Jsonl, None),
    }
}

fn of_object(row: &Value) -> (TaskFormat, Option<&'static str>) {
    let has = |key: &str| row.get(key).is_some();
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    if has("prompt") && has("entry_point") && has("test") {
        return (TaskFormat::HumanEval, Some("`prompt`, `entry_point` and `test`"));
    }
    if has("problem") && has("solution") {
        return (TaskFormat::Math, Some("`problem` and `solution`"));
    }
    if has("answerKey") {
        let concept = row.pointer("/question/question_concept").or_else(|| row.get("question_concept"));
        return match concept {
            Some(_) => (TaskFormat::CommonsenseQa, Some("`answerKey` and `question_concept`")),
            None => (TaskFormat::Arc, Some("`answerKey`")),
        };
    }
    if row.get("choices").is_some_and(Value::is_array) && has("question") && has("answer") {
        return (TaskFormat::Mmlu, Some("a list of `choices`"));
    }
    let fields = row.as_object().map_or(0, serde_json::Map::len);
    if fields == 2 && !text("question").is_empty() && text("answer").contains("\n#### ") {
        return (TaskFormat::Gsm8k, Some("answers that end in `#### `"));
    }
    (TaskFormat::Jsonl, None)
}
