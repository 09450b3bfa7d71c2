//! The README's promises: every configuration key is documented, every command it shows exists.

use std::collections::BTreeSet;
use std::path::Path;

use autodidact::config::{Config, DEFAULT_TOML};

use crate::sandbox::Sandbox;

fn readme() -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).ok()
}

/// `section.key` of every value.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let values = table.iter().flat_map(|(section, value)| match value {
        toml::Value::Table(inner) => keys(inner).into_iter().map(|key| format!("{section}.{key}")).collect(),
        _ => vec![section.clone()],
    });
    values.collect()
}

#[test]
fn every_configuration_key_is_documented() {
    let config = Config::load(None, &[]).expect("the defaults are valid");
    let known = keys(&toml::Table::try_from(&config).expect("a configuration is a table"));
    let documented = keys(&DEFAULT_TOML.parse().expect("default.toml is TOML"));
    let reference = readme().unwrap_or_default();
    let missing: Vec<&String> =
        known.iter().filter(|key| !documented.contains(*key) && !reference.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "neither in default.toml nor in README.md: {missing:?}");
}

/// The arguments of every `autodidact …` line in the README's code blocks, without comments and continuations.
fn commands(readme: &str) -> Vec<Vec<String>> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in readme.replace("\\\n", " ").lines().map(str::trim) {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            let line = line.split(" #").next().unwrap_or("");
            let words: Vec<&str> = line.split_whitespace().collect();
            // `$ autodidact run`, `NAME=1 ./target/release/autodidact run`: whatever comes before has no verb.
            let program = words.iter().position(|w| *w == "autodidact" || w.ends_with("/autodidact"));
            let is_command =
                |at: &usize| words[..*at].iter().all(|w| matches!(*w, "$" | "time") || w.contains('='));
            if let Some(at) = program.filter(is_command) {
                let ends = |w: &&&str| !matches!(**w, "|" | ">" | "&&" | ";" | "<" | ">>");
                found.push(words[at + 1..].iter().take_while(ends).map(|w| w.to_string()).collect());
            }
        }
    }
    found
}

/// Whether clap's help lists `name` as a command.
fn lists_command(help: &str, name: &str) -> bool {
    let commands = help.lines().skip_while(|line| line.trim() != "Commands:").skip(1);
    let mut commands = commands.take_while(|line| line.is_empty() || line.starts_with(' '));
    commands.any(|line| line.split_whitespace().next() == Some(name))
        || help.lines().any(|line| line.contains("[aliases:") && aliases(line).contains(&name))
}

/// The names in `[aliases: a, b]`.
fn aliases(line: &str) -> Vec<&str> {
    let list = line.split("[aliases:").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
    list.split(',').map(str::trim).collect()
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme =
        readme().expect("README.md is missing: write it, with the commands a user needs in code blocks");
    let commands = commands(&readme);
    assert!(!commands.is_empty(), "README.md shows no `autodidact …` command in a code block");
    let sandbox = Sandbox::new();
    let help = |path: &[&str]| sandbox.run(&[path, &["--help"]].concat()).success();
    let mut problems = Vec::new();
    for command in commands {
        // Follow the subcommands as far as the help lists any, then look for the flags.
        let mut path: Vec<&str> = Vec::new();
        let mut text = help(&[]);
        for word in command.iter().take_while(|word| !word.starts_with('-')) {
            if lists_command(&text, word) {
                path.push(word);
                text = help(&path);
            } else if text.contains("<COMMAND>") || path.is_empty() {
                problems.push(format!("`{}`: no command `{word}`", command.join(" ")));
                break;
            } else {
                break;
            }
        }
        for flag in command.iter().filter(|word| word.starts_with("--")) {
            let name = flag.split('=').next().unwrap_or(flag);
            let known = text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == name);
            if name != "--" && !known {
                problems.push(format!("`{}`: no flag `{name}`", command.join(" ")));
            }
        }
    }
    assert!(problems.is_empty(), "README.md shows what doesn't exist:\n  {}", problems.join("\n  "));
}

#[test]
fn commands_are_found_in_code_blocks_alone() {
    let readme = "autodidact prose\n```sh\n$ autodidact run --seed 1 # go\nX=1 ./a/autodidact inspect \\\n  runs | less\ncd autodidact\n```\n";
    assert_eq!(commands(readme), [vec!["run", "--seed", "1"], vec!["inspect", "runs"]]);
    let help = "Usage: autodidact [COMMAND]\n\nCommands:\n  run    Start [aliases: resume]\n  eval   Measure\n\nOptions:\n  -h";
    for (name, known) in [("run", true), ("eval", true), ("resume", true), ("Options:", false), ("x", false)]
    {
        assert_eq!(lists_command(help, name), known, "{name}");
    }
}
