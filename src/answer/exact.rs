//! Texts that are compared word for word: without case, decoration, commas and repeated blanks.

use super::claim::{claimed, plain};
use super::last_line;

/// What is claimed, else the last line.
pub(super) fn answer(completion: &str) -> Option<String> {
    let text = plain(completion);
    normalised(claimed(&text).or_else(|| last_line(&text))?)
}

/// One spelling; `None` if nothing is left.
pub(super) fn normalised(answer: &str) -> Option<String> {
    let bare = answer.trim().trim_matches(['$', '*', '`', '"', '\'', '\u{201c}', '\u{201d}']).trim();
    let bare = bare.trim_end_matches(['.', '!', ';', ',', ':']);
    let words: Vec<String> = bare
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
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
            assert_eq!(answer(text).as_deref(), Some(value), "{text:?}");
        }
        assert_ne!(normalised("apple pear"), normalised("applepear"));
        assert_eq!(answer(" \n"), None);
        assert_eq!(normalised("..."), None);
    }
}
