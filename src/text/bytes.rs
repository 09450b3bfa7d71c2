//! The bytes of each token. Stop strings are searched in them, and thoughts are decoded from them.
//!
//! Tokens are decoded one by one and not by the tokenizer's decoder. So the text of a trajectory is
//! exactly the concatenation of the texts of its thoughts.

use anyhow::{Result, anyhow, ensure};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::{Tokenizer, decoders};

/// The printable character that byte-level encodings write for `byte` (GPT-2's table): printable
/// Latin-1 is unchanged, and the 68 other bytes have the code points from 256 on, in order.
pub(super) fn byte_to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// How the tokens of a vocabulary are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GPT-2's table.
    ByteLevel,
    /// SentencePiece: `▁` for a space, `<0x0A>` for a byte.
    Pieces,
    /// In some other way; only the tokenizer's own decoder can join them.
    Opaque,
}

impl Spelling {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        tokenizer.get_decoder().map_or(Self::Opaque, Self::of_decoder)
    }

    fn of_decoder(decoder: &DecoderWrapper) -> Self {
        match decoder {
            DecoderWrapper::ByteLevel(_) => Self::ByteLevel,
            DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => Self::Pieces,
            DecoderWrapper::Sequence(sequence) => {
                let parts = decoders::sequence::Sequence::get_decoders(sequence).iter().map(Self::of_decoder);
                parts.fold(Self::Opaque, |found, part| if found == Self::Opaque { part } else { found })
            }
            _ => Self::Opaque,
        }
    }
}

/// Ids of tokens are below this; the largest published vocabularies have some 260,000.
const IDS_MAX: usize = 1 << 22;

/// One entry per id, up to the highest; special tokens and ids without a token are empty.
pub(super) fn table(tokenizer: &Tokenizer, spelling: Spelling) -> Result<Vec<Vec<u8>>> {
    let added = tokenizer.get_added_tokens_decoder();
    let vocab = tokenizer.get_vocab(true);
    let size = vocab.values().max().map_or(0, |&id| id as usize + 1);
    ensure!(size <= IDS_MAX, "the tokenizer has the token id {}; ids are below {IDS_MAX}", size - 1);
    let mut table = vec![Vec::new(); size];
    let of_char: std::collections::HashMap<char, u8> = (0..=255).map(|b| (byte_to_char(b), b)).collect();
    for (text, id) in vocab {
        table[id as usize] = match (added.get(&id), spelling) {
            (Some(token), _) if token.special => Vec::new(),
            // Gemma's runs of spaces are such tokens.
            (Some(token), Spelling::Pieces) => token.content.replace('\u{2581}', " ").into_bytes(),
            (Some(token), _) => token.content.as_bytes().to_vec(),
            (None, Spelling::ByteLevel) => {
                text.chars().map(|c| of_char.get(&c).copied()).collect::<Option<_>>().ok_or_else(|| {
                    anyhow!("token {id} ({text:?}) has a character outside the byte-level alphabet")
                })?
            }
            (None, Spelling::Pieces) => match byte_piece(&text) {
                Some(byte) => vec![byte],
                None => text.replace('\u{2581}', " ").into_bytes(),
            },
            (None, Spelling::Opaque) => text.into_bytes(),
        };
    }
    Ok(table)
}

/// `<0x0A>` as the byte 10.
fn byte_piece(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
