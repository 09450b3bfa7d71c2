//! The trainer on a tiny model: gradients, masks, determinism, resuming, and what it refuses.

mod experts;
mod lora;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use autodidact_testing::{assert_refused, is_skipped};
use candle_core::{Tensor, Var};
use safetensors::SafeTensors;

use super::gradient::StepGradient;
use super::settings::MomentPrecision::{Bf16, F32};
use super::settings::{Checkpointing, OptimizerKind, PretrainConfig, defaults};
use super::update::moments_bytes;
use super::*;
use crate::domain::{Address, Purpose};
use crate::model::{self, ModelConfig, Weights};
use crate::ops::kernels::{Arithmetic, has_tiles};

/// The same shape as in tests/golden/sft_adamw.py: a windowed rotary layer and a full one without
/// positions.
const CONFIG: &str = r#"{
    "model_type": "smollm3", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_bias": false, "mlp_bias": false,
    "no_rope_layers": [1, 0], "layer_types": ["sliding_attention", "full_attention"],
    "use_sliding_window": true, "sliding_window": 4
}"#;

fn weights(seed: u64) -> Weights {
    let config = ModelConfig::parse(CONFIG).unwrap();
    Weights::init(config, &Address::new(seed, Purpose::Init, 0, "", &[])).unwrap()
}

fn hyper() -> Hyper {
    Hyper::from(&defaults().0)
}

/// A trainer in a pool of `threads` threads.
fn trainer(weights: &Weights, hyper: Hyper, steps: u32, threads: usize) -> Trainer {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| Trainer::new(weights.clone(), hyper, steps)).unwrap()
}

/// Example `index` of update `step`, by the formula of tests/golden/sft_adamw.py, `stretch` times
/// as long.
fn example(step: usize, index: usize, stretch: usize) -> Example {
    let tokens = stretch * (6 + 3 * index + step);
    let ids: Vec<u32> =
        (0..tokens).map(|t| (3 + (7 * step + 5 * index + 3 * t * t + t) % 29) as u32).collect();
    example_from_solution(&ids[..3 + index], &ids[3 + index..], &format!("t/{step}/{index}"))
}

/// Examples of one update: three short ones, or enough tokens for several chunks.
fn batch(step: usize, stretch: usize) -> Vec<Group> {
    (0..3).map(|index| example(step, index, stretch).into()).collect()
}

fn run_step(trainer: &mut Trainer, step: usize, stretch: usize) -> StepReport {
    let batch = batch(step, stretch);
    trainer.step(&batch.iter().collect::<Vec<_>>()).unwrap()
}

fn examples(groups: &[Group]) -> Vec<&Example> {
    groups.iter().flat_map(|group| &group.examples).collect()
}

/// The mean −log-probability over `targets` targets.
fn nll(targets: usize) -> impl Fn(&[f32]) -> anyhow::Result<(LossParts, Vec<f32>)> {
    move |logprobs| {
        let sum: f64 = logprobs.iter().map(|&l| f64::from(l)).sum();
        Ok((LossParts::from([("nll", -sum)]), vec![(-1.0 / targets as f64) as f32; logprobs.len()]))
    }
}

fn gradient_of(weights: &Weights, groups: &[Group]) -> gradient::StepGradient {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    gradient::of_step(
        &pool,
        &weights.clone().into(),
        Objective::Sft,
        Passes::default(),
        1,
        &groups.iter().collect::<Vec<_>>(),
    )
    .unwrap()
}

