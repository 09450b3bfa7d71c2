//! Writing GGUF, version 3: the header from what is known beforehand, then one tensor after another, so that no more
//! than one need be in memory.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::header::{ALIGNMENT, MAGIC};
use super::{Dtype, Value};

const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes of all its elements.
    pub fn bytes(&self) -> Result<usize> {
        let (elements, bytes) = self.dtype.block()?;
        let columns = self.shape.last().copied().unwrap_or(1);
        ensure!(
            columns.is_multiple_of(elements),
            "tensor `{}`: rows of {columns} elements aren't whole {} blocks",
            self.name,
            self.dtype.name()
        );
        Ok(self.shape.iter().product::<usize>() / elements * bytes)
    }
}

/// Writes a whole file: metadata in the given order, then the tensors, whose bytes `data` gives by their place in the
/// list.
pub fn write(
    out: &mut impl Write,
    metadata: &[(String, Value)],
    tensors: &[TensorSpec],
    mut data: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut header = Vec::new();
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut header, key);
        put(&mut header, value).with_context(|| format!("metadata {key:?} can't be written"))?;
    }
    let mut offset = 0u64;
    for tensor in tensors {
        text(&mut header, &tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        for &size in tensor.shape.iter().rev() {
            header.extend((size as u64).to_le_bytes());
        }
        header.extend(tensor.dtype.id().to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += (tensor.bytes()? as u64).next_multiple_of(ALIGNMENT);
    }
    pad(&mut header);
    out.write_all(&header)?;
    for (n, tensor) in tensors.iter().enumerate() {
        let mut bytes = data(n)?;
        let wanted = tensor.bytes()?;
        ensure!(
            bytes.len() == wanted,
            "tensor `{}` has {} bytes; {wanted} are needed",
            tensor.name,
            bytes.len()
        );
        pad(&mut bytes);
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn text(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

fn put(header: &mut Vec<u8>, value: &Value) -> Result<()> {
    let mut list = |kind: u32, count: usize| {
        header.extend(9u32.to_le_bytes());
        header.extend(kind.to_le_bytes());
        header.extend((count as u64).to_le_bytes());
    };
    match value {
        Value::Unsigned(n) => {
            let n = u32::try_from(*n).with_context(|| format!("{n} is too large"))?;
            header.extend(4u32.to_le_bytes());
            header.extend(n.to_le_bytes());
        }
        Value::Signed(n) => {
            let n = i32::try_from(*n).with_context(|| format!("{n} is too large"))?;
            header.extend(5u32.to_le_bytes());
            header.extend(n.to_le_bytes());
        }
        Value::Float(x) => {
            header.extend(6u32.to_le_bytes());
            header.extend((*x as f32).to_le_bytes());
        }
        Value::Bool(b) => {
            header.extend(7u32.to_le_bytes());
            header.push(u8::from(*b));
        }
        Value::Text(s) => {
            header.extend(8u32.to_le_bytes());
            text(header, s);
        }
        Value::Texts(texts) => {
            list(8, texts.len());
            texts.iter().for_each(|s| text(header, s));
        }
        Value::Integers(numbers) => {
            list(5, numbers.len());
            for n in numbers {
                let n = i32::try_from(*n).with_context(|| format!("{n} is too large"))?;
                header.extend(n.to_le_bytes());
            }
        }
        Value::Floats(numbers) => {
            list(6, numbers.len());
            numbers.iter().for_each(|x| header.extend((*x as f32).to_le_bytes()));
        }
        Value::Bools(flags) => {
            list(7, flags.len());
            header.extend(flags.iter().map(|&b| u8::from(b)));
        }
        Value::Nested => anyhow::bail!("lists of lists are not written"),
    }
    Ok(())
}
