//! PyTorch's numbers, and states that survive.

use autodidact_testing::is_skipped;

use super::MomentPrecision::{self, Bf16, F32};
use super::*;
use crate::ops::kernels::{Arithmetic, has_tiles};

/// ((7 i + 3 step) mod 11) / 10 - 0.5
fn filled(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| ((7 * i + 3 * step) % 11) as f32 / 10.0 - 0.5).collect()
}

// torch 2.15.0:
//
//   torch.bfloat16 = torch.float32  # Newton-Schulz in f32
//   def filled(rows, cols, step):
//       x = [(7 * i + 3 * step) % 11 / 10 - 0.5 for i in range(rows * cols)]
//       return torch.tensor(x).reshape(rows, cols)
//   adamw, muon = torch.optim.AdamW, torch.optim.Muon
//   for optimizer, rows, cols in [(adamw, 1, 5), (muon, 2, 3), (muon, 4, 2)]:
//       p = torch.nn.Parameter(filled(rows, cols, 0))
//       o = optimizer([p], lr=0.1, weight_decay=0.1)
//       for step in [1, 2, 3]:
//           p.grad = filled(rows, cols, step)
//           o.step()
//       print([float(f"{x:.8g}") for x in p.flatten().tolist()])
//   g = [filled(2, 3, 1), filled(1, 4, 2)]
//   ps = [torch.nn.Parameter(torch.zeros_like(x)) for x in g]
//   for p, x in zip(ps, g): p.grad = x
//   print(torch.nn.utils.clip_grad_norm_(ps, 0.5).item(), ps[1].grad.tolist())
#[allow(clippy::excessive_precision, reason = "as PyTorch printed them")]
mod golden {
    pub(super) const ADAMW: [f32; 5] = [-0.40650532, 0.062288657, -0.38418365, 0.64090848, 0.019365057];
    pub(super) const MUON_WIDE: [f32; 6] =
        [-0.62323022, 0.058874294, -0.32062718, 0.62710202, 0.19387412, -0.1946822];
    pub(super) const MUON_TALL: [f32; 8] =
        [-0.59911597, 0.090082057, -0.25014108, 0.5335536, 0.072750561, -0.32519215, 0.54469144, 0.1807197];
    pub(super) const NORM: f64 = 0.900_000_1;
    pub(super) const CLIPPED: [f32; 4] = [0.055555489, -0.16666646, 0.22222196, 0.0];
}
use golden::*;

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance), "{a:?} {b:?}");
}

