//! Tokenizers within GGUF files: byte-pair encoding ("gpt2") and SentencePiece's pieces ("llama").
//!
//! Reading turns the metadata into the files of a Hugging Face checkpoint, so that all further code
//! is the same. A `tokenizer.json` next to the file is used instead, because it holds more than
//! GGUF can. Writing turns a tokenizer into metadata, if llama.cpp has a name for its
//! pre-tokenizer.

mod pre;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

use anyhow::{Context, Result};

#[cfg(test)]
pub(super) use pre::SEED_PATTERN;
pub use write::GgufVocabulary;

use super::{Text, TokenizerFile, files};
use crate::gguf::File;

/// How a vocabulary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    BytePairs,
    Pieces,
}

// The format's token types.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// The tokenizer files that belong to the weights in `path`.
pub(super) fn files(path: &Path) -> Result<Vec<TokenizerFile>> {
    let file = File::open(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let existing = if folder.join("tokenizer.json").is_file() { files::read(folder)? } else { Vec::new() };
    let own = read::files(file.metadata(), existing.is_empty())
        .with_context(|| format!("can't use the vocabulary of {}", path.display()))?;
    let is_new = |file: &TokenizerFile| existing.iter().all(|other| other.name != file.name);
    let new: Vec<TokenizerFile> = own.into_iter().filter(is_new).collect();
    Ok(existing.into_iter().chain(new).collect())
}

impl Text {
    /// This tokenizer as GGUF metadata, for an output layer of `vocab_size` rows.
    ///
    /// # Errors
    /// If llama.cpp would tokenize the same texts in another way.
    pub fn gguf(&self, vocab_size: usize) -> Result<GgufVocabulary> {
        write::vocabulary(self, vocab_size)
    }
}
