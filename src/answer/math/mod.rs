//! Formulas: read into a tree, with one text for equal values.
//!
//! What is written differently and means the same is one text: spacing, sizes, fonts, units after a
//! value, degree and percent signs go; numbers are exact; sums and products are multiplied out;
//! `x = 5` is 5, `x < 5` is an interval, and a bare list has no order. A text that can't be read as
//! a formula stays as it is, without its dressing. Left out: identities of functions, equations in
//! another form than a multiple, conversion of units.

mod canon;
mod equal;
mod lex;
mod node;
mod parse;
mod polynomial;
mod primary;
mod print;
pub(super) mod rational;
mod words;

pub(super) use lex::closing;
pub(super) use words::is_unit;

use super::{ANSWER_BYTES_MAX, numeral};
use rational::Rational;

/// Longer texts are no formulas.
const FORMULA_BYTES_MAX: usize = 4 * ANSWER_BYTES_MAX;

/// How often a text is brought to its form before it is left as it is.
const ROUNDS: usize = 4;

/// The one text of a formula; `None` if nothing is left.
pub(super) fn canonical(formula: &str) -> Option<String> {
    if formula.len() > FORMULA_BYTES_MAX {
        return None;
    }
    let mut text = once(formula)?;
    for _ in 0..ROUNDS {
        let next = once(&text)?;
        if next == text {
            break;
        }
        text = next;
    }
    Some(text)
}

/// Whether two canonical texts are one value.
pub(super) fn are_equal(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let trees = (tree(left), tree(right));
    matches!(trees, (Some(left), Some(right)) if equal::are_equal(&left, &right))
}

/// Whether the text is understood as a formula.
pub(super) fn is_formula(text: &str) -> bool {
    text.len() <= FORMULA_BYTES_MAX && tree(text).is_some_and(|tree| canon::text(&tree).is_some())
}

/// The value of a formula without unknowns, if it is a fraction of whole numbers.
pub(super) fn value(formula: &str) -> Option<Rational> {
    if formula.len() > FORMULA_BYTES_MAX {
        return None;
    }
    canon::polynomial(&tree(formula)?)?.as_number()
}

fn tree(text: &str) -> Option<node::Node> {
    let text = text.trim().trim_end_matches(['.', ',', ';', ':']);
    if let Some(words) = only_words(text) {
        return Some(node::Node::Text(words));
    }
    parse::tree(&lex::tokens(text)?)
}

fn once(formula: &str) -> Option<String> {
    if let Some(words) = only_words(formula.trim().trim_end_matches(['.', ',', ';', '!'])) {
        return Some(words);
    }
    if let Some(digits) = scientific(formula) {
        return Some(digits);
    }
    let known = tree(formula).and_then(|tree| canon::text(&tree));
    let text = known.unwrap_or_else(|| undressed(formula));
    let inner = text.strip_prefix("\\text{").and_then(|rest| rest.strip_suffix('}'));
    let text = inner.and_then(only_words).unwrap_or(text);
    (!text.is_empty()).then_some(text)
}

/// `1e-5` as its value; in a longer formula `e` is a number in itself.
fn scientific(formula: &str) -> Option<String> {
    let text = formula.trim();
    let unsigned = text.strip_prefix(['-', '−']).unwrap_or(text);
    if !unsigned.contains(['e', 'E']) || !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let literal = numeral::literal(unsigned);
    let digits = literal.digits.filter(|_| literal.length == unsigned.len())?;
    Some(if unsigned.len() < text.len() { numeral::negated(&digits) } else { digits })
}

/// Words of a language rather than a product of letters: several, or one with a vowel.
fn only_words(text: &str) -> Option<String> {
    let plain = |c: char| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'');
    if !text.chars().all(plain) || text.starts_with('-') {
        return None;
    }
    let vowel = |c: char| !c.is_ascii() || "aeiouyAEIOUY".contains(c);
    let known = |word: &str| words::meaning(word).is_some();
    let mut count = 0;
    for word in text.split([' ', '-']).filter(|word| !word.is_empty()) {
        if known(word) {
            return None;
        }
        count += usize::from(word.len() >= 3 && word.contains(vowel));
    }
    (count > 0).then(|| words::plain(text))
}

/// A text that is no formula, without spacing and sizes.
fn undressed(formula: &str) -> String {
    let mut text = formula.trim().trim_end_matches(['.', ',', ';']).to_owned();
    for (from, to) in [
        ("\\!", ""),
        ("\\,", ""),
        ("\\;", ""),
        ("\\:", ""),
        ("\\ ", " "),
        ("\\quad", " "),
        ("~", " "),
        ("\\left", ""),
        ("\\right", ""),
        ("\\tfrac", "\\frac"),
        ("\\dfrac", "\\frac"),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
        ("\\$", ""),
        ("$", ""),
        ("−", "-"),
    ] {
        text = text.replace(from, to);
    }
    let mut out = String::new();
    let mut characters = text.trim().chars().peekable();
    while let Some(c) = characters.next() {
        if !c.is_whitespace() {
            out.push(c);
        } else if out.ends_with(char::is_alphanumeric)
            && characters.peek().is_some_and(|next| next.is_alphanumeric())
        {
            // A blank keeps words apart, and nothing else.
            out.push(' ');
        }
    }
    out
}
