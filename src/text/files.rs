//! The files of a Hugging Face checkpoint directory that concern text, and the special tokens in
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::SpecialIds;

/// A file that belongs to a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFile {
    pub name: String,
    pub contents: Vec<u8>,
}

/// The model's configuration, which often names special tokens too.
pub(super) const MODEL_CONFIG: &str = "config.json";

/// The files that are read, and written with exported checkpoints.
const NAMES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Largest file that is read: the largest published tokenizers have about 35 MB.
const BYTES_MAX: u64 = 512 << 20;

pub(super) fn embedded() -> Vec<TokenizerFile> {
    let files: [(&str, &[u8]); 4] = [
        ("tokenizer.json", include_bytes!("../../assets/seed/tokenizer.json")),
        ("tokenizer_config.json", include_bytes!("../../assets/seed/tokenizer_config.json")),
        ("special_tokens_map.json", include_bytes!("../../assets/seed/special_tokens_map.json")),
        ("generation_config.json", include_bytes!("../../assets/seed/generation_config.json")),
    ];
    files.map(|(name, bytes)| TokenizerFile { name: name.to_owned(), contents: bytes.to_vec() }).into()
}

pub(super) fn read(dir: &Path) -> Result<Vec<TokenizerFile>> {
    ensure!(dir.is_dir(), "{} is not a directory; give a Hugging Face checkpoint directory", dir.display());
    ensure!(
        dir.join(NAMES[0]).is_file(),
        "{} has no tokenizer.json; save it with `tokenizer.save_pretrained(dir)` of a fast tokenizer",
        dir.display()
    );
    let mut files = Vec::new();
    for name in NAMES.into_iter().chain([MODEL_CONFIG]) {
        let path = dir.join(name);
        if !path.is_file() {
            continue;
        }
        let bytes = path.metadata().with_context(|| format!("{} can't be read", path.display()))?.len();
        ensure!(bytes <= BYTES_MAX, "{} has {bytes} bytes; at most {BYTES_MAX}", path.display());
        let contents = std::fs::read(&path).with_context(|| format!("{} can't be read", path.display()))?;
        files.push(TokenizerFile { name: name.to_owned(), contents });
    }
    Ok(files)
}

pub(super) fn find<'a>(files: &'a [TokenizerFile], name: &str) -> Option<&'a [u8]> {
    files.iter().find(|file| file.name == name).map(|file| file.contents.as_slice())
}

fn json(files: &[TokenizerFile], name: &str) -> Result<Value> {
    let Some(contents) = find(files, name) else { return Ok(Value::Null) };
    serde_json::from_slice(contents).with_context(|| format!("{name} is not valid JSON"))
}

/// The special tokens. End tokens are collected from all files: instruction-tuned checkpoints end
/// turns with one token and texts with another, and name them in different files.
pub(super) fn special_ids(files: &[TokenizerFile], tokenizer: &Tokenizer) -> Result<SpecialIds> {
    let tokens = json(files, "tokenizer_config.json")?;
    let map = json(files, "special_tokens_map.json")?;
    let named = |key: &str| -> Result<Option<u32>> {
        let name = |file: &Value| token_text(&file[key]).map(str::to_owned);
        let Some(name) = name(&tokens).or_else(|| name(&map)) else { return Ok(None) };
        let id = tokenizer.token_to_id(&name);
        id.map(Some).ok_or_else(|| anyhow!("{key} is {name:?}, which tokenizer.json doesn't have"))
    };
    let mut eos: Vec<u32> = named("eos_token")?.into_iter().collect();
    // Nothing here pads, so a name that the vocabulary lacks is no obstacle.
    let (mut bos, mut pad) = (named("bos_token")?, named("pad_token").unwrap_or_default());
    for name in ["generation_config.json", MODEL_CONFIG] {
        let config = json(files, name)?;
        eos.extend(ids(&config, name, "eos_token_id")?);
        bos = bos.or(ids(&config, name, "bos_token_id")?.first().copied());
        pad = pad.or(pad_id(&config));
    }
    let mut seen = std::collections::BTreeSet::new();
    eos.retain(|&id| seen.insert(id));
    if let Some(missing) = eos.iter().find(|&&id| tokenizer.id_to_token(id).is_none()) {
        bail!(
            "the end-of-sequence id {missing} has no token in tokenizer.json; do the files belong together?"
        );
    }
    let Some(&end) = eos.first() else {
        bail!(
            "no end-of-sequence token: name `eos_token` in tokenizer_config.json or `eos_token_id` in config.json"
        );
    };
    Ok(SpecialIds { pad: pad.unwrap_or(end), bos, eos })
}

