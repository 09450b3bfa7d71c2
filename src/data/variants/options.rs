//! Multiple choice with its options in another order, under new letters.
//!
//! A question that isn't clearly a stem with options below it stays as it is, and so does one whose
//! options point to others ("both A and C", "none of the above"): moving those changes what they
//! mean.

use std::collections::{BTreeMap, HashSet};

use super::super::draw;
use crate::domain::Address;

/// Words of options whose meaning depends on where they stand.
const POINTING: [&str; 8] =
    ["above", "below", "both", "neither", "preceding", "previous", "following", "options"];

/// A question with lettered options, each on a line at its end.
pub(super) struct Options<'q> {
    /// What is before the first option.
    stem: &'q str,
    /// Without their letters.
    texts: Vec<&'q str>,
}

impl<'q> Options<'q> {
    /// Reads a question; `None` if its options can't be moved.
    pub(super) fn parse(question: &'q str) -> Option<Self> {
        let start = if question.starts_with("(A) ") { 0 } else { question.find("\n(A) ")? + 1 };
        let (stem, listed) = question.split_at(start);
        let labelled = |(letter, line): (char, &'q str)| {
            line.strip_prefix('(')?.strip_prefix(letter)?.strip_prefix(") ").map(str::trim)
        };
        let lines = listed.trim_end().lines();
        if lines.clone().count() > 26 {
            return None;
        }
        let texts: Vec<&str> = ('A'..='Z').zip(lines).map(labelled).collect::<Option<_>>()?;
        let distinct: HashSet<&&str> = texts.iter().collect();
        let is_movable = texts.len() > 1
            && distinct.len() == texts.len()
            && !mentions_label(stem)
            && !texts.iter().any(|text| points(text));
        is_movable.then_some(Self { stem, texts })
    }

    pub(super) fn count(&self) -> u32 {
        self.texts.len() as u32
    }

    /// The question with its options in the order of this place.
    ///
    /// The last number of the address counts the variants of a task. Within as many variants as there
    /// are options, each option stands at each place once: an answer that follows from its place gets
    /// as many votes as every other.
    pub(super) fn permuted(&self, address: &Address) -> String {
        let (count, (nth, before)) = (self.count(), address.branch.split_last().unwrap_or((&0, &[])));
        let branch = [before, &[nth / count, count, 1]].concat();
        let mut order: Vec<usize> = (0..self.texts.len()).collect();
        draw::shuffle(&mut Address { branch, ..address.clone() }.stream(), &mut order);
        order.rotate_left((nth % count) as usize);
        let mut question = self.stem.to_owned();
        for (letter, &option) in ('A'..='Z').zip(&order) {
            question += &format!("({letter}) {}\n", self.texts[option]);
        }
        question.truncate(question.trim_end().len());
        question
    }

    /// The letter that each letter of this question has in `other`; `None` if the two don't ask the
    /// same.
    pub(super) fn letters_in(&self, other: &Options) -> Option<BTreeMap<String, String>> {
        if self.stem != other.stem || self.texts.len() != other.texts.len() {
            return None;
        }
        let place = |text: &&str| other.texts.iter().position(|there| there == text);
        let named = ('A'..='Z')
            .zip(&self.texts)
            .map(|(letter, text)| Some((letter.to_string(), ('A'..='Z').nth(place(text)?)?.to_string())));
        named.collect()
    }
}

/// Whether an option points to others.
fn points(text: &str) -> bool {
    let words = || text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_letter = |word: &&str| word.len() == 1 && word.bytes().all(|b| b.is_ascii_uppercase());
    let lower = text.to_lowercase();
    words().any(|word| POINTING.contains(&word.to_lowercase().as_str()))
        || ["all of the", "none of the"].iter().any(|phrase| lower.contains(phrase))
        || mentions_label(text)
        || words().filter(is_letter).count() > 1
}

/// Whether a text has an option's letter in brackets.
fn mentions_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|w| w[0] == b'(' && w[1].is_ascii_uppercase() && w[2] == b')')
}

/// A text in which options are called by other letters.
///
/// A letter counts where it stands as a word. The article "A" and the pronoun "I", which are
/// followed by a word in small letters, stay.
pub(super) fn relettered(text: &str, letters: &BTreeMap<String, String>) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |i: usize| characters.get(i).copied();
    let mut out = String::with_capacity(text.len());
    for (i, &c) in characters.iter().enumerate() {
        let before = i.checked_sub(1).and_then(at);
        let is_word = ![before, at(i + 1)].iter().flatten().any(|c| c.is_alphanumeric() || *c == '\'');
        let is_article = matches!(c, 'A' | 'I')
            && at(i + 1) == Some(' ')
            && at(i + 2).is_some_and(|next| next.is_lowercase());
        match letters.get(c.encode_utf8(&mut [0; 4]) as &str) {
            Some(other) if is_word && !is_article => out += other,
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Purpose;

    const QUESTION: &str = "Which is red?\nOptions:\n(A) the sky\n(B) blood\n(C) grass\n(D) snow";

    fn place(nth: u32) -> Address {
        Address::new(3, Purpose::Variant, 1, "t/1", &[nth])
    }

    #[test]
    fn every_option_stands_at_every_place_once_in_a_round() {
        let options = Options::parse(QUESTION).unwrap();
        let mut first = HashSet::new();
        for nth in 0..4 {
            let question = options.permuted(&place(nth));
            assert_eq!(question, options.permuted(&place(nth)), "a function of the address");
            let other = Options::parse(&question).unwrap();
            let letters = other.letters_in(&options).unwrap();
            first.insert(letters["A"].clone());
            let right = options.letters_in(&other).unwrap()["B"].clone();
            assert!(question.contains(&format!("({right}) blood")), "{question}");
            assert_eq!(letters[&right], "B");
        }
        assert_eq!(first.len(), 4);
        assert_ne!(options.permuted(&place(0)), options.permuted(&place(4)), "rounds differ");
    }

    #[test]
    fn what_hangs_on_its_place_is_not_moved() {
        for question in [
            "Which?\n(A) red",
            "Which?\n(A) red\n(C) green",
            "Which?\n(A) red\n(B) red",
            "Which?\n(A) red\n(B) none of the above",
            "Which?\n(A) red\n(B) Both are",
            "Which?\n(A) red\n(B) green\n(C) A and B",
            "Which?\n(A) red\n(B) green\n(C) only (A)",
            "Is (A) right?\n(A) red\n(B) green",
            "Which?\n(A) red\n(B) green\nThink first.",
            "Which is red?",
            "",
        ] {
            assert!(Options::parse(question).is_none(), "{question}");
        }
        assert!(Options::parse("Which?\n(A) A line\n(B) I am\n").is_some());
    }

    #[test]
    fn letters_are_renamed_where_they_name_options() {
        let letters = BTreeMap::from([("A".into(), "C".into()), ("C".into(), "A".into())]);
        let renamed = |text| relettered(text, &letters);
        assert_eq!(renamed("A car is (A), not C.\nThe answer is A"), "A car is (C), not A.\nThe answer is C");
        assert_eq!(renamed("**C**) B, DNA, A's, ACC"), "**A**) B, DNA, A's, ACC");
        assert_eq!(renamed(""), "");
    }
}
