//! Training an adapter: its gradient, what stays frozen, what is saved, and going on from it.

use super::*;
use crate::model::{ALL_LINEAR, Adapter, Frozen, Lora, LoraSettings};

fn address(task: &str) -> Address {
    Address::new(11, Purpose::Init, 0, task, &[])
}

fn lora(dropout: f64) -> Lora {
    let base = Frozen::of(&weights(21)).unwrap();
    let settings = LoraSettings { r: 4, lora_alpha: 8.0, lora_dropout: dropout, use_rslora: false };
    let targets = [ALL_LINEAR.to_owned()];
    let adapter = Adapter::init(&base.config, settings, &targets, &address("lora")).unwrap();
    Lora { base, adapter }
}

fn trainable(lora: &Lora) -> Trainable {
    Trainable::Lora { lora: Box::new(lora.clone()), address: address("dropout") }
}

fn trainer(dropout: f64, steps: u32, threads: usize) -> Trainer {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| Trainer::new(trainable(&lora(dropout)), hyper(), steps)).unwrap()
}

/// Makes these updates, of several chunks each.
fn go_on(trainer: &mut Trainer, steps: std::ops::Range<usize>) {
    for step in steps {
        run_step(trainer, step, 40);
    }
}

/// Moves every B away from zero, by numbers that are easily made.
fn moved(dropout: f64) -> Lora {
    let lora = lora(dropout);
    for (name, var) in lora.adapter.tensors.iter().filter(|(name, _)| name.contains("lora_B")) {
        let data: Vec<f32> =
            (0..var.elem_count()).map(|i| ((i * 7 + name.len()) % 13) as f32 / 40.0 - 0.15).collect();
        var.set(&Tensor::from_vec(data, var.shape(), var.device()).unwrap()).unwrap();
    }
    lora
}

#[test]
fn the_adapters_gradient_agrees_with_finite_differences() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for dropout in [0.0, 0.3] {
        let lora = moved(dropout);
        let (trainable, batch) = (trainable(&lora), batch(1, 1));
        let batch: Vec<&Group> = batch.iter().collect();
        let analytic =
            gradient::of_step(&pool, &trainable, Objective::Sft, Passes::default(), 3, &batch).unwrap();
        assert_differences_agree(&lora.adapter.tensors, &analytic, || {
            gradient::of_step(&pool, &trainable, Objective::Sft, Passes::default(), 3, &batch).unwrap().loss
        });
    }
}

#[test]
fn only_the_adapter_moves_and_only_it_is_saved() {
    let home = tempfile::tempdir().unwrap();
    let mut trainer = trainer(0.0, 8, 2);
    let base = weights(21);
    let begun = trainer.trainable().hash().unwrap();
    let losses: Vec<f64> = (0..8).map(|_| run_step(&mut trainer, 0, 1).loss).collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    trainer.save_state(home.path()).unwrap();
    let bytes = std::fs::read(home.path().join("tensors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.names().iter().all(|name| name.contains(".lora_")), "{:?}", file.names());
    let Trainable::Lora { lora, .. } = trainer.into_trainable() else { panic!() };
    assert_eq!(**lora.base.hash(), base.hash());
    assert_ne!(lora.hash().unwrap(), begun);
    for (name, var) in &base.tensors {
        let adapted = name.contains("_proj");
        let before = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(lora.base.elements(name).unwrap(), before, "{name}");
        assert_eq!(lora.merged(name).unwrap() != before, adapted, "{name}");
    }
}

#[test]
fn going_on_from_a_saved_adapter_gives_the_same_bits() {
    for dropout in [0.0, 0.2] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        let mut straight = trainer(dropout, 5, 2);
        go_on(&mut straight, 0..5);
        for stop in [1, 3] {
            let mut first = trainer(dropout, 5, 1);
            go_on(&mut first, 0..stop);
            first.save_state(&dir).unwrap();
            let mut second = trainer(dropout, 5, 3);
            second.load_state(&dir).unwrap();
            assert_eq!(second.trainable().hash().unwrap(), first.trainable().hash().unwrap());
            go_on(&mut second, stop..5);
            let ends = [&second, &straight].map(|trainer| trainer.trainable().hash().unwrap());
            assert_eq!(ends[0], ends[1], "dropout {dropout}, from {stop}");
        }
        let mut other = trainer(0.5, 5, 1);
        assert!(format!("{:#}", other.load_state(&dir).unwrap_err()).contains("other settings"));
    }
}

#[test]
fn what_an_adapter_waits_for_is_audited_when_it_comes() {
    let mut trainer = trainer(0.0, 3, 1);
    run_step(&mut trainer, 0, 1);
    let Trainable::Lora { lora, .. } = trainer.into_trainable() else { panic!() };
    // B has moved, so that A must get a gradient now; nothing flows through a value projection of zeros.
    let zeros = |var: &Var| var.set(&Tensor::zeros(var.shape(), var.dtype(), var.device()).unwrap()).unwrap();
    let base = lora.base.thaw().unwrap();
    zeros(&base.tensors["model.layers.1.self_attn.v_proj.weight"]);
    zeros(&lora.adapter.tensors["model.layers.1.self_attn.v_proj.lora_B.weight"]);
    let broken = Lora { base: Frozen::of(&base).unwrap(), adapter: lora.adapter.clone() };
    let mut trainer = Trainer::new(trainable(&broken), hyper(), 3).unwrap();
    let batch = batch(0, 1);
    let error = format!("{:#}", trainer.step(&batch.iter().collect::<Vec<_>>()).unwrap_err());
    assert!(error.contains("model.layers.1.self_attn.k_proj.lora_A.weight"), "{error}");
    assert!(error.contains("zero throughout"), "{error}");
}
