//! A tokenizer as GGUF metadata, and notes on what llama.cpp does in another way.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

use super::{BYTE, CONTROL, Kind, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, pre};
use crate::gguf::Value;
use crate::text::bytes::Spelling;
use crate::text::{Text, files};

/// The part of a GGUF file that holds the vocabulary.
#[derive(Clone, Debug)]
pub struct GgufVocabulary {
    pub metadata: Vec<(String, Value)>,
    /// What llama.cpp does in another way, one sentence each.
    pub notes: Vec<String>,
}

/// The metadata of `text`'s tokenizer for an output layer of `vocab_size` rows.
pub(super) fn vocabulary(text: &Text, vocab_size: usize) -> Result<GgufVocabulary> {
    let json = files::find(&text.files, "tokenizer.json").context("there is no tokenizer.json")?;
    let json: Json = serde_json::from_slice(json).context("tokenizer.json is not valid JSON")?;
    let kind = match (text.spelling, json["model"]["type"].as_str()) {
        (Spelling::ByteLevel, Some("BPE") | None) => Kind::BytePairs,
        (Spelling::Pieces, Some("BPE") | None) => Kind::Pieces,
        (_, model) => bail!(
            "tokenizer.json is of type {}, which can't be written as GGUF; byte-pair encoding with bytes or with \
             SentencePiece's pieces can",
            model.unwrap_or("unknown")
        ),
    };
    let (tokens, types) = tokens(text, &json, kind, vocab_size)?;
    let merges = merges(&json)?;
    let mut metadata: Vec<(String, Value)> = Vec::new();
    let mut put = |name: &str, value: Value| metadata.push((format!("tokenizer.ggml.{name}"), value));
    let mut notes = Vec::new();
    match kind {
        Kind::BytePairs => {
            let ignore_merges = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
            let normalizer = normalizer_note(&json["normalizer"])?;
            let name = pre::name_of(&json["pre_tokenizer"], ignore_merges, normalizer.is_some())
                .context("tokenizer.json can't be written as GGUF")?;
            notes.extend(normalizer);
            put("model", "gpt2".into());
            put("pre", name.into());
            put("tokens", Value::Texts(tokens));
            put("token_type", Value::Integers(types));
            put(
                "merges",
                Value::Texts(merges.iter().map(|[left, right]| format!("{left} {right}")).collect()),
            );
        }
        Kind::Pieces => {
            let scores = scores(&tokens, &merges);
            put("model", "llama".into());
            put("add_space_prefix", adds_space(&json)?.into());
            put("tokens", Value::Texts(tokens));
            put("scores", Value::Floats(scores));
            put("token_type", Value::Integers(types));
        }
    }
    specials(text, &json, &mut put);
    if let Some(template) = files::chat_template(&text.files)? {
        metadata.push(("tokenizer.chat_template".into(), Value::Text(template)));
    }
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let swallows =
        |token: &&Json| ["lstrip", "rstrip"].iter().any(|side| token[side].as_bool() == Some(true));
    if let Some(token) = added.clone().find(swallows) {
        notes.push(format!(
            "the token {} includes the blanks next to it here, and doesn't in llama.cpp",
            token["content"]
        ));
    }
    Ok(GgufVocabulary { metadata, notes })
}

/// Special ids. llama.cpp has one end of text and two ends of turn: the first end of a completion
/// is the former, the next two are the latter.
fn specials(text: &Text, json: &Json, put: &mut impl FnMut(&str, Value)) {
    let special = &text.special;
    if let Some(bos) = special.bos {
        put("bos_token_id", bos.into());
    }
    for (name, &id) in ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().zip(&special.eos) {
        put(name, id.into());
    }
    put("padding_token_id", special.pad.into());
    let unknown = json["model"]["unk_token"].as_str().and_then(|text_of| text.tokenizer.token_to_id(text_of));
    if let Some(id) = unknown {
        put("unknown_token_id", id.into());
    }
    put("add_bos_token", text.leading_bos.is_some().into());
    put("add_eos_token", false.into());
}

