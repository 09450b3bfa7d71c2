//! Gradients by finite differences, and against the same operator composed of candle's; what is refused.

use std::sync::Arc;

use anyhow::Result;
use autodidact_testing::is_skipped;
use candle_core::{DType, Device, Tensor, Var};

use super::super::kernels::{Arithmetic, PackedWeight, has_tiles};
use super::super::*;
use super::{bits, numbers, shape, values, var};

type Operator<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// A loss that weighs every element of the output differently.
fn loss(y: &Tensor) -> Tensor {
    let weights = Tensor::from_vec(numbers(77, y.elem_count()), y.shape(), y.device()).unwrap();
    (y * weights).unwrap().sum_all().unwrap()
}

fn forward(operator: Operator, inputs: &[Var]) -> Tensor {
    operator(&inputs.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>()).unwrap()
}

fn gradients(operator: Operator, inputs: &[Var]) -> Vec<Vec<f32>> {
    let grads = loss(&forward(operator, inputs)).backward().unwrap();
    inputs.iter().map(|v| values(grads.get(v).expect("every input gets a gradient"))).collect()
}

/// In double precision from the outputs on: f32 rounding of a loss of many terms would drown the differences.
fn exact_loss(operator: Operator, inputs: &[Var]) -> f64 {
    let y = values(&forward(operator, inputs));
    y.iter().zip(numbers(77, y.len())).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
}

