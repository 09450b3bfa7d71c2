//! The text of a thought: pieces that concatenate to exactly the decoded completion.
//!
//! Decoding isn't piecewise: a character's bytes may straddle two tokens, and some tokenizers treat
//! the first token of a sequence differently. So a thought's text is what it adds to the text of
//! the path before it.

use anyhow::Result;

use super::Decode;

/// What decoders write for bytes that aren't (yet) a character.
const INCOMPLETE: char = '\u{FFFD}';

/// The text that `ids` adds after `before_ids`, whose thoughts' texts concatenate to `before`.
///
/// Bytes of an unfinished character at the end belong to the next thought, unless this one is the
/// `last`.
pub(super) fn added_text(
    decode: Decode,
    before_ids: &[u32],
    before: &str,
    ids: &[u32],
    last: bool,
) -> Result<String> {
    let whole = decode(&[before_ids, ids].concat())?;
    let ready = if last { whole.as_str() } else { whole.trim_end_matches(INCOMPLETE) };
    Ok(match ready.strip_prefix(before) {
        Some(added) => added.to_owned(),
        // The end of `before` itself is unfinished: nothing is ready yet.
        None if before.starts_with(ready) => String::new(),
        // The decoder rewrites earlier text, so the piece is decoded without what precedes it.
        None => decode(ids)?,
    })
}

/// The texts of a whole completion's thoughts; thought `i` ends before token `ends[i]`.
pub(super) fn texts(decode: Decode, ids: &[u32], ends: &[usize]) -> Result<Vec<String>> {
    let starts = || std::iter::once(0).chain(ends.iter().copied());
    let pieces: Vec<String> = starts().zip(ends).map(|(a, &b)| decode(&ids[a..b])).collect::<Result<_>>()?;
    // The pieces nearly always concatenate, and decoding every prefix costs the square of the
    // length.
    if pieces.concat() == decode(ids)? && !pieces.iter().any(|p| p.contains(INCOMPLETE)) {
        return Ok(pieces);
    }
    let mut texts: Vec<String> = Vec::with_capacity(ends.len());
    let mut before = String::new();
    for (start, &end) in starts().zip(ends) {
        let text = added_text(decode, &ids[..start], &before, &ids[start..end], end == ids.len())?;
        before.push_str(&text);
        texts.push(text);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each id is one byte; ids above 255 are special tokens.
    fn bytes(ids: &[u32]) -> Result<String> {
        let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Like SentencePiece: the first token loses its leading space.
    fn stripping(ids: &[u32]) -> Result<String> {
        let text = bytes(ids)?;
        Ok(text.strip_prefix(' ').map(str::to_owned).unwrap_or(text))
    }

    #[test]
    fn a_straddling_character_belongs_to_the_thought_that_completes_it() {
        let ids: Vec<u32> = "aé b\n".bytes().map(u32::from).collect();
        assert_eq!(texts(&bytes, &ids, &[2, 5, 6]).unwrap(), ["a", "é b", "\n"]);
        assert_eq!(texts(&bytes, &ids[..2], &[1, 2]).unwrap(), ["a", "\u{FFFD}"]);
        let spaced: Vec<u32> = " x y".bytes().map(u32::from).collect();
        assert_eq!(texts(&stripping, &spaced, &[2, 4]).unwrap(), ["x", " y"]);
    }

    proptest! {
        #[test]
        fn thoughts_concatenate_to_the_whole(
            text in "[a-zé\u{1F600} ]{0,20}",
            cuts in proptest::collection::btree_set(1usize..60, 0..6),
            special in any::<bool>(),
        ) {
            let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
            if special {
                ids.push(300);
            }
            prop_assume!(!ids.is_empty());
            let mut ends: Vec<usize> = cuts.into_iter().filter(|&c| c < ids.len()).collect();
            ends.push(ids.len());
            for decode in [&bytes as Decode, &stripping] {
                prop_assert_eq!(texts(decode, &ids, &ends).unwrap().concat(), decode(&ids).unwrap());
            }
        }
    }
}
