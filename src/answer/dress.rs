//! Markdown, HTML and LaTeX that dress an answer, taken off.

use super::math::closing;

/// Commands whose argument is shown as it is.
const WRAPPERS: [&str; 19] = [
    "boxed",
    "fbox",
    "framebox",
    "text",
    "textbf",
    "textit",
    "textrm",
    "texttt",
    "textsf",
    "textnormal",
    "mbox",
    "hbox",
    "emph",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "boldsymbol",
    "underline",
];

/// Commands that only set size or style.
const STYLES: [&str; 13] = [
    "left",
    "right",
    "displaystyle",
    "textstyle",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "big",
    "Big",
    "large",
    "Large",
    "noindent",
];

/// Letters of HTML that Markdown lets through.
const TAGS: [&str; 14] = [
    "<b>",
    "</b>",
    "<strong>",
    "</strong>",
    "<em>",
    "</em>",
    "<i>",
    "</i>",
    "<u>",
    "</u>",
    "<p>",
    "</p>",
    "<code>",
    "</code>",
];

/// Without Markdown's bold and code signs, special tokens, and wide letters.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Where the sign is that closes emphasis, counted from the end.
    let mut closes = None;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if closes == Some(rest.len()) {
            (closes, rest) = (None, after);
            continue;
        }
        if matches!(c, '*' | '_') && !after.starts_with(c) && closes.is_none() {
            closes = emphasis(&out, after, c);
            if closes.is_some() {
                rest = after;
                continue;
            }
        }
        rest = match c {
            '*' | '_' if after.starts_with(c) => {
                let next = &after[1..];
                // `2**10` is a power.
                if c == '*' && between_numbers(&out, next) {
                    out.push('^');
                }
                next
            }
            '`' | '\u{200b}' | '\u{feff}' | '\u{2060}' | '\r' => after,
            '<' => match TAGS.iter().find(|tag| starts_ignoring_case(rest, tag)) {
                Some(tag) => &rest[tag.len()..],
                None => match special_token(rest) {
                    Some(length) => &rest[length..],
                    None => {
                        out.push(c);
                        after
                    }
                },
            },
            // Full-width letters, digits and signs of East Asian text.
            '\u{ff01}'..='\u{ff5e}' => {
                out.extend(char::from_u32(u32::from(c) - 0xfee0));
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Where `*` or `_` before `after` is closed, in bytes from the end; `None` if it emphasises
/// nothing.
fn emphasis(before: &str, after: &str, sign: char) -> Option<usize> {
    let boundary = |c: char| c.is_whitespace() || matches!(c, '(' | '$' | '"' | '\'' | ':' | '{' | '[' | '>');
    let opens = before.chars().next_back().is_none_or(boundary) && !after.starts_with(char::is_whitespace);
    if !opens {
        return None;
    }
    // Emphasis is short: the search is bounded, so that many signs stay cheap.
    let mut last = ' ';
    for (at, c) in after.char_indices().take(120) {
        if c == '\n' {
            return None;
        }
        if c == sign && !last.is_whitespace() {
            let next = after[at + 1..].chars().next();
            let goes_on = next.is_some_and(|c| c.is_alphanumeric() || matches!(c, '(' | '*' | '_'));
            return (!goes_on).then_some(after.len() - at);
        }
        last = c;
    }
    None
}

fn between_numbers(before: &str, after: &str) -> bool {
    let ends = |c: char| c.is_ascii_digit() || c == ')';
    before.ends_with(ends) && after.starts_with(|c: char| c.is_ascii_digit() || c == '(')
}

fn starts_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Length of `<|im_end|>`, `</s>` and the like.
fn special_token(text: &str) -> Option<usize> {
    if text.starts_with("</s>") || text.starts_with("<eos>") || text.starts_with("<bos>") {
        return text.find('>').map(|at| at + 1);
    }
    let inner = text.strip_prefix("<|")?;
    let end = inner.find("|>").filter(|end| *end <= 40)?;
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    inner[..end].chars().all(name).then_some(end + 4)
}

/// A claim without LaTeX's delimiters, fonts and spacing, at any depth.
pub(super) fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    strip(text, &mut out, 0);
    out.trim().to_owned()
}

/// Deepest nesting of commands that is looked into.
const DEPTH_MAX: usize = 16;

fn strip(text: &str, out: &mut String, depth: usize) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c == '$' {
            // `US$5`
            if out.ends_with(char::is_alphabetic) && after.starts_with(|c: char| c.is_ascii_digit()) {
                out.push(' ');
            }
            rest = after;
            continue;
        }
        if let Some(after) = ["{,}", "{,\\!}", ",\\!", "\\!,"].iter().find_map(|mark| rest.strip_prefix(mark))
        {
            out.push(',');
            rest = after;
            continue;
        }
        if let Some(after) = ["^\\circ", "^{\\circ}", "^\\degree", "\\degree", "°"]
            .iter()
            .find_map(|mark| rest.strip_prefix(mark))
        {
            rest = after;
            continue;
        }
        if c != '\\' {
            out.push(c);
            rest = after;
            continue;
        }
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (name, tail) = after.split_at(letters);
        rest = command(name, tail, out, depth);
    }
}

