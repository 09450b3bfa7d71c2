//! Source files as the tidy rules see them. The code is formatted by rustfmt, which makes lines enough to go by.

use std::path::Path;

pub(super) struct Source {
    /// Relative to the repository, with forward slashes.
    pub path: String,
    /// What the file belongs to: a folder of `src/` or of `crates/nn/src/`, or another crate.
    pub room: String,
    pub lines: Vec<String>,
}

/// Every Rust file below `folder` of the repository, in order of path; none if the folder doesn't exist.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir() else { continue };
        for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let relative = path.strip_prefix(root).expect("it is below the root");
                let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
                found.push(Source::new(&parts.join("/"), &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let room = match parts.as_slice() {
            ["crates", "nn", _, room, ..] | ["crates", "domain", _, room @ "profile", ..] => room,
            ["crates", room, ..] | [_, room, ..] => room,
            _ => path,
        };
        let room = room.trim_end_matches(".rs").to_owned();
        Self { path: path.to_owned(), room, lines: text.lines().map(str::to_owned).collect() }
    }

    /// `main.rs` and the `lib.rs` of crates of several rooms, which belong to no room.
    pub(super) fn is_root(&self) -> bool {
        matches!(self.path.as_str(), "src/main.rs" | "src/lib.rs" | "crates/nn/src/lib.rs")
    }

    /// Whether `crate::` names rooms there: in a crate of one room it names the room's own modules.
    fn has_rooms_below_its_root(&self) -> bool {
        self.path.starts_with("src/") || self.path.starts_with("crates/nn/")
    }

    /// A file of tests: below `tests/`, or `tests.rs`, or `…_tests.rs`, or of the crate that only tests use.
    pub(super) fn is_test(&self) -> bool {
        self.path.starts_with("crates/testing/")
            || self
                .path
                .split('/')
                .any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
    }

    /// The numbered lines of code, without comments and tests.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = if self.is_test() { &[][..] } else { &self.lines[..] };
        // The indentation of the test-only item being skipped.
        let mut skipping: Option<&str> = None;
        let mut attributes = false;
        lines.iter().enumerate().filter_map(move |(i, line)| {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            if let Some(outer) = skipping {
                let one_line = attributes && !code.starts_with("#[") && code.ends_with([';', '}']);
                attributes &= code.starts_with("#[");
                if one_line || (indent == outer && code.starts_with('}')) {
                    skipping = None;
                }
                return None;
            }
            if code.starts_with("#[cfg(test)]") {
                (skipping, attributes) = (Some(indent), true);
                return None;
            }
            (!code.starts_with("//")).then_some((i + 1, line.as_str()))
        })
    }

    /// Line and name of every room that a path names.
    pub(super) fn imported_rooms(&self) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = self
            .code()
            .flat_map(|(number, line)| {
                let crates = line.match_indices("autodidact_").map(|(at, prefix)| &line[at + prefix.len()..]);
                crates.map(move |rest| match rest.strip_prefix("domain::profile") {
                    Some(_) => (number, "profile".to_owned()),
                    None => (number, identifier(rest)),
                })
            })
            .collect();
        if !self.has_rooms_below_its_root() {
            return found;
        }
        // Statements may go over several lines, so braces are looked for in the text from there on.
        let code: Vec<(usize, &str)> = self.code().collect();
        for (at, (number, line)) in code.iter().enumerate() {
            for (start, _) in line.match_indices("crate::") {
                let rest = &line[start + "crate::".len()..];
                let names = match rest.strip_prefix('{') {
                    Some(rest) => {
                        let following = code[at + 1..].iter().map(|(_, line)| *line);
                        group_heads(&std::iter::once(rest).chain(following).collect::<Vec<_>>().join("\n"))
                    }
                    None => vec![identifier(rest)],
                };
                found.extend(names.into_iter().map(|name| (*number, name)));
            }
            for supers in line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))) {
                let depth = supers.matches("super::").count();
                if depth >= self.depth() && supers.starts_with("super::") {
                    found.push((*number, identifier(supers.trim_start_matches("super::"))));
                }
            }
        }
        found
    }

    /// Whether a comment for readers of the documentation stands above the line with this index, and
    /// above its attributes.
    pub(super) fn is_documented(&self, index: usize) -> bool {
        let above = self.lines[..index].iter().rev().map(|line| line.trim_start());
        let mut above = above.skip_while(|line| line.starts_with("#[") || line.ends_with(")]"));
        above.next().is_some_and(|line| line.starts_with("///"))
    }

    /// How many `super` lead to the crate's root.
    fn depth(&self) -> usize {
        let below_src = self.path.split('/').skip_while(|part| *part != "src").count() - 1;
        if self.path.ends_with("/mod.rs") { below_src - 1 } else { below_src }
    }

    /// First line, name and number of lines of every function, tests included.
    pub(super) fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let head = code.split("fn ").next().unwrap_or("");
            let words = head.split_whitespace().all(|w| {
                matches!(w, "const" | "async" | "unsafe" | "extern" | "\"C\"") || w.starts_with("pub")
            });
            let Some(name) = code.strip_prefix(head).and_then(|c| c.strip_prefix("fn ")).filter(|_| words)
            else {
                continue;
            };
            let closing = format!("{indent}}}");
            let ends_here = code.ends_with(['}', ';']);
            let length = self.lines[i..].iter().position(|l| ends_here || *l == closing).map_or(1, |n| n + 1);
            found.push((i + 1, identifier(name), length));
        }
        found
    }
}

/// The first names of `{a::b, c::{d, e}}`, given without its opening brace.
fn group_heads(text: &str) -> Vec<String> {
    let (mut depth, mut heads, mut at_start) = (0, Vec::new(), true);
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                heads.push(identifier(&text[i..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
