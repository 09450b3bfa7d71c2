//! Writes tensors to a safetensors file one at a time: only the bytes of one tensor are in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Error, Result};
use safetensors::tensor::{Dtype, View};

/// A tensor whose bytes are made when it is written.
pub(crate) struct Lazy<'a> {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Its elements, little-endian and in row-major order.
    pub bytes: Box<dyn Fn() -> Result<Vec<u8>> + 'a>,
}

impl Lazy<'_> {
    fn length(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The format that transformers and PEFT expect in a checkpoint's metadata.
pub(super) const PYTORCH: Option<&str> = Some("pt");

/// Writes the file `path`; `format` goes into its metadata.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    format: Option<&str>,
    tensors: impl Iterator<Item = Lazy<'a>>,
) -> Result<()> {
    let failed = RefCell::new(None);
    let views = tensors.map(|tensor| (tensor.name.clone(), Written { tensor, failed: &failed }));
    let write = || -> Result<()> {
        // The library makes files that only their owner can read. This one gets the usual
        // permissions.
        let permissions = File::create(path)?.metadata()?.permissions();
        let metadata = format.map(|format| HashMap::from([("format".to_owned(), format.to_owned())]));
        safetensors::serialize_to_file(views, metadata, path)?;
        Ok(fs::set_permissions(path, permissions)?)
    };
    let written = write();
    match failed.take() {
        Some(error) => Err(error),
        None => written,
    }
    .with_context(|| format!("can't write {}", path.display()))
}

/// The library can't report errors of a tensor's source, so the first error is kept for later.
struct Written<'a> {
    tensor: Lazy<'a>,
    failed: &'a RefCell<Option<Error>>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.tensor.bytes)().unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            vec![0; self.tensor.length()]
        }))
    }

    fn data_len(&self) -> usize {
        self.tensor.length()
    }
}
