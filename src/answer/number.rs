//! Numbers: found in what is claimed or else anywhere, and in one spelling.
//!
//! Currency, percent signs, units and thousands separators don't count; decimals and fractions are
//! equal when their values are, exactly.

use super::claim::{claimed, plain};
use super::text::number;

/// The claimed number: the one after the last `=` of the claim or else its first; if nothing is
/// claimed, the last number of all.
pub(super) fn answer(completion: &str) -> Option<String> {
    let text = plain(completion);
    match claimed(&text) {
        Some(claim) => {
            let after = claim.rsplit_once('=').map(|(_, after)| after);
            after
                .and_then(|after| numbers(after).into_iter().next())
                .or_else(|| numbers(claim).into_iter().next())
        }
        None => numbers(&text).pop(),
    }
}

/// A gold answer in its one spelling; it may be a whole solution.
pub(super) fn normalised(gold: &str) -> Option<String> {
    number(gold.trim()).or_else(|| answer(gold))
}

/// Every number of the text, in order, in its one spelling.
fn numbers(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if let Some((length, value)) = fraction(rest) {
            found.push(signed(text, at, value));
            at += length;
        } else if bytes[at].is_ascii_digit() || (bytes[at] == b'.' && starts_decimal(text, at)) {
            let length = length_of(&bytes[at..], !text[..at].ends_with('/'));
            if let Some(value) = number(&rest[..length]) {
                found.push(signed(text, at, value));
            }
            at += length;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// Whether `.5` begins here, and not the end of a sentence or a part of something else.
fn starts_decimal(text: &str, at: usize) -> bool {
    let after = text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    let before = text[..at].chars().next_back();
    after && !before.is_some_and(char::is_alphanumeric)
}

/// Length of `\frac{3}{4}` and its value.
fn fraction(text: &str) -> Option<(usize, String)> {
    let marks = ["\\frac{", "\\dfrac{", "\\tfrac{"];
    let inner = marks.iter().find_map(|mark| text.strip_prefix(mark))?;
    let (top, rest) = inner.split_once("}{")?;
    let (bottom, rest) = rest.split_once('}')?;
    let value = number(&format!("{}/{}", top.trim(), bottom.trim()))?;
    Some((text.len() - rest.len(), value))
}

/// How far the number at the start goes: digits, separated thousands, one point, and one fraction
/// bar unless this is a denominator already.
fn length_of(bytes: &[u8], may_divide: bool) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    while bytes.get(end) == Some(&b',') && digits(end + 1) == 3 {
        end += 4;
    }
    if bytes.get(end) == Some(&b'.') && end + 1 < bytes.len() && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if may_divide && bytes.get(end) == Some(&b'/') && end + 1 < bytes.len() && digits(end + 1) > 0 {
        // `3/4` is a fraction, `3/4/2025` a date.
        let whole = end + 1 + digits(end + 1);
        if bytes.get(whole) != Some(&b'/') {
            end = whole;
        }
    }
    end
}

/// With the sign that stands before it, perhaps before a currency: a minus that touches an operand
/// on its left is not a sign.
fn signed(text: &str, at: usize, value: String) -> String {
    let before = text[..at].trim_end_matches(['$', '€', '£', '\\']);
    let Some(left) = before.strip_suffix(['-', '−']) else { return value };
    let operand = left.chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | '}'));
    if operand || value == "0" { value } else { format!("-{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claimed_number_is_read() {
        for (text, value) in [
            ("She makes 9 * 2 = $18.\nThe answer is 18.", "18"),
            ("The answer is $1,234.50 per year.", "1234.5"),
            ("**Answer:** 42 apples, not 7", "42"),
            ("The answer is 3 * 4 = 12 eggs.", "12"),
            ("x\n#### 70,000", "70000"),
            ("\\boxed{-\\frac{6}{8}}", "-0.75"),
            ("The answer is 2/6 of it", "1/3"),
            ("The answer is 50%.", "50"),
            ("The answer is -$3.", "-3"),
            ("First 5, then 7 - 3", "3"),
            ("It falls to -3 degrees.", "-3"),
            ("The answer is .5", "0.5"),
            ("so 3.\n", "3"),
            ("on 3/4/2025", "2025"),
            ("12,34 and 1,2", "2"),
        ] {
            assert_eq!(answer(text).as_deref(), Some(value), "{text:?}");
        }
        for none in ["", "no number", "The answer is blue", "#### "] {
            assert_eq!(answer(none), None, "{none:?}");
        }
        assert_eq!(normalised("1,000").as_deref(), Some("1000"));
        assert_eq!(normalised("5 apples").as_deref(), Some("5"));
    }
}
