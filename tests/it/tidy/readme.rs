//! The documentation's promises: every configuration key is documented, every command that is shown
//! exists, every link leads somewhere, and the README is short.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use autodidact::config::{Config, DEFAULT_TOML};

use super::generated::anchor;
use super::none;
use crate::sandbox::Sandbox;

const README_LINES_MAX: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path and text of README, CHANGELOG and every page of `docs/`.
pub(super) fn documents() -> Vec<(String, String)> {
    let folder = root().join("docs").read_dir().expect("docs/ is there");
    let names = folder.map(|entry| entry.expect("a page").file_name().to_string_lossy().into_owned());
    let pages = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let mut paths: Vec<String> = pages.chain(["README.md".into(), "CHANGELOG.md".into()]).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), text(&path))).collect()
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
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; at most {README_LINES_MAX}");
}

#[test]
fn every_configuration_key_is_documented() {
    let config = Config::load(None, &[]).expect("the defaults are valid");
    let mut known = keys(&toml::Table::try_from(&config).expect("a configuration is a table"));
    known.extend(keys(&DEFAULT_TOML.parse().expect("default.toml is TOML")));
    // The keys within `tasks.fields` are documented together.
    known.retain(|key| !key.starts_with("tasks.fields."));
    let reference = text("docs/configuration.md");
    let missing = known.into_iter().filter(|key| !reference.contains(&format!("| `{key}` |")));
    none(missing.collect(), "not in docs/configuration.md");
}

/// The lines of code blocks, continuations joined.
fn code_lines(page: &str) -> Vec<String> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in page.replace("\\\n", " ").lines().map(str::trim) {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            found.push(line.to_owned());
        }
    }
    found
}

/// The arguments of every `autodidact …` line in a page's code blocks, without comments.
fn commands(page: &str) -> Vec<Vec<String>> {
    let command = |line: &String| {
        let line = line.split(" #").next().unwrap_or("");
        let words: Vec<&str> = line.split_whitespace().collect();
        // What stands before the program in `$ autodidact run`, in `NAME=1 autodidact run`.
        let is_before = |w: &&str| matches!(*w, "$" | "time") || w.contains('=');
        let is_program = |w: &&str| *w == "autodidact" || w.ends_with("/autodidact");
        // What stands after `|` is a command, too.
        let commands = words.split(|w| matches!(*w, "|" | "&&" | ";")).filter_map(|words| {
            let at = words.iter().position(is_program)?;
            let ends = |w: &&&str| !matches!(**w, ">" | "<" | ">>");
            let args = words[at + 1..].iter().take_while(ends).map(|w| w.to_string());
            words[..at].iter().all(is_before).then(|| args.collect())
        });
        commands.collect::<Vec<Vec<String>>>()
    };
    code_lines(page).iter().flat_map(command).collect()
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

/// What is wrong with a command, if anything.
fn problem(command: &[String], mut help: impl FnMut(&[&str]) -> String) -> Option<String> {
    // Follow the subcommands as far as the help lists any, then look for the flags.
    let mut path: Vec<&str> = Vec::new();
    let mut text = help(&[]);
    for word in command.iter().take_while(|word| !word.starts_with('-')) {
        if lists_command(&text, word) {
            path.push(word);
            text = help(&path);
        } else if text.contains("<COMMAND>") || path.is_empty() {
            return Some(format!("`{}`: no command `{word}`", command.join(" ")));
        } else {
            break;
        }
    }
    let unknown = command.iter().filter(|word| word.starts_with("--") && *word != "--").find(|flag| {
        let name = flag.split('=').next().unwrap_or(flag);
        !text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == name)
    });
    unknown.map(|flag| format!("`{}`: no flag `{flag}`", command.join(" ")))
}

#[test]
fn every_command_in_the_documentation_exists() {
    let sandbox = Sandbox::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut help = |path: &[&str]| {
        let asked = || sandbox.run(&[path, &["--help"]].concat()).success();
        texts.entry(path.join(" ")).or_insert_with(asked).clone()
    };
    let mut problems = Vec::new();
    for (page, text) in documents() {
        let commands = commands(&text);
        assert!(page != "README.md" || !commands.is_empty(), "README.md shows no command");
        let wrong = commands.iter().filter_map(|command| problem(command, &mut help));
        problems.extend(wrong.map(|problem| format!("{page}: {problem}")));
    }
    none(problems, "commands that don't exist");
}

#[test]
fn every_bench_and_script_in_the_documentation_exists() {
    let manifest = text("Cargo.toml");
    let mut problems = Vec::new();
    for (page, text) in documents() {
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "`()|,;".contains(c)).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--bench") {
            if !manifest.contains(&format!("[[bench]]\nname = \"{}\"", pair[1])) {
                problems.push(format!("{page}: no bench `{}`", pair[1]));
            }
        }
        let paths = words.iter().map(|word| word.trim_end_matches(['.', ':']));
        let is_path = |w: &&str| ["benches/", "tests/", "assets/"].iter().any(|start| w.starts_with(start));
        let missing = paths.filter(is_path).filter(|path| !root().join(path).exists());
        problems.extend(missing.map(|path| format!("{page}: no file {path}")));
    }
    none(problems, "benches and files that don't exist");
}

/// The targets of a page's links, outside of code.
fn links(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    let links = prose.flat_map(|text| text.split("](").skip(1));
    links.filter_map(|link| link.split(')').next()).map(str::to_owned).collect()
}

fn anchors(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut problems = Vec::new();
    for (page, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').map_or((link.as_str(), None), |(f, p)| (f, Some(p)));
            let target: PathBuf = match file {
                "" => root().join(&page),
                file => root().join(&page).parent().expect("a page has a folder").join(file),
            };
            let is_there = match place {
                None => target.exists(),
                Some(place) => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).iter().any(|anchor| anchor == place)),
            };
            if !is_there {
                problems.push(format!("{page}: {link}"));
            }
        }
    }
    none(problems, "links to nothing");
}

#[test]
fn every_page_is_one_click_from_the_index() {
    let index = text("docs/README.md");
    let linked = links(&index);
    let pages = documents().into_iter().filter_map(|(path, _)| path.strip_prefix("docs/").map(str::to_owned));
    let missing = pages.filter(|page| page != "README.md" && !linked.contains(page));
    none(missing.collect(), "not linked from docs/README.md");
    let readme = links(&text("README.md"));
    let wanted =
        ["models", "tasks", "inspector", "operations", "export", "limits", "configuration", "performance"];
    let missing = wanted.iter().map(|page| format!("docs/{page}.md")).filter(|page| !readme.contains(page));
    none(missing.collect(), "not linked from README.md");
}

#[test]
fn commands_and_links_are_read_from_the_right_places() {
    let page = "autodidact prose\n```sh\n$ autodidact run --seed 1 # go\nX=1 ./a/autodidact inspect \\\n  runs | less\n\
                echo x | autodidact eval\ncd autodidact\n```\n## A `b`, c!\n[x](y.md#z) ![p](q.svg)\n";
    let expected = [vec!["run", "--seed", "1"], vec!["inspect", "runs"], vec!["eval"]];
    assert_eq!(commands(page), expected);
    assert_eq!(links(page), ["y.md#z", "q.svg"]);
    assert_eq!(anchors(page), ["a-b-c"]);
    let help = "Usage: autodidact [COMMAND]\n\nCommands:\n  run    Start [aliases: resume]\n  eval   Measure\n\nOptions:\n  -h";
    for (name, known) in [("run", true), ("eval", true), ("resume", true), ("Options:", false), ("x", false)]
    {
        assert_eq!(lists_command(help, name), known, "{name}");
    }
}
