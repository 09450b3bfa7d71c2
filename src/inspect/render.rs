//! What the drawings share: numbers with units, tables, colour, and text that can't harm a
//! terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle};

use crate::domain::SelectionReason;

/// How to write for the reader at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour.
    pub color: bool,
    /// Columns to fit tables into; `None` leaves them as wide as they are.
    pub width: Option<u16>,
}

/// A rule below the header and nothing else: the eye reads rows, and the text stays easy to copy.
pub(super) const RULED: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Foreground colours, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Warning,
    Strong,
    Faint,
}

impl Tone {
    /// The parameter of the escape sequence `ESC [ … m` (ECMA-48).
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Warning => Some("33"),
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
        }
    }

    /// Heat of a token or thought by its probability.
    pub(super) fn of_logprob(logprob: f32) -> Self {
        match logprob.exp() {
            p if p >= 0.9 => Self::Plain,
            p if p >= 0.5 => Self::Warning,
            _ => Self::Bad,
        }
    }
}

impl Style {
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.color) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    /// An empty table. Columns from `numbers_from` on are aligned to the right.
    pub(super) fn table(self, header: &[&str], numbers_from: usize) -> Table {
        let mut table = Table::new();
        table.load_style(RULED).set_header(header.to_vec());
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        for column in table.column_iter_mut().skip(numbers_from) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// A cell of a table in a tone.
pub(super) fn cell(text: impl ToString, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Warning => cell.fg(Color::Yellow),
        Tone::Plain | Tone::Strong | Tone::Faint => cell,
    }
}

/// A dash if the value isn't known.
pub(super) fn or_dash<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), write)
}

/// A share as a percentage, without its sign.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A percentage with its interval: `91.2 [88.4, 93.5]`.
pub(super) fn percent_interval(share: f64, lo: f64, hi: f64) -> String {
    format!("{} [{}, {}]", percent(share), percent(lo), percent(hi))
}

/// Points with their interval: `+47.2 [+42.8, +51.4]`.
pub(super) fn points(points: f64, lo: f64, hi: f64) -> String {
    format!("{points:+.1} [{lo:+.1}, {hi:+.1}]")
}

/// A difference that should be none.
pub(super) fn difference(value: f64) -> String {
    if value == 0.0 { "exact".to_owned() } else { format!("{value:.0e}") }
}

/// The tone of a gain: good or bad only if its interval is clear of 0.
pub(super) fn tone_of_gain(lo: f64, hi: f64) -> Tone {
    if lo > 0.0 {
        Tone::Good
    } else if hi < 0.0 {
        Tone::Bad
    } else {
        Tone::Plain
    }
}

/// `48 s`, `4 min 12 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 9.95 => format!("{seconds:.1} s"),
        (0, 0, s) => format!("{s} s"),
        (0, min, s) => format!("{min} min {s:02} s"),
        (h, min, _) => format!("{h} h {min:02} min"),
    }
}

/// The same for tables: `4.7s`, `48s`, `4m12s`, `2h05m`.
pub(crate) fn brief(seconds: f64) -> String {
    let text = duration(seconds).replace(" min", "m").replace(" s", "s").replace(" h", "h");
    text.replace(' ', "")
}

/// A whole number in groups of three digits: `12,400`.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// The text in parts of at most `room` characters, nothing left out: each ends with a blank if one is
/// near.
pub(super) fn broken(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut rest: Vec<char> = text.chars().collect();
    let mut parts = Vec::new();
    while rest.len() > room {
        let near = room - room / 3;
        let blank = (near..room).rev().find(|&at| rest[at] == ' ');
        let after = rest.split_off(blank.map_or(room, |at| at + 1));
        parts.push(rest.into_iter().collect());
        rest = after;
    }
    parts.push(rest.into_iter().collect());
    parts
}

/// The text after its head, in as many lines as the width asks for, all under the first one.
pub(super) fn hung(head: &str, margin: usize, text: &str, style: &Style) -> String {
    let room = style.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(margin).max(20));
    let parts = broken(text, room);
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    head.to_owned() + &parts.join(&format!("\n{}", " ".repeat(margin)))
}

