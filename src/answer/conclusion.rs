//! Choices that a sentence concludes without the word "answer".

use super::Why;
use super::choice::head;
use super::claim::{Claim, Reading, sentence_end};

/// "B is correct", "the best option is B", "I choose B": claims without the word "answer".
pub(super) fn conclusions(text: &str) -> Vec<Claim<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = rest.len()
            - rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '!' | '?')).len();
        at += skipped;
        let end = at + sentence_end(&text[at..]);
        if end == at {
            break;
        }
        // Longer ones conclude nothing.
        if end - at <= 600 {
            found.extend(concluded(text, at, end));
        }
        at = end;
    }
    found
}

/// Verbs with which a letter is chosen.
const VERBS: [&str; 15] = [
    "i choose ",
    "i would choose ",
    "i'd choose ",
    "we choose ",
    "i pick ",
    "i'd pick ",
    "i would pick ",
    "i go with ",
    "i'll go with ",
    "i'd go with ",
    "i would go with ",
    "i select ",
    "i'd say ",
    "i would say ",
    "rather ",
];

/// Nouns for an option, and words before them that make it the chosen one.
const NOUNS: [&str; 10] = [
    "option",
    "choice",
    "alternative",
    "letter",
    "selection",
    "response",
    "pick",
    "one",
    "statement",
    "solution",
];
const ADJECTIVES: [&str; 10] =
    ["correct ", "right ", "best ", "only ", "true ", "my ", "final ", "appropriate ", "suitable ", "valid "];

/// What joins such a noun and its letter.
const CONNECTORS: [&str; 7] = [" is ", ": ", " must be ", " would be ", " should be ", " is: ", " here is "];

/// What makes the letter before it the chosen one.
const PREDICATES: [&str; 15] = [
    " is correct",
    " is right",
    " is the correct",
    " is the right",
    " is the best",
    " must be correct",
    " must be right",
    " is the only",
    " are correct",
    " are right",
    " is therefore correct",
    " are both correct",
    " is the answer",
    " is my answer",
    " is my choice",
];

fn concluded(text: &str, at: usize, end: usize) -> Option<Claim<'_>> {
    let sentence = &text[at..end];
    let lower = sentence.to_ascii_lowercase();
    if lower.starts_with("if ") {
        return None;
    }
    let found = chosen(sentence, &lower)
        .or_else(|| described(sentence, &lower))
        .or_else(|| only_concluded(sentence))
        .or_else(|| predicated(sentence, &lower))?;
    Some(Claim { at, end, text: found, denied: false })
}

/// "I choose B"
fn chosen<'t>(sentence: &'t str, lower: &str) -> Option<&'t str> {
    let after = |verb: &&str| Some(&sentence[lower.find(verb)? + verb.len()..]);
    let names = |text: &&str| head(text) != Reading::Nothing;
    VERBS.iter().filter_map(after).find(names)
}

/// "the best option is B"
fn described<'t>(sentence: &'t str, lower: &str) -> Option<&'t str> {
    let places = NOUNS.iter().flat_map(|noun| lower.match_indices(noun).map(|(at, _)| (at, at + noun.len())));
    let described = |(at, end): (usize, usize)| {
        let adjective = ADJECTIVES.iter().any(|adjective| lower[..at].ends_with(adjective));
        let connector =
            CONNECTORS.iter().filter(|word| lower[end..].starts_with(**word)).map(|word| word.len());
        Some(&sentence[end + connector.max().filter(|_| adjective)?..])
    };
    places.filter_map(described).next()
}

/// "B is correct"
fn predicated<'t>(sentence: &'t str, lower: &str) -> Option<&'t str> {
    let at = PREDICATES.iter().filter_map(|predicate| lower.find(predicate)).min()?;
    let subject = subject(&sentence[..at]);
    // "On reflection, B is correct": the last clause, if the whole names nothing.
    let clause = subject.rsplit_once(", ").map_or(subject, |(_, clause)| clause);
    let names = |text: &&str| matches!(head(text), Reading::Value(_) | Reading::Refused(Why::Several(_)));
    [subject, clause].into_iter().find(names)
}

/// What is left of "so it must be B" if it is only a letter.
fn only_concluded(sentence: &str) -> Option<&str> {
    let mut rest = sentence;
    let mut concludes = false;
    loop {
        rest = rest.trim_start_matches([' ', ',', ':', '*']);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != '\'').unwrap_or(rest.len());
        match rest[..end].to_ascii_lowercase().as_str() {
            "so" | "thus" | "therefore" | "hence" | "it's" => concludes = true,
            "it" | "is" | "must" | "be" | "has" | "to" | "option" | "choice" | "should" | "then" => {}
            _ => break,
        }
        rest = &rest[end..];
    }
    let letter = rest.trim_matches(['(', ')', '[', ']', '*', '.', '"', ' ', '$', '`']);
    (concludes && letter.len() == 1 && letter.as_bytes()[0].is_ascii_uppercase()).then_some(rest)
}

/// The last clause of what stands before "is correct".
fn subject(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let starts = ["so ", "thus ", "thus, ", "therefore ", "therefore, ", "hence ", "hence, ", "that "];
    let from = starts.iter().filter_map(|word| Some(lower.rfind(word)? + word.len())).max();
    text[from.unwrap_or(0)..].trim()
}
