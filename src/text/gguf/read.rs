//! The vocabulary of a GGUF file, as the tokenizer files of a Hugging Face checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::pre::{self, Pre};
use super::{CONTROL, Kind, NORMAL, UNKNOWN, USER_DEFINED};
use crate::gguf::Metadata;
use crate::text::TokenizerFile;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// The tokens of a file; a token's id is its index.
struct Vocabulary<'a> {
    meta: &'a Metadata,
    kind: Kind,
    tokens: Vec<String>,
    types: Vec<i64>,
}

/// `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`, and `chat_template.jinja`
/// if there is one. If `with_tokenizer` is false another `tokenizer.json` is used: this one is left
/// out and may be unreadable.
pub(super) fn files(meta: &Metadata, with_tokenizer: bool) -> Result<Vec<TokenizerFile>> {
    let kind = meta.text("tokenizer.ggml.model")?;
    if !with_tokenizer && !matches!(kind, Some("gpt2" | "llama")) {
        return Ok(Vec::new());
    }
    let vocabulary = Vocabulary::read(meta)?;
    let mut files = Vec::new();
    let mut push = |name: &str, contents: String| {
        files.push(TokenizerFile { name: name.to_owned(), contents: contents.into_bytes() });
    };
    if with_tokenizer {
        push("tokenizer.json", vocabulary.tokenizer()?.to_string());
    }
    let (config, generation) = vocabulary.configs(with_tokenizer)?;
    push("tokenizer_config.json", config.to_string());
    push("generation_config.json", generation.to_string());
    if let Some(template) = meta.text("tokenizer.chat_template")? {
        push("chat_template.jinja", template.to_owned());
    }
    Ok(files)
}

impl<'a> Vocabulary<'a> {
    fn read(meta: &'a Metadata) -> Result<Self> {
        let model = meta.text("tokenizer.ggml.model")?.context("tokenizer.ggml.model is missing")?;
        let kind = match model {
            "gpt2" => Kind::BytePairs,
            "llama" => Kind::Pieces,
            other => bail!(
                "tokenizer.ggml.model `{other}` is not supported; supported: gpt2, llama. Or put the model's \
                 tokenizer.json next to the file, which is then used instead"
            ),
        };
        let texts = meta.texts(TOKENS)?.with_context(|| format!("{TOKENS} is missing"))?;
        let name = |(id, text): (usize, &String)| match text.is_empty() {
            // llama.cpp's name for it.
            true => format!("[EMPTY_{id}]"),
            false => text.clone(),
        };
        let tokens: Vec<String> = texts.iter().enumerate().map(name).collect();
        let types = match meta.integers(TYPES)? {
            Some(types) => types.to_vec(),
            None => vec![NORMAL; tokens.len()],
        };
        ensure!(
            types.len() == tokens.len(),
            "{TYPES} has {} entries for {} tokens",
            types.len(),
            tokens.len()
        );
        Ok(Self { meta, kind, tokens, types })
    }

    fn ids(&self) -> Result<BTreeMap<&str, u32>> {
        let mut ids = BTreeMap::new();
        for (id, token) in (0u32..).zip(&self.tokens) {
            if let Some(first) = ids.insert(token.as_str(), id) {
                bail!("{TOKENS} holds {token:?} twice, as {first} and {id}");
            }
        }
        Ok(ids)
    }