#[test]
fn the_loss_is_the_mean_over_completion_tokens_alone() {
    let (weights, batch) = (weights(1), batch(0, 1));
    let mut sum = 0.0;
    let mut targets = 0;
    for example in batch.iter().flat_map(|group| &group.examples) {
        let prompt = example.trains.iter().position(|&t| t).unwrap();
        let starts = Arc::new(vec![0, example.tokens()]);
        let hidden = model::forward(weights.parameters(), &example.ids, &starts).unwrap();
        let logits = hidden.matmul(&model::output_weight(&weights).t().unwrap()).unwrap();
        for (p, row) in logits.to_vec2::<f32>().unwrap().iter().enumerate().take(example.tokens() - 1) {
            if p + 1 >= prompt {
                let log_sum = row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
                sum += log_sum - f64::from(row[example.ids[p + 1] as usize]);
                targets += 1;
            }
        }
    }
    let step = gradient_of(&weights, &batch);
    assert_eq!(step.targets, targets);
    assert!((step.loss - sum / targets as f64).abs() < 1e-5, "{} {}", step.loss, sum / targets as f64);
}

#[test]
fn the_gradient_agrees_with_finite_differences() {
    let (weights, batch) = (weights(2), batch(1, 1));
    let analytic = gradient_of(&weights, &batch);
    assert_differences_agree(&weights.tensors, &analytic, || gradient_of(&weights, &batch).loss);
}

