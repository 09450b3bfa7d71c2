//! Checkpoints on disk: a folder appears complete or not at all.
//!
//! Files go to a temporary folder beside the target, are fsynced, and the folder is renamed into
//! place; only then does the caller commit the row that makes the checkpoint exist. A crash leaves
//! either a temporary folder, which the next start removes, or a complete folder without a row,
//! which the same phase writes again.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::domain::Arm;
use crate::profile::{self, Operator};

/// Folder below the run's that holds every checkpoint.
pub const FOLDER: &str = "checkpoints";

/// Characters of the policy's hash in the name of a candidate's folder.
const HASH_CHARS: usize = 16;

/// Name of the folder that holds the candidate of `iteration`. The arm is part of it: control arms
/// may come to the same weights, and retention is per run.
pub fn candidate_name(arm: Arm, iteration: u32, hash: &str) -> String {
    format!("{arm}-{iteration}-{hash:.HASH_CHARS$}")
}

/// Name of the folder that holds the trainer's state after `step` updates of `iteration`.
pub fn state_name(arm: Arm, iteration: u32, step: usize) -> String {
    format!("state-{arm}-{iteration}-{step}")
}

/// What a name says, if this program gives such names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub arm: Arm,
    pub iteration: u32,
    /// A folder that is not complete: it is being written or removed, or a crash cut that off.
    pub temporary: bool,
}

impl Name {
    /// Reads `ARM-ITERATION-HASH`, `state-ARM-ITERATION-STEP`, or `.NAME.tmp` of one of these.
    /// `None` for any other name: then the entry belongs to somebody else.
    pub fn parse(name: &str) -> Option<Self> {
        let inner = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
        let (before, last) = inner.unwrap_or(name).rsplit_once('-')?;
        let before = match before.strip_prefix("state-") {
            Some(before) => number(last).map(|_| before)?,
            None if last.len() == HASH_CHARS && last.bytes().all(is_hex) => before,
            None => return None,
        };
        let (arm, iteration) = before.rsplit_once('-')?;
        Some(Self { arm: arm.parse().ok()?, iteration: number(iteration)?, temporary: inner.is_some() })
    }
}

/// A number as this program writes it: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Writes the checkpoint folder `target` through `fill`, atomically.
///
/// An existing folder of that name is replaced: within a run, names carry the policy's hash or the step, so it
/// can only be the same content or the remains of a crash.
pub fn write(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let _span = profile::span(Operator::Checkpoint);
    let name = target.file_name().context("a checkpoint needs a name")?.to_string_lossy();
    let root = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = root.join(format!(".{name}.tmp"));
    let context = || format!("cannot write the checkpoint {}", target.display());
    remove(&temporary)?;
    fs::create_dir_all(&temporary).with_context(context)?;
    fill(&temporary).with_context(context)?;
    for entry in fs::read_dir(&temporary).with_context(context)? {
        let path = entry.with_context(context)?.path();
        File::open(&path).and_then(|f| f.sync_all()).with_context(context)?;
    }
    sync_dir(&temporary)?;
    remove(target)?;
    fs::rename(&temporary, target).with_context(context)?;
    sync_dir(root)?;
    Ok(target.to_owned())
}

/// Writes the file `target`, which must not exist, through `fill`; it appears complete or not at all. `check` may still
/// refuse what was written.
pub fn write_file(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let name = target.file_name().context("the file needs a name")?.to_string_lossy();
    let root = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = root.join(format!(".{name}.tmp"));
    let context = || format!("cannot write {}", target.display());
    fs::create_dir_all(root).with_context(context)?;
    let written = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        fill(&mut out)?;
        out.into_inner()?.sync_all()?;
        check(&temporary)?;
        ensure!(!target.exists(), "it is there already");
        Ok(fs::rename(&temporary, target)?)
    })();
    if written.is_err() {
        // What went wrong says more than that half a file is left.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(context)?;
    sync_dir(root)
}

/// Removes a complete checkpoint folder if it is there. It loses its name first, so that no half of
/// it is ever taken for a checkpoint.
pub fn discard(path: &Path) -> Result<()> {
    let name = path.file_name().context("a checkpoint needs a name")?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    remove(&temporary)?;
    match fs::rename(path, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        Ok(()) => remove(&temporary),
    }
}

/// Removes a folder if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Bytes of all files below `path`, or of the file `path`. What is gone by the time it is looked at
/// counts nothing, and neither does what may not be read.
pub fn bytes(path: &Path) -> Result<u64> {
    let context = || format!("cannot read {}", path.display());
    let Some(meta) = present(path.symlink_metadata()).with_context(context)? else { return Ok(0) };
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut total = 0;
    for entry in present(fs::read_dir(path)).with_context(context)?.into_iter().flatten() {
        if let Some(entry) = present(entry).with_context(context)? {
            total += bytes(&entry.path())?;
        }
    }
    Ok(total)
}

/// Bytes of the checkpoints and temporaries of this program below `root`; other entries are
/// somebody else's.
pub fn own_bytes(root: &Path) -> Result<u64> {
    let context = || format!("cannot read {}", root.display());
    let mut total = 0;
    for entry in present(fs::read_dir(root)).with_context(context)?.into_iter().flatten() {
        if let Some(entry) = present(entry).with_context(context)?
            && Name::parse(&entry.file_name().to_string_lossy()).is_some()
        {
            total += bytes(&entry.path())?;
        }
    }
    Ok(total)
}

