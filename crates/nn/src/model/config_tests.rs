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

/// The smallest configuration of a family, with more keys.
fn of(model_type: &str, more: Value) -> Result<ModelConfig> {
    let mut value = json!({"model_type": model_type, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2});
    for (key, more) in more.as_object().unwrap() {
        value[key] = more.clone();
    }
    ModelConfig::parse(&value.to_string())
}

fn sliding(config: &ModelConfig) -> Vec<bool> {
    config.layers.iter().map(|layer| layer.sliding).collect()
}

#[test]
fn windows_are_where_each_family_has_them() {
    let none = [false; 6];
    let config = of("mistral", json!({})).unwrap();
    assert_eq!((config.sliding_window, sliding(&config)), (Some(4096), vec![true; 6]));
    let config = of("mistral", json!({"sliding_window": null})).unwrap();
    assert_eq!((config.sliding_window, sliding(&config)), (None, none.to_vec()));

    for family in ["qwen2", "qwen3", "qwen3_moe"] {
        let experts = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8,
            "sliding_window": 5, "max_window_layers": 4});
        assert_eq!(sliding(&of(family, experts.clone()).unwrap()), none, "{family}");
        let mut used = experts;
        used["use_sliding_window"] = json!(true);
        let from = if family == "qwen3_moe" { 0 } else { 4 };
        assert_eq!(
            sliding(&of(family, used).unwrap()),
            (0..6).map(|i| i >= from).collect::<Vec<_>>(),
            "{family}"
        );
    }

    let config = of("gemma2", json!({})).unwrap();
    assert_eq!(sliding(&config), [true, false, true, false, true, false]);
    assert_eq!((config.sliding_window, config.head_dim), (Some(4096), 256));
    assert_eq!(sliding(&of("gemma3_text", json!({})).unwrap()), [true, true, true, true, true, false]);
    let config = of("gemma3_text", json!({"sliding_window_pattern": 2})).unwrap();
    assert_eq!(sliding(&config), [true, false, true, false, true, false]);
    assert_eq!(sliding(&of("olmo3", json!({})).unwrap()), [true, true, true, false, true, true]);
    let types = json!([
        "full_attention",
        "sliding_attention",
        "full_attention",
        "full_attention",
        "full_attention",
        "full_attention"
    ]);
    let config = of("olmo3", json!({"layer_types": types, "sliding_window": 7})).unwrap();
    assert_eq!((config.window(0), config.window(1)), (None, Some(7)));
}

#[test]
fn what_a_file_leaves_out_is_the_familys_own() {
    let mut text = json!({"model_type": "qwen3", "vocab_size": 9, "hidden_size": 64, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 32});
    let config = ModelConfig::parse(&text.to_string()).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim), (32, 128));
    text["num_attention_heads"] = json!(4);
    text["num_key_value_heads"] = Value::Null;
    text["head_dim"] = Value::Null;
    assert_eq!(ModelConfig::parse(&text.to_string()).unwrap().num_key_value_heads, 4);
    let config = of("gemma2", json!({"attn_logit_softcapping": null})).unwrap();
    let caps = (config.blocks.attn_logit_softcapping, config.blocks.final_logit_softcapping);
    assert_eq!(caps, (None, Some(30.0)));
    assert_eq!(config.blocks.query_pre_attn_scalar, Some(256.0));
    assert_eq!(of("olmo2", json!({})).unwrap().rms_norm_eps, 1e-5);
    let config = of(
        "qwen3_moe",
        json!({"num_local_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 8, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    );
    let sparse: Vec<bool> = config.unwrap().layers.iter().map(|layer| layer.sparse).collect();
    assert_eq!(sparse, [false, true, false, false, false, true]);
}

#[test]
fn the_text_part_of_a_multimodal_gemma_is_read() {
    // The keys of google/gemma-3-4b-it's language model, and no others.
    let text = r#"{"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 106], "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152},
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}"#;
    let config = ModelConfig::parse(text).unwrap();
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.vocab_size, config.tie_word_embeddings), (262_208, true));
    assert_eq!((config.eos_token_ids.as_slice(), config.sliding_window), (&[1, 106][..], Some(1024)));
    assert_eq!((config.window(0), config.window(5)), (Some(1024), None));
    let saved: Value = serde_json::from_str(&config.to_json()).unwrap();
    assert_eq!(
        (&saved["model_type"], &saved["architectures"]),
        (&json!("gemma3_text"), &json!(["Gemma3ForCausalLM"]))
    );
    assert_eq!(ModelConfig::parse(&config.to_json()).unwrap(), config);
    let error = ModelConfig::parse(r#"{"model_type": "gemma3"}"#).unwrap_err().to_string();
    assert!(error.contains("text_config"), "{error}");
}

