//! Fetches one file into the cache: complete and checked, or not at all.
//!
//! A blob is written to an `.incomplete` file, under the same lock that Python's `huggingface_hub`
//! takes. After an interruption a range request resumes it. The contents are compared with their
//! hash if the hub sends it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use super::cache::{Repo, create_parent};
use super::http::{self, ATTEMPTS, Attempt, Client, Failure};
use super::{Event, Remote};

/// A connection that broke after this many bytes is no failure in a row.
const PROGRESS: u64 = 1 << 20;

/// How long another process may hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(600);
/// Between two attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(200);

const BUFFER: usize = 1 << 18;

/// Fetches the blob of `file` into the cache, unless it is there.
pub(super) fn fetch(
    client: &Client,
    repo: &Repo,
    url: &str,
    file: &Remote,
    on_event: &dyn Fn(Event),
) -> Result<()> {
    let blob = repo.blob(&file.etag);
    let is_here = || blob.metadata().is_ok_and(|data| data.len() == file.bytes);
    if is_here() {
        return Ok(());
    }
    let _lock = lock(repo, file, on_event)?;
    if is_here() {
        return Ok(());
    }
    let path = repo.incomplete(&file.etag);
    create_parent(&path)?;
    let context = || format!("cannot write {}", path.display());
    let mut out = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(context)?;
    let here = out.metadata().with_context(context)?.len().min(file.bytes);
    on_event(Event::Fetching { file: file.name.clone(), bytes: file.bytes, here });
    receive(client, url, file, &mut out, on_event)?;
    if let Err(error) = check(&mut out, file) {
        // If the wrong bytes stayed, a resumed fetch would fail in the same way.
        std::fs::remove_file(&path).with_context(context)?;
        return Err(error);
    }
    out.sync_all().with_context(context)?;
    std::fs::rename(&path, &blob).with_context(|| format!("cannot write {}", blob.display()))
}

/// The lock; it is released when it is dropped.
fn lock(repo: &Repo, file: &Remote, on_event: &dyn Fn(Event)) -> Result<File> {
    let (path, lock) = repo.lock_file(&file.etag)?;
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
        if waited.is_zero() {
            let message = format!("another process is fetching {}; waiting for it", file.name);
            on_event(Event::Note { message });
        }
        ensure!(
            waited < LOCK_WAIT,
            "another process has held {} for {} s: end it, or remove the file if there is none",
            path.display(),
            LOCK_WAIT.as_secs()
        );
        std::thread::sleep(LOCK_POLL);
        waited += LOCK_POLL;
    }
}

/// Receives the missing bytes, and resumes where a connection broke.
fn receive(
    client: &Client,
    url: &str,
    file: &Remote,
    out: &mut File,
    on_event: &dyn Fn(Event),
) -> Result<()> {
    let mut failures = 0;
    loop {
        let before = out.metadata()?.len();
        if before == file.bytes {
            return Ok(());
        }
        let (error, asked) = match attempt(client, url, file, out, on_event) {
            Ok(()) => continue,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error, asked)) => (error, asked),
        };
        let here = out.metadata()?.len();
        failures = if here >= before + PROGRESS { 1 } else { failures + 1 };
        if failures >= ATTEMPTS {
            bail!(
                "{error:#}: {here} of {} bytes are here after {ATTEMPTS} attempts; the same command resumes from there",
                file.bytes
            );
        }
        let message = format!("{}: {error:#}; trying again from byte {here}", file.name);
        on_event(Event::Note { message });
        http::pause(failures, asked);
    }
}

/// One request, from the first missing byte to the end of the file.
fn attempt(
    client: &Client,
    url: &str,
    file: &Remote,
    out: &mut File,
    on_event: &dyn Fn(Event),
) -> Attempt<()> {
    let disk = |error: std::io::Error| Failure::Final(anyhow!(error).context("cannot write to the cache"));
    let here = out.metadata().map_err(disk)?.len();
    // More bytes than the file has: they are of another file.
    let from = if here > file.bytes { 0 } else { here };
    let (start, body) = client.contents(url, from)?;
    out.set_len(start).map_err(disk)?;
    out.seek(SeekFrom::Start(start)).map_err(disk)?;
    let mut left = file.bytes - start;
    let mut body = body.into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(Failure::Passing(anyhow!("the connection broke: {error}"), None)),
        };
        if read as u64 > left {
            let message = format!("{url} sent more than the {} bytes that it announced", file.bytes);
            return Err(Failure::Final(anyhow!(message)));
        }
        out.write_all(&buffer[..read]).map_err(disk)?;
        left -= read as u64;
        on_event(Event::Received { bytes: read as u64 });
    }
    match left {
        0 => Ok(()),
        _ => Err(Failure::Passing(anyhow!("the contents end {left} bytes too early"), None)),
    }
}

/// Compares the contents with their hash, which is the ETag of large files.
fn check(out: &mut File, file: &Remote) -> Result<()> {
    let is_hash = file.etag.len() == 64 && file.etag.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hash {
        return Ok(());
    }
    out.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match out.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        found == file.etag.to_lowercase(),
        "its contents hash to {found:.16}… and should hash to {:.16}…; they were deleted: try again",
        file.etag
    );
    Ok(())
}
