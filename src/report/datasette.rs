//! What datasette needs to show a store well: its metadata, as JSON.

use serde_json::{Map, Value, json};

use crate::store::{BOOKKEEPING_TABLE, EXAMPLES, Example, SEARCH, relations};

/// What marks metadata that this program wrote, and may write again.
pub const DATASETTE_SOURCE: &str = "autodidact inspect datasette";

/// The metadata for a database of this name: its file's name without the extension.
///
/// Tables and columns are described as in the schema. Figures have units, the views have facets, and
/// trajectories can be searched.
pub fn datasette_metadata(database: &str) -> Value {
    let mut tables: Map<String, Value> = Map::new();
    for relation in relations() {
        let columns: Map<String, Value> = relation
            .columns
            .into_iter()
            .map(|column| (column.name.trim_matches('"').to_owned(), column.about.into()))
            .collect();
        let mut table = json!({ "description": relation.about, "columns": columns });
        if let (Some(table), Value::Object(more)) = (table.as_object_mut(), display(&relation.name)) {
            table.extend(more);
        }
        tables.insert(relation.name, table);
    }
    tables.insert(BOOKKEEPING_TABLE.to_owned(), json!({ "hidden": true }));
    let queries: Map<String, Value> = EXAMPLES
        .iter()
        .chain([&SEARCH])
        .map(|Example { name, about, sql }| ((*name).to_owned(), json!({ "sql": sql, "title": about })))
        .collect();
    json!({
        "title": "autodidact: a trajectory store",
        "source": DATASETTE_SOURCE,
        "databases": { database: { "tables": tables, "queries": queries } },
    })
}

/// How a table is to be shown: names of its rows, units, facets, order, search.
fn display(table: &str) -> Value {
    match table {
        "runs" => json!({ "label_column": "key" }),
        "tasks" => json!({ "label_column": "id", "facets": ["split", "level"] }),
        "trees" => json!({ "label_column": "address", "facets": ["iteration", "purpose"] }),
        "specs" => json!({ "label_column": "name" }),
        "scorings" => json!({ "label_column": "iteration" }),
        "units" | "step_examples" => json!({ "hidden": true }),
        "phases" => json!({ "units": { "seconds": "s" } }),
        "checkpoints" => json!({ "units": { "bytes": "byte" } }),
        "promotions" => json!({ "sort": "iteration" }),
        "alarms" => json!({ "facets": ["rule", "action"], "sort_desc": "id" }),
        "events" => json!({ "facets": ["level"], "sort_desc": "id" }),
        "iteration_summary" => json!({ "units": { "seconds": "s" } }),
        "trajectory_text" => json!({
            "label_column": "task",
            "facets": ["iteration", "purpose", "kept", "right", "reason"],
            "fts_table": "tree_search",
            "fts_pk": "tree_id",
        }),
        "trajectory_tree" => json!({ "facets": ["pruned"] }),
        "tree_document" => json!({ "facets": ["iteration", "purpose"] }),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_described_and_every_example_is_a_query() {
        let metadata = datasette_metadata("store");
        let store = &metadata["databases"]["store"];
        let text = &store["tables"]["trajectory_text"];
        assert!(text["columns"]["right"].as_str().is_some_and(|about| about.contains("gold")), "{text}");
        assert_eq!((&text["fts_table"], &text["fts_pk"]), (&json!("tree_search"), &json!("tree_id")));
        assert_eq!(store["tables"][BOOKKEEPING_TABLE]["hidden"], true);
        for relation in relations() {
            let table = &store["tables"][&relation.name];
            assert_eq!(table["description"], relation.about);
            let names: Vec<&str> = relation.columns.iter().map(|c| c.name.trim_matches('"')).collect();
            for key in ["facets", "units", "label_column", "sort", "sort_desc", "fts_pk"] {
                let named: Vec<&str> = match &table[key] {
                    Value::Array(named) => named.iter().filter_map(Value::as_str).collect(),
                    Value::Object(named) => named.keys().map(String::as_str).collect(),
                    Value::String(named) => vec![named],
                    _ => Vec::new(),
                };
                assert!(named.iter().all(|name| names.contains(name)), "{}.{key}: {named:?}", relation.name);
            }
        }
        assert_eq!(store["queries"].as_object().map(Map::len), Some(EXAMPLES.len() + 1));
    }
}
