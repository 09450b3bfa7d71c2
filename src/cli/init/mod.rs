//! `autodidact init`: a commented configuration and the prompts, to edit; for a model and tasks that
//! are named, with the settings that suit them.

mod look;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::inspect::style;
use super::terminal::print;
use crate::config::{Config, DEFAULT_TOML};
use crate::inspect::folded;
use crate::text;
use look::Choice;

/// Columns of a comment's text.
const COMMENT: usize = 98;
/// What `--minimal` writes, in addition to what `--set` names.
const MINIMAL: [&str; 5] = ["run.iterations", "model.path", "tasks.kind", "tasks.file", "train.method"];

#[derive(Args)]
pub(super) struct InitArgs {
    /// Folder to write into
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Look at this model (as model.path) and choose the settings that suit it, each with its reason
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Look at this file or folder of tasks (as tasks.file), likewise
    #[arg(long, value_name = "FILE")]
    tasks: Option<String>,
    /// Write only the five keys that are changed most, and those of --set; no prompts
    #[arg(long)]
    minimal: bool,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

type Pairs = Vec<(String, String)>;

impl InitArgs {
    /// Whether a model or tasks are to be looked at.
    pub(super) fn looks(&self) -> bool {
        self.model.is_some() || self.tasks.is_some()
    }

    /// The settings for what is named, as a configuration in `dir` has them.
    fn named(&self, dir: &Path) -> Pairs {
        let pair = |key: &str, value: String| (key.to_owned(), value);
        let model = self.model.iter().map(|model| pair("model.path", look::from_folder(model, dir)));
        let tasks = self.tasks.iter().flat_map(|tasks| {
            [pair("tasks.kind", "file".into()), pair("tasks.file", look::from_folder(tasks, dir))]
        });
        model.chain(tasks).collect()
    }

    /// The configuration that is looked at: what is named here, and `set`.
    pub(super) fn configuration(&self, set: &[(String, String)]) -> Result<Config> {
        let pairs = [self.named(Path::new(".")), set.to_vec()].concat();
        let mut config = Config::load(None, &pairs).context("cannot use what is given")?;
        config.run.dir = self.dir.join(&config.run.dir).display().to_string();
        Ok(config)
    }