/// Three steps, the optimizer replaced before the last one by one restored from its state.
fn three_steps(shape: &[usize], mut step: impl FnMut(usize, &mut [Parameter<'_>])) -> Vec<f32> {
    let count = shape.iter().product();
    let mut values = filled(count, 0);
    for i in 1..=3 {
        let gradient = filled(count, i);
        let p = Parameter {
            name: "p",
            shape,
            values: &mut values,
            gradient: &gradient,
            learning_rate: 0.1,
            weight_decay: 0.1,
            update: i as u32,
        };
        step(i, &mut [p]);
    }
    values
}

#[test]
fn adamw_agrees_with_pytorch_and_survives_saving() {
    for (precision, tolerance) in [(F32, 2e-7), (Bf16, 5e-3)] {
        let new = || AdamW::default().storing(kept(precision));
        let mut optimizer = new();
        let values = three_steps(&[5], |i, p| {
            if i == 3 {
                let state = owned(optimizer.state());
                assert_eq!(state.keys().collect::<Vec<_>>(), ["p.exp_avg", "p.exp_avg_sq", "p.step"]);
                optimizer = new();
                optimizer.restore(state).unwrap();
            }
            optimizer.step(p).unwrap();
        });
        close(&values, &ADAMW, tolerance);
        let mut uninterrupted = new();
        assert_eq!(values, three_steps(&[5], |_, p| uninterrupted.step(p).unwrap()));
    }
}

fn kept(precision: MomentPrecision) -> MomentStorage {
    MomentStorage { precision, ..MomentStorage::default() }
}

fn owned(state: Held<'_>) -> State {
    state.into_iter().map(|(name, moment)| (name, moment.into_owned())).collect()
}

/// Rounded to nearest, a mean square that gains a thousandth of the difference would stop at a third of the way.
#[test]
fn moments_in_bf16_arrive_where_those_in_f32_do() {
    let (mut optimizer, mut values) = (AdamW::new(0.9, 0.999, 1e-8).storing(kept(Bf16)), vec![0.0; 256]);
    for update in 1..=4000 {
        let p = Parameter {
            name: "p",
            shape: &[256],
            values: &mut values,
            gradient: &[0.3; 256],
            learning_rate: 0.0,
            weight_decay: 0.0,
            update,
        };
        optimizer.step(&mut [p]).unwrap();
    }
    let state = optimizer.state();
    let mean_square = 0.09 * (1.0 - 0.999f32.powi(4000));
    for (buffer, exact, tolerance) in [("p.exp_avg", 0.3, 1e-3), ("p.exp_avg_sq", mean_square, 5e-4)] {
        let Moment::Bf16(bits) = &*state[buffer] else { panic!("{buffer} is in f32") };
        let mean = bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).sum::<f32>() / 256.0;
        assert!((mean - exact).abs() < tolerance, "{buffer}: {mean}, not {exact}");
    }
}

#[test]
fn muon_agrees_with_pytorch_and_survives_saving() {
    for (shape, golden) in [([2, 3], &MUON_WIDE[..]), ([4, 2], &MUON_TALL[..])] {
        let mut optimizer = Muon::default();
        let values = three_steps(&shape, |i, p| {
            if i == 3 {
                let state = owned(optimizer.state());
                optimizer = Muon::default();
                optimizer.restore(state).unwrap();
            }
            optimizer.step(p).unwrap();
        });
        close(&values, golden, 2e-6);
        let mut rounded = Muon::default().storing(kept(Bf16));
        close(&three_steps(&shape, |_, p| rounded.step(p).unwrap()), golden, 1e-2);
        if !is_skipped("amx", has_tiles()) {
            for (parts, tolerance) in [(3, 5e-6), (1, 1e-2)] {
                let mut optimizer = Muon::new(0.95, Arithmetic::Tiles { parts });
                let by_tiles = three_steps(&shape, |_, p| optimizer.step(p).unwrap());
                close(&by_tiles, golden, tolerance);
                assert!(by_tiles != values, "{parts} parts gave the bits of f32");
            }
        }
    }
}

#[test]
fn clipping_agrees_with_pytorch() {
    let (mut a, mut b) = (filled(6, 1), filled(4, 2));
    let norm = clip_global_norm(&mut [&mut a, &mut b], 0.5);
    assert!((norm - NORM).abs() < 1e-6, "{norm}");
    close(&b, &CLIPPED, 1e-7);
    assert!((global_norm(&[&a, &b]) - 0.5).abs() < 1e-5);
    let before = a.clone();
    clip_global_norm(&mut [&mut a, &mut b], 0.6);
    assert_eq!(a, before);
}

#[test]
fn order_and_company_do_not_matter() {
    let run = |names: &[&str], precision: MomentPrecision| {
        let mut optimizer = AdamW::default().storing(kept(precision));
        let gradient = filled(40_000, 2);
        let mut all: Vec<Vec<f32>> = names.iter().map(|name| filled(40_000, name.len())).collect();
        for update in 0..2 {
            let parameters = names.iter().zip(&mut all).map(|(name, values)| Parameter {
                name,
                shape: &[200, 200],
                values,
                gradient: &gradient,
                learning_rate: 0.01,
                weight_decay: 0.0,
                update,
            });
            optimizer.step(&mut parameters.collect::<Vec<_>>()).unwrap();
        }
        all.swap_remove(0)
    };
    let [plain, rounded] = [F32, Bf16].map(|precision| {
        let alone = run(&["a"], precision);
        assert_eq!(alone, run(&["a", "bb", "ccc"], precision));
        alone
    });
    assert_ne!(plain, rounded);
}

#[test]
fn what_does_not_fit_is_refused() {
    let gradient = [0.0; 6];
    let p = |name: &'static str, shape: &'static [usize], values: &'static mut [f32]| Parameter {
        name,
        shape,
        values,
        gradient: &gradient,
        learning_rate: 0.1,
        weight_decay: 0.0,
        update: 1,
    };
    let six = || vec![0.0; 6].leak();
    let mut adamw = AdamW::default();
    let error = adamw.step(&mut [p("x", &[7], six())]).unwrap_err().to_string();
    assert!(error.contains("parameter x of shape [7] has 6 values"), "{error}");
    let error = adamw.step(&mut [p("x", &[6], six()), p("x", &[6], six())]).unwrap_err().to_string();
    assert!(error.contains("given twice"), "{error}");
    let error = Muon::default().step(&mut [p("x", &[6], six())]).unwrap_err().to_string();
    assert!(error.contains("x has shape [6]"), "{error}");
    let mut muon = Muon::default();
    muon.step(&mut [p("x", &[2, 3], six())]).unwrap();
    assert!(adamw.restore(owned(muon.state())).unwrap_err().to_string().contains("belongs to another"));
    let error = Muon::default().storing(kept(Bf16)).restore(owned(muon.state())).unwrap_err().to_string();
    assert!(error.contains("kept in F32, where Bf16 is wanted"), "{error}");
    let state = State::from([("x.exp_avg".into(), Moment::F32(vec![0.0]))]);
    assert!(adamw.restore(state).unwrap_err().to_string().contains("lacks x.step"));
}