    fn pre(&self) -> Result<&'static Pre> {
        pre::named(self.meta.text("tokenizer.ggml.pre")?.unwrap_or("default"))
    }

    /// The id under a key of the vocabulary; an error if no token has it.
    fn special(&self, name: &str, default: Option<u32>) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = self.meta.id(&key)?.or(default) else { return Ok(None) };
        let count = self.tokens.len();
        ensure!((id as usize) < count, "{key} is {id}, but there are only {count} tokens");
        Ok(Some(id))
    }

    fn tokenizer(&self) -> Result<Value> {
        let ids = self.ids()?;
        let (normalizer, pre_tokenizer, decoder, model) = match self.kind {
            Kind::BytePairs => {
                let pre = self.pre()?;
                let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
                let normalizer = if pre.nfc { json!({ "type": "NFC" }) } else { Value::Null };
                let model = model(None, pre.ignore_merges, false, &ids, self.merges(&ids)?);
                (normalizer, pre::json(pre), byte_level, model)
            }
            Kind::Pieces => {
                let unknown = self.special("unknown", Some(0))?;
                let unknown = unknown.map(|id| self.tokens[id as usize].as_str());
                let merges = self.merges_from_scores(&ids)?;
                let prefix = self.meta.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                (spaces(prefix), Value::Null, unspaces(prefix), model(unknown, false, true, &ids, merges))
            }
        };
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": decoder,
            "model": model,
        }))
    }

    /// Tokens that are cut out of a text before anything else.
    fn added(&self) -> Vec<Value> {
        let is_added = |kind: i64| matches!(kind, CONTROL | UNKNOWN | USER_DEFINED);
        let added = self.tokens.iter().zip(&self.types).enumerate().filter(|(_, (_, kind))| is_added(**kind));
        let entry = |(id, (content, &kind)): (usize, (&String, &i64))| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != USER_DEFINED })
        };
        added.map(entry).collect()
    }

    fn merges(&self, ids: &BTreeMap<&str, u32>) -> Result<Vec<[String; 2]>> {
        let merges = self.meta.texts(MERGES)?.with_context(|| format!("{MERGES} is missing"))?;
        let pair = |(n, merge): (usize, &String)| {
            // The first character may be a space itself.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let cut = merge[first..].find(' ').map(|at| at + first);
            let cut = cut.with_context(|| format!("{MERGES}[{n}] is {merge:?}; it must be two tokens"))?;
            let (left, right) = (&merge[..cut], &merge[cut + 1..]);
            let joined = format!("{left}{right}");
            if let Some(missing) = [left, right, &joined].into_iter().find(|text| !ids.contains_key(text)) {
                bail!("{MERGES}[{n}] is {merge:?}, but {missing:?} is no token");
            }
            Ok([left.to_owned(), right.to_owned()])
        };
        merges.iter().enumerate().map(pair).collect()
    }

    /// Merges for a SentencePiece vocabulary, which joins the pair whose piece has the highest
    /// score. The order is that of transformers' `generate_merges`.
    fn merges_from_scores(&self, ids: &BTreeMap<&str, u32>) -> Result<Vec<[String; 2]>> {
        let scores = self.meta.numbers(SCORES)?.with_context(|| format!("{SCORES} is missing"))?;
        let count = self.tokens.len();
        ensure!(scores.len() >= count, "{SCORES} has {} entries for {count} tokens", scores.len());
        let is_text = |id: u32| matches!(self.types[id as usize], NORMAL | USER_DEFINED);
        let mut all: Vec<(f64, usize, usize, [String; 2])> = Vec::new();
        for (id, piece) in (0u32..).zip(&self.tokens).filter(|(id, _)| is_text(*id)) {
            let mut pairs: Vec<(u32, u32, &str, &str)> = Vec::new();
            for (at, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(at);
                if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right))
                    && is_text(l)
                    && is_text(r)
                {
                    pairs.push((l, r, left, right));
                }
            }
            pairs.sort_unstable_by_key(|pair| (pair.0, pair.1));
            all.extend(pairs.into_iter().map(|(_, _, left, right)| {
                let lengths = (left.chars().count(), right.chars().count());
                (scores[id as usize], lengths.0, lengths.1, [left.to_owned(), right.to_owned()])
            }));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
        Ok(all.into_iter().map(|(.., pair)| pair).collect())
    }

    /// `tokenizer_config.json` and `generation_config.json`.
    fn configs(&self, has_pre: bool) -> Result<(Value, Value)> {
        let default = |id: u32| Some(id).filter(|_| self.kind == Kind::Pieces);
        let (bos, eos) = (self.special("bos", default(1))?, self.special("eos", default(2))?);
        let pad = self.special("padding", None)?;
        let mut ends = BTreeSet::new();
        let mut eos_ids = Vec::new();
        for id in [eos, self.special("eot", None)?, self.special("eom", None)?].into_iter().flatten() {
            if ends.insert(id) {
                eos_ids.push(id);
            }
        }
        ensure!(!eos_ids.is_empty(), "tokenizer.ggml.eos_token_id is missing: nothing would end a text");
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        let named = [("bos_token", bos), ("eos_token", eos), ("pad_token", pad)];
        for (name, id) in named.into_iter().filter_map(|(name, id)| Some((name, id?))) {
            config.insert(name.into(), self.tokens[id as usize].as_str().into());
        }
        let adds_bos = match (self.meta.flag("tokenizer.ggml.add_bos_token")?, self.kind) {
            (Some(adds), _) => adds,
            (None, Kind::Pieces) => true,
            // Another tokenizer.json decides, if there is one.
            (None, Kind::BytePairs) => has_pre && self.pre()?.adds_bos,
        };
        config.insert("add_bos_token".into(), adds_bos.into());
        let generation = json!({ "bos_token_id": bos, "eos_token_id": eos_ids, "pad_token_id": pad });
        Ok((Value::Object(config), generation))
    }
}

fn model(
    unknown: Option<&str>,
    ignore_merges: bool,
    byte_fallback: bool,
    ids: &BTreeMap<&str, u32>,
    merges: Vec<[String; 2]>,
) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": ids,
        "merges": merges,
    })
}

/// SentencePiece writes spaces as ▁, and with `prefix` one before every text.
fn spaces(prefix: bool) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    match prefix {
        true => json!({ "type": "Sequence",
            "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace] }),
        false => replace,
    }
}

fn unspaces(prefix: bool) -> Value {
    let mut parts = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        parts.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": parts })
}
