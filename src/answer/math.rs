//! Formulas boxed in LaTeX, in one spelling.
//!
//! After the normalisation that MATH publishes with its data (Hendrycks et al. 2021,
//! arXiv:2103.03874): spacing, sizes of brackets, degree and percent signs, units in text and `x =`
//! before a value go; `\frac12` and `1/2` are one. Numbers are compared by value. Left out:
//! algebra, so `x+1` and `1+x` differ.

use super::claim::{claimed, last_boxed};
use super::text::number;
use super::{ANSWER_BYTES_MAX, last_line};

/// What is boxed last, else what is claimed, else the last line.
pub(super) fn answer(completion: &str) -> Option<String> {
    let boxed = last_boxed(completion).map(|(_, inner)| inner);
    normalised(boxed.or_else(|| claimed(completion)).or_else(|| last_line(completion))?)
}

/// One spelling of a formula; `None` if nothing is left.
pub(super) fn normalised(formula: &str) -> Option<String> {
    let formula = last_boxed(formula).map_or(formula, |(_, inner)| inner);
    // Longer texts are no answers, and the steps below go over it many times.
    if formula.len() > 4 * ANSWER_BYTES_MAX {
        return None;
    }
    let mut text = formula.trim().trim_end_matches(['.', ',', ';']).trim_matches('$').to_owned();
    for (from, to) in [
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
        ("\\!", ""),
        ("\\,", ""),
        ("\\;", ""),
        ("\\:", ""),
        ("\\ ", ""),
        ("\\quad", ""),
        ("~", ""),
        ("\\left", ""),
        ("\\right", ""),
        ("\\tfrac", "\\frac"),
        ("\\dfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\degree", ""),
        ("\\%", ""),
        ("%", ""),
        ("\\$", ""),
        ("$", ""),
        ("−", "-"),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\mathrm", "\\text"),
        ("\\textbf", "\\text"),
        ("\\mbox", "\\text"),
    ] {
        text = text.replace(from, to);
    }
    let text = without_text(&text);
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let text = braced(&braced(&text, "\\frac", 2), "\\sqrt", 1);
    let text = without_name(&text);
    if text.is_empty() { None } else { Some(number(text).unwrap_or_else(|| fractions(text))) }
}

/// `5\text{ cm}` is 5, but `\text{blue}` is blue.
fn without_text(text: &str) -> String {
    const MARK: &str = "\\text{";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once(MARK) {
        let Some((inner, after)) = inner.split_once('}') else { break };
        out.push_str(before);
        // A unit follows a value; anything else is the value.
        if out.trim().is_empty() {
            out.push_str(inner);
        }
        rest = after;
    }
    out + rest
}

/// `\frac12` → `\frac{1}{2}`: every one of the command's arguments in braces. Arguments that are
/// commands stay.
fn braced(text: &str, command: &str, arguments: usize) -> String {
    let mut parts = text.split(command);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(command);
        let mut rest = part;
        for _ in 0..arguments {
            match rest.chars().next() {
                Some(c) if c.is_alphanumeric() => {
                    out.extend(['{', c, '}']);
                    rest = &rest[c.len_utf8()..];
                }
                Some('{') => {
                    let end = closing(rest).unwrap_or(rest.len());
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                }
                _ => break,
            }
        }
        out.push_str(rest);
    }
    out
}

/// Where the group that begins the text ends.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(i + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `x=5` is 5, but `y=2x+1` stays: it is the equation that was asked for.
fn without_name(text: &str) -> &str {
    match text.split_once('=') {
        Some((name, value)) if name.chars().count() <= 2 && !value.contains(|c: char| c.is_alphabetic()) => {
            value
        }
        _ => text,
    }
}

/// A bare quotient of whole numbers as `\frac`, with its sign before it.
fn fractions(text: &str) -> String {
    let (sign, bare) = text.strip_prefix('-').map_or(("", text), |bare| ("-", bare));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match bare.split_once('/') {
        Some((top, bottom)) if digits(top) && digits(bottom) => format!("{sign}\\frac{{{top}}}{{{bottom}}}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_have_one_spelling() {
        for (a, b) in [
            ("\\frac12", "\\dfrac{1}{2}"),
            ("\\frac{1}{2}", "0.5"),
            ("1/2", ".5"),
            ("-\\frac{1}{3}", "-1/3"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("2\\sqrt 5", "2\\sqrt{5}"),
            ("x = 5", "5"),
            ("5\\text{ cm}", "5"),
            ("90^\\circ", "90"),
            ("\\$1,\\!250", "1250"),
            ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
            ("50\\%", "50"),
            ("\\text{(B)}", "(B)"),
            ("$3$.", "3"),
            ("3.50", "3.5"),
        ] {
            assert_eq!(normalised(a), normalised(b), "{a} and {b}");
            assert!(normalised(a).is_some(), "{a}");
        }
        for (a, b) in
            [("\\frac{1}{2}", "\\frac{2}{1}"), ("y=2x+1", "2x+1"), ("(1,2)", "(1,20)"), ("1,2", "12")]
        {
            assert_ne!(normalised(a), normalised(b), "{a} and {b}");
        }
        assert_eq!(answer("a \\boxed{1} b \\boxed{\\frac{3}{4}}.").as_deref(), Some("0.75"));
        assert_eq!(answer("The answer is $2x+1$.").as_deref(), Some("2x+1"));
        assert_eq!(answer(""), None);
    }
}
