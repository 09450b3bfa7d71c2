//! A trainer's state on disk: weights, optimizer moments and the step, so that an interrupted phase goes on
//! with the bits it would have had.
//!
//! A state is a directory: `tensors.safetensors`, `state.json` and, in `blake3`, the hash over the bytes of both.
//! It is written beside its final name, synced, and renamed into place: a directory under the final name is
//! complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

const TENSORS: &str = "tensors.safetensors";
const HEADER: &str = "state.json";
const HASH: &str = "blake3";
/// Raised whenever a reader of the old form would misread the new one.
const FORMAT: u32 = 1;

/// Named tensors: shape and values in row-major order.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[derive(Serialize, Deserialize)]
struct Envelope<H> {
    format: u32,
    header: H,
}

/// Writes a state to `dir`, replacing the one that is there.
pub(super) fn save(dir: &Path, header: &impl Serialize, tensors: &Tensors) -> Result<()> {
    let bytes = serialize(tensors)?;
    let json = serde_json::to_vec_pretty(&Envelope { format: FORMAT, header })?;
    let hash = hash(&json, &bytes);
    replace_dir(dir, &[(TENSORS, &bytes), (HEADER, &json), (HASH, hash.as_bytes())])
        .with_context(|| format!("can't save the trainer's state to {}", dir.display()))
}

/// Reads the state at `dir`, checking its hash.
pub(super) fn load<H: for<'de> Deserialize<'de>>(dir: &Path) -> Result<(H, Tensors)> {
    // A crash between the two renames of a replacement leaves the old state under its other name.
    let dir = if dir.exists() { dir.to_owned() } else { beside(dir, "old")? };
    read(&dir).with_context(|| {
        format!("the trainer's state at {} can't be used; delete it to train the phase anew", dir.display())
    })
}

fn read<H: for<'de> Deserialize<'de>>(dir: &Path) -> Result<(H, Tensors)> {
    let open = |name: &str| fs::read(dir.join(name)).with_context(|| format!("can't read {name}"));
    let (json, bytes, written) = (open(HEADER)?, open(TENSORS)?, open(HASH)?);
    let found = hash(&json, &bytes);
    ensure!(
        found.as_bytes() == written,
        "its hash is {found} instead of {}: it is damaged or was cut short",
        String::from_utf8_lossy(&written)
    );
    let Format { format } = serde_json::from_slice(&json).with_context(|| format!("{HEADER} is damaged"))?;
    ensure!(format == FORMAT, "it has format {format}, this program reads {FORMAT}");
    let envelope: Envelope<H> =
        serde_json::from_slice(&json).with_context(|| format!("{HEADER} is damaged"))?;
    Ok((envelope.header, deserialize(&bytes)?))
}

/// Of an [`Envelope`], what every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn hash(json: &[u8], tensors: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(json.len() as u64).to_le_bytes());
    hasher.update(json);
    hasher.update(tensors);
    hasher.finalize().to_hex().to_string()
}

fn serialize(tensors: &Tensors) -> Result<Vec<u8>> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, None)?)
}

fn deserialize(bytes: &[u8]) -> Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).with_context(|| format!("{TENSORS} is damaged"))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            bail!("tensor `{name}` has type {:?} instead of F32", view.dtype());
        }
        let (values, _) = view.data().as_chunks();
        let values = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
        tensors.insert(name, (view.shape().to_vec(), values));
    }
    Ok(tensors)
}

/// `dir` with `suffix` appended to its hidden name.
fn beside(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let name = dir.file_name().with_context(|| format!("{} names no directory", dir.display()))?;
    Ok(dir.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

/// Makes `dir` hold exactly `files`; a crash at any moment leaves the old or the new content, whole.
fn replace_dir(dir: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let (fresh, old) = (beside(dir, "new")?, beside(dir, "old")?);
    let parent = fresh.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir(&fresh)?;
    for (name, bytes) in files {
        let mut file = File::create(fresh.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Tensors {
        let values = vec![1.5, -0.0, f32::MIN_POSITIVE / 2.0, 3.0, f32::MAX, 7.25];
        [("b".to_string(), (vec![2, 3], values)), ("a".to_string(), (vec![1], vec![0.1]))].into()
    }

    #[test]
    fn a_state_round_trips_and_is_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("deep").join("state");
        save(&dir, &1u32, &tensors()).unwrap();
        save(&dir, &2u32, &tensors()).unwrap();
        assert_eq!(load::<u32>(&dir).unwrap(), (2, tensors()));
        assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
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
