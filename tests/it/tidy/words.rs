//! Plain English: phrases that may not occur in what people read, each with its better word.
//!
//! Looked at: README, CHANGELOG, `docs/`, prompts, migrations, the commented configuration, and
//! comments and strings of Rust code. Text between backticks is code and isn't looked at.

use std::path::Path;

use super::none;
use super::readme::documents;
use super::source::sources;

/// Phrase, in lower case, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("a build before", "an earlier build"),
    ("alone", "only"),
    ("anew", "again"),
    ("behind", "after"),
    ("beside", "with, next to, in addition to"),
    ("besides", "in addition to"),
    ("builds before", "earlier builds"),
    ("by bf16", "in bf16"),
    ("by f32", "in f32"),
    ("go on with", "resume, continue"),
    ("goes on with", "resumes, continues"),
    ("goes round", "repeats"),
    ("gone on with", "resumed, continued"),
    ("hang on", "depend on"),
    ("hangs on", "depends on"),
    ("how-manieth", "ordinal"),
    ("is never let", "never"),
    ("of its own", "own, separate"),
    ("of their own", "own, separate"),
    ("says", "states, reports, returns"),
    ("so many", "n, this many"),
    ("told", "passed, reported"),
    ("way back", "backward pass"),
    ("what is said", "the completion"),
    ("what was said", "the completion"),
];

/// Where phrases stay, and why.
const STAYS: &[(&str, &[&str], &str)] = &[
    (
        "migrations/0001_ground_state.sql",
        &["alone", "beside", "hang on", "how-manieth", "says", "told"],
        "stores have applied it, and compare its checksum",
    ),
    (
        "migrations/0002_views_and_search.sql",
        &["what was said"],
        "stores have applied it, and compare its checksum",
    ),
    (
        "prompts/",
        &["alone", "of its own", "says"],
        "an instruction to the model, whose hash is part of a run's identity",
    ),
    (
        "crates/store/src/describe.rs",
        &["alone", "beside", "hang on", "how-manieth", "says", "told", "what was said"],
        "it quotes the migrations to put them in other words",
    ),
    ("src/data/files/tests/overlap.rs", &["beside"], "a question whose hash decides its split"),
    ("src/text/tests.rs", &["alone"], "it quotes a prompt"),
];

/// Path and lines of everything that is looked at.
fn texts() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = documents();
    for (folder, extension) in [("prompts", "jinja"), ("migrations", "sql"), ("src/config", "toml")] {
        for path in root.join(folder).read_dir().expect("a folder").map(|entry| entry.expect("a file").path())
        {
            if path.extension().is_some_and(|e| e == extension) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
                files.push((format!("{folder}/{name}"), text));
            }
        }
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    let mut texts: Vec<_> = files.iter().map(|(path, text)| (path.clone(), lines(text))).collect();
    for source in ["src", "crates", "benches"].into_iter().flat_map(sources) {
        texts.push((source.path.clone(), prose(&source.lines.join("\n"))));
    }
    texts
}

/// The lines of a Rust file with nothing but its comments and strings in them.
fn prose(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let (mut out, mut i) = (String::new(), 0);
    while i < chars.len() {
        let hashes = (i + 1..).take_while(|&k| at(k) == '#').count();
        let is_raw = at(i) == 'r' && at(i + 1 + hashes) == '"' && !(i > 0 && at(i - 1).is_alphanumeric());
        let (start, end) = match (at(i), at(i + 1)) {
            ('/', '/') => (i, (i..).find(|&k| at(k) == '\n').unwrap_or(i)),
            ('/', '*') => {
                (i, (i + 2..chars.len()).find(|&k| at(k) == '*' && at(k + 1) == '/').unwrap_or(chars.len()))
            }
            (_, _) if is_raw => {
                let closes = |&k: &usize| at(k) == '"' && (1..=hashes).all(|h| at(k + h) == '#');
                let start = i + 2 + hashes;
                (start, (start..chars.len()).find(closes).unwrap_or(chars.len()))
            }
            ('"', _) => (i + 1, end_of_string(&chars, i + 1)),
            // A quote or a backslash as a character.
            ('\'', '\\') => (i + 3, i + 3),
            ('\'', _) if at(i + 2) == '\'' => (i + 2, i + 2),
            (c, _) => {
                out.extend((c == '\n').then_some('\n'));
                i += 1;
                continue;
            }
        };
        let end = end.min(chars.len());
        // Words of separate strings in a line must not meet.
        out.extend(chars[start.min(end)..end].iter().chain([&'"']));
        i = end + usize::from(at(end) != '\n');
    }
    out.lines().map(str::to_owned).collect()
}