fn check_finite_differences(name: &str, operator: Operator, inputs: &[Var]) {
    for (which, gradient) in gradients(operator, inputs).into_iter().enumerate() {
        let original = inputs[which].as_tensor().copy().unwrap();
        let data = values(&original);
        let mut error = 0f64;
        let size = gradient.iter().fold(0f64, |m, g| m.max(f64::from(g.abs())));
        assert!(size > 1e-3, "{name}: the gradient of input {which} vanishes");
        for at in (0..data.len()).step_by(1 + data.len() / 60) {
            let at_distance = |h: f32| {
                let mut moved = data.clone();
                moved[at] += h;
                inputs[which]
                    .set(&Tensor::from_vec(moved, original.shape(), original.device()).unwrap())
                    .unwrap();
                exact_loss(operator, inputs)
            };
            // Fourth order, so that a large step is exact enough and rounding small.
            let h = 0.02;
            let slope = |h: f32| (at_distance(h) - at_distance(-h)) / (2.0 * f64::from(h));
            let difference = (4.0 * slope(h) - slope(2.0 * h)) / 3.0;
            error = error.max((difference - f64::from(gradient[at])).abs());
        }
        inputs[which].set(&original).unwrap();
        assert!(error < 2e-3 * size.max(1.0), "{name}: input {which} is off by {error} of {size}");
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

/// Finite differences, and the composed operator's values and gradients.
fn check(name: &str, custom: Operator, composed: Operator, inputs: &[Var]) {
    let (y, z) = (values(&forward(custom, inputs)), values(&forward(composed, inputs)));
    let scale = z.iter().fold(1f32, |m, z| m.max(z.abs()));
    assert!(largest_difference(&y, &z) < 3e-6 * scale, "{name}: forward");
    for (which, (g, h)) in gradients(custom, inputs).iter().zip(gradients(composed, inputs)).enumerate() {
        let scale = h.iter().fold(1f32, |m, h| m.max(h.abs()));
        let difference = largest_difference(g, &h);
        assert!(
            difference < 1e-5 * scale,
            "{name}: gradient of input {which} differs by {difference} of {scale}"
        );
    }
    check_finite_differences(name, custom, inputs);
}

#[test]
fn linear_is_right() {
    for (n, inp, out) in [(5, 7, 3), (1, 33, 40), (30, 16, 17), (3, 300, 2)] {
        let inputs = [var(1, &[n, inp]), var(2, &[out, inp])];
        let composed: Operator = &|t| composed::linear(&t[0], &t[1]);
        check("linear", &|t| linear(&t[0], &t[1]), composed, &inputs);
        if !is_skipped("amx", has_tiles()) {
            let by_tiles: Operator = &|t| linear_by(Arithmetic::Tiles { parts: 3 }, &t[0], &t[1]);
            check("linear by tiles", by_tiles, composed, &inputs);
        }
    }
}

/// The last weight's gradient, which comes first, lays x out for the others; what belongs to another x is not used.
#[test]
fn weights_may_share_what_x_is_laid_out_as() {
    let by_tiles = [1, 3]
        .map(|parts| Arithmetic::Tiles { parts })
        .into_iter()
        .filter(|_| !is_skipped("amx", has_tiles()));
    for arithmetic in by_tiles.chain([Arithmetic::F32]) {
        let inputs = [var(1, &[70, 33]), var(2, &[40, 33]), var(3, &[40, 33]), var(4, &[70, 33])];
        let gradients = |shared: Option<&SharedPacking>| -> Vec<Vec<f32>> {
            let (y, backward) = record(&inputs[1], || {
                let product = |x: usize, w: usize| linear_with(arithmetic, &inputs[x], &inputs[w], shared);
                add(&product(3, 1)?, &add(&product(0, 1)?, &product(0, 2)?)?)
            })
            .unwrap();
            let dy = Tensor::from_vec(numbers(9, 70 * 40), (70, 40), &Device::Cpu).unwrap();
            let mut gradients = backward.run(&y, dy).unwrap();
            inputs.iter().map(|v| values(&gradients.take(v).unwrap())).collect()
        };
        let shared = SharedPacking::default();
        let (alone, together) = (gradients(None), gradients(Some(&shared)));
        assert_eq!(shared.of(), Some(inputs[0].id()), "of what two weights meet");
        assert!(alone.iter().zip(&together).all(|(a, b)| bits(a) == bits(b)), "{arithmetic:?}");
    }
}

#[test]
fn lora_linear_is_right() {
    for (n, inp, out, r) in [(5, 7, 3, 2), (1, 33, 40, 1), (30, 16, 17, 8), (3, 20, 2, 5)] {
        let inputs = [var(1, &[n, inp]), var(2, &[r, inp]), var(3, &[out, r])];
        let w = var(4, &[out, inp]).as_detached_tensor();
        let packed = FrozenMatrix::Packed(Arc::new(PackedWeight::new(&values(&w), out, inp)));
        let keep: Vec<f32> = (0..n * inp).map(|i| if i % 3 == 0 { 0.0 } else { 1.5 }).collect();
        for mask in [None, Some(Arc::new(keep))] {
            let custom: Operator = &|t| lora_linear(&t[0], &t[1], &t[2], &packed, 0.7, mask.clone());
            let composed: Operator = &|t| {
                let read = match &mask {
                    Some(mask) => (&t[0] * Tensor::from_vec(mask.to_vec(), (n, inp), &Device::Cpu)?)?,
                    None => t[0].clone(),
                };
                let adapted = composed::linear(&composed::linear(&read, &t[1])?, &t[2])?;
                Ok((composed::linear(&t[0], &w)? + (adapted * 0.7)?)?)
            };
            check("lora_linear", custom, composed, &inputs);
            let elsewhere = FrozenMatrix::Elsewhere(w.clone());
            let other: Operator = &|t| lora_linear(&t[0], &t[1], &t[2], &elsewhere, 0.7, mask.clone());
            check("lora_linear elsewhere", other, composed, &inputs);
        }
        let delta = lora_delta(&inputs[1], &inputs[2], 0.7).unwrap();
        let product = (composed::linear(&inputs[2], &inputs[1].t().unwrap()).unwrap() * 0.7).unwrap();
        assert!(largest_difference(&delta, &values(&product)) < 1e-5);
        // A frozen layer has the bits of one that is trained.
        let frozen: Operator = &|t| frozen_linear(&t[0], &packed);
        check("frozen_linear", frozen, &|t| composed::linear(&t[0], &w), &inputs[..1]);
        let y = frozen_linear(&inputs[0], &packed).unwrap();
        assert_eq!(bits(&values(&y)), bits(&values(&linear(&inputs[0], &w).unwrap())));
    }
}

#[test]
fn rms_norm_is_right() {
    for (n, d) in [(1, 3), (4, 19), (3, 48), (300, 5)] {
        let inputs = [var(1, &[n, d]), var(2, &[d])];
        let custom: Operator = &|t| rms_norm(&t[0], &t[1], 1e-2);
        check("rms_norm", custom, &|t| composed::rms_norm(&t[0], &t[1], 1e-2), &inputs);
        let custom: Operator = &|t| rms_norm_plus_one(&t[0], &t[1], 1e-2);
        check("rms_norm_plus_one", custom, &|t| composed::rms_norm_plus_one(&t[0], &t[1], 1e-2), &inputs);
        // Per head: rows of a head's width.
        if n == 4 {
            let custom: Operator =
                &|t| Ok(rms_norm(&t[0].reshape((2 * n, ()))?, &t[1], 1e-2)?.reshape((n, ()))?);
            check_finite_differences("rms_norm per head", custom, &[var(3, &[n, 2 * d]), var(2, &[d])]);
        }
    }
}

#[test]
fn swiglu_and_add_are_right() {
    for (n, d) in [(1, 1), (4, 19), (2, 64)] {
        let inputs = [var(1, &[n, d]), var(2, &[n, d])];
        check("geglu", &|t| geglu(&t[0], &t[1]), &|t| composed::geglu(&t[0], &t[1]), &inputs);
        check("swiglu", &|t| swiglu(&t[0], &t[1]), &|t| composed::swiglu(&t[0], &t[1]), &inputs);
        check("add", &|t| add(&t[0], &t[1]), &|t| composed::add(&t[0], &t[1]), &inputs);
    }
    // The same tensor twice: both gradients arrive.
    let x = var(3, &[2, 3]);
    let doubled: Operator = &|t| add(&t[0], &t[0]);
    assert_eq!(gradients(doubled, &[x])[0], numbers(77, 6).iter().map(|w| w * 2.0).collect::<Vec<_>>());
}

#[test]
fn rope_is_right() {
    for (heads, d) in [(1, 2), (3, 8), (2, 34)] {
        let table = Arc::new(RopeTable::new(d, 10_000.0, 50));
        let positions = Arc::new(vec![0, 1, 2, 49, 0]);
        let inputs = [var(1, &[5, heads * d])];
        let custom: Operator = &|t| rope(&t[0], heads, &table, &positions);
        check("rope", custom, &|t| composed::rope(&t[0], heads, &table, &positions), &inputs);
    }
}

#[test]
fn attention_is_right() {
    let shapes = [
        (shape(2, 2, 8, None), vec![0, 3, 20]),
        (shape(4, 2, 6, Some(5)), vec![0, 1, 19, 19, 24]),
        (shape(2, 1, 36, None), vec![0, 35]),
        (shape(1, 1, 16, Some(18)), vec![0, 40]),
    ];
    for (s, starts) in shapes {
        let n = *starts.last().unwrap();
        let kv = s.kv_heads * s.head_dim;
        let inputs = [var(1, &[n, s.heads * s.head_dim]), var(2, &[n, kv]), var(3, &[n, kv])];
        let starts = Arc::new(starts);
        let custom: Operator = &|t| attention(&t[0], &t[1], &t[2], &s, &starts);
        check("attention", custom, &|t| composed::attention(&t[0], &t[1], &t[2], &s, &starts), &inputs);
    }
}

#[test]
fn capped_attention_is_right() {
    let starts = Arc::new(vec![0, 1, 38, 40]);
    for window in [None, Some(5)] {
        let s = AttentionShape { softcap: Some(0.4), scale: 1.0, ..shape(4, 2, 6, window) };
        let inputs = [var(1, &[40, 24]), var(2, &[40, 12]), var(3, &[40, 12])];
        let custom: Operator = &|t| attention(&t[0], &t[1], &t[2], &s, &starts);
        check("attention", custom, &|t| composed::attention(&t[0], &t[1], &t[2], &s, &starts), &inputs);
    }
}

#[test]
fn add_bias_and_scale_are_right() {
    let inputs = [var(1, &[7, 19]), var(2, &[19])];
    check("add_bias", &|t| add_bias(&t[0], &t[1]), &|t| composed::add_bias(&t[0], &t[1]), &inputs);
    check("scale", &|t| scale(&t[0], 5.7), &|t| composed::scale(&t[0], 5.7), &inputs[..1]);
}

#[test]
fn experts_are_right() {
    for (experts, top_k, normalise) in [(6, 2, true), (6, 2, false), (5, 5, true), (4, 1, false)] {
        let routing = Routing { experts, top_k, normalise };
        // Apart, so that a finite difference doesn't change the choice.
        let spread = |at: usize| (at % experts * 7 + at / experts * 3) % experts;
        let data: Vec<f32> =
            numbers(1, 9 * experts).iter().enumerate().map(|(at, x)| spread(at) as f32 + 0.2 * x).collect();
        let spread = Tensor::from_vec(data, (9, experts), &Device::Cpu).unwrap();
        let logits = [Var::from_tensor(&spread).unwrap()];
        check("route", &|t| route(&t[0], routing), &|t| composed::route(&t[0], routing), &logits);

        let weights = route(&logits[0], routing).unwrap();
        let rows = Arc::new(kernels::rows_of_experts(&values(&weights), experts));
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 9 * top_k);
        let inputs = [var(3, &[9 * top_k, 11]), Var::from_tensor(&weights).unwrap()];
        let custom: Operator = &|t| mix(&t[0], &t[1], &rows);
        let (y, z) = (forward(custom, &inputs), forward(&|t| composed::mix(&t[0], &t[1], &rows), &inputs));
        assert!(largest_difference(&values(&y), &values(&z)) < 1e-6);
        check_finite_differences("mix", custom, &inputs);
    }
    // Of equal logits the first ones are chosen.
    let mut weights = [0.0; 4];
    Routing { experts: 4, top_k: 2, normalise: true }.weights(&[1.0; 4], &mut weights);
    assert_eq!(weights, [0.5, 0.5, 0.0, 0.0]);
}

#[test]
fn embedding_is_right() {
    let ids = [3, 0, 3, 4, 3];
    let inputs = [var(1, &[5, 7])];
    check("embedding", &|t| embedding(&t[0], &ids), &|t| composed::embedding(&t[0], &ids), &inputs);
}

#[test]
fn linear_logprob_is_right() {
    for (n, d, v) in [(1, 3, 2), (7, 10, 21), (150, 4, 5)] {
        let targets = Arc::new((0..n as u32).map(|i| i * 7 % v as u32).collect::<Vec<_>>());
        let inputs = [var(1, &[n, d]), var(2, &[v, d])];
        let custom: Operator = &|t| linear_logprob(&t[0], &t[1], &targets);
        check("linear_logprob", custom, &|t| composed::linear_logprob(&t[0], &t[1], &targets), &inputs);
        let custom: Operator = &|t| capped_linear_logprob(Arithmetic::F32, &t[0], &t[1], &targets, Some(0.7));
        let composed: Operator = &|t| composed::capped_linear_logprob(&t[0], &t[1], &targets, Some(0.7));
        check("capped_linear_logprob", custom, composed, &inputs);
        if !is_skipped("amx", has_tiles()) {
            let arithmetic = Arithmetic::Tiles { parts: 3 };
            let custom: Operator = &|t| capped_linear_logprob(arithmetic, &t[0], &t[1], &targets, Some(0.7));
            check("capped_linear_logprob by tiles", custom, composed, &inputs);
        }
        // A frozen weight gives the same, but for last bits: its gradient is multiplied by `dy` at the end.
        let (v, d) = inputs[1].dims2().unwrap();
        let w = FrozenMatrix::Packed(Arc::new(PackedWeight::new(&values(&inputs[1]), v, d)));
        let frozen: Operator = &|t| frozen_logprob(&t[0], &w, &targets, Some(0.7));
        let composed: Operator = &|t| {
            capped_linear_logprob(
                Arithmetic::F32,
                &t[0],
                &inputs[1].as_detached_tensor(),
                &targets,
                Some(0.7),
            )
        };
        check("frozen_logprob", frozen, composed, &inputs[..1]);
    }
}

/// The forward pass leaves gradients to one backward pass; another one makes them again.
#[test]
fn a_frozen_logprob_can_be_gone_back_through_twice() {
    let (x, w) = (var(1, &[7, 10]), var(2, &[21, 10]));
    let targets = Arc::new((0..7).collect::<Vec<u32>>());
    let w = FrozenMatrix::Packed(Arc::new(PackedWeight::new(&values(&w), 21, 10)));
    let loss = loss(&frozen_logprob(x.as_tensor(), &w, &targets, None).unwrap());
    let gradient = || bits(&values(loss.backward().unwrap().get(&x).unwrap()));
    let first = gradient();
    assert!(first.iter().any(|&g| g != 0));
    assert_eq!(first, gradient());
}

#[test]
fn forward_passes_have_the_bits_of_the_kernels() {
    let (n, d, v) = (9, 40, 149);
    let (x, w) = (var(1, &[n, d]), var(2, &[v, d]));
    let (xs, ws) = (values(&x), values(&w));
    let packed = kernels::PackedWeight::new(&ws, v, d);
    let mut logits = vec![0.0; n * v];
    kernels::linear(&xs, n, &packed, &mut logits);
    assert_eq!(bits(&values(&linear(&x, &w).unwrap())), bits(&logits));
    let targets = Arc::new((0..n as u32).map(|i| i * 16).collect::<Vec<_>>());
    let logprobs = values(&linear_logprob(&x, &w, &targets).unwrap());
    for (i, row) in logits.chunks(v).enumerate() {
        assert_eq!(logprobs[i].to_bits(), kernels::logprob(row, targets[i] as usize).to_bits());
    }
    let table = Arc::new(RopeTable::new(10, 500.0, 20));
    let rotated = values(&rope(&x, 4, &table, &Arc::new(vec![7; n])).unwrap());
    for (row, rotated) in xs.chunks(d).zip(rotated.chunks(d)) {
        let mut row = row.to_vec();
        table.apply(&mut row, 7);
        assert_eq!(bits(&row), bits(rotated));
    }
}

/// Gradients of a whole layer's parameters and of the embedding, by name.
fn layer_gradients(tokens: usize) -> Vec<(&'static str, Option<Vec<f32>>)> {
    let names = ["table", "norm", "q", "k", "v", "o", "norm2", "gate", "up", "down"];
    let shapes: [&[usize]; 10] =
        [&[11, 8], &[8], &[8, 8], &[4, 8], &[4, 8], &[8, 8], &[8], &[20, 8], &[20, 8], &[8, 20]];
    let p: Vec<Var> = shapes.iter().enumerate().map(|(i, s)| var(i as u64, s)).collect();
    let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 7 % 11).collect();
    let (table, positions) =
        (Arc::new(RopeTable::new(4, 100.0, tokens)), Arc::new((0..tokens as u32).collect()));
    let starts = Arc::new([0, 3].into_iter().chain((100..tokens).step_by(100)).chain([tokens]).collect());
    let x = embedding(&p[0], &ids).unwrap();
    let h = rms_norm(&x, &p[1], 1e-5).unwrap();
    let q = rope(&linear(&h, &p[2]).unwrap(), 2, &table, &positions).unwrap();
    let k = rope(&linear(&h, &p[3]).unwrap(), 1, &table, &positions).unwrap();
    let v = linear(&h, &p[4]).unwrap();
    let a = attention(&q, &k, &v, &shape(2, 1, 4, None), &starts).unwrap();
    let x = add(&x, &linear(&a, &p[5]).unwrap()).unwrap();
    let h = rms_norm(&x, &p[6], 1e-5).unwrap();
    let gated = swiglu(&linear(&h, &p[7]).unwrap(), &linear(&h, &p[8]).unwrap()).unwrap();
    let x = add(&x, &linear(&gated, &p[9]).unwrap()).unwrap();
    let logprobs = linear_logprob(&x, &p[0], &Arc::new(ids)).unwrap();
    let grads = logprobs.mean_all().unwrap().backward().unwrap();
    p.iter().zip(names).map(|(p, name)| (name, grads.get(p).map(values))).collect()
}

