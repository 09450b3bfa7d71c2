//! The configured tasks: reads their files, checks the tasks, and turns what was left out into
//! events.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use crate::config::{Config, TaskSource};
use crate::data::{self, Dataset, SourceFile};
use crate::domain::{Split, Task, TaskKind};
use crate::text::Text;

/// Largest file of tasks, packed or not, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// Most files of a folder.
const FILES_MAX: usize = 1000;

/// Most rows that get an event each; the rest is counted in one.
const EVENTS_MAX: usize = 1000;

/// Endings of files that a folder is searched for, before `.gz` and `.zst`.
const ENDINGS: [&str; 5] = ["jsonl", "json", "csv", "ndjson", "parquet"];

/// Words in a file's name that mark all its rows as held out.
const HELDOUT_NAMES: [&str; 5] = ["test", "heldout", "validation", "valid", "dev"];

/// Every task of every configured split, and a report about the rows that were left out.
pub fn dataset(config: &Config) -> Result<Dataset> {
    let cfg = &config.tasks;
    if cfg.kind != TaskSource::File {
        return data::dataset(cfg, Vec::new());
    }
    let mut files = Vec::new();
    for (key, named, heldout) in
        [("tasks.file", &cfg.file, false), ("tasks.heldout_file", &cfg.heldout_file, true)]
    {
        if named.is_empty() {
            continue;
        }
        let path = Path::new(named);
        if path.is_dir() {
            for path in files_in(path).with_context(|| format!("in the folder {key} = {named:?}"))? {
                let by_name = says_heldout(&path);
                files.push(read(&path, heldout || (by_name && cfg.heldout_file.is_empty()))?);
            }
        } else {
            files.push(read(path, heldout)?);
        }
    }
    let names: Vec<&str> =
        [&cfg.file, &cfg.heldout_file].into_iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    data::dataset(cfg, files).with_context(|| format!("cannot use the tasks in {}", names.join(" and ")))
}

/// The folder's files of tasks, in order of name.
fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder {}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
        if path.is_file() && ENDINGS.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
            found.push(path);
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} holds no .{} file", dir.display(), ENDINGS.join(", ."));
    ensure!(
        found.len() <= FILES_MAX,
        "{} holds {} files of tasks; at most {FILES_MAX}",
        dir.display(),
        found.len()
    );
    Ok(found)
}

/// Whether the file's name has `test` or the like among its words.
fn says_heldout(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.split(|c: char| !c.is_alphanumeric()).any(|word| HELDOUT_NAMES.contains(&word))
}

fn read(path: &Path, heldout: bool) -> Result<SourceFile> {
    let name = path.display().to_string();
    let context = || format!("cannot read the tasks in {name}");
    let bytes = path.metadata().with_context(context)?.len();
    ensure!(bytes <= BYTES_MAX, "{name} has {bytes} bytes; at most {BYTES_MAX}: split it into several files");
    Ok(SourceFile { contents: std::fs::read(path).with_context(context)?, name, heldout })
}

/// Messages for the user about rows that were left out, each with its level.
pub(super) fn events(report: &data::Report) -> Vec<(&'static str, String)> {
    let mut events: Vec<_> = report.files.iter().map(|file| ("info", file.to_string())).collect();
    if report.beyond_max > 0 {
        events.push(("info", format!("tasks.split_max left out {} rows", report.beyond_max)));
    }
    let left_out = report.odd.iter().chain(&report.repeated).cloned();
    let left_out = left_out.chain(report.overlaps.iter().map(ToString::to_string));
    events.extend(left_out.take(EVENTS_MAX).map(|message| ("warning", message)));
    let total = report.odd.len() + report.repeated.len() + report.overlaps.len();
    if total > EVENTS_MAX {
        events.push((
            "warning",
            format!("{} more rows were left out for the same reasons", total - EVENTS_MAX),
        ));
    }
    events
}

/// Refuses tasks whose answers can't be graded.
pub fn ensure_gradable(tasks: &[Task]) -> Result<()> {
    let code = tasks.iter().filter(|task| task.kind == TaskKind::Code).count();
    ensure!(
        code == 0,
        "{code} of {} tasks ask for code, which only running it can grade, and model output isn't run here yet: choose \
         other tasks (`autodidact doctor` and `autodidact generate` do work on these)",
        tasks.len()
    );
    Ok(())
}

/// A message for the user if `train.replay` is set and no easy task can be replayed.
pub fn replay_notice(config: &Config, tasks: &[Task]) -> Option<String> {
    let easy = || tasks.iter().filter(|task| task.split == Split::Easy);
    let replays = config.train.replay > 0.0;
    (replays && !easy().any(|task| task.solution.is_some())).then(|| {
        format!(
            "none of the {} easy tasks has a solution, so training replays nothing (train.replay = {} counts as 0)",
            easy().count(),
            config.train.replay
        )
    })
}

/// Refuses, before the run begins, tasks that would stop it later.
pub fn check_tasks(tasks: &[Task], text: &Text, context_max: usize) -> Result<()> {
    ensure_gradable(tasks)?;
    ensure!(
        tasks.iter().any(|task| task.split == Split::Easy),
        "there is no labelled easy task, which the critique head learns from: give some rows \"split\": \"easy\" and an \
         \"answer\" (and a \"solution\", if training is to replay them)"
    );
    let check = |task: &Task| {
        let ids = text.prompt_ids_of(task.kind, &task.question);
        let tokens = ids.with_context(|| format!("in task {}", task.id))?.len();
        ensure!(
            tokens < context_max,
            "the prompt of task {} has {tokens} tokens and leaves no room in the model's context of {context_max}",
            task.id
        );
        Ok(())
    };
    tasks.par_iter().find_map_first(|task| check(task).err()).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_held_out() {
        for (name, heldout) in [
            ("data/gsm8k/test.jsonl", true),
            ("abstract_algebra_test.csv", true),
            ("test/train.jsonl", false),
            ("latest.json", false),
            ("arc-validation.jsonl.gz", true),
        ] {
            assert_eq!(says_heldout(Path::new(name)), heldout, "{name}");
        }
    }

    #[test]
    fn folders_give_their_files_of_tasks_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(files_in(dir.path()).unwrap_err().to_string().contains("holds no .jsonl"));
        for name in ["b.jsonl.gz", "a.csv", "README.md", "c.json.zst"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join("d.json")).unwrap();
        let found = files_in(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
        assert_eq!(names, ["a.csv", "b.jsonl.gz", "c.json.zst"]);
    }
}
