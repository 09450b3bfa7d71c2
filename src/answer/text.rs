//! Free text: where the answer stands, and one spelling for equal answers.

use super::last_line;

/// The claimed answer in its one spelling.
pub(super) fn answer(completion: &str) -> Option<String> {
    normalised(marked(completion).or_else(|| last_line(completion))?)
}

/// A gold answer in its one spelling; GSM8K's gold is a whole solution that ends in `#### n`.
pub(super) fn normalised_gold(gold: &str) -> Option<String> {
    if gold.contains("####") || gold.contains("\\boxed{") { answer(gold) } else { normalised(gold) }
}

/// What follows the last marker of an answer.
fn marked(text: &str) -> Option<&str> {
    let line_after = |at: usize| text[at..].lines().next().unwrap_or("");
    let after_line_start = |marker: &str| {
        let starts = text.match_indices(marker);
        let at = starts.filter(|(i, _)| text[..*i].rsplit('\n').next().is_some_and(|l| l.trim().is_empty()));
        at.last().map(|(i, _)| (i, line_after(i + marker.len())))
    };
    let phrase = rfind_ignoring_case(text, "answer is")
        .map(|i| (i, line_after(i + "answer is".len()).trim_start_matches(':')))
        .filter(|(_, answer)| !answer.trim().is_empty());
    let boxed = text.rfind("\\boxed{").and_then(|i| Some((i, balanced(&text[i + "\\boxed{".len()..])?)));
    [after_line_start("A:"), after_line_start("Answer:"), after_line_start("####"), phrase, boxed]
        .into_iter()
        .flatten()
        .max_by_key(|(at, _)| *at)
        .map(|(_, answer)| answer)
}

fn rfind_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    // Only ASCII case: lower-casing all of Unicode would move byte positions.
    text.to_ascii_lowercase().rfind(needle)
}

/// The text before the brace that closes an already opened one.
fn balanced(text: &str) -> Option<&str> {
    let mut depth = 1usize;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..i]);
        }
    }
    None
}

/// One spelling: a number in lowest terms, or text without case, decoration and repeated spaces.
/// `None` if nothing is left.
pub(super) fn normalised(answer: &str) -> Option<String> {
    let mut answer = answer.trim();
    // Decoration comes in layers, such as `**$\text{(B)}$.**`.
    loop {
        let bare = undecorated(answer);
        if bare == answer {
            break;
        }
        answer = bare;
    }
    if let Some(number) = number(answer) {
        return Some(number);
    }
    let words: Vec<String> = answer.split_whitespace().map(str::to_lowercase).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Without one layer of what surrounds an answer and doesn't belong to it.
fn undecorated(answer: &str) -> &str {
    let answer = answer.trim().trim_matches(['$', '*', '`', '"', '\u{201c}', '\u{201d}']);
    let answer = answer.trim().trim_end_matches(['.', '!', ';', ',', ':']).trim();
    for (open, close) in [("\\text{", "}"), ("\\boxed{", "}"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inner) = answer.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return inner.trim();
        }
    }
    // A choice such as `(B)`, but not `f(x)` or `(1, 2)`.
    match answer.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) if inner.len() == 1 => inner,
        _ => answer,
    }
}

