//! How the answers of a file with choices name the right one: by index, by letter or by text.
//!
//! It is one rule for a whole file, found from all of its rows: a single row can be read in several
//! ways, as an answer `2` of the choices `["1", "2", "3"]`.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::rows::{Row, answer_text, letter, with_choices};
use crate::domain::TaskKind;

/// A row whose answer is one of its choices.
pub(super) struct Asked {
    /// Without choices in its question, and without an answer.
    pub row: Row,
    pub choices: Vec<String>,
    /// As it is written.
    pub answer: Option<Value>,
}

/// How answers name a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChoiceRule {
    /// Its number, counted from 0.
    Index,
    /// Its letter: A is the first.
    Letter,
    /// Its text.
    Text,
}

impl ChoiceRule {
    const ALL: [Self; 3] = [Self::Index, Self::Letter, Self::Text];

    /// What it calls answers, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "indexes from 0",
            Self::Letter => "letters",
            Self::Text => "the texts of choices",
        }
    }

    /// The place of the choice that an answer names; `None` if it names none, or several.
    fn place(self, answer: &Value, choices: &[String]) -> Option<usize> {
        let text = answer_text(answer).ok()?;
        let text = text.trim();
        let place = match self {
            Self::Index => text.parse().ok(),
            Self::Letter => match text.as_bytes() {
                [letter @ (b'A'..=b'Z' | b'a'..=b'z')] => {
                    Some(usize::from(letter.to_ascii_uppercase() - b'A'))
                }
                _ => None,
            },
            Self::Text => {
                let mut found = (0..choices.len()).filter(|&i| choices[i].trim() == text);
                found.next().filter(|_| found.next().is_none())
            }
        };
        place.filter(|place| *place < choices.len())
    }

    /// The rule by which most answers of the file name a choice.
    ///
    /// Where answers are numbers of JSON, they are indexes. Of other rules that explain equally many
    /// answers, all must choose the same.
    ///
    /// # Errors
    /// Two rules explain the file equally well and choose differently.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a Asked> + Clone) -> Result<Self> {
        let answers = rows.filter_map(|asked| Some((asked.answer.as_ref()?, &asked.choices)));
        let explained = |rule: Self| {
            let named = answers.clone().filter(|(answer, choices)| rule.place(answer, choices).is_some());
            named.count()
        };
        let numbers = answers.clone().filter(|(answer, _)| answer.is_number()).count();
        if numbers > 0 && numbers == explained(Self::Index) {
            return Ok(Self::Index);
        }
        let most = Self::ALL.map(explained).into_iter().max().unwrap_or_default();
        let mut best = Self::ALL.into_iter().filter(|rule| explained(*rule) == most);
        let first = best.next().unwrap_or(Self::Letter);
        for other in best {
            let differs = |(answer, choices): &(&Value, &Vec<String>)| {
                first.place(answer, choices) != other.place(answer, choices)
            };
            if let Some((answer, choices)) = answers.clone().find(differs).filter(|_| most > 0) {
                bail!(
                    "the answers can be {} as well as {} (the answer {answer} of the choices {choices:?}); write \
                     letters, A for the first choice",
                    first.name(),
                    other.name()
                );
            }
        }
        Ok(first)
    }

    /// The row with its choices in the question, and the letter of the right one as the answer.
    pub(super) fn row(self, asked: Asked) -> Result<Row> {
        let Asked { row, choices, answer } = asked;
        let question = with_choices(&row.question, &choices)?;
        let named = |answer: Value| {
            let place = self.place(&answer, &choices);
            let place = place.with_context(|| {
                format!(
                    "the answer {answer} is none of its {} choices (answers are {})",
                    choices.len(),
                    self.name()
                )
            })?;
            letter(place)
        };
        Ok(Row { kind: TaskKind::Choice, question, answer: answer.map(named).transpose()?, ..row })
    }
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;
    use serde_json::json;

    use super::*;

    fn asked(choices: &[&str], answer: Value) -> Asked {
        Asked {
            row: Row::new(TaskKind::Text, "Which?", ""),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            answer: Some(answer),
        }
    }

    /// The letters that a file of these rows has as answers.
    fn letters(rows: Vec<Asked>) -> Result<Vec<String>> {
        let rule = ChoiceRule::of(rows.iter())?;
        rows.into_iter().map(|row| Ok(rule.row(row)?.answer.unwrap_or_default())).collect()
    }

    #[test]
    fn numbers_of_json_are_indexes_whatever_the_choices_are() {
        for (choices, answer, letter) in [
            (["1", "2", "3", "4"], json!(2), "C"),
            (["3", "1", "2", "0"], json!(0), "A"),
            (["5", "6", "7", "8"], json!(3), "D"),
        ] {
            assert_eq!(letters(vec![asked(&choices, answer)]).unwrap(), [letter]);
        }
        // A number that is no index is the text of a choice.
        let years = ["1912", "1918", "1923", "1945"];
        assert_eq!(letters(vec![asked(&years, json!(1918))]).unwrap(), ["B"]);
    }

    #[test]
    fn all_rows_decide_what_one_leaves_open() {
        let shuffled = || asked(&["C", "B", "A", "D"], json!("A"));
        assert_refused(letters(vec![shuffled()]), "letters as well as the texts of choices");
        let plain = asked(&["red", "green"], json!("b"));
        assert_eq!(letters(vec![shuffled(), plain]).unwrap(), ["A", "B"]);
        let word = asked(&["red", "green"], json!(" green "));
        assert_eq!(letters(vec![shuffled(), word]).unwrap(), ["C", "B"]);
        let written = || asked(&["1", "2", "3", "4"], json!("2"));
        assert_refused(letters(vec![written()]), "indexes from 0 as well as the texts");
        let beyond = asked(&["10", "20", "30", "40"], json!("30"));
        assert_eq!(letters(vec![written(), beyond]).unwrap(), ["B", "C"]);
        // Both rules choose the same.
        assert_eq!(letters(vec![asked(&["A", "B"], json!("B"))]).unwrap(), ["B"]);
    }

    #[test]
    fn rows_that_the_rule_does_not_explain_are_named() {
        let rows = || vec![asked(&["x", "y"], json!("A")), asked(&["x", "y"], json!("B"))];
        let with = |answer: Value| {
            let mut rows = rows();
            rows.push(asked(&["x", "y"], answer));
            letters(rows)
        };
        assert_refused(with(json!("C")), "the answer \"C\" is none of its 2 choices (answers are letters)");
        assert_refused(with(json!(2)), "answers are letters");
        assert_refused(with(json!("x")), "answers are letters");
        assert_refused(letters(vec![asked(&["x", "x"], json!("x"))]), "none of its 2 choices");
    }
}