/// `None` for what is gone or may not be read.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match result {
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
        other => other.map(Some),
    }
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).with_context(|| format!("cannot sync {}", path.display()))
}

/// A stored checkpoint as retention sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub id: i64,
    pub iteration: u32,
    pub policy_hash: String,
    pub bytes: u64,
}

/// Which checkpoints may go: all but the incumbent and the best, the newest `keep`, and, if those are still
/// above `bytes_max`, all but the incumbent and the best.
pub fn expendable(all: &[Kept], pinned: &[&str], keep: usize, bytes_max: u64) -> Vec<i64> {
    let mut candidates: Vec<&Kept> =
        all.iter().filter(|c| !pinned.contains(&c.policy_hash.as_str())).collect();
    candidates.sort_by_key(|c| std::cmp::Reverse((c.iteration, c.id)));
    let mut held: u64 =
        all.iter().filter(|c| pinned.contains(&c.policy_hash.as_str())).map(|c| c.bytes).sum();
    let mut gone = Vec::new();
    for (rank, checkpoint) in candidates.iter().enumerate() {
        if rank < keep && held + checkpoint.bytes <= bytes_max {
            held += checkpoint.bytes;
        } else {
            gone.push(checkpoint.id);
        }
    }
    gone
}

/// Fails when the disk has less than `needed` bytes left where `dir` is.
pub fn ensure_space(dir: &Path, needed: u64) -> Result<()> {
    let free = fs4::available_space(dir)
        .with_context(|| format!("cannot ask for the space at {}", dir.display()))?;
    if free < needed {
        bail!(
            "the disk is full: {} has {} MiB left and {} MiB are needed next; free some space and run the same \
             command again",
            dir.display(),
            free >> 20,
            needed.div_ceil(1 << 20)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_checkpoint_untouched() {
        let root = tempfile::tempdir().unwrap();
        let put = |text: &'static str| move |dir: &Path| Ok(fs::write(dir.join("f"), text)?);
        write(&root.path().join("a"), put("old")).unwrap();
        let failing = |dir: &Path| -> Result<()> {
            fs::write(dir.join("f"), "half")?;
            bail!("no space")
        };
        assert!(write(&root.path().join("a"), failing).is_err());
        assert_eq!(fs::read_to_string(root.path().join("a/f")).unwrap(), "old");
        write(&root.path().join("a"), put("new")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("a/f")).unwrap(), "new");
        assert_eq!(bytes(root.path()).unwrap(), 3);
    }

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("below/f");
        let put = |out: &mut BufWriter<File>| Ok(std::io::Write::write_all(out, b"new")?);
        assert!(write_file(&target, put, |_| bail!("not good enough")).is_err());
        assert!(write_file(&target, |_| bail!("no space"), |_| Ok(())).is_err());
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);
        write_file(&target, put, |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        let error = write_file(&target, put, |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("there already"), "{error:#}");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let hash = "0123456789abcdef0123456789abcdef";
        for &arm in Arm::ALL {
            for name in [candidate_name(arm, 12, hash), state_name(arm, 12, 300)] {
                let complete = Name { arm, iteration: 12, temporary: false };
                assert_eq!(Name::parse(&name), Some(complete), "{name}");
                let temporary = Name { temporary: true, ..complete };
                assert_eq!(Name::parse(&format!(".{name}.tmp")), Some(temporary), "{name}");
            }
        }
        let others = [
            "",
            "-",
            ".tmp",
            "lost+found",
            "reward-1-0123456789abcde",
            "reward-1-0123456789abcdef-copy",
            "reward-1-0123456789ABCDEF",
            "reward-01-0123456789abcdef",
            "reward-+1-0123456789abcdef",
            "mine-1-0123456789abcdef",
            "state-reward-1-",
            "state-reward-1-x",
            "reward-1-0123456789abcdef.tmp",
            ".reward-1-0123456789abcdef",
            ".notes.tmp",
        ];
        for name in others {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_is_there_and_belongs_to_the_program_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("f"), "1234").unwrap();
            folder
        };
        put("lost+found");
        put(".state-reward-1-2.tmp");
        let folder = put("state-reward-1-2");
        assert_eq!(own_bytes(root.path()).unwrap(), 8);
        assert_eq!(bytes(root.path()).unwrap(), 12);
        assert_eq!(bytes(&folder.join("f")).unwrap(), 4);
        discard(&folder).unwrap();
        discard(&folder).unwrap();
        assert_eq!(own_bytes(root.path()).unwrap(), 0, "its temporary made room too");
        for gone in [folder.as_path(), &root.path().join("absent")] {
            assert_eq!(bytes(gone).unwrap(), 0);
            assert_eq!(own_bytes(gone).unwrap(), 0);
        }
    }

    #[test]
    fn retention_keeps_pinned_and_newest_within_the_budget() {
        let kept = |id, hash: &str| Kept { id, iteration: id as u32, policy_hash: hash.into(), bytes: 10 };
        let all = [kept(1, "a"), kept(2, "b"), kept(3, "c"), kept(4, "d")];
        assert_eq!(expendable(&all, &["a"], 2, 1000), [2]);
        assert_eq!(expendable(&all, &["a", "d"], 1, 1000), [2]);
        assert_eq!(expendable(&all, &["a", "d"], 9, 20), [3, 2]);
        assert_eq!(expendable(&all, &["a", "b", "c", "d"], 0, 0), Vec::<i64>::new());
    }
}