/// Texts and types by id. Ids without a token get a placeholder, because llama.cpp needs one token
/// for each row of the output layer.
fn tokens(text: &Text, json: &Json, kind: Kind, vocab_size: usize) -> Result<(Vec<String>, Vec<i64>)> {
    ensure!(
        text.vocab_size() <= vocab_size,
        "the tokenizer has {} tokens, but the model has an output layer of {vocab_size} rows",
        text.vocab_size()
    );
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED; vocab_size];
    let unknown = json["model"]["unk_token"].as_str();
    let added = text.tokenizer.get_added_tokens_decoder();
    for (content, id) in text.tokenizer.get_vocab(true) {
        let at = id as usize;
        types[at] = match added.get(&id) {
            _ if kind == Kind::Pieces && unknown == Some(&content) => UNKNOWN,
            Some(token) if token.special => CONTROL,
            Some(_) => USER_DEFINED,
            None if kind == Kind::Pieces && is_byte(&content) => BYTE,
            None => NORMAL,
        };
        tokens[at] = content;
    }
    Ok((tokens, types))
}

/// `<0x0A>`
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Pairs in order of rank. In files a pair is a text or a list of two.
fn merges(json: &Json) -> Result<Vec<[String; 2]>> {
    let list = json["model"]["merges"].as_array().context("tokenizer.json has no model.merges")?;
    let pair = |merge: &Json| -> Option<[String; 2]> {
        match merge {
            Json::String(text) => {
                let (left, right) = text.split_once(' ')?;
                Some([left.to_owned(), right.to_owned()])
            }
            Json::Array(both) => match both.as_slice() {
                [left, right] => Some([left.as_str()?.to_owned(), right.as_str()?.to_owned()]),
                _ => None,
            },
            _ => None,
        }
    };
    let read = |merge: &Json| pair(merge).with_context(|| format!("tokenizer.json: {merge} is not a merge"));
    list.iter().map(read).collect()
}

/// Scores that rank pieces as the merges do: the earlier a piece can be made, the higher its score.
fn scores(tokens: &[String], merges: &[[String; 2]]) -> Vec<f64> {
    let mut rank = BTreeMap::new();
    for (n, [left, right]) in merges.iter().enumerate() {
        rank.entry(format!("{left}{right}")).or_insert(n);
    }
    // Pieces that no merge makes are single characters, bytes or special; their scores are never
    // used.
    tokens.iter().map(|token| rank.get(token).map_or(0.0, |&n| -(n as f64) - 1.0)).collect()
}

/// Whether a space stands before every text. An error if the normalizer does anything else, which
/// GGUF can't hold.
fn adds_space(json: &Json) -> Result<bool> {
    let replaces =
        |part: &Json| part["type"] == "Replace" && part["pattern"]["String"] == " " && part["content"] == "▁";
    let normalizer = &json["normalizer"];
    let parts: Vec<&Json> = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().collect(),
        Some(_) => vec![normalizer],
        None => Vec::new(),
    };
    let prepends = |part: &&Json| part["type"] == "Prepend" && part["prepend"] == "▁";
    let rest: Vec<&&Json> = parts.iter().filter(|part| !prepends(part) && !replaces(part)).collect();
    ensure!(
        rest.is_empty(),
        "tokenizer.json: normalizer {} can't be written as GGUF",
        rest.first().map_or_else(String::new, ToString::to_string)
    );
    let pre = &json["pre_tokenizer"];
    match pre["type"].as_str() {
        // Gemma's cuts at spaces that its normalizer has already replaced.
        None | Some("Split") if parts.iter().any(|part| replaces(part)) => Ok(parts.iter().any(prepends)),
        Some("Metaspace") if pre["split"].as_bool() == Some(false) && parts.is_empty() => {
            Ok(pre["prepend_scheme"] != "never")
        }
        _ => {
            bail!("tokenizer.json: pre_tokenizer {pre} with normalizer {normalizer} can't be written as GGUF")
        }
    }
}

/// A note on the normalizer of a byte-level tokenizer; an error if GGUF can't hold it.
fn normalizer_note(normalizer: &Json) -> Result<Option<String>> {
    match normalizer["type"].as_str() {
        None => Ok(None),
        Some("NFC") => Ok(Some(
            "characters are composed (NFC) here before they become tokens, and aren't in llama.cpp: texts that aren't \
             in that form get other tokens there"
                .to_owned(),
        )),
        Some(_) => bail!("tokenizer.json: normalizer {normalizer} can't be written as GGUF"),
    }
}