/// A special token as `tokenizer_config.json` writes it: its text, or an object with `content`.
fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The texts of special tokens by name, as chat templates use them: every key that ends in
/// `_token`.
pub(super) fn special_texts(files: &[TokenizerFile]) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    // The tokenizer's own file is read last, because it overrides the other one.
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        for (key, token) in json(files, name)?.as_object().into_iter().flatten() {
            if let Some(text) = token_text(token).filter(|_| key.ends_with("_token")) {
                texts.insert(key.clone(), text.to_owned());
            }
        }
    }
    Ok(texts)
}

/// The checkpoint's chat template: `chat_template.jinja`, or else that of `tokenizer_config.json`.
/// If there are several with names, it is the one named `default`.
pub(super) fn chat_template(files: &[TokenizerFile]) -> Result<Option<String>> {
    const FILE: &str = "chat_template.jinja";
    if let Some(source) = find(files, FILE) {
        let source = std::str::from_utf8(source).with_context(|| format!("{FILE} is not UTF-8"))?;
        return Ok(Some(source.to_owned()));
    }
    let config = json(files, "tokenizer_config.json")?;
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(source) => Ok(Some(source.clone())),
        Value::Array(named) => {
            let pair = |entry: &Value| {
                Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()))
            };
            let named: Vec<(String, String)> = named.iter().filter_map(pair).collect();
            let default = named.iter().find(|(name, _)| name == "default");
            match default.or(if named.len() == 1 { named.first() } else { None }) {
                Some((_, source)) => Ok(Some(source.clone())),
                None => bail!(
                    "tokenizer_config.json has {} chat templates and none is named \"default\" ({}); put the one \
                     to use into {FILE}",
                    named.len(),
                    named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            }
        }
        other => bail!(
            "tokenizer_config.json: chat_template is neither a text nor a list of named texts: {other:.80}"
        ),
    }
}

/// Whether a plain text begins with the beginning token, if `tokenizer_config.json` has the
/// setting.
pub(super) fn adds_bos(files: &[TokenizerFile]) -> Result<Option<bool>> {
    Ok(json(files, "tokenizer_config.json")?["add_bos_token"].as_bool())
}

/// The token ids under `key`: a number, a list of them, or nothing.
fn ids(config: &Value, file: &str, key: &str) -> Result<Vec<u32>> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match &config[key] {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|id| vec![id]),
    };
    ids.ok_or_else(|| anyhow!("{file}: {key} is {}, neither a token id nor a list of them", config[key]))
}

/// The token that pads. Nothing here pads, so anything that is no token stands for none.
fn pad_id(config: &Value) -> Option<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match &config["pad_token_id"] {
        Value::Array(values) => values.iter().find_map(one),
        value => one(value),
    }
}

/// Refuses a tokenizer that splits a text differently each time: a run's rows could not come back.
pub(super) fn refuse_dropout(tokenizer: &Tokenizer) -> Result<()> {
    if let tokenizers::ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && let Some(dropout) = bpe.dropout.filter(|dropout| *dropout > 0.0)
    {
        bail!(
            "the tokenizer has a BPE dropout of {dropout}, which splits the same text differently each time; set \
             \"dropout\": null in tokenizer.json"
        );
    }
    Ok(())
}