/// Writes what a command shows; returns what follows it.
fn command<'t>(name: &str, tail: &'t str, out: &mut String, depth: usize) -> &'t str {
    if name.is_empty() {
        let Some(sign) = tail.chars().next() else { return tail };
        match sign {
            '(' | ')' | '[' | ']' | '!' => {}
            ',' | ';' | ':' | ' ' | '\\' => out.push(' '),
            '%' | '#' | '&' | '_' | '{' | '}' => out.push(sign),
            '$' => {}
            _ => out.extend(['\\', sign]),
        }
        return &tail[sign.len_utf8()..];
    }
    if matches!(name, "quad" | "qquad") {
        out.push(' ');
        return tail;
    }
    if STYLES.contains(&name) {
        return tail.strip_prefix('.').unwrap_or(tail);
    }
    if WRAPPERS.contains(&name) && depth < DEPTH_MAX {
        let open = tail.trim_start();
        if open.starts_with('{')
            && let Some(end) = closing(open)
        {
            strip(&open[1..end], out, depth + 1);
            return &open[end + 1..];
        }
        return tail;
    }
    out.push('\\');
    out.push_str(name);
    tail
}

/// A text without what surrounds it and doesn't belong to it, layer by layer: `**$\text{No}$.**` is
/// `No`.
pub(super) fn peeled(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let inner = peeled_once(text);
        if inner == text {
            return text;
        }
        text = inner;
    }
}

fn peeled_once(text: &str) -> &str {
    let quotes = ['$', '*', '`', '"', '\'', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '«', '»', '_'];
    let text = text.trim().trim_matches(quotes).trim().trim_end_matches(['.', '!', ';', ',', ':']).trim();
    for (open, close) in [("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return inner.trim();
        }
    }
    let Some(command) = text.strip_prefix('\\') else { return text };
    if let Some(rest) = command.strip_prefix("displaystyle").or_else(|| command.strip_prefix("textstyle")) {
        return rest.trim();
    }
    let letters = command.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(command.len());
    let (name, group) = command.split_at(letters);
    let whole = WRAPPERS.contains(&name) && closing(group).is_some_and(|end| end + 1 == group.len());
    if whole && group.starts_with('{') { group[1..group.len() - 1].trim() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dressing_goes_in_any_order_and_depth() {
        for (text, bare_text) in [
            ("$\\boxed{\\text{B}}$", "B"),
            ("\\textbf{\\(\\boxed{5}\\)}", "5"),
            ("2{,}500", "2,500"),
            ("2,\\!500", "2,500"),
            ("\\left( 5 \\right)", "( 5 )"),
            ("30^\\circ", "30"),
            ("50\\%", "50%"),
            ("\\frac{1}{2}", "\\frac{1}{2}"),
            ("\\text{unclosed", "{unclosed"),
        ] {
            assert_eq!(bare(text), bare_text, "{text:?}");
        }
        for text in
            ["**No**", "\"No\".", "$\\text{No}$.", "\\boxed{\\text{**No**}}", "\\( \\textbf{No} \\)", "*No*!"]
        {
            assert_eq!(peeled(text), "No", "{text:?}");
        }
        assert_eq!(plain("**Answer:** 2**10 `x` <b>5</b><|im_end|> ７"), "Answer: 2^10 x 5 7");
        assert_eq!(peeled("] ) }"), "] ) }");
    }
}