/// The parts after a head with dots between them, in as many lines as the width asks for; no part
/// is broken.
pub(crate) fn dotted(head: &str, parts: impl Iterator<Item = String>, style: &Style) -> String {
    let room = style.width.map_or(usize::MAX, usize::from);
    let (mut out, mut used) = (head.to_owned(), head.chars().count());
    let mut parts = parts.enumerate().peekable();
    while let Some((at, part)) = parts.next() {
        let wide = part.chars().count();
        let dot = if parts.peek().is_some() { " ·".chars().count() } else { 0 };
        if at > 0 && used + 3 + wide + dot > room {
            out += " ·\n  ";
            used = 2;
        } else if at > 0 {
            out += " · ";
            used += 3;
        }
        out += &part;
        used += wide;
    }
    out
}

/// A line in as many lines as the width asks for; those after the first begin at `margin`.
pub(crate) fn folded(line: &str, margin: usize, style: &Style) -> String {
    let at = line.char_indices().nth(margin).map_or(line.len(), |(at, _)| at);
    let (head, text) = line.split_at(at);
    hung(head, margin, text, style)
}

/// The first characters of a text; the last one shows that there are more.
pub(super) fn beginning(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

/// The verdict of selection in two or three words.
pub(super) fn reason(reason: SelectionReason) -> &'static str {
    match reason {
        SelectionReason::Kept => "kept",
        SelectionReason::KeptRandom => "kept at random",
        SelectionReason::KeptOracle => "kept by gold",
        SelectionReason::Unscorable => "no reward",
        SelectionReason::Truncated => "cut off",
        SelectionReason::NoAnswer => "no answer",
        SelectionReason::BelowFloor => "under the floor",
        SelectionReason::Duplicate => "duplicate",
        SelectionReason::BelowKeep => "not top k",
        SelectionReason::OddAnswer => "odd answer",
        SelectionReason::ByChance => "by chance",
        SelectionReason::AnswerQuota => "answer's share",
        SelectionReason::TooFewTasks => "too few tasks",
        SelectionReason::TooFewRows => "too few rows",
        SelectionReason::OverQuota => "over the quota",
        SelectionReason::NotDrawn => "not drawn",
        SelectionReason::Wrong => "wrong",
    }
}

/// The beginning of a hash, enough to tell policies apart.
pub(super) fn short(hash: &str) -> String {
    hash.chars().take(10).collect()
}

/// Whether a terminal does something else with the character than to show it.
pub fn acts_on_terminals(c: char) -> bool {
    // Direction overrides reorder what stands around them.
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text on one line, with nothing that a terminal would act on: model output may contain anything.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push(' '),
            c if acts_on_terminals(c) => {
                write!(out, "{}", c.escape_unicode()).expect("writing to a string can't fail");
            }
            c => out.push(c),
        }
    }
    out
}

/// One line of a report and its end.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($arg:tt)*) => {{ $out.push_str(&format!($($arg)*)); $out.push('\n') }};
}
pub(super) use line;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent_interval(0.912, 0.8839, 0.935), "91.2 [88.4, 93.5]");
        assert_eq!(points(-1.25, -3.0, 0.54), "-1.2 [-3.0, +0.5]");
        let spoken = [0.04, 9.9, 9.96, 59.6, 61.0, 3599.9, 7500.0].map(duration);
        assert_eq!(
            spoken,
            ["0.0 s", "9.9 s", "10 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 05 min"]
        );
        assert_eq!([0.04, 10.0, 61.0, 7500.0].map(brief), ["0.0s", "10s", "1m01s", "2h05m"]);
        assert_eq!([0.0, 2.04e-6].map(difference), ["exact", "2e-6"]);
    }

    #[test]
    fn text_is_broken_at_blanks_that_are_near() {
        assert_eq!(broken("one two three", 9), ["one two ", "three"]);
        assert_eq!(broken("a incomprehensibilities", 9), ["a incompr", "ehensibil", "ities"]);
        assert_eq!(broken("", 5), [""]);
    }

    #[test]
    fn a_beginning_shows_that_it_is_one() {
        assert_eq!((beginning("äbcd", 4), beginning("äbcde", 4)), ("äbcd".into(), "äbc…".into()));
    }

    #[test]
    fn whole_numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 12_400, 1_234_567].map(whole),
            ["0", "999", "1,000", "12,400", "1,234,567"]
        );
    }

    #[test]
    fn model_output_cannot_command_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\r\n\tc\u{202e}é"), "a\\u{1b}[2Jb\\u{d}⏎ c\\u{202e}é");
        assert_eq!(Style { color: false, width: None }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { color: true, width: None }.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
