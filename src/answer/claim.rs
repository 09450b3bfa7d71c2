//! Where a completion claims its answer, however instruction-tuned models like to put it.

use super::math::closing;

/// A place where something is claimed to be the answer, to the end of its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim<'t> {
    pub at: usize,
    /// Where the claim ends in the text.
    pub end: usize,
    pub text: &'t str,
    /// Whether the phrase itself denies it: "the answer isn't".
    pub denied: bool,
}

/// What a claim turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading<T> {
    Value(T),
    /// It names nothing of the kind: an earlier claim counts.
    Nothing,
    /// It names too much or denies it: there is no answer.
    Refused(super::Why),
}

/// Words that the answer follows.
const CONNECTORS: [&str; 14] = [
    "is", "are", "was", "be", "equals", "equal", "becomes", "were", "isn't", "isnt", "aren't", "cannot",
    "can't", "yields",
];

/// Words before the connector that make it a demand or a heading of options.
const NO_CLAIM: [&str; 10] =
    ["choices", "options", "the", "this", "these", "each", "all", "questions", "following", "sheet"];

/// A claim ends here at the latest: what is longer is no answer, and every claim is read in one go.
const CLAIM_BYTES_MAX: usize = 2560;

/// Earlier claims are not read.
const CLAIMS_MAX: usize = 50;

/// Longest word between "answer" and what it is.
const WORD_CHARS_MAX: usize = 60;

/// Most words between "answer" and what it is.
const WORDS_BETWEEN: usize = 14;

/// The last claims, in order: phrases with "answer", `####`, `A:` at the start of a line, what is boxed
/// in LaTeX, and what stands between `<answer>` and `</answer>`.
pub(super) fn claims(text: &str) -> Vec<Claim<'_>> {
    // Only ASCII case: lower-casing all of Unicode would move byte positions.
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for word in ["answer", "ans"] {
        let word_at = lower.match_indices(word).map(|(at, _)| at);
        found.extend(word_at.filter_map(|at| phrase(text, &lower, at, word.len())));
    }
    found.extend(line_starts(text));
    found.extend(tagged(text, &lower));
    found.retain(|claim| !claim.text.is_empty());
    found.sort_by_key(|claim| (claim.at, claim.end));
    found.dedup_by_key(|claim| (claim.end, claim.text.len()));
    let boxes = boxed(text);
    // `\boxed{\text{Answer: }5}` is one claim.
    found.retain(|claim| {
        let before = boxes.partition_point(|boxed| boxed.at <= claim.at);
        before.checked_sub(1).is_none_or(|last| claim.at >= boxes[last].end)
    });
    let phrases = found.clone();
    // What a phrase introduces is read with it.
    let alone = |boxed: &Claim| {
        let before = phrases.partition_point(|claim| claim.at <= boxed.at);
        !phrases[..before].iter().rev().take(3).any(|claim| boxed.at < claim.end && !claim.text.is_empty())
    };
    found.extend(boxes.iter().copied().filter(alone));
    found.sort_by_key(|claim| claim.at);
    found.split_off(found.len().saturating_sub(CLAIMS_MAX))
}

/// A claim that the word at `at` introduces.
fn phrase<'t>(text: &'t str, lower: &str, at: usize, length: usize) -> Option<Claim<'t>> {
    let letter = |c: char| c.is_alphanumeric();
    if text[..at].ends_with(letter) || text[..at].ends_with(['<', '/']) {
        return None;
    }
    let mut from = at + length;
    from += usize::from(lower[from..].starts_with('s') && length > 3);
    if lower[from..].starts_with(letter) {
        return None;
    }
    let (start, denied) = connected(text, lower, from)?;
    if length == 3 && start > from + 3 {
        // "Ans" only with its colon.
        return None;
    }
    Some(claim_at(text, at, start, denied))
}

