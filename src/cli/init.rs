//! `autodidact init`: a commented configuration and the prompts, to edit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::terminal::print;
use crate::config::{Config, DEFAULT_TOML};
use crate::text;

/// What `--minimal` writes, in addition to what `--set` names.
const MINIMAL: [&str; 5] = ["run.iterations", "model.path", "tasks.kind", "tasks.file", "train.method"];

#[derive(Args)]
pub(super) struct InitArgs {
    /// Folder to write into
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Write only the five keys that are changed most, and those of --set; no prompts
    #[arg(long)]
    minimal: bool,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

/// Writes the configuration with the values of `set`. Prompts that are there already stay as they are.
pub(super) fn perform(args: &InitArgs, set: &[(String, String)]) -> Result<ExitCode> {
    let path = args.dir.join("autodidact.toml");
    ensure!(
        args.force || !path.exists(),
        "{} exists already; nothing was written (use --force to overwrite)",
        path.display()
    );
    let config = configuration(set, args.minimal)?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot create {}", args.dir.display()))?;
    write(&path, &config)?;
    if !args.minimal {
        write_prompts(&args.dir.join("prompts"), args.force)?;
    }
    print(&format!("Edit {}, then `autodidact doctor` and `autodidact run`.\n", path.display()))?;
    Ok(ExitCode::SUCCESS)
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
    fn the_minimum_is_five_keys_with_their_comments_and_what_is_set() {
        let text = made(&[], true);
        assert_eq!(keyed(&text).filter(|(key, _)| key.is_some()).count(), 5, "{text}");
        assert!(text.contains("\n[run]\n# Iterations of rollout,"), "{text}");
        let more = made(&[("gate.confidence", "0.9"), ("run.iterations", "1")], true);
        assert_eq!(keyed(&more).filter(|(key, _)| key.is_some()).count(), 6, "{more}");
        assert!(more.contains("\niterations = 1\n") && more.contains("\n[gate]\n# Two-sided"), "{more}");
    }
}
