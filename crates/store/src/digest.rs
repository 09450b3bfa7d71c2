//! The hash of all rows of a store, and the hash of a checkpoint on disk.
//!
//! Two stores with the same digest hold the same ground state: same tasks, specs, trees, scores,
//! selections, steps, measurements, checkpoints and decisions, whatever units they were written in
//! and however often the run was interrupted. Left out: clocks, durations, events, alarms, a run's
//! state, a phase's detail, the engine's version, row ids, the parts of the configuration that
//! results don't depend on, and which checkpoint files were deleted since.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::SqliteConnection;

use super::canon::{self, Hash};
use super::read::Reader;
use autodidact_domain::profile::{self, Operator};

impl Reader {
    /// blake3 over every row of ground state, in hexadecimal.
    pub async fn digest(&self) -> Result<String> {
        // One snapshot, also while a run is writing.
        let mut tx = self.pool.begin().await.map_err(self.fail("digest the store"))?;
        digest(&mut tx).await.with_context(|| format!("couldn't digest `{}`", self.path.display()))
    }
}

pub(super) async fn digest(db: &mut SqliteConnection) -> Result<String> {
    let units: Vec<i64> = sqlx::query_scalar("SELECT id FROM units ORDER BY id").fetch_all(&mut *db).await?;
    let mut hashes = Vec::new();
    for unit in units {
        hashes.extend(canon::unit_rows(db, unit).await?);
    }
    sealed(db, hashes).await
}

/// The digest, from the hashes of every unit's rows.
pub(super) async fn sealed(db: &mut SqliteConnection, mut hashes: Vec<Hash>) -> Result<String> {
    hashes.extend(canon::run_rows(db).await?);
    let shared = "SELECT content_hash FROM tasks UNION ALL SELECT content_hash FROM specs";
    let shared: Vec<Vec<u8>> = sqlx::query_scalar(shared).fetch_all(db).await?;
    for hash in shared {
        let hash = Hash::try_from(hash.as_slice()).ok();
        hashes.push(hash.context("the hash of a task or a spec has the wrong length")?);
    }
    // Rows carry their natural keys, so the order of their hashes can stand for the order of the
    // rows.
    hashes.sort_unstable();
    Ok(blake3::Hash::from(canon::combined(&hashes)).to_hex().to_string())
}

/// (blake3 in hex, size in bytes) of a file, or of a folder: its files' relative names and contents
/// by name.
pub fn hash_path(path: &Path) -> Result<(String, u64)> {
    let _span = profile::span(Operator::Checkpoint);
    if path.is_file() {
        let (hash, bytes) = hash_file(path)?;
        return Ok((hash.to_hex().to_string(), bytes));
    }
    let mut files = Vec::new();
    list(path, &mut files)?;
    let mut named: Vec<(String, PathBuf)> = Vec::with_capacity(files.len());
    for file in files {
        let relative = file.strip_prefix(path).context("a listed file lies outside its folder")?;
        let parts: Vec<_> = relative.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        named.push((parts.join("/"), file));
    }
    named.sort();
    let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 folder v1");
    let mut total = 0;
    for (name, file) in &named {
        let (hash, bytes) = hash_file(file)?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(hash.as_bytes());
        total += bytes;
    }
    Ok((hasher.finalize().to_hex().to_string(), total))
}

fn hash_file(path: &Path) -> Result<(blake3::Hash, u64)> {
    let file = File::open(path).with_context(|| format!("couldn't read `{}`", path.display()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).with_context(|| format!("couldn't read `{}`", path.display()))?;
    Ok((hasher.finalize(), hasher.count()))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("couldn't read the folder `{}`", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
