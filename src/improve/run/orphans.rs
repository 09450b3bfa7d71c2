//! Orphans: entries of the run's `checkpoints/` folder that no live row of the store names.
//!
//! Contract: nothing is removed because a row is missing. A start removes two things only:
//! temporaries of this run, and folders that a row marks as given up by the run, if they still hold
//! the bytes that the row recorded. Every other orphan stays, `verify` lists it, and `gc` removes
//! it if it is the program's own.
//!
//! One crash leaves at most one complete folder per arm that the store does not know: training
//! renames a folder into place, then commits its row. It belongs to the iteration whose training is
//! open, and the same phase writes it again. Any other folder that is later than what the store
//! knows means that the store is missing, empty or an older copy. Then the run is refused, because
//! going on would train over newer weights.
//!
//! The folder is always listed before the store is read. So what a live run commits in between is
//! known, not an orphan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::STORE_FILE;
use super::names::Name;
use crate::domain::{Arm, Phase, Progress, next_phase};
use crate::policy::checkpoints::{self, FOLDER};
use crate::store::{Outline, RunOutline, hash_path, outline};

/// An entry of the checkpoints' folder that no live row names.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Orphan {
    /// Relative to the run's folder.
    pub path: String,
    /// Size on disk.
    pub bytes: u64,
    /// Whether this program gives such names: a checkpoint or a temporary.
    pub own: bool,
}

/// Every orphan of the run in `dir`, in order of name.
///
/// # Errors
/// A store or a folder that can't be read. A missing store names nothing.
pub async fn orphans(dir: &Path) -> Result<Vec<Orphan>> {
    let names = list(dir)?;
    let store = outline(&dir.join(STORE_FILE)).await?;
    let orphan = |name: &String| {
        let bytes = checkpoints::bytes(&dir.join(FOLDER).join(name))?;
        Ok(Orphan { path: format!("{FOLDER}/{name}"), bytes, own: Name::parse(name).is_some() })
    };
    unnamed(&names, &store).map(orphan).collect()
}

/// Removes the program's own among the orphans of the run in `dir`. The caller holds the run's
/// lock.
///
/// # Errors
/// As [`ensure_explained`]; and a store that holds no run, because every checkpoint would be an
/// orphan.
pub async fn collect(dir: &Path) -> Result<Vec<Orphan>> {
    ensure_explained(dir).await?;
    if outline(&dir.join(STORE_FILE)).await?.runs.is_empty() {
        bail!(
            "{} holds no run, so it cannot say which checkpoints are needed",
            dir.join(STORE_FILE).display()
        );
    }
    let found: Vec<Orphan> = orphans(dir).await?.into_iter().filter(|orphan| orphan.own).collect();
    for orphan in &found {
        remove(&dir.join(&orphan.path))?;
    }
    Ok(found)
}

/// Fails if the checkpoints in `dir` are later than what its store knows. It only reads.
///
/// # Errors
/// Names the folders and the remedy.
pub async fn ensure_explained(dir: &Path) -> Result<()> {
    let names = list(dir)?;
    let complete = |name: &&String| Name::parse(name).is_some_and(|name| !name.temporary);
    if !names.iter().any(|name| complete(&name)) {
        return Ok(());
    }
    let path = dir.join(STORE_FILE);
    let store = outline(&path).await?;
    let later = unexplained(&names, &store);
    let Some(first) = later.first() else { return Ok(()) };
    let more = match later.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let why = match store.runs.is_empty() {
        true if !path.exists() => "does not exist",
        true => "is empty",
        false => "knows nothing of them: it may be an older copy",
    };
    bail!(
        "{} holds checkpoints ({first}{more}), but {} {why}. Nothing was changed. Put the store of these checkpoints back, \
         move the checkpoints away, or choose another folder with --set run.dir=…",
        dir.join(FOLDER).display(),
        path.display()
    )
}

