//! Numbers: the value of what is claimed, whole and exact, in one spelling.
//!
//! Currency, percent signs, units and thousands separators don't count. What can't be worked out as
//! a whole is no answer, and neither is a claim that names several values.

use super::claim::{Claim, Reading, claims};
use super::dress::{bare, plain};
use super::math;
use super::numeral::{literal, negated, scale, spelled};
use super::tokens::{Kind, Token, tokens};
use super::{Why, last_line};

/// Words after which a claim gives reasons or details.
const BOUNDARIES: [&str; 24] = [
    "because", "since", "as", "which", "where", "when", "if", "not", "so", "but", "given", "instead",
    "rather", "than", "from", "after", "before", "while", "for", "with", "using", "at", "per", "i.e",
];

/// More of a line is not looked at.
const LINE_BYTES_MAX: usize = 2048;

/// Longer arithmetic is not worked out.
const TOKENS_MAX: usize = 200;

/// Words before "than" that leave the value open.
const COMPARED: [&str; 7] = ["more", "less", "greater", "fewer", "larger", "smaller", "bigger"];

/// Single letters after a number that are units rather than unknowns.
const UNIT_LETTERS: [&str; 12] = ["m", "s", "g", "h", "L", "N", "J", "W", "V", "A", "a", "l"];

/// Units that may touch their number.
const TOUCHING: [&str; 30] = [
    "cm", "mm", "km", "kg", "mg", "g", "m", "s", "ms", "h", "hr", "hrs", "min", "mins", "lb", "lbs", "oz",
    "ft", "in", "yd", "mi", "ml", "mL", "L", "l", "mph", "W", "V", "J", "C",
];

/// The claimed number; if nothing is claimed, the last number of all.
pub(super) fn answer(text: &str) -> Result<String, Why> {
    let text = plain(text);
    let found = claims(&text);
    for claim in found.iter().rev() {
        match reading(claim) {
            Reading::Value(value) => return Ok(value),
            Reading::Refused(why) => return Err(why),
            Reading::Nothing => {}
        }
    }
    if found.is_empty() { unclaimed(&text) } else { Err(Why::NoneOfKind) }
}

/// A gold answer in its one spelling; it may be a whole solution.
pub(super) fn normalised(gold: &str) -> Option<String> {
    if gold.contains("####") || gold.contains("\\boxed") || gold.to_ascii_lowercase().contains("answer") {
        return answer(gold).ok();
    }
    match value(tail(&plain(gold))) {
        Reading::Value(value) => Some(value),
        _ => None,
    }
}

fn reading(claim: &Claim) -> Reading<String> {
    if claim.denied { Reading::Refused(Why::Denied) } else { value(claim.text) }
}

/// Without a claim: what the last line with a number equates, or the last number on it.
fn unclaimed(text: &str) -> Result<String, Why> {
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| line.contains(|c: char| c.is_ascii_digit() || "½⅓⅔¼¾".contains(c)));
    let line = bare(tail(line.ok_or(Why::NoClaim)?));
    let last = last_line(text).map(|line| bare(tail(line)));
    if last.as_deref() == Some(line.as_str())
        && let Some((_, right)) = line.rsplit_once('=')
        && let Reading::Value(value) = value(right)
    {
        return Ok(value);
    }
    last_of(&line).ok_or(Why::NoClaim)?
}

/// The end of a long line.
fn tail(line: &str) -> &str {
    let mut from = line.len().saturating_sub(LINE_BYTES_MAX);
    while !line.is_char_boundary(from) {
        from += 1;
    }
    &line[from..]
}

/// The number of a text that has just one.
pub(super) fn only(text: &str) -> Option<String> {
    let text = bare(tail(text));
    let tokens = tokens(&text);
    let count = tokens.iter().filter(|token| matches!(token.kind, Kind::Number(_))).count();
    (count == 1).then(|| last_of(&text)?.ok()).flatten()
}

/// The last number of a line, with its fraction bar, power or sign, but no sum.
fn last_of(line: &str) -> Option<Result<String, Why>> {
    let tokens = tokens(line);
    let end = tokens.iter().rposition(|token| matches!(token.kind, Kind::Number(_)))?;
    let mut start = end;
    let number = |at: usize| matches!(tokens[at].kind, Kind::Number(_));
    // Commands such as \frac reach over several tokens.
    let command = tokens[..=end].iter().rposition(|token| matches!(token.kind, Kind::Command(_)));
    if let Some(command) = command
        && let Some((after, Some(value))) = expression(&tokens, command)
        && after > end
    {
        return Some(Ok(signed(&tokens, command, value)));
    }
    while start >= 2 && number(start - 2) && matches!(tokens[start - 1].kind, Kind::Sign('/' | '^' | '*')) {
        let product = matches!(tokens[start - 1].kind, Kind::Sign('*'));
        let power = matches!(tokens.get(start + 1).map(|token| &token.kind), Some(Kind::Sign('^')));
        if product && !power {
            break;
        }
        start -= 2;
    }
    let Some((_, value)) = expression(&tokens[..=end], start) else { return Some(Err(Why::NotWhole)) };
    Some(value.map(|value| signed(&tokens, start, value)).ok_or(Why::NotWhole))
}

