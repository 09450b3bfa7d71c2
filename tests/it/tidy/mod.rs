//! The house rules that a compiler doesn't check: floors, the places of SQL and tensors, sizes, documentation.

mod generated;
mod readme;
mod source;
mod words;

use source::{Source, sources};

/// The rooms, floor by floor. A room may import rooms of lower floors; [`ALSO`] and [`NEVER`] are the exceptions.
const FLOORS: &[&[&str]] = &[
    &["domain", "profile", "testing"],
    &["answer", "data", "text", "kernels", "ops", "model", "engine", "train", "store", "gguf", "hub"],
    &["rollout", "score", "select", "policy"],
    &["config", "eval", "improve"],
    &["report"],
    &["inspect", "cli"],
];

/// Imports within a floor.
const ALSO: &[(&str, &str)] = &[
    ("profile", "domain"),
    // A gold answer that no answer could equal is refused with its line.
    ("data", "answer"),
    // A policy is found, held and estimated by several sections at once.
    ("policy", "config"),
    ("improve", "config"),
    ("kernels", "gguf"),
    ("ops", "kernels"),
    ("model", "ops"),
    ("train", "model"),
    ("train", "ops"),
    ("engine", "model"),
    ("engine", "ops"),
    // A file format, which both read their part of.
    ("model", "gguf"),
    ("text", "gguf"),
    ("improve", "eval"),
    ("cli", "inspect"),
];

/// Imports that the floors would allow and the house does not.
const NEVER: &[(&str, &str)] = &[
    // Stages take nouns and give nouns; they do not know where those are kept.
    ("rollout", "store"),
    ("score", "store"),
    ("select", "store"),
    ("train", "store"),
    ("policy", "store"),
    // What samples and reads a policy is a `Generate`, wherever it runs.
    ("rollout", "engine"),
    ("rollout", "model"),
    ("rollout", "ops"),
    ("rollout", "train"),
    ("score", "engine"),
    ("score", "model"),
    ("score", "train"),
    ("select", "engine"),
    ("select", "model"),
    ("select", "ops"),
    ("select", "train"),
    ("eval", "engine"),
    ("eval", "model"),
    ("eval", "ops"),
    ("eval", "train"),
    ("eval", "store"),
    // Token ids and what is trained on arrive ready-made.
    ("train", "text"),
    // Reports read rows: no loop, no policy, no text, and no verdict of their own.
    ("report", "improve"),
    ("report", "engine"),
    ("report", "model"),
    ("report", "ops"),
    ("report", "train"),
    ("report", "rollout"),
    ("report", "answer"),
    ("report", "score"),
    ("report", "select"),
    ("report", "text"),
    ("report", "data"),
    ("report", "hub"),
    ("report", "config"),
    // Inspecting draws reports.
    ("inspect", "store"),
    ("inspect", "answer"),
    ("inspect", "score"),
    ("inspect", "improve"),
    ("inspect", "engine"),
    ("inspect", "model"),
    ("inspect", "ops"),
    ("inspect", "text"),
];

const TENSOR_ROOMS: &[&str] = &["ops", "model", "engine", "train"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    let (Some(from_floor), Some(to_floor)) = (floor(from), floor(to)) else { return false };
    (to_floor < from_floor || ALSO.contains(&(from, to))) && !NEVER.contains(&(from, to))
}

/// Fails with every violation at once.
fn none(violations: Vec<String>, rule: &str) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

/// The product's own files.
fn code() -> Vec<Source> {
    ["src", "crates"].into_iter().flat_map(sources).collect()
}

/// The lines of code (no comments, no tests) for which `bad` holds.
fn lines_where(bad: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let found = code().into_iter().flat_map(|source| {
        let lines: Vec<String> = source
            .code()
            .filter(|(_, line)| bad(&source, line))
            .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
            .collect();
        lines
    });
    found.collect()
}

#[test]
fn every_room_has_a_floor() {
    let rooms = code().into_iter().filter(|s| !s.is_root() && floor(&s.room).is_none());
    none(rooms.map(|s| format!("{}: room `{}`", s.path, s.room)).collect(), "add these rooms to FLOORS");
}

