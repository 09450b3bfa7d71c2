//! Tests of reading and writing `config.json`.

use super::*;
use crate::model::Family;

fn edited(edit: impl FnOnce(&mut Value)) -> Result<ModelConfig> {
    let mut value: Value = serde_json::from_str(&ModelConfig::seed(149).to_json()).unwrap();
    edit(&mut value);
    ModelConfig::parse(&value.to_string())
}

#[test]
fn round_trips_through_json() {
    let seed = ModelConfig::seed(149);
    assert_eq!(ModelConfig::parse(&seed.to_json()).unwrap(), seed);
    let llama = ModelConfig {
        family: Family::Llama,
        sliding_window: None,
        layers: vec![LayerConfig { rope: true, ..LayerConfig::default() }; 3],
        tie_word_embeddings: false,
        eos_token_ids: vec![2, 3],
        num_key_value_heads: 2,
        ..seed
    };
    assert_eq!(ModelConfig::parse(&llama.to_json()).unwrap(), llama);
}

#[test]
fn smollm3_defaults_are_transformers_own() {
    let text = r#"{"model_type":"smollm3","vocab_size":128256,"hidden_size":2048,"intermediate_size":11008,
        "num_hidden_layers":8,"num_attention_heads":16,"num_key_value_heads":4,"rope_theta":5000000.0,
        "some_future_key": {"a": 1}}"#;
    let config = ModelConfig::parse(text).unwrap();
    let rope: Vec<bool> = config.layers.iter().map(|l| l.rope).collect();
    assert_eq!(rope, [true, true, true, false, true, true, true, false]);
    assert!(config.layers.iter().all(|l| !l.sliding));
    assert_eq!((config.head_dim, config.tie_word_embeddings, config.rope.rope_theta), (128, true, 5e6));
}

#[test]
fn without_layer_types_the_window_falls_on_layers_without_rope() {
    let config = edited(|v| v["layer_types"] = Value::Null).unwrap();
    let sliding: Vec<bool> = config.layers.iter().map(|l| l.sliding).collect();
    assert_eq!(sliding, [false, false, true, true]);
}

#[test]
fn refuses_by_name() {
    let cases: [(&str, Value); 14] = [
        ("model_type", json!("mamba")),
        ("architectures", json!(["SmolLM3ForSequenceClassification"])),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!("yes")),
        ("mlp_bias", json!(2)),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4})),
        ("partial_rotary_factor", json!(0.5)),
        ("quantization_config", json!({"bits": 4})),
        ("layer_types", json!(["chunked_attention", "x", "x", "x"])),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(31)),
        ("rms_norm_eps", json!(0.0)),
        ("no_rope_layers", json!([1])),
    ];
    for (key, value) in cases {
        let error = edited(|v| v[key] = value).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let error = edited(|v| v["use_sliding_window"] = json!(false)).unwrap_err().to_string();
    assert!(error.contains("layer_types[0]"), "{error}");
    let error = edited(|v| v["hidden_size"] = Value::Null).unwrap_err().to_string();
    assert!(error.contains("hidden_size"), "{error}");
}

#[test]
fn hostile_sizes_do_not_overflow() {
    for key in ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"] {
        assert!(edited(|v| v[key] = json!(u64::MAX)).is_err(), "{key}");
        assert!(edited(|v| v[key] = json!(0)).is_err(), "{key}");
    }
}
