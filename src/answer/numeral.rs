//! Numbers as people write them: thousands separators, decimals, powers of ten.

use super::math::rational::Rational;

/// Largest power of ten that is written out.
const EXPONENT_MAX: i64 = 400;

/// A number at the start of a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Literal {
    /// Bytes that it takes.
    pub length: usize,
    /// Its digits in one spelling; `None` if it can't be one number, such as `1,2` and `9:40`.
    pub digits: Option<String>,
}

/// Blanks that may separate thousands.
const BLANKS: [char; 5] = [' ', '\u{a0}', '\u{202f}', '\u{2009}', '\u{2007}'];

/// The literal at the start of a text that begins with a digit, or a point and a digit.
pub(super) fn literal(text: &str) -> Literal {
    let first = digits(text);
    let (mut whole, mut at) = (text[..first].to_owned(), first);
    let may_group = (1..=3).contains(&first) && !text.starts_with('0');
    let separator = text[at..].chars().next();
    let mut part = "";
    match separator {
        Some(c) if may_group && (c == ',' || c == '\'' || c == '’' || c == '_' || BLANKS.contains(&c)) => {
            if let Some((groups, end)) = groups(text, at, c) {
                (whole, at) = (whole + &groups, end);
            }
        }
        // `1.234.567` and `1.234,56`
        Some('.') if may_group => {
            if let Some((groups, end)) = groups(text, at, '.') {
                let decimals = text[end..].strip_prefix(',').map_or(0, digits);
                if groups.len() >= 6 || (decimals > 0 && decimals != 3) {
                    (whole, at) = (whole + &groups, end);
                    if decimals > 0 {
                        part = &text[end + 1..end + 1 + decimals];
                        at = end + 1 + decimals;
                    }
                    return finished(text, at, &whole, part);
                }
            }
        }
        _ => {}
    }
    if text[at..].starts_with('.') {
        let length = digits(&text[at + 1..]);
        if length > 0 {
            part = &text[at + 1..at + 1 + length];
            at += 1 + length;
        }
    }
    finished(text, at, &whole, part)
}

/// The exponent, and whether digits go on in a way that no number does.
fn finished(text: &str, mut at: usize, whole: &str, part: &str) -> Literal {
    let mut exponent = 0;
    if let Some(rest) = text[at..].strip_prefix(['e', 'E']) {
        let unsigned = rest.trim_start_matches(['+', '-', '−']);
        let sign = rest.len() - unsigned.len();
        let length = digits(unsigned);
        let ends = !unsigned[length..].starts_with(char::is_alphanumeric);
        if length > 0 && ends && rest[..sign].chars().count() <= 1 {
            let Ok(power) = unsigned[..length].parse::<i64>() else {
                return Literal { length: at + 1 + sign + length, digits: None };
            };
            exponent = if rest.starts_with(['-', '−']) { -power } else { power };
            at += 1 + sign + length;
        }
    }
    // `1,2`, `9:40`, `1.2.3`: what goes on is no part of a number, and no number goes on so.
    let more =
        |rest: &str| rest.starts_with([',', ':', '.']) && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    let mut broken = false;
    while more(&text[at..]) {
        broken = true;
        at += 1 + digits(&text[at + 1..]);
    }
    let value = if broken { None } else { scaled(whole, part, exponent) };
    Literal { length: at, digits: value }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The digits of the groups from `at` on, and where they end: groups of three, or two and then
/// three as in India.
fn groups(text: &str, mut at: usize, separator: char) -> Option<(String, usize)> {
    let mut found: Vec<&str> = Vec::new();
    while let Some(rest) = text[at..].strip_prefix(separator) {
        let length = digits(rest);
        if length == 0 || (length != 3 && separator != ',' && !found.is_empty()) {
            break;
        }
        found.push(&rest[..length]);
        at += separator.len_utf8() + length;
    }
    let (last, before) = found.split_last()?;
    let threes = found.iter().all(|group| group.len() == 3);
    let indian = separator == ','
        && last.len() == 3
        && !before.is_empty()
        && before.iter().all(|group| group.len() == 2)
        && text.bytes().take_while(u8::is_ascii_digit).count() <= 2;
    (threes || indian).then(|| (found.concat(), at))
}

/// Digits, decimals and a power of ten in one spelling, at any length.
fn scaled(whole: &str, part: &str, exponent: i64) -> Option<String> {
    if whole.is_empty() && part.is_empty() || exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let all = format!("{whole}{part}");
    let point = whole.len() as i64 + exponent;
    let (whole, part) = if point <= 0 {
        (String::new(), format!("{}{all}", "0".repeat(usize::try_from(-point).ok()?)))
    } else {
        let point = usize::try_from(point).ok()?;
        let padded = format!("{all:0<point$}");
        (padded[..point].to_owned(), padded[point..].to_owned())
    };
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") })
}

/// A value as its one spelling.
pub(super) fn spelled(value: Rational) -> String {
    value.to_string()
}

/// `-` and a spelling; zero has no sign.
pub(super) fn negated(digits: &str) -> String {
    match digits.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None if digits == "0" => digits.to_owned(),
        None => format!("-{digits}"),
    }
}

/// What a word multiplies the number before it by, as a power of ten.
pub(super) fn scale(word: &str) -> Option<u32> {
    Some(match word.to_ascii_lowercase().as_str() {
        "hundred" => 2,
        "thousand" | "k" | "thousands" => 3,
        "lakh" => 5,
        "million" | "millions" | "mio" | "mln" => 6,
        "crore" => 7,
        "billion" | "billions" | "bn" => 9,
        "trillion" | "trillions" => 12,
        _ if matches!(word, "M" | "MM") => 6,
        _ if word == "B" => 9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_whole() {
        for (text, digits) in [
            ("12", "12"),
            ("1,234.50 x", "1234.5"),
            ("12,34,567", "1234567"),
            ("1 000 000", "1000000"),
            ("1\u{202f}000", "1000"),
            ("1'000", "1000"),
            ("1.234.567,8", "1234567.8"),
            ("1.234,56", "1234.56"),
            ("1.234", "1.234"),
            ("1e-5", "0.00001"),
            ("6.02e23", "602000000000000000000000"),
            (".50", "0.5"),
            ("5.", "5"),
            ("5, 6", "5"),
            ("5e", "5"),
            ("12 34", "12"),
        ] {
            assert_eq!(literal(text).digits.as_deref(), Some(digits), "{text}");
        }
        for none in ["1,2", "12,34", "0,250", "9:40", "1.2.3", "1e9999", "1,2345"] {
            assert_eq!(literal(none).digits, None, "{none}");
        }
        assert_eq!(literal("1e99999999999999999999").digits, None);
    }
}
