//! A trainer's state on disk: weights, optimizer moments and the step, so that an interrupted phase goes on
//! with the bits it would have had.
//!
//! A state is a directory: `tensors.safetensors`, `state.json` and, in `blake3`, the hash over the bytes of both.
//! It is written under a temporary name, synced, and renamed into place: a directory under the final name is
//! complete.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::model::{Lazy, le_bytes, open_safetensors, write_tensors};
use crate::ops::optimizer::Moment;

const TENSORS: &str = "tensors.safetensors";
const HEADER: &str = "state.json";
const HASH: &str = "blake3";
/// Raised whenever a reader of the old form would misread the new one.
const FORMAT: u32 = 1;

/// Named tensors: shape and values in row-major order.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Moment)>;

#[derive(Serialize, Deserialize)]
struct Envelope<H> {
    format: u32,
    header: H,
}

/// A buffer to be saved, as a vector.
pub(super) fn buffer<'a>(name: String, buffer: Cow<'a, Moment>) -> Lazy<'a> {
    let (shape, dtype) = match &*buffer {
        Moment::F32(values) => (vec![values.len()], Dtype::F32),
        Moment::Bf16(bits) => (vec![bits.len()], Dtype::BF16),
    };
    let bytes = move || {
        Ok(match &*buffer {
            Moment::F32(values) => le_bytes(values),
            Moment::Bf16(bits) => bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
        })
    };
    Lazy { name, dtype, shape, bytes: Box::new(bytes) }
}

/// Writes a state to `dir`, replacing the one that is there.
pub(super) fn save<'a>(
    dir: &Path,
    header: &impl Serialize,
    tensors: impl Iterator<Item = Lazy<'a>>,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(&Envelope { format: FORMAT, header })?;
    let fill = |fresh: &Path| -> Result<()> {
        let path = fresh.join(TENSORS);
        write_tensors(&path, None, tensors)?;
        File::open(&path)?.sync_all()?;
        write(&fresh.join(HEADER), &json)?;
        write(&fresh.join(HASH), hash(&json, &path)?.as_bytes())
    };
    replace_dir(dir, fill).with_context(|| format!("can't save the trainer's state to {}", dir.display()))
}

/// Reads the state at `dir`, checking its hash.
pub(super) fn load<H: for<'de> Deserialize<'de>>(dir: &Path) -> Result<(H, Tensors)> {
    // A crash between the two renames of a replacement leaves the old state under its other name.
    let dir = if dir.exists() { dir.to_owned() } else { beside(dir, "old")? };
    read(&dir).with_context(|| {
        format!("the trainer's state at {} can't be used; delete it to train the phase again", dir.display())
    })
}

fn read<H: for<'de> Deserialize<'de>>(dir: &Path) -> Result<(H, Tensors)> {
    let open = |name: &str| fs::read(dir.join(name)).with_context(|| format!("can't read {name}"));
    let (json, written) = (open(HEADER)?, open(HASH)?);
    let path = dir.join(TENSORS);
    let found = hash(&json, &path)?;
    ensure!(
        found.as_bytes() == written,
        "its hash is {found} instead of {}: it is damaged or was cut short",
        String::from_utf8_lossy(&written)
    );
    let Format { format } = serde_json::from_slice(&json).with_context(|| format!("{HEADER} is damaged"))?;
    ensure!(format == FORMAT, "it has format {format}, this program reads {FORMAT}");
    let envelope: Envelope<H> =
        serde_json::from_slice(&json).with_context(|| format!("{HEADER} is damaged"))?;
    let tensors = read_tensors(&path).with_context(|| format!("can't read {TENSORS}"))?;
    Ok((envelope.header, tensors))
}

/// Of an [`Envelope`], what every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Over the header and the bytes of the tensors' file: as it is read back, so that none of it has to be held.
fn hash(json: &[u8], tensors: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(json.len() as u64).to_le_bytes());
    hasher.update(json);
    let file = File::open(tensors).with_context(|| format!("can't read {TENSORS}"))?;
    hasher.update_reader(file).with_context(|| format!("can't read {TENSORS}"))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Tensor by tensor, so that hardly more than their values is in memory.
