//! `autodidact skill`: a document for agents that run the commands. Usage, options and examples
//! are those of the command line itself, so that they can't differ from it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, Command};

use super::help;
use super::terminal::print;

/// The document without what the command line knows.
const FRAME: &str = include_str!("skill.md");

/// What each command prints with `--json`, or instead of it. Commands with subcommands have none.
const SHAPES: &[(&str, &str)] = &[
    (
        "run",
        "JSON lines while it works. Each has `event` and `time`: `started`, `planned`, `phase`, `progress`, `phase_done`, \
         `iteration_done`, `waiting`, `warning`. The last line is `report`, `stopped` (exit code 3) or `error` \
         (exit code 1). `report` and `stopped` hold in `report` what `inspect run --json` prints.",
    ),
    ("init", "A sentence; `--json` changes nothing."),
    (
        "eval",
        r#"`{"policy_hash", "policy", "split", "figures", "constant", "readable", "answers"}`; each figure is `{"decoding", "metric", "level", "n", "value", "lo", "hi"}`, with `level` null for all levels together."#,
    ),
    (
        "generate",
        r#"JSON lines, also into a pipe without `--json`: `{"line", "sample", "prompt_ids", "text", "token_ids", "logprobs", "finish", "answer", "scores"}`; `line` counts from 1. A line that couldn't be asked is `{"line", "error"}`, and the exit code is 1 then."#,
    ),
    (
        "chat",
        r#"JSON lines, one for each message on standard input: `{"message", "reply", "tokens", "finish"}`"#,
    ),
    (
        "logprobs",
        r#"Always JSON lines: `{"line", "ids", "from", "logprobs", "sum"}`; the first log-probability is of the token at `from`."#,
    ),
    (
        "grade",
        r#"Always JSON lines: `{"claimed", "correct", "why"}`; `correct` is null without an answer to compare with."#,
    ),
    (
        "inspect runs",
        r#"`{"runs"}`; each run has `run`, `arm`, `state`, `iterations_done`, `heldout_base`, `heldout`, `kept` and `seconds`."#,
    ),
    (
        "inspect run",
        r#"`{"run", "arm", "state", "state_reason", "worker", "seed", "iterations_planned", "config_hash", "base_policy_hash", "engine_version", "seconds", "iterations", "gain", "caution", "controls"}`; each iteration has `policy_hash`, `promoted`, `heldout` {`n`, `pass1`, `lo`, `hi`}, `gate`, `trajectories` and `kept`."#,
    ),
    (
        "inspect iteration",
        r#"The fields of an iteration of `inspect run`, and `{"phases", "selection", "tasks", "scores", "critics", "evaluations", "examples"}`."#,
    ),
    (
        "inspect trajectory",
        r#"`{"trajectory", "run", "iteration", "task", "policy_hash", "answer", "correct", "tokens", "thoughts", "scores", "selections", "steps"}`; thoughts form a tree by `parent`."#,
    ),
    (
        "inspect trajectories",
        r#"`{"items", "total", "next"}`; pass `next` to `--after` for the next page, null after the last."#,
    ),
    (
        "inspect task",
        r#"`{"run", "task", "kind", "split", "level", "question", "gold", "solution", "attempts"}`"#,
    ),
    ("inspect steps", r#"`{"run", "steps"}`"#),
    (
        "inspect events",
        r#"`{"run", "arm", "state", "events", "phases"}`; each event has `at`, `kind`, `rule` and `message`."#,
    ),
    (
        "inspect sql",
        r#"An array of objects with the query's columns; an answer that was cut is `{"truncated": true, "limit": "10 rows", "rows": […]}`."#,
    ),
    ("inspect datasette", r#"`{"metadata", "command"}`"#),
    ("export policy", r#"`{"policy_hash", "policy", "out", "notes"}`"#),
    ("verify", r#"`{"ok", "digest", "problems", "checked", "orphans"}`; exit code 1 if `ok` is false."#),
    ("gc", r#"`{"removed", "bytes", "orphans"}`"#),
    ("doctor", r#"An object with `{"problems"}` and what was measured; exit code 1 if there are problems."#),
    ("pretrain", "Sentences; `--json` changes nothing."),
    ("completions", "A script for the shell; `--json` changes nothing."),
    ("skill", "This document; `--json` changes nothing."),
];

/// Prints the document.
pub(super) fn perform() -> Result<ExitCode> {
    print(&document())?;
    Ok(ExitCode::SUCCESS)
}

fn document() -> String {
    let mut root = help::command();
    // What clap adds itself (`--help`, options for all) is there only once it has built the tree.
    root.build();
    let options: String = root.get_arguments().map(described).collect();
    let commands: String = root.get_subcommands().map(|sub| section(sub, "")).collect();
    FRAME
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{options}}", options.trim_end())
        .replace("{{commands}}\n", commands.trim_start())
}

/// A command with its subcommands, each a heading of its full name.
fn section(command: &Command, above: &str) -> String {
    let path = format!("{above} {}", command.get_name()).trim_start().to_owned();
    if path.starts_with("help") || path.ends_with(" help") {
        return String::new();
    }
    if command.has_subcommands() {
        let subs = command.get_subcommands().map(|sub| section(sub, &path));
        let about = format!("\n### autodidact {path}\n\n{}.\n", about(command));
        return about + &subs.collect::<String>();
    }
    let usage = command.clone().render_usage().to_string();
    let mut out =
        format!("\n### autodidact {path}\n\n{}.\n\n```text\n{}\n```\n", about(command), usage.trim());
    if let Some((_, shape)) = SHAPES.iter().find(|(known, _)| *known == path) {
        out += &format!("\nJSON: {shape}\n");
    }
    let own = command.get_arguments().filter(|arg| !arg.is_global_set() && !is_clap(arg));
    let own: String = own.map(described).collect();
    out += if own.is_empty() { "" } else { "\n" };
    out += &own;
    let examples = help::examples(&path).iter().map(|(line, what)| format!("{line}  # {what}\n"));
    out + &format!("\n```sh\n{}```\n", examples.collect::<String>())
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn is_clap(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

/// A line of a list: the argument as it is typed, its values, and what it does.
fn described(arg: &Arg) -> String {
    if arg.is_hide_set() {
        return String::new();
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let has_values = arg.get_num_args().is_some_and(|range| range.takes_values()) && !values.is_empty();
    let values = if has_values { format!(" ({})", values.join(", ")) } else { String::new() };
    let typed = arg.to_string();
    let short =
        arg.get_short().filter(|_| !arg.is_positional()).map(|c| format!("`-{c}`, ")).unwrap_or_default();
    format!("- {short}`{typed}`{values}: {help}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_document_with_what_it_prints() {
        fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
                if sub.has_subcommands() { leaves(sub, &path, found) } else { found.push(path) }
            }
        }
        let (text, mut found) = (document(), Vec::new());
        leaves(&help::command(), "", &mut found);
        for path in &found {
            assert!(text.contains(&format!("\n### autodidact {path}\n")), "{path} is not in the document");
            assert!(SHAPES.iter().any(|(known, _)| known == path), "add what `{path}` prints to SHAPES");
        }
        assert_eq!(found.len(), SHAPES.len(), "a shape of a command that is not there");
        assert!(!text.contains("{{") && !text.contains("help help"), "{text}");
        for flag in ["`--control <ARM>`", "`--set <KEY=VALUE>`", "`-C`, `--directory <DIR>`", "`--rows <N>`"]
        {
            assert!(text.contains(flag), "{flag}");
        }
    }
}