/// Where the answer begins after the word that ends at `from`, and whether it is denied.
fn connected(text: &str, lower: &str, from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    for count in 0..WORDS_BETWEEN {
        let skipped = |c: char| matches!(c, ' ' | '\t' | '*' | '_' | '"' | ')' | ']' | '}' | '(' | ',');
        at += text[at..].len() - text[at..].trim_start_matches(skipped).len();
        let rest = &lower[at..];
        for mark in [":=", "->", "=>", ":", "=", "→", "⇒"] {
            if rest.starts_with(mark) {
                return Some((at + mark.len(), false));
            }
        }
        if count == 0 && (rest.starts_with("- ") || rest.starts_with("– ") || rest.starts_with("— ")) {
            return Some((at + rest.chars().next().map_or(0, char::len_utf8), false));
        }
        if rest.is_empty() || rest.starts_with(['\n', '\r']) {
            // A heading: the answer is on the next line.
            return (count == 0 && is_heading(lower, from)).then_some((at, false));
        }
        if rest.starts_with("#") || rest.starts_with("\\boxed") {
            return (count == 0).then_some((at, false));
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, ':' | '=' | ',' | '*');
        // The search is bounded, so that a text without blanks stays cheap.
        let end = match rest.char_indices().take(WORD_CHARS_MAX).find(|(_, c)| ends(*c)) {
            Some((end, _)) => end,
            None if rest.chars().nth(WORD_CHARS_MAX).is_none() => rest.len(),
            None => return None,
        };
        let word = &rest[..end];
        if CONNECTORS.contains(&word) {
            let denied = matches!(word, "isn't" | "isnt" | "aren't" | "cannot" | "can't");
            let mut start = at + end;
            for more in [" be", " equal to", " to be", " that"] {
                if lower[start..].starts_with(more)
                    && !lower[start + more.len()..].starts_with(char::is_alphanumeric)
                {
                    start += more.len();
                }
            }
            let gap = text[start..].trim_start_matches([' ', '*', '_', '"']);
            let colon = gap.starts_with(':').then(|| text.len() - gap.len() + 1);
            return Some((colon.unwrap_or(start), denied));
        }
        let ends = word.ends_with(['.', '!', '?', ';']) || (count == 0 && NO_CLAIM.contains(&word));
        if ends || word.is_empty() {
            return None;
        }
        at += end;
    }
    None
}

/// Whether the line up to `end` is only a heading such as `## Final answer`.
fn is_heading(lower: &str, end: usize) -> bool {
    let line = lower[..end].rsplit('\n').next().unwrap_or_default();
    let words = line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    words.into_iter().all(|word| {
        matches!(
            word,
            "the" | "my" | "final" | "correct" | "answer" | "answers" | "short" | "textbf" | "step" | "text"
        )
    })
}

/// The claim that begins at `start`, or on the next line if this one is empty.
fn claim_at(text: &str, at: usize, start: usize, denied: bool) -> Claim<'_> {
    // `\textbf{Answer: 42}` and `\textbf{Answer:} 42`
    let line = text[..at].rsplit('\n').next().unwrap_or_default();
    let inside = line.rfind('{').is_some_and(|open| !line[open..].contains('}'));
    let dressing = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | ':') || (inside && c == '}');
    let rest = text[start..].trim_start_matches(dressing);
    let from = text.len() - rest.len();
    let mut end = from + sentence_end(rest);
    if inside
        && !text[start..from].contains('}')
        && let Some(close) = closing(&format!("{{{}", &text[from..end]))
    {
        end = from + close - 1;
    }
    Claim { at, end, text: text[from..end].trim(), denied }
}

/// `####` that ends a solution, and `A:` at the start of a line.
fn line_starts(text: &str) -> Vec<Claim<'_>> {
    let mut found = Vec::new();
    let last = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start();
        let start = at + line.len() - bare.len();
        if let Some(rest) = bare.strip_prefix("####") {
            let value = |c: char| c.is_ascii_digit() || matches!(c, '-' | '$' | '.' | '\\' | '−' | '€' | '£');
            let heading = rest.starts_with('#') || !(at >= last || rest.trim_start().starts_with(value));
            if !heading && !rest.trim().is_empty() {
                found.push(one_line(text, start, start + 4));
            }
        } else if bare.starts_with("A:") && !bare[2..].trim().is_empty() {
            found.push(one_line(text, start, start + 2));
        } else if let Some(marked) = bare.find("####").filter(|marked| *marked > 0) {
            // GSM8K's mark at the end of a line.
            if bare[marked + 4..].trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                found.push(one_line(text, start + marked, start + marked + 4));
            }
        }
        at += line.len();
    }
    found
}

