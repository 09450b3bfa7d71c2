//! Formulas that a completion claims, in one form; see [`super::math`].

use super::claim::{Claim, claims};
use super::dress::{peeled, plain};
use super::{Why, last_line, math, number};

/// Words after which a claim gives reasons or conditions.
const REASONS: [&str; 12] = [
    " because ",
    " since ",
    ", since ",
    " when ",
    " where ",
    ", where ",
    " if ",
    ", which ",
    ", as ",
    ", so ",
    " for ",
    ", not ",
];

/// What is claimed last, else a formula on the last line.
pub(super) fn answer(text: &str) -> Result<String, Why> {
    let text = plain(text);
    let found = claims(&text);
    let canonical = match found.iter().rev().find(|claim| !points(claim)) {
        Some(claim) if claim.denied || denies(claim.text) => return Err(Why::Denied),
        Some(claim) => claimed(claim.text),
        None => unclaimed(&text),
    };
    canonical.ok_or(if found.is_empty() { Why::NoClaim } else { Why::NoneOfKind })
}

/// A gold answer in its one form; it may be a whole solution.
pub(super) fn normalised(gold: &str) -> Option<String> {
    let boxed = claims(gold).pop().filter(|_| gold.contains("\\boxed") || gold.contains("\\fbox"));
    match boxed {
        Some(claim) => claimed(claim.text),
        None => form(gold),
    }
}

/// "not 5", but "not defined" is an answer.
fn denies(claim: &str) -> bool {
    let rest = claim.trim_start().strip_prefix("not ").map(str::trim_start);
    rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\' | '-' | '('))
    })
}

/// Whether a claim only points elsewhere.
fn points(claim: &Claim) -> bool {
    let words = peeled(claim.text).to_ascii_lowercase();
    matches!(
        words.as_str(),
        "as follows" | "above" | "below" | "the following" | "correct" | "right" | "wrong"
    )
}

fn claimed(claim: &str) -> Option<String> {
    let claim = peeled_group(claim.trim());
    if claim.contains("\\boxed") || claim.contains("\\fbox") {
        let parts = parts(claim, "\\boxed").or_else(|| parts(claim, "\\fbox"))?;
        return math::canonical(&parts);
    }
    if let Some(formulas) = delimited(claim) {
        return math::canonical(&formulas);
    }
    let lower = claim.to_ascii_lowercase();
    let end = REASONS.iter().filter_map(|word| lower.find(word)).min().unwrap_or(claim.len());
    form(&claim[..end])
}

/// The form of a text that is only a formula, perhaps dressed.
fn form(text: &str) -> Option<String> {
    let short = text.trim();
    // A factorial, and no exclamation.
    let short = if short.ends_with('!') && math::is_formula(short) { short } else { peeled(short) };
    if let Some(value) = measured(short) {
        return Some(value);
    }
    math::canonical(short)
}

/// A number with words after it: `42 apples in all`.
fn measured(claim: &str) -> Option<String> {
    let starts = claim.trim_start_matches(['$', '-', '\\']).starts_with(|c: char| c.is_ascii_digit());
    if !starts || !is_prose(claim) || math::is_formula(claim) {
        return None;
    }
    match number::value(claim) {
        super::claim::Reading::Value(value) => math::canonical(&value),
        _ => None,
    }
}

/// `{5}` is 5, but `{1}{2}` stays.
fn peeled_group(text: &str) -> &str {
    match math::closing(text) {
        Some(end) if text.starts_with('{') && end + 1 == text.len() => text[1..end].trim(),
        _ => text,
    }
}

/// The arguments of every `\boxed`, with commas between them.
fn parts(text: &str, mark: &str) -> Option<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(mark) {
        let group = after.trim_start();
        let inner = match math::closing(group).filter(|_| group.starts_with('{')) {
            Some(end) => {
                rest = &group[end + 1..];
                &group[1..end]
            }
            None => {
                let end = group.find(|c: char| !c.is_alphanumeric()).unwrap_or(group.len());
                rest = &group[end..];
                &group[..end]
            }
        };
        found.push(inner.trim_matches(['*', '_', '`', ' ']));
        let linked = rest.trim_start_matches(['$', ' ', '*', '\\', ')']);
        if !["and", "or", ",", "text{ and", "text{and", "text{ or", "&"]
            .iter()
            .any(|link| linked.starts_with(link))
        {
            break;
        }
    }
    (!found.is_empty()).then(|| found.join(", "))
}

/// What stands between the first dollars or brackets of LaTeX; formulas that "and" or a comma joins
/// are one list.
fn delimited(claim: &str) -> Option<String> {
    let marks = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")];
    let mut found: Vec<String> = Vec::new();
    let mut rest = claim;
    loop {
        let next = marks.iter().filter_map(|(open, close)| Some((rest.find(open)?, *open, *close)));
        let Some((at, open, close)) = next.min_by_key(|(at, open, _)| (*at, std::cmp::Reverse(open.len())))
        else {
            break;
        };
        let between = rest[..at].trim();
        let linked = matches!(between.trim_matches([',', ';']).trim(), "" | "and" | "or");
        if !found.is_empty() && (!linked || between.is_empty()) {
            break;
        }
        // A number before the dollars is the claim: `5 because $x$`.
        if found.is_empty() && between.contains(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let after = &rest[at + open.len()..];
        // A dollar after `\` is money.
        let written = |(at, _): &(usize, &str)| close != "$" || !after[..*at].ends_with('\\');
        let Some((end, _)) = after.match_indices(close).find(written) else { break };
        // `$5` and `\$5` are money.
        if rest[..at].ends_with('\\') {
            return None;
        }
        found.push(after[..end].trim_matches(['*', '_', '`', ' ', '\n']).to_owned());
        rest = &after[end + close.len()..];
    }
    (!found.is_empty() && found.iter().all(|formula| !formula.is_empty())).then(|| found.join(", "))
}

/// Without a claim: the last formula of the last line, what the line equates, or its one number.
fn unclaimed(text: &str) -> Option<String> {
    let line = last_line(text)?;
    let single = line.replace("$$", "$");
    let formulas: Vec<&str> = single.split('$').skip(1).step_by(2).filter(|f| !f.trim().is_empty()).collect();
    if let Some(last) = formulas.last() {
        let right = last.rsplit_once('=').map_or(*last, |(_, right)| right);
        return math::canonical(if math::is_formula(last) { last } else { right });
    }
    let line = peeled(line);
    if !is_prose(line) {
        let one = line.split_whitespace().count() == 1;
        return if one || math::is_formula(line) { math::canonical(line) } else { None };
    }
    if let Some((_, right)) = line.rsplit_once('=')
        && !is_prose(right)
    {
        return math::canonical(right);
    }
    number::only(line).and_then(|value| math::canonical(&value))
}

/// Whether a text has words that no formula has.
fn is_prose(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() >= 2);
    let known = [
        "cm", "km", "kg", "and", "or", "pi", "sqrt", "sin", "cos", "tan", "log", "ln", "frac", "in", "inf",
        "infty", "text",
    ];
    text.contains(' ') && words.filter(|word| !known.contains(word)).count() >= 1 && !text.contains('\\')
}
