//! One process per run: advisory locks that the kernel releases when the process ends, however it
//! ends.
//!
//! Two locks are taken. The one on the run's folder itself can't be removed from under a live run,
//! because the folder isn't empty. The one on the file `lock` also works where folders can't be
//! locked (NFS, systems other than Unix), and keeps out older versions of this program. Three
//! things keep a run to one writer:
//!
//! 1. A second process can't start while either lock is held.
//! 2. Before each commit [`RunLock::check`] compares the folder and the file at their paths with
//!    the ones that are
//!    locked. So a process whose folder was moved, or whose file was replaced, stops instead of writing.
//! 3. The store compares its own file likewise, and refuses to commit after another writer did.
//!    That holds without any
//!    lock (see `store/guard.rs`).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs4::{FileExt, TryLockError};

/// Name of the lock's file within the run's folder.
const FILE: &str = "lock";
/// How often the lock is tried, and the pause after each try: five seconds. After `kill -9` the
/// kernel holds the lock until it has torn the process down.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of the file that are read.
const TEXT_MAX: u64 = 128;

/// Holds the lock while it lives.
#[derive(Debug)]
pub struct RunLock {
    dir: PathBuf,
    file: File,
    /// The locked folder; `None` where folders can't be locked.
    folder: Option<File>,
    /// What the process before this one left in the file.
    left: Option<Beat>,
}

/// A sign of life: how long a session has worked. It is in the second line of the lock's file, because
/// a unit, which stores it, can take minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beat {
    /// The session's row.
    pub session: i64,
    pub seconds: f64,
}

impl Beat {
    /// The beat in the text of a lock's file, if there is one.
    fn parse(text: &str) -> Option<Self> {
        let (session, seconds) = text.lines().nth(1)?.trim().split_once(' ')?;
        let seconds: f64 = seconds.trim().parse().ok()?;
        Some(Self { session: session.parse().ok()?, seconds }).filter(|beat| beat.seconds.is_finite())
    }
}

impl RunLock {
    /// Takes the lock of the run in `dir`. If another process has it, `waiting` gets a line about
    /// that, and the lock is tried again for five seconds.
    ///
    /// # Errors
    /// Another process keeps the lock, or its file can't be written.
    pub fn take(dir: &Path, waiting: &dyn Fn(String)) -> Result<Self> {
        Self::take_within(TRIES, dir, waiting)
    }

    fn take_within(tries: u32, dir: &Path, waiting: &dyn Fn(String)) -> Result<Self> {
        for tried in 1..=tries {
            if let Some(lock) = Self::try_take(dir)? {
                return Ok(lock);
            }
            if tried == 1 {
                waiting(format!("waiting for another process to let go of the run in {}", dir.display()));
            }
            if tried < tries {
                std::thread::sleep(PAUSE);
            }
        }
        bail!(
            "another process is working on the run in {}: wait for it, stop it, or choose another folder \
             with --set run.dir=…",
            dir.display()
        )
    }

    /// `None` while another process has it.
    fn try_take(dir: &Path) -> Result<Option<Self>> {
        let Some(folder) = lock_folder(dir)? else { return Ok(None) };
        let path = dir.join(FILE);
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).with_context(
                || format!("cannot write to {}: check the folder's permissions", path.display()),
            )?;
        match FileExt::try_lock(&file) {
            Ok(()) => {
                let left = Beat::parse(&text_of(&file));
                let lock = Self { dir: dir.to_owned(), file, folder, left };
                lock.sign().with_context(|| format!("cannot write to {}", path.display()))?;
                Ok(Some(lock))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Writes into the file who has the lock, for people and [`holder`].
    fn sign(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.write(&format!("{}\n", std::process::id()))
    }

    /// Writes this process and its sign of life into the file.
    pub fn beat(&self, beat: Beat) -> io::Result<()> {
        // Of one length, so that nothing of a longer one remains.
        self.write(&format!("{}\n{} {:>12.1}\n", std::process::id(), beat.session, beat.seconds))
    }

    /// What the process before this one left.
    pub fn left(&self) -> Option<Beat> {
        self.left
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())
    }

    /// Fails if the locked folder or file is no longer what its path names: then another process
    /// may hold the lock of what is there now.
    pub fn check(&self) -> Result<()> {
        let path = self.dir.join(FILE);
        let folder = self.folder.as_ref().map_or(Ok(At::Same), |folder| At::of(&self.dir, folder));
        let file = At::of(&path, &self.file);
        let context = || format!("cannot look at the lock {}", path.display());
        let moved = match (folder.with_context(context)?, file.with_context(context)?) {
            (At::Same, At::Same) => return Ok(()),
            // Nobody can hold a file that isn't there, and the folder's lock keeps others from
            // making one.
            (At::Same, At::Nothing) if self.folder.is_some() => return Ok(()),
            (At::Same, _) => &path,
            _ => &self.dir,
        };
        bail!(
            "{} was moved, removed or replaced while this process worked on the run, so another process may be working \
             on it now. This one stops without writing; stop the others, then run the same command again",
            moved.display()
        )
    }
}

/// The process that works on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `None` if the lock's file doesn't have it.
    pub pid: Option<u32>,
}

