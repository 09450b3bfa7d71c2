//! The seed model's tokenizer, built from a list of words: byte-pair encoding in Hugging Face's
//! format. A test compares it with the embedded file, which is what the program reads.
//!
//! Every digit and every word is one token, with and without a space before it. The merges add the
//! letters of a word one by one, and the space last. The alphabet has only the characters of the
//! built-in tasks, so that the output layer of a small model stays small. There are merges and no
//! `ignore_merges`, and only the usual rules, so that other implementations of byte-pair encoding
//! produce the same ids.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::bytes::byte_to_char;
use super::gguf::SEED_PATTERN;

/// The words of the built-in tasks, names first. If a word's first merge occurs inside another
/// word, it comes after that word.
const WORDS: [&str; 26] = [
    "Ana", "Ben", "Cora", "Dan", "Eva", "Finn", "Gus", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Nora",
    "Otto", "Paul", "Rosa", "Sam", "Tina", "Uma", "is", "has", "plus", "minus", "twice", "make",
];

/// All other characters: blanks, digits, the mark of the answer, punctuation and operators.
const SYMBOLS: &str = "\n ()*+-./0123456789:=?A";

/// Special tokens, ids 0, 1 and 2: padding, beginning and end of a text.
const SPECIALS: [&str; 3] = ["<pad>", "<bos>", "<eos>"];

/// The text with every byte as the printable character that byte-level encodings write for it.
fn printable(text: &str) -> String {
    text.bytes().map(byte_to_char).collect()
}

/// Token texts in the order of their ids, special ones excepted, and the merges in order of rank.
fn tokens_and_merges() -> (Vec<String>, Vec<(String, String)>) {
    let alphabet: BTreeSet<char> = SYMBOLS.chars().chain(WORDS.concat().chars()).collect();
    let mut tokens: Vec<String> = alphabet.iter().map(|c| printable(&c.to_string())).collect();
    let mut merges = Vec::new();
    let space = printable(" ");
    let mut merge = |left: &str, right: &str, tokens: &mut Vec<String>| {
        let joined = format!("{left}{right}");
        if !tokens.contains(&joined) {
            merges.push((left.to_owned(), right.to_owned()));
            tokens.push(joined);
        }
    };
    for digit in '0'..='9' {
        merge(&space, &digit.to_string(), &mut tokens);
    }
    for word in WORDS {
        for end in 1..word.len() {
            merge(&word[..end], &word[end..=end], &mut tokens);
        }
        merge(&space, word, &mut tokens);
    }
    (tokens, merges)
}

/// Builds the seed tokenizer, which is always the same.
pub(crate) fn seed_tokenizer() -> Result<Tokenizer> {
    let (tokens, merges) = tokens_and_merges();
    let texts = SPECIALS.iter().map(|special| special.to_string()).chain(tokens);
    let vocab: Vocab = texts.zip(0..).collect();
    let failed = |error| anyhow!("the seed tokenizer can't be built: {error}");
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(failed)?;
    let mut tokenizer = Tokenizer::new(bpe);
    let split = Split::new(SplitPattern::Regex(SEED_PATTERN.into()), SplitDelimiterBehavior::Isolated, false);
    let byte_level = ByteLevel::new(false, false, false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split.map_err(failed)?),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ])));
    tokenizer.with_decoder(Some(byte_level));
    tokenizer.add_special_tokens(SPECIALS.map(|special| AddedToken::from(special, true))).map_err(failed)?;
    Ok(tokenizer)
}