/// With the sign before it: a minus with an operand on its left is none.
fn signed(tokens: &[Token], start: usize, value: String) -> String {
    let minus = start > 0 && matches!(tokens[start - 1].kind, Kind::Sign('-'));
    let operand = start > 1
        && match &tokens[start - 2].kind {
            Kind::Number(_) | Kind::Sign(')' | '}' | ']') => true,
            Kind::Word(_) => !tokens[start - 1].spaced,
            _ => false,
        };
    if minus && !operand { negated(&value) } else { value }
}

/// Whether a number can begin with this token.
fn starts(token: &Token) -> bool {
    match &token.kind {
        Kind::Number(_) | Kind::Sign('-' | '(' | '{' | '[') => true,
        Kind::Command(name) => matches!(name.as_str(), "frac" | "sqrt"),
        _ => false,
    }
}

/// Where the arithmetic from `start` on ends, and its value; `None` if there is none.
fn expression(tokens: &[Token], start: usize) -> Option<(usize, Option<String>)> {
    let (mut at, mut depth) = (start, 0usize);
    let (mut written, mut numbers, mut broken) = (String::new(), 0, false);
    let mut slashes = 0;
    let tokens = &tokens[..tokens.len().min(start + TOKENS_MAX)];
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        let follows = next.is_some_and(starts);
        let after_number =
            at > start && matches!(tokens[at - 1].kind, Kind::Number(_) | Kind::Sign(')' | '}' | ']'));
        match &token.kind {
            Kind::Number(digits) => {
                let mixed = matches!(next.map(|token| &token.kind), Some(Kind::Sign('/')));
                if after_number && depth == 0 && !mixed {
                    break;
                }
                broken |= digits.is_none();
                written.push_str(if after_number { " " } else { "" });
                written.push_str(digits.as_deref().unwrap_or("0"));
                numbers += 1;
            }
            // `12 (since …)` is no product.
            Kind::Sign('(' | '[') if after_number && (token.spaced || !follows) && depth == 0 => break,
            // The degree of a root.
            Kind::Sign('[') if at > start && matches!(tokens[at - 1].kind, Kind::Command(_)) => {
                let degree = match (tokens.get(at + 1).map(|t| &t.kind), tokens.get(at + 2).map(|t| &t.kind))
                {
                    (Some(Kind::Number(Some(degree))), Some(Kind::Sign(']'))) => degree,
                    _ => break,
                };
                written.push_str(&format!("[{degree}]"));
                at += 2;
            }
            Kind::Sign(c @ ('(' | '{' | '[')) => {
                depth += 1;
                written.push(if *c == '{' { '{' } else { '(' });
            }
            Kind::Sign(c @ (')' | '}' | ']')) => {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                written.push(if *c == '}' { '}' } else { ')' });
            }
            Kind::Sign(c) => {
                if !follows {
                    break;
                }
                slashes += usize::from(*c == '/' && !token.spaced && depth == 0);
                written.push(*c);
            }
            Kind::Word(word) if (word == "x" || word == "X") && after_number && follows => written.push('*'),
            Kind::Command(name) if matches!(name.as_str(), "frac" | "sqrt") => {
                written.push('\\');
                written.push_str(name);
                written.push(' ');
            }
            _ => break,
        }
        at += 1;
    }
    if numbers == 0 || depth > 0 {
        return None;
    }
    // Several bars in a row are a date.
    let value = if broken || slashes > 1 { None } else { worked_out(&written) };
    Some((at, value))
}

/// The value of an expression in one spelling. A plain number may have any length.
fn worked_out(written: &str) -> Option<String> {
    let bare = written.trim_matches(|c| matches!(c, '(' | ')' | '{' | '}' | ' '));
    let unsigned = bare.strip_prefix('-').unwrap_or(bare);
    if unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Some(if bare.starts_with('-') { negated(unsigned) } else { unsigned.to_owned() });
    }
    math::value(written).map(spelled)
}

