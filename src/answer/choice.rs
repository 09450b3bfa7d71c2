//! Choices: the letter of an option.

use super::claim::{claimed, plain};
use super::last_line;

/// The claimed letter; without a claim, the one on the last line, else the last in brackets.
pub(super) fn answer(completion: &str) -> Option<String> {
    let text = plain(completion);
    let letter = match claimed(&text) {
        Some(claim) => letter(claim),
        None => last_line(&text).and_then(letter).or_else(|| bracketed(&text).pop()),
    };
    letter.map(String::from)
}

/// A gold letter, as `B`, `b` or `(B)`.
pub(super) fn normalised(gold: &str) -> Option<String> {
    letter(gold).map(String::from)
}

/// The letter that a short text names: in brackets, by itself, or followed by what ends it.
fn letter(text: &str) -> Option<char> {
    let text = text.trim().trim_matches(['$', '`', '"', '*']).trim();
    let text =
        ["\\text{", "\\boxed{", "\\mathrm{"].iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text);
    if let Some(first) = bracketed(text).into_iter().next() {
        return Some(first);
    }
    let alone = text.trim_end_matches(|c: char| !c.is_alphanumeric());
    if let Some(letter) = single(alone) {
        return Some(letter.to_ascii_uppercase());
    }
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let named = matches!(word.to_ascii_lowercase().as_str(), "option" | "choice" | "letter");
        if named
            && let Some(letter) =
                words.peek().and_then(|next| single(next.trim_end_matches(['.', ',', ':', ')', ';'])))
        {
            return Some(letter.to_ascii_uppercase());
        }
    }
    // `B. car boot`, but not `A car boot`, which may be an article.
    let first = text.split_whitespace().next()?;
    let letter = single(first.strip_suffix(['.', ')', ':', ',', ';', '}'])?)?;
    letter.is_ascii_uppercase().then_some(letter)
}

fn single(text: &str) -> Option<char> {
    let letter = text.chars().next().filter(char::is_ascii_alphabetic)?;
    (text.len() == 1).then_some(letter)
}

/// Letters in brackets, in order.
fn bracketed(text: &str) -> Vec<char> {
    let inner = |(at, _): (usize, &str)| {
        let inner = text[at + 1..].split_once(')')?.0;
        single(inner.trim()).map(|letter| letter.to_ascii_uppercase())
    };
    text.match_indices('(').filter_map(inner).collect()
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
            assert_eq!(answer(text).as_deref(), Some("B"), "{text:?}");
        }
        for none in ["", "The answer is a car boot", "The answer is A car boot", "I don't know", "(AB)"] {
            assert_eq!(answer(none), None, "{none:?}");
        }
        assert_eq!(normalised("(c)").as_deref(), Some("C"));
    }
}