/// If any operator cut the graph, some parameter would get nothing.
#[test]
fn gradients_reach_every_input_of_a_chain() {
    for (name, g) in layer_gradients(6) {
        let g = g.unwrap_or_else(|| panic!("{name} gets no gradient"));
        assert!(g.iter().all(|g| g.is_finite()) && g.iter().any(|g| *g != 0.0), "{name}: {g:?}");
    }
}

#[test]
fn gradients_do_not_depend_on_threads() {
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| layer_gradients(9000))
    };
    let (one, three) = (of(1), of(3));
    for ((name, a), (_, b)) in one.into_iter().zip(three) {
        assert_eq!(bits(&a.unwrap()), bits(&b.unwrap()), "{name}");
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_passes_it_on() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[5, 4]));
    let frozen = w.as_detached_tensor();
    let grads = linear(&x, &frozen).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&frozen).is_none());
    let targets = Arc::new(vec![0, 1, 2]);
    let grads = linear_logprob(&x, &frozen, &targets).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&frozen).is_none());
}

#[test]
fn strided_arguments_are_copied() {
    let (x, w) = (var(1, &[6, 4]), var(2, &[5, 6]));
    let strided = x.t().unwrap();
    let outputs = [linear(&strided, &w), linear(&strided.contiguous().unwrap(), &w)].map(Result::unwrap);
    // Weighted, so that a gradient that was transposed or reordered differs.
    let weights = Tensor::from_vec(numbers(3, 20), (4, 5), &Device::Cpu).unwrap();
    let [copied, contiguous] = outputs.map(|y| {
        let gradients = (&y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| bits(&values(gradients.get(var).unwrap()));
        (bits(&values(&y)), of(&x), of(&w))
    });
    assert_eq!(copied, contiguous);
    assert!(copied.1.iter().any(|&b| b != 0) && copied.2.iter().any(|&b| b != 0));
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let (x, w) = (var(1, &[3, 4]), var(2, &[5, 6]));
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(linear(&x, &w)).contains("x has 4 columns and w is (5, 6)"));
    assert!(message(linear(&x.to_dtype(DType::F64).unwrap(), &w)).contains("linear: x is F64"));
    assert!(message(rms_norm(&x, &w, 1e-5)).contains("rms_norm: x has 4 columns"));
    assert!(message(swiglu(&x, &w)).contains("swiglu: gate is [3, 4]"));
    assert!(message(add(&x, &w)).contains("add: a is"));
    assert!(message(embedding(&x, &[3])).contains("id 3 of a table of 3 rows"));
    assert!(message(linear_logprob(&x, &x, &Arc::new(vec![0, 1, 3]))).contains("target 3"));
    let table = Arc::new(RopeTable::new(4, 10.0, 2));
    assert!(message(rope(&x, 1, &table, &Arc::new(vec![0, 1, 2]))).contains("position 2 is past"));
    assert!(message(rope(&x, 2, &table, &Arc::new(vec![0, 1, 1]))).contains("4 columns"));
    let attend = |shape, starts| message(attention(&x, &x, &x, &shape, &Arc::new(starts)));
    assert!(attend(shape(1, 1, 4, None), vec![0, 2]).contains("rise from 0 to 3"));
    assert!(attend(shape(3, 2, 4, None), vec![0, 3]).contains("3 query heads"));
    assert!(attend(shape(1, 1, 4, Some(0)), vec![0, 3]).contains("window of 0"));
    assert!(attend(shape(2, 2, 4, None), vec![0, 3]).contains("q has 4 columns"));
}

#[test]
fn nothing_in_nothing_out() {
    let (x, w) = (var(1, &[0, 4]), var(2, &[5, 4]));
    assert_eq!(linear(&x, &w).unwrap().dims(), [0, 5]);
    assert_eq!(linear_logprob(&x, &w, &Arc::new(vec![])).unwrap().dims(), [0]);
    let starts = Arc::new(vec![0]);
    assert_eq!(attention(&x, &x, &x, &shape(1, 1, 4, None), &starts).unwrap().dims(), [0, 4]);
}