/// Each tensor's largest gradient against the central difference of `loss`, which reads the tensors
/// again.
fn assert_differences_agree(
    tensors: &BTreeMap<String, Var>,
    analytic: &StepGradient,
    loss: impl Fn() -> f64,
) {
    for (i, (name, var)) in tensors.iter().enumerate() {
        let gradient = analytic.gradients[i].as_ref().unwrap();
        // The largest element: where f32's rounding of the loss disturbs the quotient least.
        let at =
            (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let loss_at = |shift: f32| {
            let mut moved = values.clone();
            moved[at] += shift;
            var.set(&Tensor::from_vec(moved, var.shape(), var.device()).unwrap()).unwrap();
            loss()
        };
        let h = 4e-3;
        let numeric = ((loss_at(h) - loss_at(-h)) / (2.0 * f64::from(h))) as f32;
        loss_at(0.0);
        let exact = gradient[at];
        assert!((numeric - exact).abs() < 2e-2 * exact.abs() + 2e-4, "{name}: {numeric} against {exact}");
    }
}

#[test]
fn a_token_that_is_no_target_has_no_say_after_the_last_target() {
    let weights = weights(3);
    let short = example(0, 0, 1);
    let mut long = short.clone();
    long.ids.extend([9, 9, 9]);
    long.trains.extend([false; 3]);
    let (short, long) = (gradient_of(&weights, &[short.into()]), gradient_of(&weights, &[long.into()]));
    assert_eq!((short.loss, short.targets, short.gradients), (long.loss, long.targets, long.gradients));
}

#[test]
fn threads_change_no_bit() {
    let run = |threads| {
        let mut trainer = trainer(&weights(4), hyper(), 3, threads);
        let reports: Vec<_> = (0..3).map(|step| run_step(&mut trainer, step, 120)).collect();
        (reports, trainer.trainable().hash().unwrap())
    };
    let lengths: Vec<_> = batch(0, 120).iter().map(Group::tokens).collect();
    assert!(chunks(&lengths, CHUNK_TOKENS).len() > 2, "the test needs several chunks");
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn chunks_are_summed_in_order() {
    let (weights, batch) = (weights(5), batch(0, 120));
    let whole = gradient_of(&weights, &batch);
    let lengths: Vec<_> = batch.iter().map(Group::tokens).collect();
    let mut sum: Vec<Vec<f32>> = Vec::new();
    let (trainable, trained) =
        (Trainable::from(weights.clone()), weights.tensors.values().collect::<Vec<_>>());
    for chunk in chunks(&lengths, CHUNK_TOKENS) {
        let pack = pack(&examples(&batch[chunk]));
        let part = gradient::of_chunk(&trainable.pass(1, 0), &trained, &pack, 0, nll(whole.targets));
        let part = part.unwrap().gradients;
        let part = part.iter().map(|g| g.as_ref().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        if sum.is_empty() {
            sum = part.collect();
        } else {
            sum.iter_mut().zip(part).for_each(|(s, p)| s.iter_mut().zip(p).for_each(|(s, p)| *s += p));
        }
    }
    assert_eq!(whole.gradients.into_iter().map(Option::unwrap).collect::<Vec<_>>(), sum);
}

#[test]
fn checkpointing_changes_no_bit() {
    let moe = r#"{"model_type": "olmoe", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 8,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "eos_token_id": 2}"#;
    for config in [CONFIG, moe] {
        let config = ModelConfig::parse(config).unwrap();
        let weights = Weights::init(config, &Address::new(6, Purpose::Init, 0, "", &[])).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let run = |arithmetic, checkpointing| {
            let passes = Passes { tokens: 50, checkpointing };
            let batch = batch(1, 5);
            let batch: Vec<&Group> = batch.iter().collect();
            let trainable = Trainable::Full(weights.clone(), arithmetic);
            let step = gradient::of_step(&pool, &trainable, Objective::Sft, passes, 1, &batch).unwrap();
            (step.loss, step.gradients)
        };
        let batch = batch(1, 5);
        let pack = pack(&examples(&batch));
        let trainable = Trainable::Full(weights.clone(), Arithmetic::F32);
        let trained: Vec<_> = trainable.tensors().values().collect();
        let recomputing = |layers| {
            let chunk = gradient::of_chunk(&trainable.pass(1, 0), &trained, &pack, layers, nll(9)).unwrap();
            let gradients = chunk.gradients.into_iter().flatten();
            let values = |g: Tensor| g.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (chunk.parts, gradients.map(values).collect::<Vec<_>>())
        };
        let whole = recomputing(0);
        for layers in 1..=weights.config.layers.len() {
            assert!(whole == recomputing(layers), "{layers} layers computed again");
        }
        let arithmetics = [Arithmetic::F32, Arithmetic::Tiles { parts: 2 }];
        for arithmetic in
            arithmetics.into_iter().filter(|&a| a == Arithmetic::F32 || !is_skipped("amx", has_tiles()))
        {
            let whole = run(arithmetic, Checkpointing::Off);
            assert!(whole.1.iter().flatten().any(|g| g.iter().any(|&x| x != 0.0)));
            assert!(whole == run(arithmetic, Checkpointing::On), "{arithmetic:?}");
        }
    }
}

#[test]
fn going_on_from_a_saved_state_gives_the_same_bits() {
    let kinds = [OptimizerKind::Muon, OptimizerKind::AdamW];
    for (optimizer, moments) in kinds.into_iter().flat_map(|o| [(o, F32), (o, Bf16)]) {
        let hyper = Hyper { optimizer, moments, ..hyper() };
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        let mut straight = trainer(&weights(6), hyper.clone(), 6, 2);
        let mut reports = Vec::new();
        for step in 0..6 {
            reports.push(run_step(&mut straight, step, 1));
            if step == 2 {
                straight.save_state(&dir).unwrap();
            }
        }
        let file = fs::read(dir.join("tensors.safetensors")).unwrap();
        let values = file.len() - 8 - u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        let trained = straight.trainable().tensors();
        let expected = 4 * straight.trainable().element_count() + moments_bytes(&hyper, trained);
        // The state also holds AdamW's number of steps for each tensor that AdamW trains.
        assert!((expected..=expected + 4 * trained.len()).contains(&values), "{values}, not {expected}");
        let mut resumed = trainer(&weights(6), hyper.clone(), 6, 1);
        resumed.load_state(&dir).unwrap();
        assert_eq!(resumed.steps_done(), 3);
        for (step, report) in reports.iter().enumerate().skip(3) {
            assert_eq!(&run_step(&mut resumed, step, 1), report);
        }
        assert_eq!(resumed.trainable().hash().unwrap(), straight.trainable().hash().unwrap());

        let mut other = trainer(&weights(6), Hyper { weight_decay: 0.5, ..hyper }, 6, 1);
        let error = other.load_state(&dir).unwrap_err().to_string();
        assert!(error.contains("other settings"), "{error}");
    }
}

#[test]
fn the_given_weights_stay_as_they_are() {
    let given = weights(7);
    let before = given.hash();
    let mut trainer = trainer(&given, hyper(), 1, 1);
    run_step(&mut trainer, 0, 1);
    assert_eq!(given.hash(), before);
    assert_ne!(trainer.trainable().hash().unwrap(), before);
    let batch = batch(1, 1);
    assert!(trainer.step(&batch.iter().collect::<Vec<_>>()).is_err(), "no update beyond the planned ones");
}

#[test]
fn the_audit_names_a_tensor_that_the_graph_does_not_reach() {
    let mut weights = weights(8);
    let stray = Tensor::ones((4, 4), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    weights.tensors.insert("model.layers.1.stray.weight".into(), Var::from_tensor(&stray).unwrap());
    let mut trainer = trainer(&weights, hyper(), 2, 1);
    let before = trainer.trainable().hash().unwrap();
    let batch = batch(0, 1);
    let error = format!("{:#}", trainer.step(&batch.iter().collect::<Vec<_>>()).unwrap_err());
    assert!(error.contains("no gradient reaches `model.layers.1.stray.weight`"), "{error}");
    assert_eq!(trainer.trainable().hash().unwrap(), before);
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_update() {
    let weights = weights(9);
    let embeddings = &weights.tensors["model.embed_tokens.weight"];
    let mut values: Vec<f32> = embeddings.flatten_all().unwrap().to_vec1().unwrap();
    let poisoned = example(0, 1, 1);
    // Only the second example reads this token's row as an input.
    let token = *poisoned.ids.iter().find(|t| !example(0, 0, 1).ids.contains(t)).unwrap();
    values[token as usize * 16] = f32::NAN;
    embeddings.set(&Tensor::from_vec(values, (32, 16), embeddings.device()).unwrap()).unwrap();
    let mut trainer = trainer(&weights, hyper(), 2, 1);
    let before = trainer.trainable().hash().unwrap();
    let error = format!("{:#}", trainer.step(&[&poisoned.into()]).unwrap_err());
    assert!(error.contains("update 1") && error.contains("task t/0/1"), "{error}");
    assert!(error.contains("not finite"), "{error}");
    assert_eq!(trainer.trainable().hash().unwrap(), before);
    assert_eq!(trainer.steps_done(), 0);
}

#[test]
fn an_update_without_targets_is_refused() {
    let mut masked = example(0, 0, 1);
    masked.trains.fill(false);
    let mut trainer = trainer(&weights(10), hyper(), 1, 1);
    assert_refused(trainer.step(&[&masked.clone().into()]), "nothing to learn from");
    assert_refused(trainer.step(&[]), "nothing to learn from");
    masked.trains[0] = true;
    assert_refused(trainer.step(&[&masked.clone().into()]), "a loss on its first token");
    masked.trains = vec![true];
    assert_refused(trainer.step(&[&masked.clone().into()]), "a mask of 1");
}

#[test]
fn the_loss_falls_on_a_task_that_can_be_learned() {
    for optimizer in [OptimizerKind::Muon, OptimizerKind::AdamW] {
        let config = defaults().1;
        let schedule = LearningRate::Trapezoid { warmup_steps: 5, decay_steps: 30 };
        let hyper = Hyper { optimizer, schedule, ..Hyper::from(&config) };
        let mut trainer = trainer(&weights(11), hyper, 60, 2);
        let batch: Vec<_> = (0..4).flat_map(|step| batch(step, 1)).collect();
        let batch: Vec<_> = batch.iter().collect();
        let losses: Vec<_> = (0..60).map(|_| trainer.step(&batch).unwrap().loss).collect();
        assert!(
            losses[0] > 3.0 && losses[59] < 0.5 * losses[0],
            "{optimizer:?}: {} → {}",
            losses[0],
            losses[59]
        );
    }
}

#[test]
fn pretraining_repeats_exactly_and_learns() {
    let config = PretrainConfig { steps: 40, step_tokens: 64, warmup_steps: 4, ..defaults().1 };
    let model = ModelConfig::parse(CONFIG).unwrap();
    let run = || {
        let (mut index, mut losses) = (0, Vec::new());
        let next = || {
            index += 1;
            Ok(example(index % 2, index % 3, 1))
        };
        let on_step = |report: &StepReport| {
            losses.push(report.loss);
            Ok(())
        };
        let weights = pretrain(&config, &model, next, on_step).unwrap();
        (weights.hash(), losses)
    };
    let (hash, losses) = run();
    assert_eq!(run(), (hash, losses.clone()));
    assert_eq!(losses.len(), 40);
    assert!(losses[39] < 0.7 * losses[0], "{losses:?}");
}

/// Reference: tests/golden/sft_adamw.py (torch 2.15.0, transformers 5.23.0).
#[test]
fn three_updates_agree_with_pytorch() {
    let golden = include_bytes!("../../../../tests/golden/sft_adamw.safetensors");
    let (_, metadata) = SafeTensors::read_metadata(golden).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    let numbers = |key: &str| serde_json::from_str::<Vec<f64>>(&metadata[key]).unwrap();
    let golden = SafeTensors::deserialize(golden).unwrap();
    let values = |name: &str| -> Vec<f32> {
        golden.tensor(name).unwrap().data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let weights = weights(0);
    for (name, var) in &weights.tensors {
        let before = values(&format!("before.{name}"));
        var.set(&Tensor::from_vec(before, var.shape(), var.device()).unwrap()).unwrap();
    }
    let hyper = Hyper {
        optimizer: OptimizerKind::AdamW,
        learning_rate: 0.01,
        weight_decay: 0.1,
        clip_norm: 1.0,
        schedule: LearningRate::Cosine { warmup_steps: 2, floor: 0.1 },
        ..hyper()
    };
    let mut trainer = trainer(&weights, hyper, 3, 1);
    for step in 0..3 {
        let report = run_step(&mut trainer, step, 1);
        assert!((report.loss - numbers("losses")[step]).abs() < 2e-5, "{report:?}");
        assert!((report.grad_norm / numbers("norms")[step] - 1.0).abs() < 2e-4, "{report:?}");
    }
    for (name, var) in trainer.trainable().tensors() {
        let ours: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let differences = ours.iter().zip(values(&format!("after.{name}"))).map(|(a, b)| (a - b).abs());
        // A step moves an element by up to the learning rate, 0.01; Adam divides near-zero
        // gradients by their own size, so the last digits of those differ most.
        let largest = differences.fold(0.0, f32::max);
        assert!(largest < 2e-4, "{name}: {largest}");
    }
}

#[test]
fn experts_that_read_nothing_may_rest_and_the_router_learns() {
    let config = ModelConfig::parse(
        r#"{"model_type": "olmoe", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_experts": 64, "num_experts_per_tok": 2, "eos_token_id": 2}"#,
    )
    .unwrap();
    let before = Weights::init(config, &Address::new(3, Purpose::Init, 0, "", &[])).unwrap();
    let mut trainer = trainer(&before, hyper(), 2, 2);
    run_step(&mut trainer, 0, 1);
    let changed = |name: &str| {
        let values = |t: &BTreeMap<String, Var>| t[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values(&before.tensors) != values(trainer.trainable().tensors())
    };
    assert!((0..2).all(|i| changed(&format!("model.layers.{i}.mlp.gate.weight"))));
    assert!((0..64).any(|e| changed(&format!("model.layers.1.mlp.experts.{e}.up_proj.weight"))));
}