/// The number that a claim names first.
pub(super) fn value(claim: &str) -> Reading<String> {
    let text = bare(claim);
    let tokens = tokens(&text);
    let from = match undenied(&tokens) {
        Ok(from) => from,
        Err(reading) => return reading,
    };
    let Some(first) =
        (from..tokens.len()).find(|at| starts(&tokens[*at]) && expression(&tokens, *at).is_some())
    else {
        let undecided = ["cannot be determined", "can't be determined", "not enough information", "unknown"];
        let lower = text.to_ascii_lowercase();
        let refused = undecided.iter().any(|phrase| lower.contains(phrase));
        return if refused { Reading::Refused(Why::Undecided) } else { Reading::Nothing };
    };
    // `\frac{x}{2}` is no 2.
    if let Some(command) = (from..first).find(|at| matches!(tokens[*at].kind, Kind::Command(_))) {
        return chained(&tokens, command, None);
    }
    if belongs_to_more(&tokens, from, first) {
        return chained(&tokens, first, None);
    }
    chained(&tokens, first, Some(first))
}

/// Where the claim begins after what it denies.
fn undenied(tokens: &[Token]) -> Result<usize, Reading<String>> {
    let word = |at: usize| match &tokens[at].kind {
        Kind::Word(word) => word.to_ascii_lowercase(),
        _ => String::new(),
    };
    let number =
        tokens.iter().position(|token| matches!(token.kind, Kind::Number(_))).unwrap_or(tokens.len());
    let denies = |at: &usize| matches!(word(*at).as_str(), "not" | "never" | "isn't" | "neither" | "nor");
    let Some(denied) = (0..number).find(denies) else { return Ok(0) };
    let turn = (denied..tokens.len()).find(|at| matches!(word(*at).as_str(), "but" | "rather"));
    match turn {
        Some(turn) => Ok(turn + 1),
        None if number < tokens.len() => Err(Reading::Refused(Why::Denied)),
        None => Ok(0),
    }
}

/// Whether something before the number is part of it: an unknown, a comparison, a function.
fn belongs_to_more(tokens: &[Token], from: usize, first: usize) -> bool {
    let Some(before) = first.checked_sub(1).filter(|at| *at >= from).map(|at| &tokens[at].kind) else {
        return false;
    };
    match before {
        Kind::Sign('+') => first >= 2 && is_operand(&tokens[first - 2].kind),
        Kind::Sign('*' | '/' | '^') | Kind::Other('<' | '>' | '≤' | '≥' | '±' | '_') => true,
        Kind::Command(_) => true,
        Kind::Word(word) => {
            let than = word.eq_ignore_ascii_case("than");
            let compared = first >= 2
                && matches!(&tokens[first - 2].kind, Kind::Word(word) if COMPARED.contains(&word.as_str()));
            let unknown = word.len() == 1
                && !matches!(word.as_str(), "a" | "A" | "I")
                && matches!(tokens[first].kind, Kind::Sign('-' | '('));
            (than && compared) || unknown
        }
        _ => false,
    }
}

/// Whether a token can stand before a sign of arithmetic.
fn is_operand(kind: &Kind) -> bool {
    match kind {
        Kind::Number(_) | Kind::Command(_) | Kind::Sign(')' | '}' | ']') => true,
        Kind::Word(word) => word.len() == 1,
        _ => false,
    }
}

/// The value at `start`, or what the equalities after it lead to.
fn chained(tokens: &[Token], first: usize, start: Option<usize>) -> Reading<String> {
    let mut found = start.and_then(|start| expression(tokens, start));
    let mut at = first;
    let mut whole: Option<String> = None;
    loop {
        if let Some((end, value)) = found.take() {
            at = end;
            whole = value.and_then(|value| with_words(tokens, &mut at, value));
        }
        match next_equality(tokens, at, whole.is_some()) {
            Some((next, approximate)) if !(approximate && whole.is_some()) => {
                match expression(tokens, next) {
                    Some(expression) => found = Some(expression),
                    None => break,
                }
            }
            _ => break,
        }
    }
    let Some(value) = whole else { return Reading::Refused(Why::NotWhole) };
    match others(tokens, at, &value) {
        Ok(()) => Reading::Value(value),
        Err(why) => Reading::Refused(why),
    }
}

