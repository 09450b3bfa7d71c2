//! Checkpoints on disk: a folder appears complete or not at all.
//!
//! Files go to a temporary folder beside the target, are fsynced, and the folder is renamed into place; only
//! then does the caller commit the row that makes the checkpoint exist. What a crash leaves behind has no row
//! and is swept away at the next start.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::profile::{self, Operator};

/// Folder below the run's that holds every checkpoint.
pub const FOLDER: &str = "checkpoints";

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

/// Removes a folder if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes everything below `root` that no stored checkpoint names.
pub fn sweep(root: &Path, known: &[String]) -> Result<()> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", root.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !known.contains(&name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes of all files below `path`.
pub fn bytes(path: &Path) -> Result<u64> {
    let mut total = 0;
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
        let meta = entry.metadata().with_context(|| format!("cannot read {}", entry.path().display()))?;
        total += if meta.is_dir() { bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
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
    fn the_sweep_removes_only_what_no_row_names() {
        let root = tempfile::tempdir().unwrap();
        for name in ["kept", "lost", ".kept.tmp"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        sweep(root.path(), &["kept".into()]).unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        sweep(&root.path().join("absent"), &[]).unwrap();
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
