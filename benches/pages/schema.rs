//! `docs/schema.md`: every table and view of the store with its columns, from the migrations' comments.
//!
//! It reads what the migrations use: `CREATE TABLE`, `CREATE VIEW` and `ALTER TABLE … ADD COLUMN` with
//! one column a line and a comment after it (in `ALTER TABLE` within it, so that SQLite keeps it); a
//! later definition of a name replaces an earlier one.

use std::fmt::Write;

use super::cell;

/// Comments of migrations in other words. A migration that stores have applied can't be edited.
const REWORDED: [(&str, &str); 13] = [
    ("or of a control arm beside it", "or of one of its control arms"),
    ("the arm and its how-manieth run, e.g. 'reward/1'", "the arm and its ordinal, e.g. 'reward/1'"),
    ("that results hang on", "that results depend on"),
    ("graded labels alone", "graded labels only"),
    ("What the program told its user", "Messages of the program to its user"),
    ("One act of scoring: who scored, and when", "One scoring pass: who scored, and when"),
    ("the act of scoring it belongs to", "the scoring pass it belongs to"),
    ("what was said", "the completion"),
    ("the split says who may read it", "the split decides who may read it"),
    ("anything else says why it does not", "anything else is why it does not"),
    ("the words it was asked in", "the question in the variant's words"),
    ("the file was deleted; NULL: it is there", "the file was deleted; NULL: it exists"),
    ("everything it said", "the text of the completion"),
];

const HEADER: &str = "# The store's schema

<!-- Written by `cargo bench --bench pages` from migrations/*.sql. Don't edit it here. -->

A run is one SQLite file, `autodidact-run/store.sqlite`. Any SQLite tool opens it, also while a run is live.
`autodidact inspect sql` queries it read-only:

```sh
autodidact inspect sql \"SELECT id, task, answer, gold, reward FROM trajectory_text WHERE kept ORDER BY reward DESC LIMIT 10\"
```

Rows are appended and never changed; columns that do change are marked *changes*. Every appended row belongs to
a unit: one transaction, whose content hash covers its rows. `autodidact verify` recomputes these hashes. Token
ids are little-endian u32, log-probabilities little-endian f32, hidden states little-endian f16. Text values are
stable names. The file needs SQLite 3.37; full-text search needs FTS5.

The views `trajectory_text`, `trajectory_scores`, `trajectory_tree` and `iteration_summary` are made for reading.
`tree_search` and `task_search` are full-text indexes over the view `tree_document` and over the tasks' questions;
datasette and sqlite-utils find them. `autodidact inspect datasette` writes this page's text as datasette's metadata.
";

/// A table or a view.
struct Relation {
    name: String,
    is_view: bool,
    about: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// Type and constraints; empty for a view's.
    kind: String,
    about: String,
}

/// The whole page.
pub(super) fn page(migrations: &str) -> String {
    let relations = relations(migrations);
    let mut out = HEADER.to_owned();
    for (title, is_view) in [("Tables", false), ("Views", true)] {
        let _ = write!(out, "\n## {title}\n");
        for relation in relations.iter().filter(|r| r.is_view == is_view) {
            let _ = write!(out, "\n### {}\n\n{}\n\n", relation.name, reworded(&relation.about));
            out.push_str(match is_view {
                true => "| column | meaning |\n|---|---|\n",
                false => "| column | type | meaning |\n|---|---|---|\n",
            });
            for Column { name, kind, about } in &relation.columns {
                let kind = if is_view { String::new() } else { format!(" {} |", cell(kind)) };
                let _ = writeln!(out, "| `{name}` |{kind} {} |", cell(&reworded(about)));
            }
        }
    }
    out
}

fn reworded(text: &str) -> String {
    REWORDED.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn relations(migrations: &str) -> Vec<Relation> {
    let mut found: Vec<Relation> = Vec::new();
    let mut about = Vec::new();
    let mut lines = migrations.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("-- ") {
            about.push(text);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let text = std::mem::take(&mut about).join(" ");
        match words[..] {
            ["CREATE", kind @ ("TABLE" | "VIEW"), name, ..] => {
                let is_view = kind == "VIEW";
                let body = lines.by_ref().take_while(|line| !ends(line, is_view));
                let columns = if is_view { of_view(body) } else { body.filter_map(of_table).collect() };
                found.retain(|relation| relation.name != name);
                found.push(Relation { name: name.to_owned(), is_view, about: text, columns });
            }
            ["ALTER", "TABLE", name, "ADD", "COLUMN", ..] => {
                let rest = line.split("ADD COLUMN").nth(1).filter(|rest| !rest.trim().is_empty());
                let added = rest.or_else(|| lines.next()).and_then(of_table);
                if let Some(relation) = found.iter_mut().find(|relation| relation.name == name) {
                    relation.columns.extend(added);
                }
            }
            ["DROP", "TABLE" | "VIEW", name] => {
                found.retain(|relation| relation.name != name.trim_end_matches(';'));
            }
            ["ALTER", "TABLE", name, "RENAME", "TO", new] => {
                if let Some(relation) = found.iter_mut().find(|relation| relation.name == name) {
                    relation.name = new.trim_end_matches(';').to_owned();
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether a line is the last of a definition.
fn ends(line: &str, is_view: bool) -> bool {
    let code = line.split(" -- ").next().unwrap_or(line).trim_end();
    if is_view { code.ends_with(';') } else { code.starts_with(')') }
}

/// `name TYPE …, -- meaning` or `name TYPE … /* meaning */;`; nothing if the line is a constraint of the table.
fn of_table(line: &str) -> Option<Column> {
    let split = line.split_once(" -- ").or_else(|| line.split_once(" /* "));
    let (code, about) = split.unwrap_or((line, ""));
    let about = about.trim_end_matches(" */;");
    let code = code.trim().trim_end_matches([',', ';']);
    let (name, kind) = code.split_once(char::is_whitespace)?;
    let is_name = name.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_');
    is_name.then(|| Column {
        name: name.to_owned(),
        kind: kind.trim().to_owned(),
        about: about.trim().to_owned(),
    })
}

/// A view's columns: the lines with a comment, which end with the column's name.
fn of_view<'a>(body: impl Iterator<Item = &'a str>) -> Vec<Column> {
    let column = |line: &str| {
        let (code, about) = line.split_once(" -- ")?;
        let last = code.trim().trim_end_matches(',').rsplit([' ', '.']).next()?;
        Some(Column { name: last.to_owned(), kind: String::new(), about: about.trim().to_owned() })
    };
    body.filter_map(column).collect()
}