/// A number's one spelling: sign, digits, and what is left of decimals; fractions in lowest terms,
/// as decimals where that is exact. Currency, percent signs and thousands separators don't count.
pub(super) fn number(text: &str) -> Option<String> {
    let text = text.trim_start_matches(['$', '€', '£']).trim_end_matches(['%', '€', '£']);
    let text = text.strip_suffix('\\').unwrap_or(text).trim();
    let (negative, text) = match text.strip_prefix(['-', '−']) {
        Some(rest) => (true, rest.trim_start_matches(['$', '€', '£'])),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = fraction(text).or_else(|| decimal(text))?;
    Some(if negative && magnitude != "0" { format!("-{magnitude}") } else { magnitude })
}

/// `1,234.50` → `1234.5`; digit strings, so that no precision is lost.
fn decimal(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole = without_thousands(whole)?;
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(&whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") })
}

/// Removes commas that stand where thousands separators stand; `None` if they stand anywhere else.
fn without_thousands(whole: &str) -> Option<String> {
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let mut joined = first.to_owned();
    for group in groups {
        if group.len() != 3 || first.is_empty() || first.len() > 3 {
            return None;
        }
        joined.push_str(group);
    }
    Some(joined)
}

/// `6/4` and `\frac{6}{4}` → `1.5`; `2/6` → `1/3`.
fn fraction(text: &str) -> Option<String> {
    let (top, bottom) = match text.strip_prefix("\\frac{").or_else(|| text.strip_prefix("\\dfrac{")) {
        Some(rest) => rest.strip_suffix('}')?.split_once("}{")?,
        None => text.split_once('/')?,
    };
    let plain = |s: &str| -> Option<u64> {
        let s = s.trim();
        s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok()).flatten()
    };
    let (mut top, mut bottom) = (plain(top)?, plain(bottom).filter(|&b| b > 0)?);
    let divisor = gcd(top, bottom);
    (top, bottom) = (top / divisor, bottom / divisor);
    // Exact as a decimal only if nothing but twos and fives divides the denominator.
    let (mut rest, mut places) = (bottom, 0u32);
    for prime in [2, 5] {
        let mut count = 0;
        while rest.is_multiple_of(prime) {
            rest /= prime;
            count += 1;
        }
        places = places.max(count);
    }
    let scaled = 10u128.checked_pow(places).and_then(|s| (s / u128::from(bottom)).checked_mul(top.into()));
    match scaled {
        Some(scaled) if rest == 1 => {
            let digits = format!("{scaled:0>width$}", width = places as usize + 1);
            let (whole, part) = digits.split_at(digits.len() - places as usize);
            decimal(&format!("{whole}.{part}"))
        }
        _ => Some(format!("{top}/{bottom}")),
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        answer(text).unwrap_or_else(|| panic!("no answer in {text:?}"))
    }

    #[test]
    fn the_last_marker_wins() {
        assert_eq!(read("I think\nA: 5\nwait\nA: 7\ntrailing words"), "7");
        assert_eq!(read("72 clips.\n#### 72"), "72");
        assert_eq!(read("so \\boxed{\\frac{1}{2}} is it"), "0.5");
        assert_eq!(read("\\boxed{1} no, #### is odd\n#### 3\nthus \\boxed{4}"), "4");
        assert_eq!(read("The answer is $1,234.50."), "1234.5");
        assert_eq!(read("THE ANSWER IS: (B)."), "b");
        assert_eq!(read("Answer: Paris"), "paris");
        assert_eq!(read("first\n  Blue   Whale! \n"), "blue whale");
        // A marker within a line is no marker, and one with nothing after it is an answer that was
        // cut off.
        assert_eq!(read("Q and A: fun\nyes"), "yes");
        assert_eq!(read("what the answer is\nyes"), "yes");
        assert_eq!(answer("A: 5\nA:"), None);
        assert_eq!(read("\\boxed{5"), "\\boxed{5");
        assert_eq!(answer(" \n\n"), None);
        assert_eq!(answer("**"), None);
    }

    #[test]
    fn equal_numbers_are_equal_strings() {
        for (a, b) in [
            ("007", "7"),
            ("$18.00", "18"),
            ("-0", "0"),
            ("−3", "-3"),
            ("-$3", "-3"),
            ("+3.10", "3.1"),
            (".5", "0.5"),
            ("50%", "50"),
            ("50\\%", "50"),
            ("6/4", "1.5"),
            ("2/6", "1/3"),
            ("\\dfrac{3}{8}", "0.375"),
            ("0/5", "0"),
            ("**12**", "12"),
            ("\\text{Blue}", "blue"),
            ("12345678901234567890123", "12,345,678,901,234,567,890,123"),
        ] {
            assert_eq!(read(a), read(b), "{a} and {b}");
        }
        for (a, b) in [("1,2", "12"), ("1/0", "0"), ("1.5", "15"), ("3 4", "34"), ("(1, 2)", "1, 2")] {
            assert_ne!(read(a), read(b), "{a} and {b}");
        }
    }

    #[test]
    fn golds_may_be_whole_solutions() {
        let gold = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72";
        assert_eq!(normalised_gold(gold).as_deref(), Some("72"));
        assert_eq!(normalised_gold("1,000").as_deref(), Some("1000"));
        assert_eq!(normalised_gold("A: or B").as_deref(), Some("a: or b"));
    }
}
