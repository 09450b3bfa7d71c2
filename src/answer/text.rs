//! Free text: a number by its value, and everything else as words.

use super::claim::{Reading, claims};
use super::dress::{peeled, plain};
use super::{ANSWER_BYTES_MAX, Why, exact, last_line, number};

/// The claimed answer in its one spelling.
pub(super) fn answer(text: &str) -> Result<String, Why> {
    let text = plain(text);
    if last_line(&text) == Some("A:") {
        // Cut off before the answer.
        return Err(Why::NoClaim);
    }
    let claimed = !claims(&text).is_empty();
    let claim = exact::claimed(&text)?;
    if options(&claim) > 1 {
        return Err(Why::Several(Vec::new()));
    }
    let bare = peeled(&claim);
    // Longer texts are no numbers with a unit.
    if bare.len() <= ANSWER_BYTES_MAX {
        let value = number::value(&claim);
        match value {
            Reading::Value(value) if starts_with_number(bare) => return Ok(value),
            Reading::Refused(why @ Why::Several(_)) if starts_with_number(bare) && claimed => {
                return Err(why);
            }
            _ => {}
        }
        // `Thus 6*7 = 42`
        if let Some((_, right)) = bare.rsplit_once('=')
            && let Reading::Value(value) = number::value(right)
            && starts_with_number(peeled(right))
        {
            return Ok(value);
        }
    }
    normalised(&claim).ok_or(Why::NoClaim)
}

/// A gold answer in its one spelling; GSM8K's gold is a whole solution that ends in `#### n`.
pub(super) fn normalised_gold(gold: &str) -> Option<String> {
    let solution = gold.contains("####") || gold.contains("\\boxed{");
    let claimed = if solution { answer(gold).ok() } else { None };
    claimed.or_else(|| normalised(gold))
}

/// How many options a claim names in brackets, such as `(A) or (B)`.
fn options(claim: &str) -> usize {
    let letter = |at: usize| {
        let inner = claim.as_bytes().get(at + 1..at + 3);
        matches!(inner, Some([b'A'..=b'Z' | b'a'..=b'z', b')']))
    };
    let links = [" or ", " and ", "/", ", "].iter().any(|link| claim.contains(link));
    if links { claim.match_indices('(').filter(|(at, _)| letter(*at)).count() } else { 0 }
}

/// Whether a text begins with a value rather than with a word.
fn starts_with_number(text: &str) -> bool {
    let text = text.trim_start_matches(['$', '€', '£', '¥', '(', '-', '−', '+', '~', '≈', ' ', '{', '*']);
    let fraction =
        ["\\frac", "\\dfrac", "\\tfrac", "\\sqrt", "\\$"].iter().any(|mark| text.starts_with(mark));
    fraction || text.starts_with(|c: char| c.is_numeric() || c == '.')
}

/// One spelling: a number by its value, or text without case, decoration and repeated blanks.
/// `None` if nothing is left.
pub(super) fn normalised(answer: &str) -> Option<String> {
    let bare = unbracketed(peeled(answer));
    if bare.len() <= ANSWER_BYTES_MAX
        && starts_with_number(bare)
        && let Reading::Value(value) = number::value(bare)
    {
        return Some(value);
    }
    let words: Vec<String> = bare.split_whitespace().map(str::to_lowercase).collect();
    let joined = words.join(" ");
    let inner = unbracketed(peeled(&joined));
    if inner.is_empty() {
        None
    } else if inner == joined {
        Some(joined)
    } else {
        normalised(inner)
    }
}

/// `B` for `(B)`, but `f(x)` and `(1, 2)` stay.
fn unbracketed(text: &str) -> &str {
    match text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) if inner.len() == 1 => inner,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        answer(text).unwrap_or_else(|_| panic!("no answer in {text:?}"))
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
        assert_eq!(super::answer("A: 5\nA:").ok(), None);
        assert_eq!(read("\\boxed{5"), "\\boxed{5");
        assert_eq!(super::answer(" \n\n").ok(), None);
        assert_eq!(super::answer("**").ok(), None);
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
