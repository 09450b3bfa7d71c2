//! llama.cpp's pre-tokenizers by name: how a text is cut before byte-pair encoding. Each is a list
//! of the expressions in the `tokenizer.json` that it stands for, so that one table serves reading
//! and writing.
//!
//! The table is taken from `llm_tokenizer_bpe` of llama.cpp's `src/llama-vocab.cpp` (as vendored by
//! llama-cpp-python 0.3.36), which has the original expressions.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// GPT-2's expression, which byte-level pre-tokenizers use by themselves.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// One way to cut a text into pieces.
pub(super) struct Pre {
    /// The names that llama.cpp has for it; the first one is written.
    pub names: &'static [&'static str],
    /// Applied in order; each cuts the pieces that the ones before it left.
    pub expressions: &'static [&'static str],
    /// Whether a piece that is a token is not merged.
    pub ignore_merges: bool,
    /// Whether the family's `tokenizer.json` composes characters first; llama.cpp doesn't.
    pub nfc: bool,
    /// Whether a text begins with the beginning token if the file has no setting for it.
    pub adds_bos: bool,
}

const PLAIN: Pre = Pre { names: &[], expressions: &[], ignore_merges: false, nfc: false, adds_bos: false };

const ALL: [Pre; 9] = [
    Pre {
        names: &["gpt-2", "phi-2", "exaone4", "a.x-4.0", "mellum", "modern-bert"],
        expressions: &[GPT2],
        ..PLAIN
    },
    // The same expression, after GPT-NeoX's normalizer.
    Pre { names: &["olmo", "mpt"], expressions: &[GPT2], nfc: true, ..PLAIN },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        expressions: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    Pre { names: &["dbrx", "smaug-bpe"], expressions: &[LLAMA3], ..PLAIN },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "kormo", "stablelm2"],
        expressions: &[QWEN2],
        nfc: true,
        ..PLAIN
    },
    Pre {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        expressions: &[DIGIT, GPT2],
        ..PLAIN
    },
    Pre { names: &["tekken"], expressions: &[TEKKEN], ignore_merges: true, adds_bos: true, ..PLAIN },
    Pre { names: &["gpt-4o", "llama4", "kanana2"], expressions: &[GPT4O], ..PLAIN },
    // llama.cpp uses it if a file names none.
    Pre {
        names: &["default"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ..PLAIN
    },
];

/// The pre-tokenizer that a file names.
pub(super) fn named(name: &str) -> Result<&'static Pre> {
    const TABLE: &[Pre] = &ALL;
    TABLE.iter().find(|pre| pre.names.contains(&name)).with_context(|| {
        let supported = TABLE.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", ");
        format!(
            "tokenizer.ggml.pre `{name}` is not supported; supported: {supported}. Or put the model's tokenizer.json \
             next to the file, which is then used instead"
        )
    })
}

/// How the seed's tokenizer cuts: a digit or a word includes the space before it; every other
/// character is a piece for itself.
pub(in crate::text) const SEED_PATTERN: &str = r" ?\d| ?[A-Za-z]+|\s|[^\sA-Za-z0-9]";

/// llama.cpp's name for the pre-tokenizer of a `tokenizer.json`.
///
/// `nfc` (whether characters are composed first) decides between names that cut in the same way.
pub(super) fn name_of(pre_tokenizer: &Value, ignore_merges: bool, nfc: bool) -> Result<&'static str> {
    let found = expressions(pre_tokenizer)
        .context("its pre_tokenizer cuts in a way that llama.cpp has no name for")?;
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    // The seed has its own expression for digits and words. Its merges join only within one digit
    // or one word and the space before it, so the larger pieces of GPT-2's expression become the
    // same tokens for every text that its alphabet can write.
    if found == [SEED_PATTERN] {
        return Ok("gpt-2");
    }
    let fits = |pre: &&Pre| pre.expressions == found && pre.ignore_merges == ignore_merges;
    let pre = ALL.iter().find(|pre| fits(pre) && pre.nfc == nfc).or_else(|| ALL.iter().find(fits));
    pre.and_then(|pre| pre.names.first().copied()).with_context(|| {
        format!("llama.cpp has no such pre_tokenizer (ignore_merges {ignore_merges}): {found:?}")
    })
}

/// The expressions by which a pre-tokenizer cuts, in order; `None` if it does anything else.
fn expressions(pre_tokenizer: &Value) -> Option<Vec<String>> {
    match pre_tokenizer["type"].as_str()? {
        "Sequence" => {
            let parts = pre_tokenizer["pretokenizers"].as_array()?.iter().map(expressions);
            Some(parts.collect::<Option<Vec<_>>>()?.concat())
        }
        "Split" => {
            let behavior = pre_tokenizer["behavior"].as_str()?;
            let invert = pre_tokenizer["invert"].as_bool().unwrap_or(false);
            // `Removed` drops text that isn't matched and llama.cpp keeps it; these expressions
            // match everything.
            let keeps_all = behavior == "Isolated" || (behavior == "Removed" && invert);
            let expression = pre_tokenizer["pattern"]["Regex"].as_str()?;
            keeps_all.then(|| vec![expression.to_owned()])
        }
        "Digits" => pre_tokenizer["individual_digits"].as_bool()?.then(|| vec![DIGIT.to_owned()]),
        "ByteLevel" if pre_tokenizer["add_prefix_space"].as_bool() == Some(true) => None,
        "ByteLevel" => match pre_tokenizer["use_regex"].as_bool().unwrap_or(true) {
            true => Some(vec![GPT2.to_owned()]),
            false => Some(Vec::new()),
        },
        _ => None,
    }
}

/// The `pre_tokenizer` of a `tokenizer.json`.
pub(super) fn json(pre: &Pre) -> Value {
    let split = |expression: &&str| json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let parts: Vec<Value> = pre.expressions.iter().map(split).chain([byte_level]).collect();
    json!({ "type": "Sequence", "pretokenizers": parts })
}
