//! What goes to standard output and standard error.
//!
//! Names, messages and completions come from files and models that nobody vouches for. So nothing
//! that a terminal would act on leaves the program, except for its own colours: control characters
//! and direction overrides are written as escapes, in text and in JSON.
//!
//! Progress is advisory. A run whose reader has gone away (`| head`, a closed terminal, a `tee` that
//! was killed) goes on to its end.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

use crate::inspect::acts_on_terminals;

/// Whether to colour what goes to standard output: a terminal, and no `NO_COLOR`.
pub(super) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Writes a report to standard output. A reader that has gone away is no failure.
///
/// # Errors
/// Standard output can't be written, for example because its disk is full.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(safe(text, colour()).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a message to standard error, and a line break after it. That it can't be written is no
/// reason to stop.
pub(super) fn note(text: &str) {
    let colour = io::stderr().is_terminal() && colour();
    let line = format!("{}\n", safe(text, colour));
    let _advisory = io::stderr().lock().write_all(line.as_bytes());
}

/// The value as indented JSON with a line break at its end, for [`print`].
pub(super) fn pretty<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    Ok(safe_json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Writes the value as a line of JSON.
pub(super) fn json_line<T: Serialize>(out: &mut impl Write, value: &T) -> Result<()> {
    Ok(writeln!(out, "{}", safe_json(&serde_json::to_string(value)?))?)
}

/// Whether the reader of an output has gone away: a closed pipe or a closed terminal.
pub(super) fn is_gone(error: &io::Error) -> bool {
    /// What reads and writes of a terminal that was closed report (EIO of Linux and macOS).
    const CLOSED_TERMINAL: i32 = 5;
    error.kind() == io::ErrorKind::BrokenPipe || (cfg!(unix) && error.raw_os_error() == Some(CLOSED_TERMINAL))
}

/// Text of several lines without anything that a terminal acts on; with `colour`, sequences that
/// set a colour stay.
pub(super) fn safe(text: &str, colour: bool) -> Cow<'_, str> {
    let acts = |c| acts_on_terminals(c) && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if !acts(c) || (colour && c == '\x1b' && begins_with_colour(&text[at + 1..])) {
            out.push(c);
        } else {
            write!(out, "{}", c.escape_unicode()).expect("writing to a string can't fail");
        }
    }
    Cow::Owned(out)
}

/// Whether what follows an escape character is the rest of `ESC [ … m` (ECMA-48).
fn begins_with_colour(rest: &str) -> bool {
    let Some(parameters) = rest.strip_prefix('[') else { return false };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    end.is_some_and(|end| parameters[end..].starts_with('m'))
}

/// JSON with escapes for what serde_json leaves as it is: DEL, the C1 controls, and direction
/// overrides. They occur in strings only, and mean the same there.
fn safe_json(json: &str) -> Cow<'_, str> {
    let acts = |c| acts_on_terminals(c) && c != '\n';
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match acts(c) {
            true => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string can't fail"),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_comes_out() {
        let hostile = "a\x1b]0;title\x07b\u{9b}2Jc\u{202e}d\r\x7fe\n\tf\u{2066}";
        let safe = safe(hostile, true);
        assert_eq!(safe, "a\\u{1b}]0;title\\u{7}b\\u{9b}2Jc\\u{202e}d\\u{d}\\u{7f}e\n\tf\\u{2066}");
        assert!(matches!(super::safe("plain — ünïcode\n", false), Cow::Borrowed(_)));
    }

    #[test]
    fn own_colours_stay_where_colours_are_wanted() {
        let coloured = "\x1b[1;32mgood\x1b[0m";
        assert_eq!(safe(coloured, true), coloured);
        assert_eq!(safe(coloured, false), "\\u{1b}[1;32mgood\\u{1b}[0m");
        for other in ["\x1b[2J", "\x1b[3", "\x1bm", "\x1b[?25l"] {
            assert!(!safe(other, true).contains('\x1b'), "{other:?}");
        }
    }

    #[test]
    fn json_keeps_its_values() {
        let text = "\x1b[2J\u{9b}\x7f\u{202e}\n\"\\";
        for json in [pretty(&[text]).unwrap(), {
            let mut line = Vec::new();
            json_line(&mut line, &[text]).unwrap();
            String::from_utf8(line).unwrap()
        }] {
            assert!(!json.chars().any(|c| acts_on_terminals(c) && c != '\n'), "{json:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
        }
    }

    #[test]
    fn a_gone_reader_is_told_from_a_full_disk() {
        assert!(is_gone(&io::ErrorKind::BrokenPipe.into()));
        assert!(!is_gone(&io::ErrorKind::StorageFull.into()));
        assert!(!is_gone(&io::Error::from_raw_os_error(28)));
    }
}
