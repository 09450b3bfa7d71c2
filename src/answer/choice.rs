//! Choices: the letter of an option.

use super::claim::{Claim, Reading, claims};
use super::conclusion::conclusions;
use super::dress::{bare, peeled, plain};
use super::{Why, last_line};

/// A longer gold answer, and a longer last line, names no option.
const OPTION_BYTES_MAX: usize = 2048;

/// Words that may stand before the letter.
const FILLERS: [&str; 42] = [
    "option",
    "choice",
    "letter",
    "answer",
    "the",
    "is",
    "be",
    "therefore",
    "thus",
    "definitely",
    "clearly",
    "probably",
    "likely",
    "most",
    "simply",
    "just",
    "indeed",
    "then",
    "would",
    "must",
    "should",
    "that",
    "so",
    "hence",
    "correct",
    "right",
    "best",
    "final",
    "only",
    "i",
    "think",
    "believe",
    "will",
    "choose",
    "pick",
    "say",
    "either",
    "both",
    "alternative",
    "statement",
    "obviously",
    "also",
];

/// Words that end what is claimed: reasons, and what is set against it.
const BOUNDARIES: [&str; 23] = [
    "over", "because", "since", "as", "not", "rather", "instead", "while", "whereas", "but", "which",
    "unlike", "so", "where", "than", "for", "due", "given", "based", "when", "if", "whose", "with",
];

/// Words that join a second option to the first.
const LINKS: [&str; 9] = ["or", "and", "nor", "also", "possibly", "maybe", "perhaps", "plus", "even"];

/// Words that deny what follows.
const DENIALS: [&str; 6] = ["not", "neither", "none", "cannot", "never", "no"];

/// The claimed letter; without a claim, the one that is all of the last line.
pub(super) fn answer(text: &str) -> Result<String, Why> {
    let text = plain(text);
    let mut found = claims(&text);
    found.extend(conclusions(&text));
    found.sort_by_key(|claim| claim.at);
    for claim in found.iter().rev() {
        match reading(claim) {
            Reading::Value(letter) => return Ok(letter.to_string()),
            Reading::Refused(why) => return Err(why),
            Reading::Nothing => {}
        }
    }
    if !found.is_empty() {
        return Err(Why::NoneOfKind);
    }
    last_option(&text).map(|letter| letter.to_string()).ok_or(Why::NoClaim)
}

/// A gold letter, as `B`, `b`, `(B)` or `B. text`.
pub(super) fn normalised(gold: &str) -> Option<String> {
    if gold.len() > OPTION_BYTES_MAX {
        return None;
    }
    let gold = plain(gold);
    match head(&bare(&gold)) {
        Reading::Value(letter) => Some(letter.to_string()),
        _ => None,
    }
}

fn reading(claim: &Claim) -> Reading<char> {
    if claim.denied {
        return Reading::Refused(Why::Denied);
    }
    let text = bare(claim.text);
    let text = text.trim_matches(['{', '}']);
    let lower = text.to_ascii_lowercase();
    match head(text) {
        Reading::Nothing
            if ["of the above", "cannot be determined", "unknown"].iter().any(|w| lower.contains(w)) =>
        {
            Reading::Refused(Why::Undecided)
        }
        reading => reading,
    }
}

/// A letter that stands for itself in a text.
#[derive(Clone, Copy)]
struct Mention {
    letter: char,
    start: usize,
    end: usize,
    /// In brackets or quotes.
    marked: bool,
}

/// Every single letter, in order.
fn mentions(text: &str) -> Vec<Mention> {
    let bytes = text.as_bytes();
    let word =
        |at: usize| text[at..].chars().next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’'));
    let mut found = Vec::new();
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()) {
        let before = text[..at].chars().next_back();
        let inside = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’' | '\\'));
        if inside || (at + 1 < bytes.len() && word(at + 1)) {
            continue;
        }
        // `A-level`, `x-ray`
        let rest = &text[at + 1..];
        if rest.starts_with('-') && rest[1..].starts_with(char::is_alphanumeric) {
            continue;
        }
        let open = text[..at].trim_end().chars().next_back();
        let close = rest.trim_start().chars().next();
        let pairs = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>'), ('"', '"'), ('\'', '\''), ('“', '”')];
        let marked = open.zip(close).is_some_and(|pair| pairs.contains(&pair));
        found.push(Mention { letter: char::from(byte.to_ascii_uppercase()), start: at, end: at + 1, marked });
    }
    found
}

