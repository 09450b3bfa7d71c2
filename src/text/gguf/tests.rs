//! Vocabularies in GGUF metadata: read, written, and refused by name.

use std::collections::BTreeMap;

use autodidact_testing::assert_refused;
use proptest::prelude::*;

use super::*;
use crate::gguf::{Metadata, Value};

fn metadata(values: impl IntoIterator<Item = (String, Value)>) -> Metadata {
    Metadata { values: values.into_iter().collect() }
}

fn text(meta: &Metadata) -> Result<Text> {
    Text::from_files(read::files(meta, true)?, None)
}

fn seed() -> (Text, Metadata) {
    let text = Text::embedded().unwrap();
    let vocabulary = text.gguf(165).unwrap();
    assert_eq!(vocabulary.notes, Vec::<String>::new());
    (text, metadata(vocabulary.metadata))
}

#[test]
fn the_seeds_tokenizer_is_gpt2s_to_llama_cpp() {
    let (text, meta) = seed();
    assert_eq!(meta.text("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    assert_eq!(meta.text("tokenizer.ggml.pre").unwrap(), Some("gpt-2"));
    assert_eq!(meta.integers("tokenizer.ggml.token_type").unwrap().unwrap()[..4], [3, 3, 3, 1]);
    assert_eq!(meta.flag("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    let again = super::tests::text(&meta).unwrap();
    assert_eq!(
        (again.eos_ids(), again.bos_id(), again.pad_id()),
        (text.eos_ids(), text.bos_id(), text.pad_id())
    );
    assert_eq!(again.vocab_size(), text.vocab_size());
    let (was, is) = (text.stops(text.kind, &[]).unwrap(), again.stops(again.kind, &[]).unwrap());
    assert_eq!((was.token_bytes, was.boundary_ids), (is.token_bytes, is.boundary_ids));
}

proptest! {
    /// GPT-2's expression cuts less often than the seed's own; whatever the alphabet can write, the
    /// tokens are the same.
    #[test]
    fn the_seeds_tokens_are_the_same_either_way(
        words in prop::collection::vec(
            prop::sample::select(vec![
                " ", "  ", "\n", "\n\n", "Ana", "Benson", "is", " is", "plus", " twice", "has", "make", "minus", "5",
                " 16", "123", " 0", "(", ")*", "+", "-", ".", "/", ":", "=", "?", " =", " (", "A:", "Hugo", "isAna",
                "Zoe",
            ]),
            0..20,
        )
    ) {
        let (text, meta) = seed();
        let again = super::tests::text(&meta).unwrap();
        let input = words.concat();
        match text.encode(&input) {
            Ok(ids) => {
                prop_assert_eq!(again.encode(&input).unwrap(), ids.clone());
                prop_assert_eq!(again.decode(&ids).unwrap(), input);
            }
            // Zoe's first letter is outside of the alphabet.
            Err(error) => {
                let refused = again.encode(&input).unwrap_err();
                prop_assert_eq!(refused.to_string(), error.to_string());
            }
        }
    }
}

/// All bytes, and what a few merges make of them.
fn byte_pairs(pre: Option<&str>) -> BTreeMap<String, Value> {
    let mut tokens: Vec<String> =
        (0..=255).map(|b| crate::text::bytes::byte_to_char(b).to_string()).collect();
    let merges = ["1 2", "12 3", "123 4", "a b", "Ġ ab", "Ġ a", "ab c", "Ċ Ċ", "' s", "Ġ Ġ"];
    tokens.extend(merges.map(|merge| merge.replace(' ', "")));
    // A token that no merge makes, and one of a size that cutting would prevent.
    tokens.extend(["zzz".to_owned(), "<end>".to_owned(), "<turn>".to_owned()]);
    let mut types = vec![1; tokens.len()];
    let end = tokens.len() - 2;
    (types[end], types[end + 1]) = (3, 4);
    let mut values = BTreeMap::from([
        ("tokenizer.ggml.model".to_owned(), "gpt2".into()),
        ("tokenizer.ggml.tokens".to_owned(), Value::Texts(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Value::Integers(types)),
        ("tokenizer.ggml.merges".to_owned(), Value::Texts(merges.map(str::to_owned).into())),
        ("tokenizer.ggml.eos_token_id".to_owned(), end.into()),
    ]);
    values.extend(pre.map(|pre| ("tokenizer.ggml.pre".to_owned(), pre.into())));
    values
}

fn pieces(text: &Text, input: &str) -> Vec<String> {
    let ids = text.encode(input).unwrap();
    ids.iter().map(|&id| text.decode(&[id]).unwrap()).collect()
}

#[test]
fn texts_are_cut_as_the_pre_tokenizer_says() {
    // Only what is cut apart isn't joined: " ab" and "1234" are tokens.
    let cases: [(Option<&str>, &str, &[&str]); 9] = [
        (Some("gpt-2"), "1234 ab's", &["1234", " ab", "'s"]),
        (Some("llama-bpe"), "1234 ab's", &["123", "4", " ab", "'s"]),
        (Some("qwen2"), "1234", &["1", "2", "3", "4"]),
        (Some("smollm"), "1234 ab", &["1", "2", "3", "4", " ab"]),
        (Some("dbrx"), "zzz", &["z", "z", "z"]),
        // Whole pieces that are tokens aren't merged there.
        (Some("llama-bpe"), "zzz", &["zzz"]),
        (Some("tekken"), "1234 abc", &["1", "2", "3", "4", " ab", "c"]),
        (Some("gpt-4o"), "ab's 1234", &["ab", "'s", " ", "123", "4"]),
        (None, "1234 ab", &["123", "4", " ab"]),
    ];
    for (pre, input, wanted) in cases {
        let text = text(&metadata(byte_pairs(pre))).unwrap();
        assert_eq!(pieces(&text, input), wanted, "{pre:?}");
        assert_eq!(text.leading_bos, None);
    }
}

#[test]
fn special_tokens_end_texts_and_turns() {
    let mut values = byte_pairs(Some("qwen2"));
    let end = 256u32 + 10 + 1;
    values.insert("tokenizer.ggml.eot_token_id".into(), (end + 1).into());
    values.insert("tokenizer.ggml.bos_token_id".into(), end.into());
    values.insert("tokenizer.ggml.add_bos_token".into(), true.into());
    let template = "{{ bos_token }}{{ messages[0]['content'] }}";
    values.insert("tokenizer.chat_template".into(), template.into());
    let files = read::files(&metadata(values), true).unwrap();
    assert_eq!(files::chat_template(&files).unwrap().as_deref(), Some(template));
    let text = Text::from_files(files, None).unwrap();
    assert_eq!(text.eos_ids(), [end, end + 1]);
    assert_eq!(text.leading_bos, Some(end));
    // Composed first, as the family's own tokenizer does.
    assert_eq!(text.encode("e\u{301}").unwrap(), text.encode("é").unwrap());
    // A user's own token is text, one of the vocabulary's isn't.
    assert_eq!(text.encode("a<turn>").unwrap(), [text.encode("a").unwrap()[0], end + 1]);
    assert_refused(text.encode("a<end>"), "the special token <end>");
}

/// SentencePiece's way: the pair whose piece has the highest score is joined first, whatever stands
/// to its left.
fn sentence_pieces() -> BTreeMap<String, Value> {
    let mut tokens: Vec<(String, f64, i64)> =
        vec![("<unk>".into(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
    tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let merged = [("bc", -1.0), ("ab", -2.0), ("▁a", -3.0), ("▁ab", -4.0), ("abc", -5.0), ("▁▁", -7.0)];
    // The run of spaces is a user's own token, as in Gemma's vocabulary.
    let kind = |piece: &str| if piece == "▁▁" { 4 } else { 1 };
    tokens.extend(merged.map(|(piece, score)| (piece.to_owned(), score, kind(piece))));
    tokens.extend("▁abc\n".chars().map(|c| (c.to_string(), -100.0, 1)));
    let texts = |f: fn(&(String, f64, i64)) -> String| Value::Texts(tokens.iter().map(f).collect());
    BTreeMap::from([
        ("tokenizer.ggml.model".to_owned(), "llama".into()),
        ("tokenizer.ggml.tokens".to_owned(), texts(|token| token.0.clone())),
        ("tokenizer.ggml.scores".to_owned(), Value::Floats(tokens.iter().map(|token| token.1).collect())),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Integers(tokens.iter().map(|token| token.2).collect()),
        ),
    ])
}

#[test]
fn pieces_are_joined_by_their_scores() {
    let meta = metadata(sentence_pieces());
    let text = text(&meta).unwrap();
    let named = |input: &str| {
        let ids = text.encode(input).unwrap();
        ids.iter()
            .map(|&id| meta.texts("tokenizer.ggml.tokens").unwrap().unwrap()[id as usize].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(named("abc"), ["▁a", "bc"]);
    assert_eq!(named("ab ab"), ["▁ab", "▁ab"]);
    assert_eq!(named("é"), ["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(named("a  b"), ["▁a", "▁▁", "b"]);
    assert_eq!(text.decode(&text.encode("a  b").unwrap()).unwrap(), " a  b");
    assert_eq!(text.decode(&text.encode("ab é").unwrap()).unwrap().trim_start(), "ab é");
    assert_eq!((text.bos_id(), text.eos_ids(), text.leading_bos), (Some(1), &[2][..], Some(1)));

    let mut without = sentence_pieces();
    without.insert("tokenizer.ggml.add_space_prefix".into(), false.into());
    without.insert("tokenizer.ggml.add_bos_token".into(), false.into());
    let plain = super::tests::text(&metadata(without)).unwrap();
    assert_eq!(plain.decode(&plain.encode("ab é").unwrap()).unwrap(), "ab é");
    assert_eq!(plain.leading_bos, None);
}

#[test]
fn pieces_and_pairs_are_written_as_they_were_read() {
    for values in [
        sentence_pieces(),
        byte_pairs(Some("llama-bpe")),
        byte_pairs(Some("default")),
        byte_pairs(Some("qwen2")),
    ] {
        let meta = metadata(values);
        let text = text(&meta).unwrap();
        let vocabulary = text.gguf(300).unwrap();
        let again = metadata(vocabulary.metadata);
        for key in ["model", "pre", "merges", "eos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            if meta.get(&key).is_some() {
                assert_eq!(again.get(&key), meta.get(&key), "{key}");
            }
        }
        let count = meta.texts("tokenizer.ggml.tokens").unwrap().unwrap().len();
        let tokens = again.texts("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(tokens[..count], *meta.texts("tokenizer.ggml.tokens").unwrap().unwrap());
        assert_eq!(tokens[299], "[PAD299]");
        let types = again.integers("tokenizer.ggml.token_type").unwrap().unwrap();
        assert_eq!(types[..count], *meta.integers("tokenizer.ggml.token_type").unwrap().unwrap());
        assert_eq!(types[299], 5);
        let read_again = super::tests::text(&again).unwrap();
        for input in ["abc ab's 1234\n\nx", "", " a  b", "é"] {
            assert_eq!(read_again.encode(input).unwrap(), text.encode(input).unwrap(), "{input:?}");
        }
        assert!(text.gguf(100).unwrap_err().to_string().contains("output layer of 100 rows"));
    }
    let noted = text(&metadata(byte_pairs(Some("qwen2")))).unwrap().gguf(300).unwrap().notes;
    assert!(noted.len() == 1 && noted[0].contains("NFC"), "{noted:?}");
}

#[test]
fn what_is_not_supported_is_named() {
    let token = |n: usize| Value::Texts((0..n).map(|i| format!("t{i}")).collect());
    let cases: Vec<(&str, Option<Value>, &str)> = vec![
        ("tokenizer.ggml.model", Some("bert".into()), "`bert` is not supported; supported: gpt2, llama"),
        ("tokenizer.ggml.model", None, "tokenizer.ggml.model is missing"),
        ("tokenizer.ggml.pre", Some("kimi-k2".into()), "`kimi-k2` is not supported; supported: gpt-2, "),
        ("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens is missing"),
        ("tokenizer.ggml.tokens", Some(token(3)), "token_type has 269 entries for 3 tokens"),
        ("tokenizer.ggml.tokens", Some(Value::Texts(vec!["x".into(); 269])), "holds \"x\" twice, as 0 and 1"),
        (
            "tokenizer.ggml.tokens",
            Some(token(269)),
            "tokenizer.ggml.merges[0] is \"1 2\", but \"1\" is no token",
        ),
        ("tokenizer.ggml.merges", None, "tokenizer.ggml.merges is missing"),
        ("tokenizer.ggml.merges", Some(Value::Texts(vec!["ab".into()])), "it must be two tokens"),
        ("tokenizer.ggml.merges", Some(Value::Texts(vec![String::new()])), "it must be two tokens"),
        ("tokenizer.ggml.eos_token_id", None, "tokenizer.ggml.eos_token_id is missing"),
        (
            "tokenizer.ggml.eos_token_id",
            Some(999u32.into()),
            "eos_token_id is 999, but there are only 269 tokens",
        ),
        ("tokenizer.ggml.bos_token_id", Some(Value::Signed(-1)), "tokenizer.ggml.bos_token_id is -1"),
        ("tokenizer.chat_template", Some(true.into()), "tokenizer.chat_template is true"),
    ];
    for (key, value, word) in cases {
        let mut values = byte_pairs(Some("gpt-2"));
        match value {
            Some(value) => values.insert(key.to_owned(), value),
            None => values.remove(key),
        };
        let error = format!("{:#}", text(&metadata(values)).err().unwrap());
        assert!(error.contains(word), "{word}: {error}");
    }
    let cut = serde_json::json!({ "type": "Split", "pattern": { "Regex": "x+" }, "behavior": "Isolated" });
    let error = pre::name_of(&cut, false, false).unwrap_err().to_string();
    assert!(error.contains("[\"x+\"]"), "{error}");
    let whitespace = serde_json::json!({ "type": "Whitespace" });
    assert_refused(pre::name_of(&whitespace, false, false), "llama.cpp has no name for");
}

#[test]
fn a_tokenizer_beside_the_file_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut values = byte_pairs(Some("of the future"));
    values.insert("tokenizer.ggml.eos_token_id".into(), 2u32.into());
    let mut out = Vec::new();
    let values: Vec<_> = values.into_iter().collect();
    crate::gguf::write(&mut out, &values, &[], |_| Ok(Vec::new())).unwrap();
    std::fs::write(&path, out).unwrap();
    let error = format!("{:#}", Text::load(&path).err().unwrap());
    assert!(error.contains("of the future") && error.contains("model.gguf"), "{error}");
    let embedded = Text::embedded().unwrap();
    embedded.save(dir.path()).unwrap();
    assert_eq!(Text::load(&path).unwrap().hash(), embedded.hash());
}
