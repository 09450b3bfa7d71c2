//! Tokenizers that nobody vouches for: an error by name, and no panic.

use autodidact_testing::assert_refused;
use serde_json::{Value, json};

use super::*;

/// The embedded tokenizer, changed.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Text> {
    let mut json: Value = serde_json::from_str(include_str!("../../assets/seed/tokenizer.json")).unwrap();
    change(&mut json);
    Text::from_tokenizer_json(json.to_string().as_bytes(), &[2])
}

#[test]
fn what_makes_a_library_panic_is_an_error() {
    changed(|_| ()).unwrap();
    for normalizer in [
        json!({ "type": "Precompiled", "precompiled_charsmap": "AAA=" }),
        json!({ "type": "Precompiled", "precompiled_charsmap": "////////" }),
    ] {
        let loaded = changed(|json| json["normalizer"] = normalizer);
        // Some are only found out by the first text.
        let error = loaded.and_then(|text| text.encode("3 + 5").map(drop)).unwrap_err();
        assert!(format!("{error:#}").contains("tokenizer"), "{error:#}");
    }
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<unknown>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [],
        "special_tokens": {},
    });
    let error = changed(|json| json["post_processor"] = template).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("tokenizer"), "{error:#}");
}

#[test]
fn an_id_that_no_vocabulary_reaches_is_refused_before_memory_is_asked_for() {
    let added = json!([{
        "id": 4_000_000_000_u32, "content": "<far>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    }]);
    for place in ["model", "added"] {
        let loaded = changed(|json| match place {
            "model" => json["model"]["vocab"]["far"] = json!(4_000_000_000_u32),
            _ => json["added_tokens"] = added.clone(),
        });
        match loaded {
            // An added token gets the next free id, whatever the file has.
            Ok(text) => assert!(text.vocab_size() < 1000, "{place}"),
            Err(error) => assert!(format!("{error:#}").contains("4000000000"), "{place}: {error:#}"),
        }
    }
}

#[test]
fn a_tokenizer_that_is_no_function_is_refused() {
    let bpe = json!({
        "version": "1.0",
        "added_tokens": [],
        "model": { "type": "BPE", "dropout": 0.1, "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
    });
    let load = |json: &Value| Text::from_tokenizer_json(json.to_string().as_bytes(), &[1]);
    assert_refused(load(&bpe).map(drop), "BPE dropout of 0.1");
    let mut zero = bpe;
    zero["model"]["dropout"] = json!(0.0);
    assert!(load(&zero).map(drop).err().is_none_or(|error| !error.to_string().contains("dropout")));
}
