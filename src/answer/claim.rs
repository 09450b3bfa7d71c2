//! Where a completion claims its answer, however instruction-tuned models like to put it.

/// Phrases after which an answer stands, to the end of the line; longer ones before their
/// beginnings.
const PHRASES: [&str; 5] = ["answer is:", "answer is", "answer:", "answer =", "####"];

/// Without the signs that Markdown makes letters bold with.
pub(super) fn plain(completion: &str) -> String {
    completion.replace("**", "").replace("__", "")
}

/// What follows the last claim: `The answer is`, `Answer:`, `####`, `A:` at the start of a line, or
/// what is boxed in LaTeX. `None` if nothing is claimed.
pub(super) fn claimed(text: &str) -> Option<&str> {
    // Only ASCII case: lower-casing all of Unicode would move byte positions.
    let lower = text.to_ascii_lowercase();
    let mut claims: Vec<(usize, &str)> = Vec::new();
    for phrase in PHRASES {
        // The last one that is followed by something; a phrase without an answer claims nothing.
        let after = |(at, _): (usize, &str)| (at, rest_of_line(&text[at + phrase.len()..]));
        claims.extend(lower.rmatch_indices(phrase).map(after).find(|(_, claim)| !claim.is_empty()));
    }
    let line_start =
        |(at, _): &(usize, &str)| text[..*at].rsplit('\n').next().is_some_and(|l| l.trim().is_empty());
    let short = text.rmatch_indices("A:").find(line_start).map(|(at, _)| (at, rest_of_line(&text[at + 2..])));
    claims.extend(short.filter(|(_, claim)| !claim.is_empty()));
    claims.extend(last_boxed(text));
    // Of two that begin at the same place the longer phrase comes first.
    claims.into_iter().rev().max_by_key(|(at, _)| *at).map(|(_, claim)| claim)
}

fn rest_of_line(text: &str) -> &str {
    text.lines().next().unwrap_or("").trim()
}

/// Place and contents of the last `\boxed{…}` or `\fbox{…}` that is closed.
pub(super) fn last_boxed(text: &str) -> Option<(usize, &str)> {
    let last = |mark: &str| text.rfind(mark).map(|at| (at, at + mark.len()));
    let (at, start) = [last("\\boxed{"), last("\\fbox{")].into_iter().flatten().max()?;
    let mut depth = 1usize;
    for (i, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((at, &text[start..start + i]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_claim_counts() {
        for (text, claim) in [
            ("I guess the answer is 3.\nNo.\nThe answer is: 5.", "5."),
            ("The final answer is 7", "7"),
            ("Answer: B\n", "B"),
            ("a\n#### 72", "72"),
            ("x\n A: 12\nbye", "12"),
            ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
            ("The answer is \\boxed{3}.", "3"),
            ("The answer is 3.\nThe answer is", "3."),
            ("ANSWER: \u{130}x", "\u{130}x"),
        ] {
            assert_eq!(claimed(text), Some(claim), "{text:?}");
        }
        for none in ["", "twelve", "USA: 12", "The answer is", "\\boxed{3"] {
            assert_eq!(claimed(none), None, "{none:?}");
        }
        assert_eq!(plain("**Answer:** __5__"), "Answer: 5");
    }
}
