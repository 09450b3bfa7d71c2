//! Reading a GGUF header. Whatever the bytes are, the outcome is a header that fits the file or an
//! error that names the key or tensor it stands at, and memory stays within a small multiple of the
//! file's length.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::Dtype;
use super::value::{Metadata, Value};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// The start of the tensors is rounded up to a multiple of this, unless `general.alignment` sets
/// another number.
pub(super) const ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT_MAX: u64 = 1 << 20;
/// As many dimensions as ggml has.
const DIMENSIONS_MAX: u32 = 4;
/// Longest name of a key or tensor, in bytes.
const NAME_MAX: u64 = 1 << 16;
/// How deeply arrays may lie in arrays.
const DEPTH_MAX: usize = 8;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    /// Outermost dimension first, as in PyTorch; the file has them the other way round.
    pub shape: Vec<usize>,
    /// First byte, from the beginning of the file.
    pub offset: u64,
}

impl TensorInfo {
    /// Elements of the innermost dimension.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// How many rows there are in all outer dimensions together.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Bytes of one row of the tensor called `name`.
    pub fn row_bytes(&self, name: &str) -> Result<usize> {
        let (elements, bytes) =
            self.dtype.block().with_context(|| format!("tensor `{name}` can't be read"))?;
        ensure!(
            self.columns().is_multiple_of(elements),
            "tensor `{name}` has rows of {} elements, which aren't whole {} blocks of {elements}",
            self.columns(),
            self.dtype.name()
        );
        Ok(self.columns() / elements * bytes)
    }
}

/// Everything before the tensors' bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// A reader that knows how much can still come.
struct Bytes<R> {
    reader: R,
    left: u64,
    position: u64,
}

impl<R: Read> Bytes<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(N as u64)?;
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        ensure!(
            bytes <= self.left,
            "the file ends early: {bytes} bytes are needed at byte {} and {} are left; it is cut off or damaged",
            self.position,
            self.left
        );
        self.left -= bytes;
        self.position += bytes;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, max: u64) -> Result<String> {
        let length = self.u64()?;
        ensure!(length <= max, "a text claims {length} bytes; at most {max}");
        self.take(length)?;
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        // Vocabularies hold pieces of characters too; what isn't UTF-8 can't be matched by a text
        // anyway.
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// `count` elements that take at least `bytes_min` each: refused before anything is allocated
    /// for them.
    fn list<T>(
        &mut self,
        count: u64,
        bytes_min: u64,
        read: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let needed = count.saturating_mul(bytes_min);
        ensure!(
            needed <= self.left,
            "a list claims {count} elements, {needed} bytes or more, and {} are left; the file is cut off or damaged",
            self.left
        );
        (0..count).map(|_| read(self)).collect()
    }

    fn integer(&mut self, kind: u32) -> Result<i64> {
        Ok(match kind {
            0 => i64::from(u8::from_le_bytes(self.array()?)),
            1 => i64::from(i8::from_le_bytes(self.array()?)),
            2 => i64::from(u16::from_le_bytes(self.array()?)),
            3 => i64::from(i16::from_le_bytes(self.array()?)),
            4 => i64::from(self.u32()?),
            5 => i64::from(i32::from_le_bytes(self.array()?)),
            10 => {
                let n = self.u64()?;
                i64::try_from(n).map_err(|_| anyhow::anyhow!("{n} is too large"))?
            }
            _ => i64::from_le_bytes(self.array()?),
        })
    }

    fn float(&mut self, kind: u32) -> Result<f64> {
        if kind == 12 {
            return Ok(f64::from_le_bytes(self.array()?));
        }
        let x = f32::from_le_bytes(self.array()?);
        // The shortest decimal that rounds to this f32: 1e-5 rather than 9.999999747378752e-6.
        Ok(if x.is_finite() { x.to_string().parse()? } else { f64::from(x) })
    }

    fn bool(&mut self) -> Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => bail!("a flag is {other}; it must be 0 or 1"),
        }
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 | 2 | 4 => Value::Unsigned(self.integer(kind)? as u64),
            10 => Value::Unsigned(self.u64()?),
            1 | 3 | 5 | 11 => Value::Signed(self.integer(kind)?),
            6 | 12 => Value::Float(self.float(kind)?),
            7 => Value::Bool(self.bool()?),
            8 => Value::Text(self.text(u64::MAX)?),
            9 => return self.values(depth),
            other => bail!("a value is of type {other}, which GGUF doesn't have"),
        })
    }

    fn values(&mut self, depth: usize) -> Result<Value> {
        let (kind, count) = (self.u32()?, self.u64()?);
        Ok(match kind {
            0 | 1 => Value::Integers(self.list(count, 1, |r| r.integer(kind))?),
            2 | 3 => Value::Integers(self.list(count, 2, |r| r.integer(kind))?),
            4 | 5 => Value::Integers(self.list(count, 4, |r| r.integer(kind))?),
            10 | 11 => Value::Integers(self.list(count, 8, |r| r.integer(kind))?),
            6 => Value::Floats(self.list(count, 4, |r| r.float(kind))?),
            12 => Value::Floats(self.list(count, 8, |r| r.float(kind))?),
            7 => Value::Bools(self.list(count, 1, Self::bool)?),
            8 => Value::Texts(self.list(count, 8, |r| r.text(u64::MAX))?),
            9 => {
                ensure!(depth < DEPTH_MAX, "lists lie in lists more than {DEPTH_MAX} deep");
                // Only read over: their contents aren't kept.
                for _ in 0..count {
                    self.values(depth + 1)?;
                }
                Value::Nested
            }
            other => bail!("a list is of type {other}, which GGUF doesn't have"),
        })
    }
}

