//! The GGUF container: metadata under keys, tensors under names, and nothing about what they mean.
//!
//! [`File`] reads versions 2 and 3; [`write()`] makes version 3. The whole header is checked when a
//! file is opened: no count or length in it is believed beyond what the file's own length allows,
//! and every tensor must lie within the file. Tensors stay on disk until [`File::read`] fetches
//! one's bytes, quantized blocks as they are.
//!
//! It is a separate room because both `model` and `text` read these files and may not know each
//! other. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Left out: version 1
//! (2023), big-endian files, files split in several.

#![forbid(unsafe_code)]

mod dtype;
mod header;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

pub use dtype::Dtype;
pub use header::{Header, TensorInfo};
pub use value::{Metadata, Value};
pub use write::{TensorSpec, write};

/// What every GGUF file's name ends with.
const EXTENSION: &str = "gguf";

/// Whether the file's name ends like that of a GGUF file, in upper or lower case.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// A GGUF file on disk, its header read and checked.
pub struct File {
    path: PathBuf,
    header: Header,
    // A lock guards it, because a read moves the position in the file.
    file: Mutex<std::fs::File>,
}

impl File {
    /// Opens the file and checks its whole header.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("can't read the GGUF file {}", path.display());
        let file = std::fs::File::open(path).with_context(context)?;
        let length = file.metadata().with_context(context)?.len();
        let header = Header::read(BufReader::new(&file), length).with_context(context)?;
        Ok(Self { path: path.to_owned(), header, file: Mutex::new(file) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values before the tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Every tensor's place, type and shape.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.header.tensors
    }

    /// Type and shape of a tensor that has to be there.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let info = self.header.tensors.get(name);
        info.with_context(|| format!("tensor `{name}` is missing from {}", self.path.display()))
    }

    /// The bytes of `rows` of a tensor whose rows (its innermost dimension) are counted across all
    /// outer dimensions.
    pub fn read_rows(&self, name: &str, rows: std::ops::Range<usize>) -> Result<Vec<u8>> {
        let info = self.tensor(name)?;
        let row = info.row_bytes(name)?;
        if rows.start > rows.end || rows.end > info.rows() {
            bail!("tensor `{name}` has {} rows; {rows:?} were asked for", info.rows());
        }
        let mut bytes = vec![0; rows.len() * row];
        let context = || format!("can't read tensor `{name}` of {}", self.path.display());
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(info.offset + (rows.start * row) as u64)).with_context(context)?;
        file.read_exact(&mut bytes).with_context(context)?;
        Ok(bytes)
    }

    /// The bytes of a whole tensor.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.read_rows(name, 0..self.tensor(name)?.rows())
    }
}
