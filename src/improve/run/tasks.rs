//! The configured tasks: reads their files, checks the tasks, and turns what was left out into
//! events.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::folder;
use crate::config::{Config, TaskSource};
use crate::data::{self, Dataset, SourceFile};
use crate::domain::{Split, Task, TaskKind};
use crate::text::Text;

/// Most rows that get an event each; the rest is counted in one.
const EVENTS_MAX: usize = 1000;

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
            let by_name = !heldout && cfg.heldout_file.is_empty();
            let of_folder =
                folder::read(path, by_name).with_context(|| format!("in the folder {key} = {named:?}"))?;
            files.extend(
                of_folder.into_iter().map(|file| SourceFile { heldout: file.heldout || heldout, ..file }),
            );
        } else {
            files.push(folder::file(path, heldout)?);
        }
    }
    let names: Vec<&str> =
        [&cfg.file, &cfg.heldout_file].into_iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    data::dataset(cfg, files).with_context(|| format!("cannot use the tasks in {}", names.join(" and ")))
}

/// Messages for the user about rows that were left out, each with its level.
pub(super) fn events(report: &data::Report) -> Vec<(&'static str, String)> {
    let mut events: Vec<_> = report.files.iter().map(|file| ("info", file.to_string())).collect();
    if report.beyond_max > 0 {
        events.push(("info", format!("tasks.split_max left out {} rows", report.beyond_max)));
    }
    if report.unmeasured > 0 {
        let message = format!("tasks.measured_max left out {} gate and held-out tasks", report.unmeasured);
        events.push(("info", message));
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

/// A message for the user if questions contain the names of special tokens.
pub fn special_notice(tasks: &[Task], text: &Text) -> Option<String> {
    let named = tasks.iter().filter_map(|task| Some((task, text.special_in(&task.question)?)));
    let (task, name) = named.clone().next()?;
    Some(format!(
        "{} questions contain the name of a special token, which is read as plain text: {} (`{name}`) is the first",
        named.count(),
        task.id
    ))
}

/// Refuses, before the run begins, tasks that would stop it later.
pub(super) fn check_tasks(tasks: &[Task], text: &Text, context_max: usize) -> Result<()> {
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