fn read_tensors(path: &Path) -> Result<Tensors> {
    let (mut file, header, start) = open_safetensors(path)?;
    let mut tensors = Tensors::new();
    for name in header.offset_keys() {
        let info = header.info(&name).context("a tensor that its own header doesn't know")?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        file.seek(SeekFrom::Start(start + from as u64))?;
        file.read_exact(&mut bytes)?;
        let values = match info.dtype {
            Dtype::F32 => Moment::F32(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            Dtype::BF16 => Moment::Bf16(bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect()),
            other => anyhow::bail!("tensor `{name}` has type {other:?} instead of F32 or BF16"),
        };
        tensors.insert(name, (info.shape.clone(), values));
    }
    Ok(tensors)
}

/// `dir` with `suffix` appended to its hidden name.
fn beside(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let name = dir.file_name().with_context(|| format!("{} names no directory", dir.display()))?;
    Ok(dir.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

/// Makes `dir` hold exactly what `fill` writes; a crash at any moment leaves the old or the new content, whole.
fn replace_dir(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (fresh, old) = (beside(dir, "new")?, beside(dir, "old")?);
    let parent = fresh.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir(&fresh)?;
    fill(&fresh)?;
    File::open(&fresh)?.sync_all()?;
    if dir.exists() {
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        fs::rename(dir, &old)?;
    }
    fs::rename(&fresh, dir)?;
    File::open(parent)?.sync_all()?;
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// A file that has reached the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Tensors {
        let values = Moment::F32(vec![1.5, -0.0, f32::MIN_POSITIVE / 2.0, 3.0, f32::MAX, 7.25]);
        let halves = Moment::Bf16(vec![1, 0x3f80, 0x8000]);
        [("b".to_string(), (vec![6], values)), ("a".to_string(), (vec![3], halves))].into()
    }

    fn save(dir: &Path, header: &u32, tensors: &Tensors) -> Result<()> {
        super::save(dir, header, tensors.iter().map(|(name, (_, x))| buffer(name.clone(), Cow::Borrowed(x))))
    }

    #[test]
    fn a_state_round_trips_and_is_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("deep").join("state");
        save(&dir, &1u32, &tensors()).unwrap();
        save(&dir, &2u32, &tensors()).unwrap();
        assert_eq!(load::<u32>(&dir).unwrap(), (2, tensors()));
        assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        let permissions = |file| fs::metadata(dir.join(file)).unwrap().permissions();
        assert_eq!(permissions(TENSORS), permissions(HEADER), "who may read one may read the other");
    }

    #[test]
    fn an_interrupted_replacement_leaves_a_state() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        save(&dir, &1u32, &tensors()).unwrap();
        fs::create_dir(home.path().join(".state.new")).unwrap();
        assert_eq!(load::<u32>(&dir).unwrap().0, 1);
        fs::rename(&dir, home.path().join(".state.old")).unwrap();
        assert_eq!(load::<u32>(&dir).unwrap().0, 1);
        save(&dir, &2u32, &tensors()).unwrap();
        assert_eq!(load::<u32>(&dir).unwrap().0, 2);
    }

    #[test]
    fn damage_is_an_error_that_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        let missing = format!("{:#}", load::<u32>(&dir).unwrap_err());
        assert!(missing.contains("state.json"), "{missing}");
        for file in [TENSORS, HEADER, HASH] {
            save(&dir, &11u32, &tensors()).unwrap();
            let whole = fs::read(dir.join(file)).unwrap();
            for at in [0, whole.len() / 2, whole.len() - 3] {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                fs::write(dir.join(file), &damaged).unwrap();
                assert!(load::<u32>(&dir).is_err(), "{file}: byte {at} flipped");
                fs::write(dir.join(file), &whole[..at]).unwrap();
                assert!(load::<u32>(&dir).is_err(), "{file}: cut at {at}");
            }
            fs::write(dir.join(file), &whole).unwrap();
            load::<u32>(&dir).unwrap();
        }
        let mut damaged = fs::read(dir.join(TENSORS)).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(dir.join(TENSORS), damaged).unwrap();
        let error = format!("{:#}", load::<u32>(&dir).unwrap_err());
        assert!(error.contains("delete it") && error.contains("hash"), "{error}");
    }
}