/// Removes what the run in `dir` left half done: its temporaries, and folders that it had given up.
/// The caller holds the run's lock.
pub(super) async fn sweep(dir: &Path) -> Result<()> {
    let names = list(dir)?;
    let store = outline(&dir.join(STORE_FILE)).await?;
    for name in unnamed(&names, &store) {
        let path = dir.join(FOLDER).join(name);
        let Some(parsed) = Name::parse(name) else { continue };
        let of_this_run =
            store.runs.iter().any(|run| run.arm == parsed.arm && parsed.iteration <= open_step(run).0);
        if (parsed.temporary && of_this_run) || was_given_up(&path, name, &store) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Whether a row marks this folder as given up, and the folder holds what the row recorded.
/// Otherwise somebody has put it there since.
fn was_given_up(path: &Path, name: &str, store: &Outline) -> bool {
    let rows = store.checkpoints.iter().filter(|row| row.removed && named(&row.path) == Some(name));
    let hashes: Vec<&str> = rows.map(|row| row.file_hash.as_str()).collect();
    !hashes.is_empty() && hash_path(path).is_ok_and(|(hash, _)| hashes.contains(&hash.as_str()))
}

fn remove(path: &Path) -> Result<()> {
    let is_temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if is_temporary { checkpoints::remove(path) } else { checkpoints::discard(path) }
}

/// Names of the entries below the checkpoints' folder, sorted; none if there is no such folder.
fn list(dir: &Path) -> Result<Vec<String>> {
    let root = dir.join(FOLDER);
    let context = || format!("cannot read {}", root.display());
    let entries = match std::fs::read_dir(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.with_context(context)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The folder that a row's path names.
fn named(path: &str) -> Option<&str> {
    path.strip_prefix(FOLDER)?.strip_prefix('/')
}

/// Those of `names` that no live row names.
fn unnamed<'a>(names: &'a [String], store: &Outline) -> impl Iterator<Item = &'a String> {
    let live = store.checkpoints.iter().filter(|row| !row.removed);
    let live: BTreeSet<String> = live.filter_map(|row| named(&row.path)).map(str::to_owned).collect();
    names.iter().filter(move |name| !live.contains(*name))
}

/// The complete folders among `names` that the store doesn't know, and that one crash can't
/// explain.
fn unexplained(names: &[String], store: &Outline) -> Vec<String> {
    let ever: BTreeSet<&str> = store.checkpoints.iter().filter_map(|row| named(&row.path)).collect();
    let mut later: BTreeMap<Arm, Vec<(u32, &String)>> = BTreeMap::new();
    for name in names.iter().filter(|name| !ever.contains(name.as_str())) {
        let Some(parsed) = Name::parse(name).filter(|parsed| !parsed.temporary) else { continue };
        let trained = store.runs.iter().find(|run| run.arm == parsed.arm).map_or(0, |run| run.trained);
        if parsed.iteration > trained {
            later.entry(parsed.arm).or_default().push((parsed.iteration, name));
        }
    }
    for run in &store.runs {
        let (iteration, phase) = open_step(run);
        // A crash between the rename and the commit.
        if phase == Phase::Train
            && later.get(&run.arm).is_some_and(|found| matches!(found[..], [(i, _)] if i == iteration))
        {
            later.remove(&run.arm);
        }
    }
    later.into_values().flatten().map(|(_, name)| name.clone()).collect()
}

/// The first phase of a run that isn't complete, however many iterations are planned.
fn open_step(run: &RunOutline) -> (u32, Phase) {
    let progress = Progress { arm: run.arm, iterations: u32::MAX, done: run.done.clone() };
    next_phase(&progress).unwrap_or((u32::MAX, Phase::Promote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::improve::run::names;
    use crate::store::CheckpointOutline;

    const HASH: &str = "0123456789abcdef";

    fn candidate(arm: Arm, iteration: u32) -> String {
        names::candidate_name(arm, iteration, HASH)
    }

    fn state(iteration: u32, step: usize) -> String {
        names::state_name(Arm::Reward, iteration, step)
    }

    /// A run whose first open phase is this one.
    fn run(arm: Arm, open: (u32, Phase), trained: u32) -> RunOutline {
        let plan = (0..=open.0).flat_map(|i| Phase::plan(arm, i).iter().map(move |&phase| (i, phase)));
        RunOutline { arm, done: plan.take_while(|step| *step != open).collect(), trained }
    }

    fn row(name: &str, removed: bool) -> CheckpointOutline {
        CheckpointOutline { path: format!("{FOLDER}/{name}"), removed, file_hash: HASH.into() }
    }

    #[test]
    fn one_folder_of_the_open_training_is_what_a_crash_leaves() {
        let training = Outline {
            runs: vec![run(Arm::Reward, (2, Phase::Train), 1), run(Arm::EasyOnly, (1, Phase::Train), 0)],
            checkpoints: vec![row(&candidate(Arm::Reward, 1), false), row(&state(2, 10), true)],
        };
        let found = |names: &[String]| unexplained(names, &training);
        let known = [candidate(Arm::Reward, 1), state(2, 10)];
        let crashes = [state(2, 20), candidate(Arm::Reward, 2)];
        for crash in crashes {
            assert_eq!(found(&[&known[..], &[crash]].concat()), Vec::<String>::new());
        }
        // Each arm may have died once.
        assert_eq!(found(&[state(2, 20), candidate(Arm::EasyOnly, 1)]), Vec::<String>::new());
        // What the program doesn't name, what isn't complete, and what is of a time that the store
        // knows.
        let others = ["lost+found".to_owned(), format!(".{}.tmp", state(9, 1)), state(1, 4)];
        assert_eq!(found(&others), Vec::<String>::new());
        // Two, a later iteration, or an arm that never ran.
        assert_eq!(found(&[state(2, 20), state(2, 30)]), [state(2, 20), state(2, 30)]);
        assert_eq!(found(&[candidate(Arm::Reward, 3)]), [candidate(Arm::Reward, 3)]);
        assert_eq!(found(&[candidate(Arm::Random, 1)]), [candidate(Arm::Random, 1)]);
    }

    #[test]
    fn before_training_has_begun_no_crash_explains_a_folder() {
        let rollout =
            Outline { runs: vec![run(Arm::Reward, (2, Phase::Rollout), 1)], checkpoints: Vec::new() };
        assert_eq!(unexplained(&[state(2, 10)], &rollout), [state(2, 10)]);
        assert_eq!(unexplained(&[candidate(Arm::Reward, 1)], &rollout), Vec::<String>::new());
        assert_eq!(unexplained(&[state(1, 10)], &Outline::default()), [state(1, 10)]);
    }

    #[test]
    fn a_folder_that_was_given_up_goes_only_with_its_own_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER).join(state(1, 10));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("f"), "bytes").unwrap();
        let (hash, _) = hash_path(&folder).unwrap();
        let given_up = CheckpointOutline { file_hash: hash, ..row(&state(1, 10), true) };
        let store = |row: CheckpointOutline| Outline { runs: Vec::new(), checkpoints: vec![row] };
        let asked = |row| was_given_up(&folder, &state(1, 10), &store(row));
        assert!(asked(given_up.clone()));
        assert!(!asked(CheckpointOutline { removed: false, ..given_up.clone() }));
        std::fs::write(folder.join("f"), "other").unwrap();
        assert!(!asked(given_up));
    }
}
