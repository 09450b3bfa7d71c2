//! One process per run: an advisory lock on a file in the run's folder, released by the kernel when the
//! process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result, bail};
use fs4::FileExt;

/// Holds the lock while it lives.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of the run in `dir`, or says that another process has it.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).with_context(
                || format!("cannot write to {}: check the folder's permissions", path.display()),
            )?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs4::TryLockError::WouldBlock) => bail!(
                "another process is working on the run in {}: wait for it, stop it, or choose another folder \
                 with --set run.dir=…",
                dir.display()
            ),
            Err(fs4::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path()).unwrap();
        let error = RunLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(first);
        RunLock::take(dir.path()).unwrap();
    }
}