/// The letter that a claim names first, if it names no other.
pub(super) fn head(text: &str) -> Reading<char> {
    let (start, named, denied) = skip_fillers(text);
    if denied {
        // "not A but B" names B.
        let rest = &text[start..];
        let lower = rest.to_ascii_lowercase();
        let turn = ["but ", "rather ", "instead "]
            .iter()
            .filter_map(|word| Some(lower.find(word)? + word.len()))
            .min();
        return match turn {
            Some(turn) if !lower[turn..].starts_with("than") => head(&rest[turn..]),
            _ => Reading::Refused(Why::Denied),
        };
    }
    let found = mentions(text);
    let at_start = found.iter().position(|mention| {
        let between = text.get(start..mention.start).unwrap_or("x");
        let opened = between
            .chars()
            .all(|c| matches!(c, '(' | '[' | '{' | '"' | '\'' | '“' | '<') || c.is_whitespace());
        mention.start >= start && opened && (mention.marked || stands_alone(text, mention, named))
    });
    // Further on only what is marked, before any reason.
    let limit = boundary(text, start);
    let option = |mention: &Mention| {
        let before = text[..mention.start].trim_end_matches(['(', '"', ' ']);
        let word = before.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let named = ["option", "choice", "letter"].iter().any(|known| word.eq_ignore_ascii_case(known));
        named && text.as_bytes()[mention.start].is_ascii_uppercase()
    };
    let first = at_start.or_else(|| {
        found.iter().position(|mention| mention.start < limit && (mention.marked || option(mention)))
    });
    let Some(first) = first else { return Reading::Nothing };
    let mut letters = vec![found[first].letter];
    let mut end = found[first].end;
    // After a letter of an option's own text, such as `(D) both A and B`, only marked ones count.
    let mut within = false;
    for mention in &found[first + 1..] {
        let between = &text[end..mention.start];
        if boundary(between, 0) < between.len() {
            break;
        }
        if (mention.marked || !within) && links(between, text, mention) {
            letters.push(mention.letter);
            end = mention.end;
        } else {
            within |= text.as_bytes()[mention.start].is_ascii_uppercase();
        }
    }
    letters.dedup();
    match letters[..] {
        [letter] => Reading::Value(letter),
        _ => Reading::Refused(Why::Several(letters.iter().map(char::to_string).collect())),
    }
}

/// Where the claim itself begins, whether "option" was the last word before it, and whether it is
/// denied.
fn skip_fillers(text: &str) -> (usize, bool, bool) {
    let (mut at, mut named) = (0, false);
    loop {
        let rest = &text[at..];
        let signs =
            |c: char| c.is_whitespace() || matches!(c, ':' | '*' | '_' | '=' | '>' | ',' | '-' | '–' | '—');
        at += rest.len() - rest.trim_start_matches(signs).len();
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        if DENIALS.contains(&word.as_str()) {
            return (at + end, false, true);
        }
        // A capital I may be the option.
        let option_i = word == "i" && rest[end..].trim_start().starts_with(|c: char| !c.is_alphabetic());
        let alone = word == "i" && rest[end..].trim().is_empty();
        if word.is_empty() || option_i || alone || !FILLERS.contains(&word.as_str()) {
            return (at, named, false);
        }
        named = matches!(word.as_str(), "option" | "choice" | "letter" | "alternative" | "statement");
        at += end;
    }
}

/// Whether a bare letter at the start is the claim: nothing follows but what ends it.
fn stands_alone(text: &str, mention: &Mention, named: bool) -> bool {
    let rest = &text[mention.end..];
    let upper = text.as_bytes()[mention.start].is_ascii_uppercase();
    let tail = rest.trim_start();
    if tail.is_empty() || named {
        return true;
    }
    // `B. car boot`, `b) 4`, `B: 4`, `B}`
    if rest.starts_with([')', '.', ':', ']', '}', '"', ',', ';', '!']) {
        return upper || !rest.starts_with([',', ';', '!']);
    }
    if !upper {
        return false;
    }
    if tail.starts_with(['-', '–', '—', '/', '&', '+', '(', ',', ';', '|']) && !tail.starts_with("++") {
        return true;
    }
    let word = tail.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_lowercase();
    matches!(word.as_str(), "and" | "or" | "is" | "was") || BOUNDARIES.contains(&word.as_str())
}

