//! Lines of a file or of standard input, one at a time and bounded in length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Longest line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// The file, or standard input.
///
/// # Errors
/// The file can't be opened.
pub(super) fn open(path: Option<&Path>) -> Result<BufReader<Box<dyn Read>>> {
    let reader: Box<dyn Read> = match path {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    Ok(BufReader::new(reader))
}

/// Every line that isn't blank, with its number from 1; the first error is the last item.
pub(super) fn numbered(mut reader: impl BufRead) -> impl Iterator<Item = Result<(usize, String)>> {
    let (mut number, mut failed) = (0, false);
    std::iter::from_fn(move || {
        while !failed {
            number += 1;
            match next(&mut reader, number) {
                Ok(None) => return None,
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => return Some(Ok((number, line))),
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

fn next(reader: &mut impl BufRead, number: usize) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut limited = reader.by_ref().take(LINE_BYTES_MAX as u64 + 1);
    let length = limited
        .read_until(b'\n', &mut bytes)
        .with_context(|| format!("cannot read line {number} of the input"))?;
    if length == 0 {
        return Ok(None);
    }
    ensure!(length <= LINE_BYTES_MAX, "line {number} has more than {LINE_BYTES_MAX} bytes; shorten its text");
    let line = String::from_utf8(bytes)
        .with_context(|| format!("line {number} is not UTF-8; save the file as UTF-8"))?;
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;

    use super::*;

    #[test]
    fn lines_are_numbered_and_bounded() {
        let lines: Vec<_> = numbered("a\r\n\n  \nb".as_bytes()).map(Result::unwrap).collect();
        assert_eq!(lines, [(1, "a".to_owned()), (4, "b".to_owned())]);
        let long = [b"a\n", &vec![b'x'; LINE_BYTES_MAX + 1][..], b"\nb\n"].concat();
        let mut lines = numbered(long.as_slice());
        assert_eq!(lines.next().unwrap().unwrap(), (1, "a".to_owned()));
        assert_refused(lines.next().unwrap(), "line 2 has more than");
        assert!(lines.next().is_none());
        assert_refused(numbered(&b"a\n\xff"[..]).nth(1).unwrap(), "line 2 is not UTF-8");
    }
}
