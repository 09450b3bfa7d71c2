//! `docs/configuration.md`: every key of `default.toml` with its default and its comment.
//!
//! A comment that a blank line separates from the first key of a section is about the section.

use std::fmt::Write;

use super::cell;

const HEADER: &str = "# Configuration

<!-- Written by `cargo bench --bench pages` from src/config/default.toml. Don't edit it here. -->

Every key, with its default. Set a key in `autodidact.toml` (`autodidact init` writes one with these comments),
on the command line, or in the environment. The first of these that sets a key decides: `--set`, environment,
file, built-in default. Unknown keys and values out of range are refused by name.

```sh
autodidact run --set rollout.variants=4
AUTODIDACT_ROLLOUT__VARIANTS=4 autodidact run
autodidact run --config night.toml
```

A run must be resumed with the configuration that it started with. Only the keys of `run` (except `run.seed`),
`engine`, `checkpoints` and `pretrain`, and `train.checkpointing`, may change: see [resuming](operations.md#resume).
";

/// The whole page.
pub(super) fn page(defaults: &str) -> String {
    let mut out = HEADER.to_owned();
    let (mut section, mut comment, mut is_first) = ("", Vec::new(), true);
    // What comes before the first section is the file's own header.
    for line in defaults.lines().skip_while(|line| !line.starts_with('[')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, is_first) = (name, true);
            let _ = write!(out, "\n## {name}\n\n");
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some((key, value)) = line.split_once(" = ") {
            if std::mem::take(&mut is_first) {
                out.push_str("| key | default | meaning |\n|---|---|---|\n");
            }
            let text = cell(&std::mem::take(&mut comment).join(" "));
            let value = cell(value);
            let _ = writeln!(out, "| `{section}.{key}` | `{value}` | {text} |");
        } else if is_first && !comment.is_empty() {
            let _ = write!(out, "{}\n\n", std::mem::take(&mut comment).join(" "));
        }
    }
    out
}
