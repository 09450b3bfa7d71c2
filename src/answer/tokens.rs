//! A claim as numbers, signs and words.

use super::numeral::literal;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Digits in one spelling; `None` for what can't be one number.
    Number(Option<String>),
    /// Signs of arithmetic and brackets.
    Sign(char),
    /// `\frac`, `\sqrt` and others.
    Command(String),
    Word(String),
    Equals(char),
    Other(char),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// Whether a blank stands before it.
    pub spaced: bool,
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let (mut rest, mut spaced) = (text, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        if c.is_whitespace() || c == '\u{2009}' {
            (spaced, rest) = (true, after);
            continue;
        }
        let previous_number = matches!(found.last().map(|token| &token.kind), Some(Kind::Number(_)));
        let (kind, tail) = match c {
            _ if c.is_ascii_digit() || (c == '.' && digit(after)) => {
                let number = literal(rest);
                (Kind::Number(number.digits), &rest[number.length..])
            }
            // Between two numbers this dash is a range, before one a sign.
            '–' | '−' | '‑' | '—' if digit(after.trim_start_matches(['$', '€', '£'])) && !previous_number => {
                (Kind::Sign('-'), after)
            }
            '−' => (Kind::Sign('-'), after),
            '-' if previous_number && !spaced && digit(after) => (Kind::Other('–'), after),
            '*' | '×' | '·' | '⋅' | '∗' => match after.strip_prefix('*') {
                Some(tail) if c == '*' => (Kind::Sign('^'), tail),
                _ => (Kind::Sign('*'), after),
            },
            '÷' => (Kind::Sign('/'), after),
            '+' | '-' | '/' | '^' | '(' | ')' | '{' | '}' | '[' | ']' => (Kind::Sign(c), after),
            '=' => (Kind::Equals('='), after),
            '≈' | '~' | '≃' | '≅' => (Kind::Equals('≈'), after),
            '$' | '€' | '£' | '¥' | '₹' | '"' | '\'' | '“' | '”' | '\u{200b}' => {
                rest = after;
                continue;
            }
            '√' => (Kind::Command("sqrt".into()), after),
            '\\' => {
                let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
                let (name, tail) = after.split_at(end);
                (command(name), tail)
            }
            // `5x10`
            'x' | 'X' if previous_number && digit(after.trim_start()) => (Kind::Word("x".into()), after),
            _ if c.is_alphabetic() => {
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’').unwrap_or(rest.len());
                (Kind::Word(rest[..end].to_owned()), &rest[end..])
            }
            _ => {
                if let Some((top, bottom)) = vulgar(c) {
                    let fraction =
                        [Kind::Number(Some(top.into())), Kind::Sign('/'), Kind::Number(Some(bottom.into()))];
                    found.extend(fraction.map(|kind| Token { kind, spaced: true }));
                    (spaced, rest) = (false, after);
                    continue;
                }
                if let Some(power) = superscript(c) {
                    found.push(Token { kind: Kind::Sign('^'), spaced: false });
                    (Kind::Number(Some(power.to_string())), after)
                } else {
                    (Kind::Other(c), after)
                }
            }
        };
        found.push(Token { kind, spaced });
        (spaced, rest) = (false, tail);
    }
    signs_in_words(&mut found);
    found
}

/// `minus 5` and `negative 5` are -5.
fn signs_in_words(found: &mut [Token]) {
    for at in 1..found.len() {
        let minus = matches!(&found[at - 1].kind, Kind::Word(word) if word == "minus" || word == "negative");
        if minus && matches!(found[at].kind, Kind::Number(_)) {
            found[at - 1].kind = Kind::Sign('-');
        }
    }
}

fn command(name: &str) -> Kind {
    match name {
        "times" | "cdot" | "ast" => Kind::Sign('*'),
        "div" => Kind::Sign('/'),
        "approx" | "sim" | "simeq" => Kind::Equals('≈'),
        "dfrac" | "tfrac" | "cfrac" => Kind::Command("frac".into()),
        "pm" => Kind::Other('±'),
        "" => Kind::Other('\\'),
        name => Kind::Command(name.to_owned()),
    }
}

fn vulgar(c: char) -> Option<(&'static str, &'static str)> {
    Some(match c {
        '½' => ("1", "2"),
        '⅓' => ("1", "3"),
        '⅔' => ("2", "3"),
        '¼' => ("1", "4"),
        '¾' => ("3", "4"),
        '⅕' => ("1", "5"),
        '⅖' => ("2", "5"),
        '⅗' => ("3", "5"),
        '⅘' => ("4", "5"),
        '⅙' => ("1", "6"),
        '⅚' => ("5", "6"),
        '⅛' => ("1", "8"),
        '⅜' => ("3", "8"),
        '⅝' => ("5", "8"),
        '⅞' => ("7", "8"),
        _ => return None,
    })
}

fn superscript(c: char) -> Option<usize> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|known| known == c)
}