    /// Refuses to replace a configuration.
    fn ensure_free(&self) -> Result<PathBuf> {
        let path = self.dir.join("autodidact.toml");
        ensure!(
            self.force || !path.exists(),
            "{} exists already; nothing was written (use --force to overwrite)",
            path.display()
        );
        Ok(path)
    }
}

/// Looks at what `config` names, and writes the configuration with the settings that suit it. Those of
/// `set` are the user's.
pub(super) fn perform_looking(
    args: &InitArgs,
    set: &[(String, String)],
    config: &Config,
) -> Result<ExitCode> {
    args.ensure_free()?;
    let mut look = look::look(config)?;
    let is_set = |key: &str| set.iter().any(|(name, _)| name == key);
    look.choices.retain(|choice| !is_set(choice.key));
    for note in &look.notes {
        print(&format!("{}\n", folded(&format!("  {note}"), 2, &style())))?;
    }
    for Choice { key, value, why } in &look.choices {
        print(&format!("{}\n", folded(&format!("→ {key} = {value}: {why}"), 2, &style())))?;
    }
    for problem in &look.problems {
        print(&format!("{}\n", folded(&format!("✗ {problem}"), 2, &style())))?;
    }
    let chosen = look.choices.iter().map(|choice| (choice.key.to_owned(), choice.value.clone()));
    let pairs: Pairs = args.named(&args.dir).into_iter().chain(chosen).chain(set.iter().cloned()).collect();
    write_all(args, &pairs, &look.choices)
}

/// Writes the configuration with the values of `set`. Prompts that are there already stay as they are.
pub(super) fn perform(args: &InitArgs, set: &[(String, String)]) -> Result<ExitCode> {
    write_all(args, set, &[])
}

fn write_all(args: &InitArgs, set: &[(String, String)], choices: &[Choice]) -> Result<ExitCode> {
    let path = args.ensure_free()?;
    let config = explained(&configuration(set, args.minimal)?, choices);
    // Comments change nothing.
    Config::load(Some(&config), &[]).context("the configuration that was made can't be read")?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot create {}", args.dir.display()))?;
    write(&path, &config)?;
    if !args.minimal {
        write_prompts(&args.dir.join("prompts"), args.force)?;
    }
    print(&format!("Edit {}, then `autodidact doctor` and `autodidact run`.\n", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration with each choice's reason above its key.
fn explained(text: &str, choices: &[Choice]) -> String {
    let mut out = String::new();
    for (key, line) in keyed(text) {
        let why = key.and_then(|key| choices.iter().find(|choice| choice.key == key));
        for line in why.iter().flat_map(|choice| wrapped(&format!("Chosen: {}.", choice.why))) {
            out += &format!("# {line}\n");
        }
        out += &format!("{line}\n");
    }
    out
}

/// The text in lines that a comment has room for.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > COMMENT {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

/// The commented defaults with these keys set.
fn configuration(set: &[(String, String)], minimal: bool) -> Result<String> {
    let mut set = set.to_vec();
    if !minimal && !set.iter().any(|(key, _)| key == "model.prompts") {
        // The configuration that is written uses the prompts that are written.
        set.insert(0, ("model.prompts".to_owned(), "prompts".to_owned()));
    }
    let wanted = Config::load(None, &set).context("cannot use what --set gives")?;
    let values: toml::Table = toml::Table::try_from(&wanted).context("the configuration can't be written")?;
    let is_set = |key: &str| set.iter().any(|(name, _)| key == name || name.starts_with(&format!("{key}.")));
    let text = match minimal {
        true => shortened(&|key| MINIMAL.contains(&key) || is_set(key)),
        false => DEFAULT_TOML.to_owned(),
    };
    let text = replaced(&text, &values, &is_set)?;
    // What was written means what was asked for.
    let read = Config::load(Some(&text), &[]).context("the configuration that was made can't be read")?;
    ensure!(read == wanted, "the configuration that was made is not the one that was asked for");
    Ok(text)
}

/// The text with the values of these keys in the place of the defaults.
fn replaced(text: &str, values: &toml::Table, is_set: &dyn Fn(&str) -> bool) -> Result<String> {
    let mut out = String::new();
    for (key, line) in keyed(text) {
        match key.filter(|key| is_set(key)) {
            Some(key) => {
                let (section, name) = key.split_once('.').context("a key without a section")?;
                let value = values.get(section).and_then(|section| section.get(name));
                out += &format!("{name} = {}\n", value.with_context(|| format!("no value of {key}"))?);
            }
            None => out += &format!("{line}\n"),
        }
    }
    Ok(out)
}

/// The defaults with only these keys, their comments, and the heads of their sections.
fn shortened(keeps: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::from("# `autodidact init` without --minimal writes every key with its default.\n");
    let (mut head, mut comment) = (String::new(), String::new());
    for (key, line) in keyed(DEFAULT_TOML) {
        match key {
            Some(key) if keeps(&key) => {
                out += &format!("{}{comment}{line}\n", std::mem::take(&mut head));
                comment.clear();
            }
            None if line.starts_with('[') => (head, comment) = (format!("\n{line}\n"), String::new()),
            None if line.starts_with('#') && !head.is_empty() || line.starts_with('#') && !out.is_empty() => {
                comment += &format!("{line}\n");
            }
            _ => comment.clear(),
        }
    }
    out
}

/// Each line of a configuration, with its key if it gives a value.
fn keyed(text: &str) -> impl Iterator<Item = (Option<String>, &str)> {
    let mut section = "";
    text.lines().map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        let name = line.split_once(" = ").map(|(name, _)| name).filter(|name| !name.starts_with('#'));
        (name.map(|name| format!("{section}.{name}")), line)
    })
}

/// Writes the built-in templates; one that is there already is the user's, unless `force` is given.
fn write_prompts(folder: &Path, force: bool) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, source) in text::TEMPLATES {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(there) if there == source => {}
            Ok(_) if !force => print(&format!("kept {}: it is not the built-in one\n", path.display()))?,
            _ => write(&path, source)?,
        }
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    print(&format!("wrote {}\n", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(set: &[(&str, &str)], minimal: bool) -> String {
        let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        configuration(&set, minimal).unwrap()
    }

    #[test]
    fn what_is_set_is_written_in_the_place_of_its_default() {
        let text = made(
            &[
                ("run.seed", "7"),
                ("model.path", "a \"b\""),
                ("tasks.kind", "file"),
                ("tasks.file", "tasks.jsonl"),
                ("tasks.fields.question", "q"),
                ("rollout.stop", "[\"x\"]"),
            ],
            false,
        );
        let changed: Vec<&str> =
            text.lines().filter(|line| !DEFAULT_TOML.lines().any(|l| l == *line)).collect();
        assert_eq!(changed.len(), 7, "{changed:?}");
        assert!(changed.contains(&"seed = 7") && changed.contains(&"prompts = \"prompts\""), "{changed:?}");
        assert_eq!(text.lines().count(), DEFAULT_TOML.lines().count());
    }

    #[test]
    fn a_reason_stands_above_its_key_and_changes_nothing() {
        let set = [("train.method", "lora"), ("rollout.tasks", "116")];
        let text = made(&set, true);
        let why = "a word and ".repeat(20);
        let choices = [
            Choice { key: "train.method", value: "lora".into(), why: why.trim_end().to_owned() },
            Choice { key: "rollout.tasks", value: "116".into(), why: "there are 116".into() },
        ];
        let explained = explained(&text, &choices);
        assert!(explained.contains("# Chosen: there are 116.\ntasks = 116\n"), "{explained}");
        let lines: Vec<&str> = explained.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("method = ")).unwrap();
        assert!(
            lines[at - 3].starts_with("# Chosen: a word") && lines[at - 1].ends_with("and."),
            "{explained}"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{explained}");
        assert_eq!(Config::load(Some(&explained), &[]).unwrap(), Config::load(Some(&text), &[]).unwrap());
    }

    #[test]
    fn the_minimum_is_five_keys_with_their_comments_and_what_is_set() {
        let text = made(&[], true);
        assert_eq!(keyed(&text).filter(|(key, _)| key.is_some()).count(), 5, "{text}");
        assert!(text.contains("\n[run]\n# Iterations of rollout,"), "{text}");
        let more = made(&[("gate.confidence", "0.9"), ("run.iterations", "1")], true);
        assert_eq!(keyed(&more).filter(|(key, _)| key.is_some()).count(), 6, "{more}");
        assert!(more.contains("\niterations = 1\n") && more.contains("\n[gate]\n# Two-sided"), "{more}");
    }
}
