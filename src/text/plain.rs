//! Questions that contain the name of a special token, such as `<filename>`: there it is plain text,
//! as for `tokenizers` with special tokens off.
//!
//! The prompt around a question has its special tokens too. So the question's names are marked
//! before the prompt is written, and then a tokenizer reads the prompt in which special tokens have
//! other names, which no text contains.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokenizers::Tokenizer;

/// Stands after the first character of a name that is text. Unicode keeps it for private use.
const MARK: char = '\u{e000}';

/// The question with its names of special tokens marked.
///
/// # Errors
/// The question contains the mark, or a name has one character only.
pub(super) fn marked(question: &str, names: &[String]) -> Result<String> {
    ensure!(!question.contains(MARK), "the question contains U+E000, which marks special tokens' names");
    let mut marks = BTreeSet::new();
    for name in names {
        let first = name.chars().next().map_or(0, char::len_utf8);
        for (at, _) in question.match_indices(name.as_str()) {
            ensure!(first < name.len(), "the question contains the special token {name}");
            marks.insert(at + first);
        }
    }
    let mut out = String::with_capacity(question.len() + MARK.len_utf8() * marks.len());
    let mut from = 0;
    for at in marks {
        out.push_str(&question[from..at]);
        out.push(MARK);
        from = at;
    }
    out.push_str(&question[from..]);
    Ok(out)
}

/// The text that a marked one stands for.
pub(super) fn unmarked(text: &str) -> String {
    text.replace(MARK, "")
}

/// A tokenizer whose special tokens have names that no text contains.
#[derive(Clone)]
pub(super) struct Renamed {
    tokenizer: Tokenizer,
    /// The special tokens' names, longest first, and what they are called here.
    names: Vec<(String, String)>,
    /// The tokenizer's own id of each id here that differs.
    ids: HashMap<u32, u32>,
}

impl Renamed {
    /// Of the contents of a `tokenizer.json`.
    pub(super) fn of(json: &[u8]) -> Result<Self> {
        let mut json: Value = serde_json::from_slice(json).context("tokenizer.json can't be read")?;
        for key in ["post_processor", "truncation", "padding"] {
            json[key] = Value::Null;
        }
        let mut names = Vec::new();
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            let (Some(id), Some(name)) = (token["id"].as_u64(), token["content"].as_str()) else { continue };
            if token["special"] == true {
                let alias = format!("{MARK}{id}{MARK}");
                names.push((name.to_owned(), alias.clone(), u32::try_from(id)?));
                token["content"] = alias.into();
            }
        }
        let tokenizer = Tokenizer::from_bytes(serde_json::to_vec(&json)?)
            .map_err(|error| anyhow!("special tokens can't be renamed: {error}"))?;
        let mut ids = HashMap::new();
        for (name, alias, id) in &names {
            let here = tokenizer.token_to_id(alias);
            ids.insert(here.with_context(|| format!("the special token {name} can't be renamed"))?, *id);
        }
        names.sort_by_key(|(name, ..)| std::cmp::Reverse(name.len()));
        let names = names.into_iter().map(|(name, alias, _)| (name, alias)).collect();
        Ok(Self { tokenizer, names, ids })
    }

    /// Token ids of a text in which names of special tokens stand for those tokens, unless they are
    /// marked.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut renamed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            match self.names.iter().find(|(name, _)| rest.starts_with(name.as_str())) {
                Some((name, alias)) => {
                    renamed.push_str(alias);
                    rest = &rest[name.len()..];
                }
                None => {
                    renamed.extend(Some(c).filter(|c| *c != MARK));
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        let encoding = self.tokenizer.encode_fast(renamed.as_str(), false);
        let encoding = encoding.map_err(|error| anyhow!("{text:?} can't be tokenized: {error}"))?;
        Ok(encoding.get_ids().iter().map(|id| self.ids.get(id).copied().unwrap_or(*id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;
    use serde_json::json;

    use super::*;

    /// Characters, `<e>` as a special token that the vocabulary lacks, and `<a>` as one that it has.
    fn tokenizer() -> Value {
        let special = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "special": true, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false })
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": null,
            "added_tokens": [special(6, "<a>"), special(7, "<e>")],
            "model": { "type": "BPE", "unk_token": null, "fuse_unk": false, "byte_fallback": false,
                       "dropout": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                       "vocab": { "<": 0, ">": 1, "a": 2, "e": 3, "<a": 4, " ": 5, "<a>": 6 },
                       "merges": [["<", "a"]] }
        })
    }

    #[test]
    fn a_marked_name_is_text_and_the_others_are_tokens() {
        let json = serde_json::to_vec(&tokenizer()).unwrap();
        let (renamed, own) = (Renamed::of(&json).unwrap(), Tokenizer::from_bytes(&json).unwrap());
        let names = ["<a>".to_owned(), "<e>".to_owned()];
        let question = marked("a <e><a> e", &names).unwrap();
        assert_eq!(unmarked(&question), "a <e><a> e");
        let ids = renamed.encode(&format!("<a>{question}<e>")).unwrap();
        assert_eq!(ids, [6, 2, 5, 0, 3, 1, 4, 1, 5, 3, 7]);
        // Without a mark it reads as the tokenizer itself does.
        for text in ["<a>a<e>", "<e><e> ae<", "aea", ""] {
            assert_eq!(renamed.encode(text).unwrap(), own.encode(text, false).unwrap().get_ids(), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_marked_is_refused() {
        assert_refused(marked("a \u{e000} <e>", &["<e>".into()]), "U+E000");
        assert_refused(marked("a", &["a".into()]), "the special token a");
        assert_eq!(marked("plain", &["<e>".into()]).unwrap(), "plain");
    }
}
