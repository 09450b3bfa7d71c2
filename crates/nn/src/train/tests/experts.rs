//! An adapter on a mixture of experts: every one of its tensors learns, and the routed experts stay as they are.

use super::*;
use crate::model::{ADAPTER_CONFIG, ALL_LINEAR, Adapter, Frozen, Lora, LoraSettings};

/// Every layer routes.
const OLMOE: &str = r#"{
    "model_type": "olmoe", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2,
    "norm_topk_prob": false, "clip_qkv": null, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2
}"#;

/// The first layer is dense.
const QWEN3_MOE: &str = r#"{
    "model_type": "qwen3_moe", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 8, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [0],
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2
}"#;

/// A family's configuration, and how many of its layers are adapted: attention, and the dense feed-forward.
const FAMILIES: [(&str, usize); 2] = [(OLMOE, 8), (QWEN3_MOE, 11)];

fn address(task: &str) -> Address {
    Address::new(13, Purpose::Init, 0, task, &[])
}

fn lora(config: &str) -> Lora {
    let base = Weights::init(ModelConfig::parse(config).unwrap(), &address("base")).unwrap();
    let base = Frozen::of(&base).unwrap();
    let settings = LoraSettings { r: 3, lora_alpha: 6.0, lora_dropout: 0.0, use_rslora: false };
    let adapter = Adapter::init(&base.config, settings, &[ALL_LINEAR.to_owned()], &address("lora")).unwrap();
    Lora { base, adapter }
}

fn trainable(lora: &Lora) -> Trainable {
    Trainable::Lora { lora: Box::new(lora.clone()), address: address("dropout") }
}

#[test]
fn every_tensor_of_the_adapter_gets_its_gradient() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for (config, adapted) in FAMILIES {
        let lora = lora(config);
        assert_eq!(lora.adapter.modules.len(), adapted, "{:?}", lora.adapter.modules);
        // B away from zero, so that A has something to move.
        for (name, var) in lora.adapter.tensors.iter().filter(|(name, _)| name.contains("lora_B")) {
            let moved = (0..var.elem_count()).map(|i| ((i * 7 + name.len()) % 13) as f32 / 40.0 - 0.15);
            var.set(&Tensor::from_vec(moved.collect::<Vec<_>>(), var.shape(), var.device()).unwrap())
                .unwrap();
        }
        let (trainable, batch) = (trainable(&lora), batch(1, 1));
        let batch: Vec<&Group> = batch.iter().collect();
        let analytic =
            gradient::of_step(&pool, &trainable, Objective::Sft, Passes::default(), 1, &batch).unwrap();
        assert_eq!(analytic.gradients.len(), 2 * adapted);
        for (name, gradient) in lora.adapter.tensors.keys().zip(&analytic.gradients) {
            let gradient = gradient.as_ref().unwrap_or_else(|| panic!("{name} has no gradient"));
            assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0), "{name}");
        }
        assert_differences_agree(&lora.adapter.tensors, &analytic, || {
            gradient::of_step(&pool, &trainable, Objective::Sft, Passes::default(), 1, &batch).unwrap().loss
        });
    }
}

#[test]
fn experts_and_routers_stay_frozen_and_the_adapter_comes_back() {
    for (config, _) in FAMILIES {
        let begun = lora(config);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut trainer = pool.install(|| Trainer::new(trainable(&begun), hyper(), 6)).unwrap();
        let losses: Vec<f64> = (0..6).map(|_| run_step(&mut trainer, 0, 1).loss).collect();
        assert!(losses[5] < losses[0], "{losses:?}");
        let Trainable::Lora { lora: trained, .. } = trainer.into_trainable() else { panic!() };
        let base = lora(config).base;
        assert_eq!(trained.base.hash(), base.hash());
        let mut experts = 0;
        for (name, _) in base.config.parameters() {
            let is_expert = name.contains(".experts.");
            let adapted = name.ends_with("_proj.weight") && !is_expert;
            let moved = trained.merged(&name).unwrap() != base.elements(&name).unwrap();
            assert_eq!(moved, adapted, "{name}");
            experts += usize::from(is_expert);
        }
        assert!(experts >= 12, "{experts} tensors of experts");

        let dir = tempfile::tempdir().unwrap();
        trained.adapter.save(&base.config, "org/moe", dir.path()).unwrap();
        let again = Adapter::load(dir.path(), &base.config).unwrap();
        assert_eq!((&again.settings, &again.modules), (&trained.adapter.settings, &trained.adapter.modules));
        let again = Lora { base, adapter: again };
        assert_eq!(again.hash().unwrap(), trained.hash().unwrap());
        // PEFT goes by these names: none may be that of an expert's layer.
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.path().join(ADAPTER_CONFIG)).unwrap()).unwrap();
        let targets: Vec<&str> =
            json["target_modules"].as_array().unwrap().iter().filter_map(|t| t.as_str()).collect();
        let hit = |name: &&String| {
            targets.iter().any(|t| name.trim_end_matches(".weight").ends_with(&format!(".{t}")))
        };
        let names: Vec<String> = again.base.config.parameters().into_iter().map(|(name, _)| name).collect();
        let experts = names.iter().filter(|name| name.contains(".experts."));
        assert_eq!(experts.filter(hit).count(), 0, "{targets:?}");
    }
}
