//! Every table and view of the store with its columns in words, from the migrations' comments.
//!
//! It reads what the migrations use: `CREATE TABLE`, `CREATE VIEW` and `ALTER TABLE … ADD COLUMN` with
//! one column a line and a comment after it (in `ALTER TABLE` within it, so that SQLite keeps it); a
//! later definition of a name replaces an earlier one.

use super::open::MIGRATIONS;

/// The table in which the driver notes which migrations the file has had.
pub const BOOKKEEPING_TABLE: &str = "_sqlx_migrations";

/// Comments of migrations in other words. A migration that stores have applied can't be edited.
const REWORDED: [(&str, &str); 14] = [
    ("reward, random, oracle, easy-only", "reward, format, random, oracle, easy-only"),
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

/// A table or a view of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// As SQL names it.
    pub name: String,
    /// Whether it is a view.
    pub is_view: bool,
    /// What a row is.
    pub about: String,
    /// In order.
    pub columns: Vec<Column>,
}

/// A column of a table or a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As SQL names it, in quotes if it needs them.
    pub name: String,
    /// Type and constraints; empty for a view's.
    pub kind: String,
    /// What it holds.
    pub about: String,
}

fn reworded(text: &str) -> String {
    REWORDED.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Every table and view, in the order of their definitions.
pub fn relations() -> Vec<Relation> {
    let migrations = MIGRATIONS.map(|(_, _, sql)| sql).concat();
    let mut relations = parsed(&migrations);
    for relation in &mut relations {
        relation.about = reworded(&relation.about);
        for column in &mut relation.columns {
            column.about = reworded(&column.about);
        }
    }
    relations
}

fn parsed(migrations: &str) -> Vec<Relation> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_described() {
        let relations = relations();
        for relation in &relations {
            assert!(!relation.about.is_empty() && !relation.columns.is_empty(), "{}", relation.name);
            for column in &relation.columns {
                assert!(!column.about.is_empty(), "{}.{}", relation.name, column.name);
            }
        }
        let named = |name: &str| relations.iter().find(|r| r.name == name).unwrap();
        let names = |name: &str| named(name).columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>();
        assert!(!named("tasks").is_view && named("tree_document").is_view);
        assert_eq!(names("parity")[..3], ["run", "iteration", "unit"]);
        assert!(names("scorings").contains(&"spec"), "added later");
        assert!(names("trajectory_text").contains(&"\"right\""));
        assert_eq!(named("scorings").about, "One scoring pass: who scored, and when.");
    }
}