/// The value with what touches or scales it; `None` if that makes it another thing.
fn with_words(tokens: &[Token], at: &mut usize, value: String) -> Option<String> {
    match tokens.get(*at).map(|token| (&token.kind, token.spaced)) {
        Some((Kind::Word(word), false)) => {
            let before = tokens.get(at.checked_sub(1)?).map(|token| &token.kind);
            let ordinal = matches!(word.as_str(), "st" | "nd" | "rd" | "th");
            if let Some(power) = scale(word).filter(|_| !ordinal) {
                *at += 1;
                return shifted(&value, power);
            }
            let unit = TOUCHING.contains(&word.as_str()) || (word.len() > 2 && math::is_unit(word));
            let counted = matches!(before, Some(Kind::Number(_) | Kind::Sign(')' | ']' | '}')));
            (ordinal || (unit && counted)).then_some(())?;
            Some(value)
        }
        Some((Kind::Word(word), true)) => {
            if let Some(power) = scale(word).filter(|_| word.len() > 1) {
                *at += 1;
                return shifted(&value, power);
            }
            let unknown = word.len() == 1 && !UNIT_LETTERS.contains(&word.as_str());
            (!unknown).then_some(value)
        }
        Some((Kind::Number(_), _)) => None,
        Some((Kind::Command(_), _)) | Some((Kind::Other('±' | '_' | '√'), _)) => None,
        Some((Kind::Sign('+' | '*' | '^'), _)) => None,
        Some((Kind::Sign('-'), true)) => match tokens.get(*at + 1).map(|token| &token.kind) {
            Some(Kind::Word(word)) if word.len() == 1 && word != "a" && word != "A" => None,
            _ => Some(value),
        },
        _ => Some(value),
    }
}

/// A value times a power of ten.
fn shifted(value: &str, power: u32) -> Option<String> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let shifted = match plain {
        true => literal(&format!("{digits}e{power}")).digits?,
        false => spelled(math::value(&format!("{digits}*10^{power}"))?),
    };
    Some(if negative { negated(&shifted) } else { shifted })
}

/// Where the value after the next `=` begins, if only units stand before it.
fn next_equality(tokens: &[Token], from: usize, is_whole: bool) -> Option<(usize, bool)> {
    for (at, token) in tokens.iter().enumerate().skip(from).take(8) {
        match &token.kind {
            Kind::Equals(sign) => {
                let next = at + 1;
                return tokens.get(next).is_some_and(starts).then_some((next, *sign == '≈'));
            }
            Kind::Word(word) if BOUNDARIES.contains(&word.to_ascii_lowercase().as_str()) => return None,
            Kind::Word(_) | Kind::Other('%') => {}
            // What can't be worked out may equal something that can.
            Kind::Command(_)
            | Kind::Sign('+' | '-' | '*' | '/' | '^' | '(' | ')' | '{' | '}')
            | Kind::Number(_)
                if !is_whole => {}
            _ => return None,
        }
    }
    None
}

/// An error if the claim names another value next to this one.
fn others(tokens: &[Token], from: usize, value: &str) -> Result<(), Why> {
    let mut words = 0;
    let mut linked = false;
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Word(word) => {
                let word = word.to_ascii_lowercase();
                if BOUNDARIES.contains(&word.as_str()) {
                    return Ok(());
                }
                linked = matches!(word.as_str(), "or" | "and" | "to" | "possibly" | "maybe" | "perhaps");
                words += 1;
            }
            Kind::Number(_) | Kind::Sign('-') | Kind::Command(_) if starts(token) => {
                let Some((end, other)) = expression(tokens, at) else { return Ok(()) };
                let ends = match tokens.get(end).map(|token| &token.kind) {
                    None | Some(Kind::Other(',' | ';' | '.' | '/') | Kind::Sign(')')) => true,
                    Some(Kind::Word(word)) => matches!(word.as_str(), "or" | "and"),
                    _ => false,
                };
                let previous = tokens.get(at.wrapping_sub(1)).map(|token| &token.kind);
                let listed = matches!(previous, Some(Kind::Other(',' | ';'))) && ends;
                let ranged = matches!(previous, Some(Kind::Other('–' | '/' | '—') | Kind::Sign('/')));
                if (linked || listed || ranged) && other.as_deref() != Some(value) {
                    let other = other.unwrap_or_else(|| "another value".into());
                    return Err(Why::Several(vec![value.to_owned(), other]));
                }
                // `5 feet 6 inches`
                let compound = words == 1 && matches!(previous, Some(Kind::Word(_))) && !linked;
                if compound
                    && !matches!(previous, Some(Kind::Word(word)) if matches!(word.as_str(), "in" | "of" | "by" | "on"))
                {
                    return Err(Why::NotWhole);
                }
                at = end;
                linked = false;
                continue;
            }
            Kind::Other(',' | ';') | Kind::Sign('(') => {}
            // `n = 5, m = 6`
            Kind::Equals(_) => linked = at >= 2 && names_next(&tokens[at - 2..at]),
            _ => linked = false,
        }
        at += 1;
    }
    Ok(())
}

/// Whether a comma or "and", and then one letter, stands before an equals sign.
fn names_next(tokens: &[Token]) -> bool {
    let [link, name] = tokens else { return false };
    let letter = matches!(&name.kind, Kind::Word(word) if word.len() == 1);
    letter && matches!(&link.kind, Kind::Other(',' | ';') | Kind::Word(_))
}