/// Where the string that begins at `start` is closed.
fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut i = start;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i
}

/// A line without its code between backticks, in lower case.
fn plain(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let closed = parts.len() % 2 == 1;
    let prose = parts.iter().enumerate().filter(|(i, _)| i % 2 == 0 || (!closed && *i == parts.len() - 1));
    prose.map(|(_, part)| *part).collect::<Vec<_>>().join("`").to_lowercase()
}

/// The phrases that begin in a line; they may end in the next one.
fn phrases(line: &str, next: &str) -> Vec<&'static (&'static str, &'static str)> {
    let line = plain(line.trim_end());
    let next = plain(next.trim_start_matches(|c: char| c.is_whitespace() || "/!#->*".contains(c)));
    let joined = format!("{line} {next}");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let occurs = |phrase: &str| {
        joined.match_indices(phrase).any(|(at, _)| {
            let before = joined[..at].chars().next_back();
            let after = joined[at + phrase.len()..].chars().next();
            at < line.len() && !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    PHRASES.iter().filter(|(phrase, _)| occurs(phrase)).collect()
}

fn stays(path: &str, phrase: &str) -> bool {
    STAYS.iter().any(|(start, phrases, _)| path.starts_with(start) && phrases.contains(&phrase))
}

#[test]
fn everything_is_in_plain_english() {
    let mut found = Vec::new();
    for (path, lines) in texts() {
        for (i, line) in lines.iter().enumerate() {
            let next = lines.get(i + 1).map_or("", String::as_str);
            for (phrase, better) in phrases(line, next).into_iter().filter(|(p, _)| !stays(&path, p)) {
                found.push(format!("{path}:{}: \"{phrase}\"; better: {better}", i + 1));
            }
        }
    }
    none(found, "phrases with better words");
}

#[test]
fn exceptions_are_needed() {
    let texts = texts();
    let needed = |start: &str, phrase: &str| {
        let lines = texts.iter().filter(|(path, _)| path.starts_with(start)).flat_map(|(_, lines)| lines);
        lines.into_iter().any(|line| phrases(line, "").iter().any(|(found, _)| *found == phrase))
    };
    let of = |&(start, phrases, _): &(&'static str, &'static [&'static str], &str)| {
        phrases.iter().map(move |phrase| (start, *phrase)).collect::<Vec<_>>()
    };
    let idle = STAYS.iter().flat_map(of).filter(|(start, phrase)| !needed(start, phrase));
    none(idle.map(|(start, phrase)| format!("{start}: {phrase}")).collect(), "exceptions without a case");
}

#[test]
fn phrases_are_found_where_people_read() {
    let names =
        |line: &str, next: &str| -> Vec<&str> { phrases(line, next).iter().map(|(p, _)| *p).collect() };
    assert_eq!(names("It is TOLD so many times, `beside`.", ""), ["so many", "told"]);
    assert_eq!(names("/// which hangs", "/// on the address"), ["hangs on"]);
    assert!(names("the untold alones", "beside").is_empty());
    let code = "let told = 'x'; // beside\nlet s = \"so \\\" many\"; let r = r#\"a\nnew\"#; let c = '\"'; told();\n/* anew */";
    let lines = prose(code);
    assert_eq!(names(&lines[0], ""), ["beside"]);
    assert!(names(&lines[1], "").is_empty() && names(&lines[2], "").is_empty(), "{lines:?}");
    assert_eq!(names(&lines[3], ""), ["anew"]);
}
