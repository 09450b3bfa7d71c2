//! Checkpoints on disk: folders and files that appear complete or not at all.
//!
//! Files go to a temporary folder next to the target, are fsynced, and the folder is renamed into
//! place. Only then does the caller commit the row that makes the checkpoint exist. A crash leaves
//! either a temporary folder, which the next start removes, or a complete folder without a row,
//! which the same phase writes again. This file knows nothing about what is in a folder, and
//! nothing about rows.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::profile::{self, Operator};

/// Folder below the run's that holds every checkpoint.
pub const FOLDER: &str = "checkpoints";

/// Writes the checkpoint folder `target` through `fill`, atomically.
///
/// An existing folder of that name is replaced: within a run, names carry the policy's hash or the
/// step, so it can only be the same content or the remains of a crash.
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

/// Writes the file `target`, which must not exist, through `fill`; it appears complete or not at
/// all. `check` may still refuse what was written.
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
        ensure!(!target.exists(), "it already exists");
        Ok(fs::rename(&temporary, target)?)
    })();
    if written.is_err() {
        // The first error matters more than a leftover temporary file.
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

/// Bytes of the entries of the folder `root` whose name `counts`.
pub fn bytes_where(root: &Path, counts: impl Fn(&str) -> bool) -> Result<u64> {
    let context = || format!("cannot read {}", root.display());
    let mut total = 0;
    for entry in present(fs::read_dir(root)).with_context(context)?.into_iter().flatten() {
        if let Some(entry) = present(entry).with_context(context)?
            && counts(&entry.file_name().to_string_lossy())
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
    use autodidact_testing::assert_refused;

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
        assert_refused(write(&root.path().join("a"), failing), "no space");
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
        assert_refused(write_file(&target, put, |_| bail!("not good enough")), "not good enough");
        assert_refused(write_file(&target, |_| bail!("no space"), |_| Ok(())), "no space");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);
        write_file(&target, put, |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        let error = write_file(&target, put, |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("already exists"), "{error:#}");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_gone_counts_nothing() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("f"), "1234").unwrap();
            folder
        };
        put("other");
        let folder = put("own-1");
        put(".own-2.tmp");
        let own_bytes = |root: &Path| bytes_where(root, |name| name.contains("own")).unwrap();
        assert_eq!(own_bytes(root.path()), 8);
        assert_eq!(bytes(root.path()).unwrap(), 12);
        assert_eq!(bytes(&folder.join("f")).unwrap(), 4);
        discard(&folder).unwrap();
        discard(&folder).unwrap();
        assert_eq!(own_bytes(root.path()), 4, "its temporary is gone too");
        for gone in [folder.as_path(), &root.path().join("absent")] {
            assert_eq!(bytes(gone).unwrap(), 0);
            assert_eq!(own_bytes(gone), 0);
        }
    }
}
