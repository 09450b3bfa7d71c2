//! One writer per store: whether the file is still the one that was opened, and whether nobody else
//! has written to it.
//!
//! Contract: every write asks [`Guard::check`] first. It compares the file at the path with the one
//! that was opened (on Unix), and asks whoever holds the run's lock. A file that was moved away and
//! replaced would else be written to, unseen.
//!
//! A unit also asks [`Guard::follows`] within its transaction, while SQLite's write lock is held.
//! Ids of units count without a gap, in order of commit. So the next id tells whether another
//! process has committed a unit since this one opened the store. Of two writers the first to commit
//! goes on, and the other one's commits all fail. This needs no lock, no clock and no inode.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};

/// Fails when this process may no longer write.
type Held = Box<dyn Fn() -> Result<()> + Send + Sync>;

pub(super) struct Guard {
    path: PathBuf,
    /// What the path named when it was opened; `None` where the system doesn't say.
    opened: Option<(u64, u64)>,
    /// Id of the last unit that was there when the store was opened, or that was committed through
    /// it since.
    last: AtomicI64,
    held: OnceLock<Held>,
}

impl Guard {
    /// For a file that was just opened and whose last unit is `last`; 0 if it has none.
    pub(super) fn new(path: &Path, last: i64) -> Result<Self> {
        let last = AtomicI64::new(last);
        Ok(Self { path: path.to_owned(), opened: identity(path)?, last, held: OnceLock::new() })
    }

    /// Asks `held` before each write from now on. The first one counts.
    pub(super) fn hold(&self, held: Held) {
        let _ = self.held.set(held);
    }

    /// Fails if the path names another file than the one that was opened, or the run's lock is
    /// lost.
    pub(super) fn check(&self) -> Result<()> {
        let found = if self.opened.is_some() { identity(&self.path).ok().flatten() } else { None };
        ensure!(
            found == self.opened,
            "`{}` was moved, removed or replaced while this process had it open. This process stops without writing; put \
             the right file there, then run the same command again",
            self.path.display()
        );
        self.held.get().map_or(Ok(()), |held| held())
    }

    /// Fails unless `unit` is the next one after the last that this process knows.
    pub(super) fn follows(&self, unit: i64) -> Result<()> {
        let last = self.last.load(Ordering::Relaxed);
        ensure!(
            unit == last + 1,
            "another process has written to `{}` since this one opened it (its last unit is {}, not {last}). This process \
             stops without writing; stop the other one, then run the same command again",
            self.path.display(),
            unit - 1
        );
        Ok(())
    }

    /// `unit` was committed.
    pub(super) fn committed(&self, unit: i64) {
        self.last.store(unit, Ordering::Relaxed);
    }
}

/// Device and inode of a file.
#[cfg(unix)]
fn identity(path: &Path) -> Result<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().with_context(|| format!("couldn't look at `{}`", path.display()))?;
    Ok(Some((meta.dev(), meta.ino())))
}

/// Elsewhere an open file can't be replaced.
#[cfg(not(unix))]
fn identity(_: &Path) -> Result<Option<(u64, u64)>> {
    Ok(None)
}