/// A claim to the end of its sentence, on this line only.
fn one_line(text: &str, at: usize, start: usize) -> Claim<'_> {
    let line = text[start..].lines().next().unwrap_or_default();
    let lead = line.len() - line.trim_start().len();
    let end = start + lead + sentence_end(&line[lead..]);
    Claim { at, end, text: text[start + lead..end].trim(), denied: false }
}

/// What stands in `<answer>…</answer>`.
fn tagged<'t>(text: &'t str, lower: &str) -> Vec<Claim<'t>> {
    let mut found = Vec::new();
    for (open, close) in [("<answer>", "</answer>"), ("<final_answer>", "</final_answer>")] {
        for (at, _) in lower.rmatch_indices(open).take(CLAIMS_MAX) {
            let start = at + open.len();
            // Up to the next closing mark; the search is bounded, so that a row of marks stays cheap.
            let window = &lower.as_bytes()[start..];
            let window = &window[..window.len().min(CLAIM_BYTES_MAX)];
            let end = window.windows(close.len()).position(|bytes| bytes == close.as_bytes());
            if let Some(inner) = end.and_then(|end| text.get(start..start + end)) {
                let nested = claims_within(inner);
                let text = nested.map_or(inner.trim(), |claim| claim.text);
                found.push(Claim { at, end: start + inner.len() + close.len(), text, denied: false });
            }
        }
    }
    found
}

/// A phrase or a box within a tag.
fn claims_within(inner: &str) -> Option<Claim<'_>> {
    if !inner.contains("\\boxed") && !inner.to_ascii_lowercase().contains("answer") {
        return None;
    }
    // Nested marks are not looked into, so that many of them stay cheap.
    if inner.to_ascii_lowercase().contains("answer>") { None } else { claims(inner).pop() }
}

/// What is boxed; boxes that a comma or "and" joins are one claim.
fn boxed(text: &str) -> Vec<Claim<'_>> {
    let mut found: Vec<Claim> = Vec::new();
    for (at, mark) in text.match_indices("\\boxed").chain(text.match_indices("\\fbox")) {
        let group = text[at + mark.len()..].trim_start();
        let start = text.len() - group.len();
        // Unclosed braces must not be searched for to the end again and again.
        let length = match group.chars().next() {
            Some('{') => closing(window(group)).map(|end| end + 1),
            Some(c) if c.is_alphanumeric() => {
                group.find(|c: char| !c.is_alphanumeric() && c != '.').or(Some(group.len()))
            }
            _ => None,
        };
        let Some(length) = length else { continue };
        let end = start + length;
        let inner =
            text[start..end].strip_prefix('{').map_or(&text[start..end], |rest| &rest[..rest.len() - 1]);
        found.push(Claim { at, end, text: inner.trim(), denied: false });
    }
    found.sort_by_key(|claim| claim.at);
    let mut joined: Vec<Claim> = Vec::new();
    for claim in found {
        match joined.last_mut() {
            // A box within a box.
            Some(last) if claim.at < last.end => {}
            Some(last) if joins(&text[last.end..claim.at]) => {
                last.text = &text[last.at..claim.end];
                last.end = claim.end;
            }
            _ => joined.push(claim),
        }
    }
    joined
}

/// Whether only "and", "or" or a comma stands between two boxes.
fn joins(between: &str) -> bool {
    let blank = |c: char| {
        c.is_whitespace()
            || matches!(c, '$' | '*' | ',' | '\\' | '(' | ')' | '[' | ']' | '&' | ';' | '{' | '}')
    };
    let style = |word: &&str| matches!(*word, "" | "text" | "mbox" | "quad" | "textrm" | "mathrm");
    let words: Vec<&str> = between.split(blank).filter(|word| !style(word)).collect();
    between.len() <= 40
        && !between.contains("\n\n")
        && (matches!(words[..], ["and" | "or"]) || (words.is_empty() && between.contains(',')))
}