#[test]
fn no_import_runs_upwards_or_between_strangers() {
    let mut violations = Vec::new();
    for source in code().into_iter().filter(|s| !s.is_root()) {
        for (number, room) in source.imported_rooms() {
            // Macros and items of the crate's root are no rooms.
            if floor(&room).is_some() && !may_import(&source.room, &room) {
                violations.push(format!("{}:{number}: `{}` imports `{room}`", source.path, source.room));
            }
        }
    }
    none(violations, "imports against the floors");
}

#[test]
fn sql_is_only_in_the_store() {
    const WORDS: [&str; 9] = [
        "SELECT ",
        "INSERT INTO",
        "DELETE FROM",
        "CREATE TABLE",
        "CREATE VIEW",
        "ALTER TABLE",
        "DROP TABLE",
        "PRAGMA ",
        "sqlx",
    ];
    let found = lines_where(|s, line| s.room != "store" && WORDS.iter().any(|word| line.contains(word)));
    none(found, "SQL outside of crates/store and migrations");
}

#[test]
fn tensors_are_only_where_they_are_computed() {
    let found = lines_where(|s, line| {
        !TENSOR_ROOMS.contains(&&*s.room) && (line.contains("candle_core") || line.contains("candle_nn"))
    });
    none(found, &format!("tensor types outside of {}", TENSOR_ROOMS.join(", ")));
}

#[test]
fn only_the_doors_read_the_clock_and_the_environment() {
    const CALLS: [&str; 4] = ["SystemTime::now", "Instant::now", "env::var", "env::args"];
    let found = lines_where(|s, line| {
        !s.is_root() && s.room != "cli" && CALLS.iter().any(|call| line.contains(call))
    });
    none(found, "clock or environment read outside of main and cli");
}

#[test]
fn files_and_functions_stay_small() {
    let mut violations = Vec::new();
    for source in ["src", "crates", "tests", "benches"].into_iter().flat_map(sources) {
        if source.lines.len() > FILE_LINES_MAX {
            violations.push(format!("{}: {} lines", source.path, source.lines.len()));
        }
        let long = source.functions().into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
        violations
            .extend(long.map(|(at, name, lines)| format!("{}:{at}: `{name}`, {lines} lines", source.path)));
    }
    none(violations, &format!("files over {FILE_LINES_MAX} or functions over {FUNCTION_LINES_MAX} lines"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = ["src", "crates", "tests", "benches"].into_iter().flat_map(sources);
    let silent =
        silent.filter(|s| !s.is_test() && !s.lines.first().is_some_and(|line| line.starts_with("//!")));
    none(silent.map(|s| s.path).collect(), "files without a `//!` header");
}

/// The compiler's own lint (`missing_docs`) also asks for a comment on every field and variant, where
/// a good name needs none.
#[test]
fn public_items_are_documented() {
    let silent = code().into_iter().filter(|s| !s.is_root()).flat_map(|source| {
        let items = source.code().filter(|(_, line)| is_public_item(line.trim_start()));
        let silent = items.filter(|(number, _)| !source.is_documented(number - 1));
        silent.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect::<Vec<_>>()
    });
    none(silent.collect(), "public items without a `///` comment");
}

/// Whether the line begins an item that other crates may name. Modules have headers of their own.
fn is_public_item(line: &str) -> bool {
    let Some(item) = line.strip_prefix("pub ") else { return false };
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "unsafe", "async", "union"];
    kinds.contains(&item.split(' ').next().unwrap_or_default())
}

#[test]
fn the_rules_are_read_from_the_code() {
    // The scanner itself: it must see imports in every form, and not see tests and comments.
    let text = "//! Header\nuse crate::{domain::Task, store};\nuse super::select;\n// use crate::cli;\nfn f() {\n    \
                crate::data::x();\n}\n#[cfg(test)]\nmod tests {\n    use crate::improve;\n}\nfn g() {}\n";
    let source = Source::new("src/score/mod.rs", text);
    let rooms: Vec<String> = source.imported_rooms().into_iter().map(|(_, room)| room).collect();
    assert_eq!(rooms, ["domain", "store", "select", "data"]);
    assert_eq!(source.functions(), [(5, "f".to_owned(), 3), (12, "g".to_owned(), 1)]);
    assert!(may_import("engine", "ops") && may_import("improve", "store") && may_import("config", "score"));
    for (from, to) in
        [("ops", "model"), ("text", "engine"), ("rollout", "engine"), ("train", "store"), ("x", "domain")]
    {
        assert!(!may_import(from, to), "{from} imports {to}");
    }
}