#[test]
fn unknown_keys_are_kept_and_needed_ones_are_named() {
    let config =
        of("qwen3", json!({"initializer_range": 0.02, "my_note": {"a": [1, null]}, "dtype": "bfloat16"}));
    let saved: Value = serde_json::from_str(&config.unwrap().to_json()).unwrap();
    assert_eq!((&saved["initializer_range"], &saved["my_note"]), (&json!(0.02), &json!({"a": [1, null]})));
    assert_eq!(saved["dtype"], "float32");
    let needed =
        ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
    for key in needed {
        let error = of("mistral", json!({ key: null })).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(key), "{key}: {error}");
    }
    for key in ["num_experts", "num_experts_per_tok", "moe_intermediate_size"] {
        let mut experts = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8});
        experts[key] = Value::Null;
        let error = of("qwen3_moe", experts).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let cases = [
        ("olmoe", json!({"clip_qkv": 8.0, "num_experts": 4, "num_experts_per_tok": 2}), "clip_qkv 8.0"),
        ("olmoe", json!({"num_experts": 4, "num_experts_per_tok": 5}), "num_experts_per_tok is 5"),
        ("olmoe", json!({"num_experts": u64::MAX, "num_experts_per_tok": 5}), "num_experts is"),
        ("qwen3_moe", json!({"decoder_sparse_step": 0}), "decoder_sparse_step"),
        ("gemma2", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        ("gemma2", json!({"hidden_activation": "relu"}), "hidden_activation `relu`"),
        ("gemma2", json!({"final_logit_softcapping": -1}), "final_logit_softcapping -1"),
        ("gemma3_text", json!({"sliding_window_pattern": 0}), "sliding_window_pattern"),
        ("mistral", json!({"sliding_window": 0}), "sliding_window is 0"),
        ("qwen2", json!({"rope_scaling": {"type": "mrope"}}), "`mrope`"),
        ("llama", json!({"vocab_size": "many"}), "vocab_size is \"many\""),
        ("qwen2", json!({"eos_token_id": [1, -1]}), "eos_token_id"),
        ("phi3", json!({}), "olmoe, qwen3_moe"),
    ];
    for (family, more, word) in cases {
        let error = of(family, more).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(word), "{word}: {error}");
    }
    for text in ["", "[]", "3", "{\"model_type\": 3}", "{}"] {
        assert!(ModelConfig::parse(text).unwrap_err().to_string().contains("config.json"), "{text}");
    }
}

/// (a published config.json, its model's number of parameters)
const PUBLISHED: [(&str, u64); 12] = [
    // meta-llama/Llama-3.2-1B
    (
        r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "tie_word_embeddings": true, "rope_theta": 500000.0, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
        "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}"#,
        1_235_814_400,
    ),
    // meta-llama/Llama-2-7b-hf
    (
        r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "pretraining_tp": 1}"#,
        6_738_415_616,
    ),
    // HuggingFaceTB/SmolLM2-135M
    (
        r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true,
        "is_llama_config": true, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000}"#,
        134_515_008,
    ),
    // HuggingFaceTB/SmolLM3-3B
    (
        r#"{"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "rope_theta": 5000000.0}"#,
        3_075_098_624,
    ),
    // mistralai/Mistral-7B-v0.1
    (
        r#"{"model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": 4096}"#,
        7_241_732_096,
    ),
    // Qwen/Qwen2.5-0.5B
    (
        r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true,
        "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 24, "use_mrope": false}"#,
        494_032_768,
    ),
    // Qwen/Qwen3-0.6B
    (
        r#"{"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": true, "attention_bias": false, "sliding_window": null, "rope_scaling": null}"#,
        596_049_920,
    ),
    // allenai/OLMo-2-0425-1B
    (
        r#"{"model_type": "olmo2", "vocab_size": 100352, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "rope_theta": 500000}"#,
        1_484_916_736,
    ),
    // google/gemma-2-2b
    (
        r#"{"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096}"#,
        2_614_341_888,
    ),
    // google/gemma-3-1b-pt
    (
        r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "sliding_window": 512, "sliding_window_pattern": 6, "rope_local_base_freq": 10000, "rope_scaling": null}"#,
        999_885_952,
    ),
    // allenai/OLMoE-1B-7B-0924
    (
        r#"{"model_type": "olmoe", "vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 1024,
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
        "num_experts_per_tok": 8, "norm_topk_prob": false, "clip_qkv": null}"#,
        6_919_161_856,
    ),
    // Qwen/Qwen3-30B-A3B
    (
        r#"{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": true,
        "decoder_sparse_step": 1, "mlp_only_layers": []}"#,
        30_532_122_624,
    ),
];

#[test]
fn published_models_have_their_number_of_parameters() {
    for (text, count) in PUBLISHED {
        let config = ModelConfig::parse(text).unwrap();
        let sizes = config.parameters().into_iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
        assert_eq!(sizes.sum::<u64>(), count, "{text}");
    }
}
