//! Packed files: gzip and Zstandard, recognised by their first bytes and not by their names.

use std::io::Read;

use anyhow::{Context, Result, ensure};

/// Largest unpacked contents, in bytes. A packed file can be a thousand times smaller.
pub(super) const BYTES_MAX: u64 = 512 << 20;

/// The contents, unpacked if they were packed.
pub(super) fn unpacked(contents: Vec<u8>, name: &str) -> Result<Vec<u8>> {
    let broken = || format!("{name} can't be unpacked; is it complete?");
    let out = match contents.as_slice() {
        [0x1f, 0x8b, ..] => {
            read(flate2::read::MultiGzDecoder::new(contents.as_slice())).with_context(broken)?
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => frames(&contents).with_context(broken)?,
        _ => return Ok(contents),
    };
    ensure!(
        out.len() as u64 <= BYTES_MAX,
        "{name} has more than {BYTES_MAX} bytes when it is unpacked; split it into several files"
    );
    Ok(out)
}

/// Reads one byte more than allowed, so that the caller can see that there is more.
fn read(packed: impl Read) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    packed.take(BYTES_MAX + 1).read_to_end(&mut out)?;
    Ok(out)
}

/// Every Zstandard frame of the file, one after the other.
fn frames(contents: &[u8]) -> Result<Vec<u8>> {
    let (mut rest, mut out) = (contents, Vec::new());
    while !rest.is_empty() && out.len() as u64 <= BYTES_MAX {
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut rest)?;
        decoder.by_ref().take(BYTES_MAX + 1).read_to_end(&mut out)?;
    }
    Ok(out)
}
