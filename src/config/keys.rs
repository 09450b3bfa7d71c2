//! The keys that a user gave, laid over the defaults one by one: so every wrong one is named, with
//! where it stands, in one error.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use toml::{Table, Value};

use super::Config;
use crate::data::TaskFormat;

/// Most edits between an unknown key and one that is suggested for it.
const EDITS_MAX: usize = 3;

/// A key with its value, and where it was given.
pub(super) struct Given {
    /// As in `run.seed`.
    pub key: String,
    pub value: Value,
    /// `line 3`, or `--set run.seed=x`.
    pub place: String,
}

/// The keys of a configuration file.
///
/// # Errors
/// The text is not TOML.
pub(super) fn of_file(text: &str, adjust: impl FnOnce(&mut Table)) -> Result<Vec<Given>> {
    let invalid = "the configuration is not valid TOML";
    let mut table: Table = text.parse().context(invalid)?;
    adjust(&mut table);
    let mut lines = BTreeMap::new();
    let spans = toml::de::DeTable::parse(text).context(invalid)?;
    note_lines(text, spans.get_ref(), "", &mut lines);
    let mut given = Vec::new();
    flatten(table, "", &mut |key, value| {
        let place = lines.get(&key).map_or_else(String::new, |line| format!("line {line}"));
        given.push(Given { key, value, place });
    });
    given.sort_by_key(|given| lines.get(&given.key).copied());
    Ok(given)
}

/// A key of the command line or the environment. Its value is TOML, or else text; where the default
/// is text, a number or a date is the text that was written.
pub(super) fn of_pair(defaults: &Table, key: &str, value: &str) -> Vec<Given> {
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let text = || Value::String(value.to_owned());
    let is_text = find(defaults, key).is_some_and(Value::is_str);
    let given = match parsed {
        // The text is what was meant: `run.dir=20240726`, `model.path=true`.
        Some(scalar) if is_text && !(scalar.is_str() || scalar.is_array()) => text(),
        Some(parsed) => parsed,
        None => text(),
    };
    let place = format!("in the setting `{key}={value}`");
    let mut pairs = Vec::new();
    match given {
        Value::Table(table) if !table.is_empty() => {
            flatten(table, key, &mut |key, value| pairs.push((key, value)))
        }
        value => pairs.push((key.to_owned(), value)),
    }
    pairs.into_iter().map(|(key, value)| Given { key, value, place: place.clone() }).collect()
}

/// Lays the key over `table`, or states what is wrong with it.
pub(super) fn lay(table: &mut Table, given: Given) -> Result<()> {
    let Given { key, value, place } = given;
    let at = if place.is_empty() { String::new() } else { format!("{place}: ") };
    let wrong = |what: String| anyhow!("{at}{what}");
    let Some(slot) = find(table, &key) else {
        return Err(wrong(format!("unknown key `{key}`{}", suggestion(table, &key))));
    };
    if let (Value::Table(section), value) = (slot, &value) {
        let keys = section.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!("`{key}` is a section, and {value} is not: its keys are {keys}")));
    }
    let value = match (slot, value) {
        // An integer given where the default is a float is that float.
        (Value::Float(_), Value::Integer(i)) => Value::Float(i as f64),
        (_, value) => value,
    };
    let mut changed = table.clone();
    put(&mut changed, &key, value.clone());
    let fits: std::result::Result<Config, _> = Value::Table(changed.clone()).try_into();
    let fits = fits.map(drop).map_err(|error| wrong(misfit(&key, slot, &value, error.message())));
    fits.map(|()| *table = changed)
}

/// What a key wants instead of this value; `error` is the reader's own complaint.
fn misfit(key: &str, default: &Value, value: &Value, error: &str) -> String {
    if key == "tasks.kind" && value.clone().try_into::<TaskFormat>().is_ok() {
        return format!(
            "tasks.kind = {value}: that is a format of files; give the file itself: tasks.kind = \"file\" and \
             tasks.file = \"FILE\" (its format is recognised)"
        );
    }
    let wants = match (default, value) {
        (Value::Integer(_), Value::Integer(_)) => "a whole number, 0 or more (and not huge)".to_owned(),
        (Value::Integer(_), _) => format!("a whole number, such as {default}"),
        (Value::Float(_), _) => format!("a number, such as {default}"),
        (Value::Boolean(_), _) => "true or false".to_owned(),
        (Value::String(_), Value::String(_)) => match error.split_once("expected ") {
            Some((_, names)) => names.trim().replace('`', "\""),
            // A room that reads its texts itself names what it reads.
            None => return format!("{key} = {value}: {error}"),
        },
        (Value::String(_), _) => format!("a text in quotes, such as {default}"),
        _ => format!("a value such as {default}"),
    };
    format!("{key} = {value}: give {wants}")
}

/// `; did you mean …?`, if a known key is near.
fn suggestion(table: &Table, key: &str) -> String {
    let mut known = Vec::new();
    flatten(table.clone(), "", &mut |key, _| known.push(key));
    known.extend(table.keys().cloned());
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let namesakes = known.iter().filter(|known| known.contains('.') && name(known) == name(key));
    let mut meant: Vec<&String> = namesakes.collect();
    if meant.is_empty() {
        let edits = |known: &str| strsim::osa_distance(known, key);
        let nearest = known.iter().map(|known| (edits(known), known)).min();
        meant.extend(nearest.filter(|(edits, _)| *edits <= EDITS_MAX).map(|(_, known)| known));
    }
    let quoted: Vec<String> = meant.iter().map(|key| format!("`{key}`")).collect();
    match quoted.as_slice() {
        [] => "; `autodidact init` writes all keys with their meaning".to_owned(),
        quoted => format!("; did you mean {}?", quoted.join(" or ")),
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
    }
}

/// Replaces the value of a key that is there.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                put(inner, rest, value);
            }
        }
    }
}

/// Every key that is no section; and a section without keys.
fn flatten(table: Table, prefix: &str, each: &mut impl FnMut(String, Value)) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, &key, each),
            Value::Table(_) => {}
            value => each(key, value),
        }
    }
}

fn note_lines(text: &str, table: &toml::de::DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let (name, at) = (key.get_ref(), key.span().start);
        let full = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        lines.insert(full.clone(), 1 + text[..at].matches('\n').count());
        if let Some(inner) = value.get_ref().as_table() {
            note_lines(text, inner, &full, lines);
        }
    }
}
