//! Texts that are compared word for word: without case, decoration, commas and repeated blanks.

use super::claim::claims;
use super::dress::{peeled, plain};
use super::{Why, last_line, number};

/// Words that are an answer when a comma or a dash follows.
const VERDICTS: [&str; 10] =
    ["yes", "no", "true", "false", "valid", "invalid", "plausible", "implausible", "correct", "incorrect"];

/// What is claimed, else the last line.
pub(super) fn answer(text: &str) -> Result<String, Why> {
    let text = plain(text);
    let claim = claimed(&text)?;
    normalised(&claim).ok_or(Why::NoClaim)
}

/// The words that a completion claims, without reasons.
pub(super) fn claimed(text: &str) -> Result<String, Why> {
    let found = claims(text);
    let named = found.iter().rev().find(|claim| !refers(claim.text));
    let Some(claim) = named else {
        let line = last_line(text).ok_or(Why::NoClaim)?;
        return Ok(sentence_value(line).unwrap_or_else(|| line.to_owned()));
    };
    if claim.denied {
        return Err(Why::Denied);
    }
    let text = claim.text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(claim.text);
    Ok(reasonless(peeled_start(text)).to_owned())
}

/// The one number of a whole sentence: `She has 7 apples.`
fn sentence_value(line: &str) -> Option<String> {
    let words = line.split_whitespace().count();
    (words >= 3 && line.trim_end_matches(['*', '_']).ends_with('.')).then(|| number::only(line)).flatten()
}

/// Whether a claim only points to something else.
fn refers(claim: &str) -> bool {
    let words = peeled(claim).to_ascii_lowercase();
    matches!(
        words.as_str(),
        "" | "as follows" | "above" | "below" | "the following" | "given by" | "not here"
    )
}

/// Without the dressing of the first words, where it ends before the claim does.
fn peeled_start(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\u{201c}', '$', '*'] {
        let Some(rest) = text.strip_prefix(quote) else { continue };
        let close = if quote == '\u{201c}' { '\u{201d}' } else { quote };
        let Some((inner, after)) = rest.split_once(close) else { continue };
        // What follows the quoted words gives reasons.
        let after = after.trim_start_matches([',', ' ', '.', '-', '–', '—', ';', ')', '*']);
        if !inner.trim().is_empty() && (after.is_empty() || starts_reason(after)) {
            return inner;
        }
    }
    text
}

/// Words that begin a reason after a comma.
const REASONS: [&str; 9] = ["because", "since", "as", "so", "which", "given", "not", "i.e.", "due"];

/// Words that follow "because" in a reason.
const SUBJECTS: [&str; 16] = [
    "it", "the", "he", "she", "they", "there", "this", "that", "we", "i", "of", "a", "an", "its", "all",
    "each",
];

fn starts_reason(text: &str) -> bool {
    let mut words = text.split_whitespace();
    words.next().is_some_and(|word| REASONS.contains(&word.to_lowercase().as_str())) && words.next().is_some()
}

/// The claim up to the words that give its reasons.
fn reasonless(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let mut end = text.len();
    for (at, _) in lower.match_indices([',', '(', ';', '–', '—']) {
        let rest = text[at..].trim_start_matches([',', '(', ';', '–', '—', ' ']);
        // A list of words goes on after the next comma.
        let word = rest.split([' ', ',']).next().unwrap_or_default();
        let listed = rest[word.len()..].trim_start().starts_with(',');
        if at > 0 && starts_reason(rest) && !listed && rest[word.len()..].starts_with(' ') {
            end = at;
            break;
        }
    }
    for (at, mark) in lower.match_indices(" because ") {
        let next = lower[at + mark.len()..].split_whitespace().next().unwrap_or_default();
        if at < end && SUBJECTS.contains(&next) {
            end = at;
        }
    }
    let text = &text[..end];
    let verdict = text.find([',', ';', ':', '–', '—']).or_else(|| text.find(" - ")).map(|at| &text[..at]);
    match verdict.map(peeled) {
        Some(word) if VERDICTS.contains(&word.to_ascii_lowercase().as_str()) => verdict.unwrap_or(text),
        _ => text,
    }
}

/// One spelling; `None` if nothing is left.
pub(super) fn normalised(answer: &str) -> Option<String> {
    let words: Vec<String> = peeled(answer)
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    let joined = words.join(" ");
    let bare = peeled(&joined);
    if bare.is_empty() {
        None
    } else if bare == joined {
        Some(joined)
    } else {
        // Lower case or a lost comma has laid another layer bare.
        normalised(bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_and_nothing_else() {
        for (text, value) in [
            ("The answer is True.", "true"),
            ("so\nThe answer is: apple, fig,  pear", "apple fig pear"),
            ("The answer is **] ) }**", "] ) }"),
            ("Some thought.\n`valid`", "valid"),
            ("A: it&t syndrome", "it&t syndrome"),
        ] {
            assert_eq!(answer(text).as_deref(), Ok(value), "{text:?}");
        }
        assert_ne!(normalised("apple pear"), normalised("applepear"));
        assert!(answer(" \n").is_err());
        assert_eq!(normalised("..."), None);
    }
}
