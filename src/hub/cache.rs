//! One model's folder in the cache, in the layout of `huggingface_hub`.
//!
//! ```text
//! models--org--name/refs/main                    the commit that `main` was when it was fetched
//! models--org--name/blobs/<etag>                 contents, once each
//! models--org--name/snapshots/<commit>/<file>    links to them
//! models--org--name/.no_exist/<commit>/<file>    files that the hub doesn't have
//! .locks/models--org--name/<etag>.lock           held while a blob is fetched
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::is_commit;

/// A model's folder. It is created when the first file is put into it.
pub(super) struct Repo {
    path: PathBuf,
    locks: PathBuf,
}

impl Repo {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { path: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The commit that a revision was when it was fetched.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.path.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.path.join("refs").join(revision);
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        create_parent(&path)?;
        // No revision can have this name, because its parts don't begin with a dot.
        let new = path.with_file_name(format!(".{}.new", std::process::id()));
        fs::write(&new, commit).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }

    pub(super) fn file(&self, commit: &str, name: &str) -> PathBuf {
        self.snapshot(commit).join(name)
    }

    pub(super) fn has(&self, commit: &str, name: &str) -> bool {
        self.file(commit, name).is_file()
    }

    fn absence(&self, commit: &str, name: &str) -> PathBuf {
        self.path.join(".no_exist").join(commit).join(name)
    }

    /// Whether the hub did not have the file when it was asked.
    pub(super) fn is_absent(&self, commit: &str, name: &str) -> bool {
        self.absence(commit, name).exists()
    }

    pub(super) fn mark_absent(&self, commit: &str, name: &str) -> Result<()> {
        let path = self.absence(commit, name);
        create_parent(&path)?;
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.path.join("blobs").join(etag)
    }

    /// Where a blob is written. It stays after a crash, and a later fetch resumes it.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.path.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// How many bytes of a blob are on the disk, complete or not.
    pub(super) fn bytes_here(&self, etag: &str) -> u64 {
        let bytes = |path: PathBuf| path.metadata().map(|data| data.len());
        bytes(self.blob(etag)).or_else(|_| bytes(self.incomplete(etag))).unwrap_or(0)
    }

    /// The file that is locked by the process that fetches the blob.
    pub(super) fn lock_file(&self, etag: &str) -> Result<(PathBuf, File)> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let open = File::options().write(true).create(true).truncate(false).open(&path);
        Ok((path.clone(), open.with_context(|| format!("cannot open the lock {}", path.display()))?))
    }

    /// Links a complete blob into a snapshot.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.file(commit, name);
        create_parent(&path)?;
        // From the folder of the file up to the model's folder.
        let up = "../".repeat(2 + name.matches('/').count());
        let context = || format!("cannot put {name} at {}", path.display());
        // A link to a blob that is gone is not a file, but its name is taken.
        if path.is_symlink() {
            fs::remove_file(&path).with_context(context)?;
        }
        if symlink(&format!("{up}blobs/{etag}"), &path).is_err() {
            // On a file system without links, the contents are moved into the snapshot.
            fs::rename(self.blob(etag), &path).with_context(context)?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn symlink(target: &str, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn symlink(_: &str, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

pub(super) fn create_parent(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).with_context(|| {
        format!("cannot create {} in the cache (HF_HOME or HF_HUB_CACHE move it)", dir.display())
    })
}