impl Header {
    /// Reads the header of a file of `length` bytes from its beginning.
    pub fn read(reader: impl Read, length: u64) -> Result<Self> {
        let mut bytes = Bytes { reader, left: length, position: 0 };
        let magic = bytes.array()?;
        ensure!(
            magic == MAGIC,
            "it begins with the bytes {magic:02x?} rather than \"GGUF\"; it is no GGUF file"
        );
        let version = bytes.u32()?;
        ensure!(
            matches!(version, 2 | 3),
            "GGUF version {version} is not supported; supported: 2 and 3, little-endian"
        );
        let (tensors, values) = (bytes.u64()?, bytes.u64()?);
        // A tensor takes 32 bytes at least, a value 13: what doesn't fit is refused before it is
        // looked for.
        let needed = tensors.saturating_mul(32).saturating_add(values.saturating_mul(13));
        ensure!(
            needed <= bytes.left,
            "the header claims {tensors} tensors and {values} values, which take more than the {} bytes that are left",
            bytes.left
        );
        let mut metadata = Metadata::default();
        for n in 0..values {
            let key =
                bytes.text(NAME_MAX).with_context(|| format!("the name of metadata value {n} is damaged"))?;
            let kind = bytes.u32()?;
            let value = bytes.value(kind, 0).with_context(|| format!("metadata {key:?} is damaged"))?;
            ensure!(metadata.values.insert(key.clone(), value).is_none(), "metadata {key:?} is there twice");
        }
        let mut found = BTreeMap::new();
        for n in 0..tensors {
            let name = bytes.text(NAME_MAX).with_context(|| format!("the name of tensor {n} is damaged"))?;
            let info = info(&mut bytes).with_context(|| format!("tensor `{name}` is damaged"))?;
            ensure!(found.insert(name.clone(), info).is_none(), "tensor `{name}` is there twice");
        }
        let alignment = metadata.unsigned(ALIGNMENT_KEY)?.unwrap_or(ALIGNMENT);
        ensure!(
            alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX,
            "{ALIGNMENT_KEY} is {alignment}; it must be a power of two of at most {ALIGNMENT_MAX}"
        );
        place(&mut found, bytes.position.next_multiple_of(alignment), length)?;
        Ok(Self { metadata, tensors: found })
    }
}

/// Everything about a tensor but its name; the offset is from where tensors begin.
fn info(bytes: &mut Bytes<impl Read>) -> Result<TensorInfo> {
    let dimensions = bytes.u32()?;
    ensure!(dimensions <= DIMENSIONS_MAX, "it has {dimensions} dimensions; at most {DIMENSIONS_MAX}");
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = bytes.u64()?;
        shape.push(usize::try_from(size).with_context(|| format!("a dimension is {size}"))?);
    }
    shape.reverse();
    let dtype = Dtype::from_id(bytes.u32()?);
    Ok(TensorInfo { dtype, shape, offset: bytes.u64()? })
}

/// Makes offsets those from the beginning of the file, and checks that every tensor lies within it.
fn place(tensors: &mut BTreeMap<String, TensorInfo>, start: u64, length: u64) -> Result<()> {
    for (name, info) in tensors {
        info.offset =
            info.offset.checked_add(start).with_context(|| format!("tensor `{name}` lies nowhere"))?;
        ensure!(!info.shape.contains(&0), "tensor `{name}` of shape {:?} is empty", info.shape);
        let elements = info.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let elements =
            elements.with_context(|| format!("tensor `{name}` claims {:?} elements", info.shape))?;
        // One that can't be read may well be one that nobody asks for.
        let Ok((per_block, block)) = info.dtype.block() else { continue };
        let needed = (elements.div_ceil(per_block) as u64).checked_mul(block as u64);
        let end = needed.and_then(|bytes| info.offset.checked_add(bytes));
        ensure!(
            end.is_some_and(|end| end <= length),
            "tensor `{name}` of shape {:?} ({}) reaches beyond the file's {length} bytes; the file is cut off or damaged",
            info.shape,
            info.dtype.name()
        );
    }
    Ok(())
}