/// Who has the lock of the run in `dir`; `None` if nobody has it. Takes nothing and writes nothing:
/// a run that starts at this moment tries again.
///
/// # Errors
/// The folder or the lock's file is there and can't be opened.
pub fn holder(dir: &Path) -> Result<Option<Holder>> {
    let path = dir.join(FILE);
    let there = |opened: io::Result<File>, path: &Path| match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at the lock {}", path.display())),
    };
    let file = there(File::open(&path), &path)?;
    let folder = if cfg!(unix) { there(File::open(dir), dir)? } else { None };
    let is_held = |file: &File| matches!(FileExt::try_lock_shared(file), Err(TryLockError::WouldBlock));
    if !file.iter().chain(&folder).any(is_held) {
        return Ok(None);
    }
    let text = file.as_ref().map(text_of).unwrap_or_default();
    Ok(Some(Holder { pid: text.lines().next().and_then(|line| line.trim().parse().ok()) }))
}

/// The text of a lock's file. One that can't be read, or is no text, names nobody.
fn text_of(file: &File) -> String {
    let mut text = String::new();
    match file.take(TEXT_MAX).read_to_string(&mut text) {
        Ok(_) => text,
        Err(_) => String::new(),
    }
}

/// What a path names now, against an open file.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Same,
    Other,
    Nothing,
}

impl At {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::Nothing),
            Err(error) => Err(error),
            Ok(found) => Ok(if is_same(&found, &file.metadata()?) { Self::Same } else { Self::Other }),
        }
    }
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere an open file can't be replaced.
#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Locks the folder: `None` while another process has it, `Some(None)` where folders can't be
/// locked.
#[cfg(unix)]
fn lock_folder(dir: &Path) -> Result<Option<Option<File>>> {
    let folder =
        File::open(dir).with_context(|| format!("cannot open the run's folder {}", dir.display()))?;
    Ok(match FileExt::try_lock(&folder) {
        Ok(()) => Some(Some(folder)),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(_)) => Some(None),
    })
}

#[cfg(not(unix))]
fn lock_folder(_: &Path) -> Result<Option<Option<File>>> {
    Ok(Some(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs;

    fn silent(_: String) {}

    #[test]
    fn a_sign_of_life_is_left_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let take = || RunLock::take(dir.path(), &|_| ()).unwrap();
        let lock = take();
        assert_eq!(lock.left(), None);
        for seconds in [99_999.5, 7.25] {
            lock.beat(Beat { session: 3, seconds }).unwrap();
        }
        assert_eq!(holder(dir.path()).unwrap().unwrap().pid, Some(std::process::id()));
        drop(lock);
        assert_eq!(take().left(), Some(Beat { session: 3, seconds: 7.2 }));
        assert_eq!(take().left(), None, "the one before left none");
        for text in ["", "12\n", "12\n3\n", "12\nx 1.0\n", "12\n3 inf\n", "\u{0}\n\n"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(take().left(), None, "{text:?}");
        }
    }

    #[test]
    fn a_second_taker_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path(), &silent).unwrap();
        let lines = RefCell::new(Vec::new());
        let error = RunLock::take_within(3, dir.path(), &|line| lines.borrow_mut().push(line)).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert_eq!(lines.borrow().len(), 1, "{lines:?}");
        drop(first);
        RunLock::take(dir.path(), &silent).unwrap();
    }

    #[test]
    fn the_holder_is_named_while_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(&dir.path().join("absent")).unwrap(), None);
        assert_eq!(holder(dir.path()).unwrap(), None);
        let lock = RunLock::take(dir.path(), &silent).unwrap();
        let own = Some(Holder { pid: Some(std::process::id()) });
        assert_eq!(holder(dir.path()).unwrap(), own);
        assert_eq!(holder(dir.path()).unwrap(), own, "looking changes nothing");
        drop(lock);
        assert_eq!(holder(dir.path()).unwrap(), None, "a file that is left names nobody");
        RunLock::take(dir.path(), &silent).unwrap();
    }

    #[test]
    fn a_taker_waits_for_a_process_that_is_ending() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path(), &silent).unwrap();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(3 * PAUSE);
            drop(first);
        });
        RunLock::take(dir.path(), &silent).unwrap();
        ending.join().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn without_the_file_the_folder_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path(), &silent).unwrap();
        fs::remove_file(dir.path().join(FILE)).unwrap();
        RunLock::take_within(1, dir.path(), &silent).unwrap_err();
        assert!(!dir.path().join(FILE).exists());
        first.check().unwrap();
        let unlocked = RunLock { folder: None, ..first };
        unlocked.check().unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_or_folder_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        fs::create_dir(&dir).unwrap();
        let lock = RunLock::take(&dir, &silent).unwrap();
        fs::remove_file(dir.join(FILE)).unwrap();
        fs::write(dir.join(FILE), "").unwrap();
        let error = lock.check().unwrap_err().to_string();
        assert!(error.contains("run/lock") && error.contains("replaced"), "{error}");
        fs::rename(&dir, root.path().join("moved")).unwrap();
        assert!(lock.check().unwrap_err().to_string().contains("run was moved"));
        fs::create_dir(&dir).unwrap();
        lock.check().unwrap_err();
    }
}