/// Abbreviations after which a sentence goes on.
const ABBREVIATIONS: [&str; 23] = [
    "rs", "st", "mr", "mrs", "ms", "dr", "prof", "jr", "sr", "vs", "e.g", "i.e", "a.m", "p.m", "u.s", "u.k",
    "approx", "mt", "ft", "sq", "ca", "cf", "resp",
];

/// Where the sentence that begins the text ends: at its full stop or its line.
pub(super) fn sentence_end(text: &str) -> usize {
    if let Some(length) = display(text) {
        return length;
    }
    let text = window(text);
    let (mut depth, mut dollar) = (0usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '\n' if depth == 0 || text[at + 1..].starts_with('\n') => return at,
            // The end of a tag's contents.
            '<' if text[at..].starts_with("</") => return at,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '$' => dollar = !dollar,
            '.' | '!' | '?' if depth == 0 => {
                let rest = text[at + 1..].trim_start_matches(['"', '\'', '*', ')', '”', '_', '$', '\\']);
                let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
                let open_math = dollar && (c == '!' || !text[at + 1..].starts_with('$'));
                if ends && !open_math && !(c == '.' && is_abbreviated(&text[..at], rest)) {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The beginning of a text that is looked at.
fn window(text: &str) -> &str {
    let mut end = text.len().min(CLAIM_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The length of a displayed formula that begins the text, which may go over lines.
fn display(text: &str) -> Option<usize> {
    for (open, close) in [("$$", "$$"), ("\\[", "\\]")] {
        if let Some(inner) = text.strip_prefix(open) {
            let end = window(inner).find(close)?;
            return Some(open.len() + end + close.len());
        }
    }
    None
}

/// Whether the full stop after `before` belongs to a word.
fn is_abbreviated(before: &str, after: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let lower = word.to_ascii_lowercase();
    if ABBREVIATIONS.contains(&lower.as_str()) {
        return !after.trim().is_empty();
    }
    // Initials: `J. R. R. Tolkien`.
    let initial = |word: &str| word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
    let mut next = after.split_whitespace();
    let follows = next.next().is_some_and(|word| word.strip_suffix('.').is_some_and(initial));
    let precedes =
        before.trim_end().rsplit(' ').nth(1).is_some_and(|w| w.strip_suffix('.').is_some_and(initial));
    initial(word) && (follows || precedes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(text: &str) -> Option<&str> {
        claims(text).pop().map(|claim| claim.text)
    }

    #[test]
    fn a_claim_is_found_and_ends_with_its_sentence() {
        for (text, claim) in [
            ("I guess the answer is 3.\nNo.\nThe answer is: 5.", "5"),
            ("The final answer is 7", "7"),
            ("Answer: B\n", "B"),
            ("a\n#### 72", "72"),
            ("x\n A: 12\nbye", "12"),
            ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
            ("The answer is 3.5 m. It is late.", "3.5 m"),
            ("The answer is $18$. I hope it is correct.", "$18$"),
            ("The answer is \\boxed{3}.", "\\boxed{3}"),
            ("The answer is 3.\nThe answer is", "3"),
            ("ANSWER: \u{130}x", "\u{130}x"),
            ("Answer:\n42\nbye", "42"),
            ("## Final Answer\n\n42", "42"),
            ("the answer to this question must be 42", "42"),
            ("The answer, therefore, is 42", "42"),
            ("<answer> 42 </answer>", "42"),
            ("The answer is\n$$\n42\n$$\nDone.", "$$\n42\n$$"),
            ("The answer is St. Louis. It is.", "St. Louis"),
            ("\\boxed{2} and \\boxed{6}", "\\boxed{2} and \\boxed{6}"),
            ("\\boxed{2}. Rather \\boxed{6}", "6"),
            ("\\boxed 5", "5"),
            ("Final answer → 42", "42"),
        ] {
            assert_eq!(last(text), Some(claim), "{text:?}");
        }
        for none in [
            "",
            "twelve",
            "USA: 12",
            "The answer is",
            "\\boxed{3",
            "Answer the question: 5",
            "#### Step 2: go\nmore",
            "answered: 5",
        ] {
            assert_eq!(last(none), None, "{none:?}");
        }
        assert!(claims("The answer isn't 5").pop().is_some_and(|claim| claim.denied));
    }
}
