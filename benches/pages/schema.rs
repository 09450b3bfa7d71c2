//! `docs/schema.md`: every table and view of the store with its columns, from the migrations' comments.

use std::fmt::Write;

use autodidact::store::{Column, relations};

use super::cell;

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

/// The whole page.
pub(super) fn page() -> String {
    let relations = relations();
    let mut out = HEADER.to_owned();
    for (title, is_view) in [("Tables", false), ("Views", true)] {
        let _ = write!(out, "\n## {title}\n");
        for relation in relations.iter().filter(|r| r.is_view == is_view) {
            let _ = write!(out, "\n### {}\n\n{}\n\n", relation.name, relation.about);
            out.push_str(match is_view {
                true => "| column | meaning |\n|---|---|\n",
                false => "| column | type | meaning |\n|---|---|---|\n",
            });
            for Column { name, kind, about } in &relation.columns {
                let kind = if is_view { String::new() } else { format!(" {} |", cell(kind)) };
                let _ = writeln!(out, "| `{name}` |{kind} {} |", cell(about));
            }
        }
    }
    out
}