/// Where the first word of a reason begins, from `from` on; the text's length if there is none.
fn boundary(text: &str, from: usize) -> usize {
    let mut at = from;
    for word in text[from..].split(|c: char| !c.is_ascii_alphabetic()) {
        if BOUNDARIES.contains(&word.to_ascii_lowercase().as_str()) {
            return at;
        }
        at += word.len() + text[at + word.len()..].chars().next().map_or(0, char::len_utf8);
    }
    text.len()
}

/// Whether a later letter is claimed together with the one before.
fn links(between: &str, text: &str, mention: &Mention) -> bool {
    let upper = text.as_bytes()[mention.start].is_ascii_uppercase();
    if !mention.marked && !upper {
        return false;
    }
    let tail = text[mention.end..].trim_start_matches([')', ']', '"', '}', '\'']).trim_start();
    let next = tail.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_lowercase();
    // The subject of another sentence.
    if matches!(next.as_str(), "is" | "are" | "was" | "can" | "cannot" | "does" | "has" | "would" | "isn") {
        return false;
    }
    let closing = [')', ']', '"', '}', '\'', '.', ' '];
    let words = between.trim_start_matches(closing).trim_end_matches(['(', '[', '"', '{', '\'', ' ']);
    let lower = words.to_ascii_lowercase();
    let mut last = lower.split(|c: char| c.is_whitespace() || c == '(').rev().filter(|word| !word.is_empty());
    let word = match last.next() {
        Some("option" | "choice" | "letter") => last.next().unwrap_or("and"),
        Some(word) => word,
        // `(A)(B)`, `A B`
        None => return mention.marked || tail.is_empty(),
    };
    if LINKS.contains(&word) || matches!(word, "/" | "&" | "+" | "and/or") {
        return true;
    }
    let ends = tail.is_empty()
        || tail.starts_with([',', '.', ';', '/', '&'])
        || matches!(next.as_str(), "and" | "or");
    word.ends_with([',', ';']) && (mention.marked || ends)
}

/// The letter if the last line is an option and nothing else; a list of options is none.
fn last_option(text: &str) -> Option<char> {
    let line = unlisted(last_line(text).filter(|line| line.len() <= OPTION_BYTES_MAX)?);
    let read = |line: &str| {
        let line = bare(peeled(line));
        let line = line.trim();
        let found = mentions(line);
        let first =
            found.first().filter(|mention| line[..mention.start].chars().all(|c| !c.is_alphanumeric()))?;
        let rest = line[first.end..].trim_end_matches('.');
        let marked = first.marked && line[..first.start].trim().len() <= 1;
        let separated = rest.starts_with([')', ':']) || line[first.end..].starts_with(". ");
        let whole = rest.trim_matches([')', ']', '}', '"', ' ', '*']).is_empty();
        (marked || separated || whole).then_some(())?;
        match head(line) {
            Reading::Value(letter) => Some(letter),
            _ => None,
        }
    };
    let letter = read(line)?;
    let mut above = text.trim_end().lines().rev().skip(1).filter(|line| !line.trim().is_empty());
    let above = above.next().filter(|line| line.len() <= OPTION_BYTES_MAX);
    let listed = above.and_then(|line| read(unlisted(line))).is_some_and(|other| other != letter);
    (!listed).then_some(letter)
}

/// A line without the sign of a list or a quotation.
fn unlisted(line: &str) -> &str {
    line.trim_start_matches(['>', '-', '*', '#', ' ']).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_in_every_dress() {
        for text in [
            "(B)",
            "The answer is (B).",
            "The answer is B",
            "Answer: B. car boot",
            "**Answer: B**",
            "The correct answer is option B, the boot",
            "thinking (A) and (C)\nThe answer is (b) because",
            "\\boxed{B}",
            "\\boxed{\\text{B}}",
            "A: B",
            "Some thought.\nB",
            "Some thought.\n(B) car boot",
            "not (A), rather (B) I would say\nthank you",
        ] {
            assert_eq!(answer(text).as_deref(), Ok("B"), "{text:?}");
        }
        for none in ["", "The answer is a car boot", "The answer is A car boot", "I don't know", "(AB)"] {
            assert!(answer(none).is_err(), "{none:?}");
        }
        assert_eq!(normalised("(c)").as_deref(), Some("C"));
        assert_eq!(normalised("Paris"), None);
    }
}
