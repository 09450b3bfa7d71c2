//! A single row and a row in a batch, one instruction set and another, decoding and training: the
//! same bits.

use std::marker::PhantomData;

use proptest::prelude::*;

use super::attention::attend_row_on;
use super::attention_packed::{attend, attend_backward};
use super::gated::{Gated, GatedBackward, GeluTanh, Silu};
use super::gemm::{Left, gemm, product};
use super::panels::Packed;
use super::pointwise::{LogSumExp, LogprobBackward, RmsNormBackward, rms_norm_on};
use super::simd::{Isa, Kernel, Simd, bf16_bits, dispatch};
use super::softcap::Softcap;
use super::*;

/// Numbers in [-1, 1) from a multiplicative congruential sequence.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

const fn shape(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 0.3, window, softcap: None, kv: KvPrecision::F32 }
}

/// The definition of a product: one chain per element.
fn chains(a: &[f32], m: usize, b: &[f32], n: usize, c: &[f32]) -> Vec<f32> {
    let k = b.len() / n;
    let element = |at: usize| {
        let (i, j) = (at / n, at % n);
        (0..k).fold(c[at], |acc, p| a[i * k + p].mul_add(b[p * n + j], acc))
    };
    (0..m * n).map(element).collect()
}

fn transposed(a: &[f32], rows: usize) -> Vec<f32> {
    let columns = a.len() / rows;
    (0..a.len()).map(|at| a[at % rows * columns + at / rows]).collect()
}

fn check_gemm(m: usize, k: usize, n: usize) {
    let (a, b, c) = (numbers(1, m * k), numbers(2, k * n), numbers(3, m * n));
    let want = [chains(&a, m, &b, n, &vec![0.0; m * n]), chains(&a, m, &b, n, &c)].map(|x| bits(&x));
    let (a_columns, b_columns) = (transposed(&a, m), transposed(&b, k));
    for packed in [Packed::from_rows(&b, k, n), Packed::from_columns(&b_columns, k, n)] {
        for isa in Isa::available() {
            for left in [Left::Rows(&a), Left::Columns(&a_columns)] {
                let mut y = c.clone();
                gemm(isa, left, m, &packed, &mut y, false);
                assert_eq!(bits(&y), want[0], "{isa:?} {m} {k} {n}");
                let mut y = c.clone();
                gemm(isa, left, m, &packed, &mut y, true);
                assert_eq!(bits(&y), want[1], "{isa:?} {m} {k} {n}, accumulated");
                assert_eq!(bits(&product(isa, left, m, &packed)), want[0], "{isa:?} {m} {k} {n}, new");
            }
        }
    }
}

#[test]
fn products_are_single_chains() {
    for m in 1..=27 {
        check_gemm(m, 5, 37);
    }
    for n in 1..=70 {
        check_gemm(3, 4, n);
    }
    for (m, k, n) in [(1, 1, 1), (2, 256, 16), (5, 257, 49), (13, 600, 33), (61, 300, 65), (7, 3, 200)] {
        check_gemm(m, k, n);
    }
}

#[test]
fn empty_products_are_zero() {
    for (m, k, n) in [(3, 0, 20), (0, 4, 20), (3, 4, 0), (0, 0, 0)] {
        let (a, b) = (numbers(1, m * k), Packed::from_rows(&numbers(2, k * n), k, n));
        for left in [Left::Rows(&a), Left::Columns(&a)] {
            assert_eq!(product(Isa::best(), left, m, &b), vec![0.0; m * n], "{m} {k} {n}");
        }
    }
}

/// A part of a wider matrix is packed as a copy of that part is.
#[test]
fn panels_of_a_part_are_those_of_a_copy() {
    let (k, n, stride) = (37, 45, 100);
    let wide = numbers(6, k.max(n) * stride);
    for (many, few) in [(k, n), (n, k)] {
        let part: Vec<f32> = wide.chunks(stride).take(many).flat_map(|row| &row[..few]).copied().collect();
        let rows = [
            Packed::from_rows(&part, many, few),
            Packed::from_rows_apart(&wide[..(many - 1) * stride + few], stride, many, few),
        ];
        let columns = [
            Packed::from_columns(&part, few, many),
            Packed::from_columns_apart(&wide[..(many - 1) * stride + few], stride, few, many),
        ];
        for [copy, apart] in [rows, columns] {
            let lines = |packed: &Packed| packed.lines().iter().flat_map(|l| bits(&l.0)).collect::<Vec<_>>();
            assert!(lines(&copy) == lines(&apart), "{many} of {few}");
        }
    }
}

#[test]
fn products_shared_by_threads_are_single_chains() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (m, k, n) in [(301, 128, 149), (17, 300, 900), (2, 1100, 2000)] {
        let (a, b) = (numbers(4, m * k), numbers(5, k * n));
        let packed = Packed::from_rows(&b, k, n);
        let (mut alone, mut shared) = (vec![0.0; m * n], vec![0.0; m * n]);
        gemm(Isa::Portable, Left::Rows(&a), m, &packed, &mut alone, false);
        pool.install(|| gemm(Isa::best(), Left::Rows(&a), m, &packed, &mut shared, false));
        assert_eq!(bits(&alone), bits(&shared), "{m} {k} {n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_product_is_single_chains(m in 1..40usize, k in 1..530usize, n in 1..80usize) {
        check_gemm(m, k, n);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits(d in 1..90usize, seed in 0..1000u64, size in 0.1..40.0f32) {
        let scale = |x: Vec<f32>| -> Vec<f32> { x.into_iter().map(|x| x * size).collect() };
        let (x, w, g) = (scale(numbers(seed, 3 * d)), numbers(seed + 1, d), numbers(seed + 2, 3 * d));
        let all = Isa::available().into_iter().map(|isa| {
            let mut out = [3, 3, 3, 1, 3].map(|rows| vec![0.0; rows * d]);
            let [norm, gated, dx, dw, dup] = &mut out;
            rms_norm_on(isa, &x, &w, 1e-6, norm.as_mut_slice().into());
            dispatch(isa, Gated { gate: &x, up: &g, y: gated.as_mut_slice().into(), activation: PhantomData::<Silu> });
            let dx = dx.as_mut_slice().into();
            dispatch(isa, RmsNormBackward { x: &x, weight: &w, eps: 1e-6, dy: &g, dx, dw });
            let mut dgate = vec![0.0; 3 * d];
            let gradients = (dgate.as_mut_slice().into(), dup.as_mut_slice().into());
            dispatch(isa, GatedBackward { gate: &x, up: &g, dy: &g, dgate: gradients.0, dup: gradients.1, activation: PhantomData::<Silu> });
            let lse = dispatch(isa, LogSumExp(&x));
            let mut logits = x.clone();
            dispatch(isa, LogprobBackward { logits: &mut logits, target: d / 2, scale: 0.7 });
            bits(&[out.concat(), dgate, vec![lse], logits].concat())
        }).collect::<Vec<_>>();
        for other in &all {
            prop_assert_eq!(&all[0], other);
        }
    }
}

#[test]
fn exp_is_close_and_the_same_in_lanes() {
    for i in -8700..8800 {
        let x = i as f32 * 0.01 + 0.003;
        let want = f64::from(x).exp();
        assert!((f64::from(exp(x)) - want).abs() <= want * 2.5e-7, "{x}: {} {want}", exp(x));
        // Of one term: ln e^x.
        let y = dispatch(Isa::Portable, LogSumExp(&[x]));
        assert_eq!(y.to_bits(), x.to_bits());
    }
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    assert!(exp(f32::NAN).is_nan() && exp(f32::from_bits(0x7fc0_0155)).is_nan());
    for isa in Isa::available() {
        let (gate, up) = (numbers(9, 4000).iter().map(|x| x * 120.0).collect::<Vec<_>>(), vec![1.0; 4000]);
        let mut y = vec![0.0; 4000];
        dispatch(
            isa,
            Gated { gate: &gate, up: &up, y: y.as_mut_slice().into(), activation: PhantomData::<Silu> },
        );
        for (y, g) in y.iter().zip(gate) {
            assert_eq!(y.to_bits(), (g / (1.0 + exp(-g))).to_bits(), "{isa:?} silu({g})");
        }
    }
}

#[test]
fn caps_and_gelu_are_close_and_the_same_everywhere() {
    let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.0075 + 0.001).collect();
    let (mut capped, mut gated) = (x.clone(), vec![0.0; x.len()]);
    softcap(&mut capped, 3.0);
    geglu(&x, &vec![1.0; x.len()], &mut gated);
    for ((&x, &c), &g) in x.iter().zip(&capped).zip(&gated) {
        let x = f64::from(x);
        let (want_c, inner) = (3.0 * (x / 3.0).tanh(), 0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3)));
        assert!((f64::from(c) - want_c).abs() <= 6e-7 * want_c.abs(), "cap of {x}: {c} {want_c}");
        let want_g = 0.5 * x * (1.0 + inner.tanh());
        assert!((f64::from(g) - want_g).abs() <= 2e-6 * want_g.abs().max(1e-2), "gelu of {x}: {g} {want_g}");
    }
    for isa in Isa::available() {
        let (mut again, mut y) = (x.clone(), vec![0.0; x.len()]);
        dispatch(isa, Softcap { x: &mut again, cap: 3.0 });
        dispatch(
            isa,
            Gated {
                gate: &x,
                up: &vec![1.0; x.len()],
                y: y.as_mut_slice().into(),
                activation: PhantomData::<GeluTanh>,
            },
        );
        assert_eq!((bits(&again), bits(&y)), (bits(&capped), bits(&gated)), "{isa:?}");
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let (m, k, n) = (37, 131, 149);
    let (x, w, norm) = (numbers(6, m * k), numbers(7, n * k), numbers(8, k));
    let packed = PackedWeight::new(&w, n, k);
    let (mut y, mut normed) = (vec![0.0; m * n], vec![0.0; m * k]);
    linear(&x, m, &packed, &mut y);
    rms_norm(&x, &norm, 1e-5, &mut normed);
    for i in 0..m {
        let (mut row, mut normed_row) = (vec![0.0; n], vec![0.0; k]);
        linear(&x[i * k..(i + 1) * k], 1, &packed, &mut row);
        rms_norm(&x[i * k..(i + 1) * k], &norm, 1e-5, &mut normed_row);
        assert_eq!(bits(&row), bits(&y[i * n..(i + 1) * n]));
        assert_eq!(bits(&normed_row), bits(&normed[i * k..(i + 1) * k]));
        let lse = log_sum_exp(&row);
        assert_eq!(logprob(&row, 5).to_bits(), (row[5] - lse).to_bits());
        let exact = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(lse) - exact).abs() < 1e-5, "{lse} {exact}");
    }
}

const SHAPES: [(AttentionShape, usize); 7] = [
    (AttentionShape { softcap: Some(0.5), ..shape(4, 2, 12, Some(21)) }, 50),
    (shape(4, 4, 32, None), 75),
    (shape(4, 2, 8, None), 33),
    (shape(6, 2, 20, Some(19)), 70),
    (shape(2, 1, 64, Some(1)), 20),
    (shape(1, 1, 2, Some(16)), 50),
    (shape(2, 1, 50, Some(1000)), 40),
];

/// Attention by its definition, in double precision.
fn attention_defined([q, k, v]: [&[f32]; 3], s: &AttentionShape, count: usize) -> Vec<f64> {
    let (d, kv) = (s.head_dim, s.kv_heads * s.head_dim);
    let mut out = Vec::new();
    for i in 0..count {
        for h in 0..s.heads {
            let at = h / (s.heads / s.kv_heads) * d;
            let seen = (s.window.map_or(0, |w| (i + 1).saturating_sub(w)))..=i;
            let dot = |j: usize| -> f64 {
                (0..d).map(|e| f64::from(q[(i * s.heads + h) * d + e]) * f64::from(k[j * kv + at + e])).sum()
            };
            let score = |j: usize| {
                let score = dot(j) * f64::from(s.scale);
                s.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let p: Vec<f64> = seen.clone().map(|j| score(j).exp()).collect();
            let total: f64 = p.iter().sum();
            out.extend((0..d).map(|e| {
                seen.clone().zip(&p).map(|(j, p)| p / total * f64::from(v[j * kv + at + e])).sum::<f64>()
            }));
        }
    }
    out
}

#[test]
fn decoding_attends_as_training_does() {
    for (s, count) in SHAPES {
        let (width, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let (q, k, v) = (numbers(1, count * width), numbers(2, count * kv), numbers(3, count * kv));
        let packed = attend(Isa::best(), [&q, &k, &v], &s, &[0, count]);
        let exact = attention_defined([&q, &k, &v], &s, count);
        let error = packed.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(error < 2e-6, "{s:?}: {error}");

        decoded::<f32>([&q, &k, &v], &s, &packed);
        let rounded = AttentionShape { kv: KvPrecision::Bf16, ..s };
        let packed_rounded = attend(Isa::best(), [&q, &k, &v], &rounded, &[0, count]);
        assert!(packed_rounded != packed, "{s:?}: keys and values were not rounded");
        decoded::<u16>([&q, &k, &v], &rounded, &packed_rounded);
    }
}

/// Holds decoding to what training gave.
fn decoded<N: KvNumber>([q, k, v]: [&[f32]; 3], s: &AttentionShape, packed: &[f32]) {
    let (width, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
    let count = q.len() / width;
    // Slots nobody wrote hold NaN; blocks before the window are taken away.
    let none = N::of(f32::NAN);
    let empty = || (vec![none; kv * KV_BLOCK], vec![none; kv * KV_BLOCK]);
    let mut cache: Vec<_> = (0..count.div_ceil(KV_BLOCK)).map(|_| empty()).collect();
    for i in 0..count {
        let (k_block, v_block) = &mut cache[i / KV_BLOCK];
        write_kv(&k[i * kv..][..kv], &v[i * kv..][..kv], i % KV_BLOCK, s, k_block, v_block);
        let first = s.first_seen(i) / KV_BLOCK;
        let blocks = cache.iter().enumerate();
        let views: Vec<KvBlock<'_, N>> =
            blocks.map(|(b, (k, v))| if b < first { (&[][..], &[][..]) } else { (&k[..], &v[..]) }).collect();
        for isa in Isa::available() {
            let mut out = vec![0.0; width];
            attend_row_on(isa, &q[i * width..][..width], &views, i, s, &mut out);
            assert_eq!(bits(&out), bits(&packed[i * width..][..width]), "{isa:?} {s:?} position {i}");
        }
    }
}

/// Rounding passes gradients on as they are.
#[test]
fn rounded_keys_and_values_train_like_numbers_that_were_round() {
    for (s, count) in SHAPES {
        let (width, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let (q, k, v) = (numbers(1, count * width), numbers(2, count * kv), numbers(3, count * kv));
        let g = numbers(4, count * width);
        let round = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect() };
        let rounded = AttentionShape { kv: KvPrecision::Bf16, ..s };
        for isa in Isa::available() {
            let by_shape = attend_backward(isa, [&q, &k, &v, &g], &rounded, &[0, count]);
            let by_hand = attend_backward(isa, [&q, &round(&k), &round(&v), &g], &s, &[0, count]);
            assert!(by_shape == by_hand, "{isa:?} {s:?}");
        }
    }
}

#[test]
fn bf16_is_rounded_as_the_standard_rounds() {
    let mut all = numbers(5, 64);
    all.extend([0.0, -0.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]);
    all.extend([
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::from_bits(0xffff_ffff),
        1e-40,
        -3e-39,
        f32::MIN_POSITIVE,
    ]);
    all.resize(all.len().next_multiple_of(16), 0.3);
    for isa in Isa::available() {
        let rounded = dispatch(isa, Rounded(&all));
        for (x, y) in all.iter().zip(rounded) {
            let expected = half::bf16::from_f32(*x);
            assert_eq!(y.to_bits(), u32::from(expected.to_bits()) << 16, "{isa:?} {x:e}");
            assert_eq!(bf16_bits(*x), expected.to_bits(), "{x:e}");
        }
    }
}

struct Rounded<'a>(&'a [f32]);

impl Kernel for Rounded<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let vectors = self.0.as_chunks::<16>().0.iter();
        vectors.flat_map(|x| s.lanes(s.to_bf16(s.load(x)))).collect()
    }
}

#[test]
fn a_sequence_does_not_depend_on_its_neighbours() {
    for (s, count) in SHAPES {
        let (width, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let n = 2 * count + 9;
        let (q, k, v, g) =
            (numbers(1, n * width), numbers(2, n * kv), numbers(3, n * kv), numbers(4, n * width));
        let starts = [0, 4, 4, 4 + count, n];
        let together = attend(Isa::best(), [&q, &k, &v], &s, &starts);
        let gradients = attend_backward(Isa::best(), [&q, &k, &v, &g], &s, &starts);
        for range in starts.windows(2) {
            let (rows, kv_rows) = (range[0] * width..range[1] * width, range[0] * kv..range[1] * kv);
            let inputs = [&q[rows.clone()], &k[kv_rows.clone()], &v[kv_rows.clone()]];
            for isa in Isa::available() {
                let alone = attend(isa, inputs, &s, &[0, range[1] - range[0]]);
                assert_eq!(bits(&alone), bits(&together[rows.clone()]));
                let [dq, dk, dv] = attend_backward(
                    isa,
                    [inputs[0], inputs[1], inputs[2], &g[rows.clone()]],
                    &s,
                    &[0, range[1] - range[0]],
                );
                assert_eq!(bits(&dq), bits(&gradients[0][rows.clone()]), "{isa:?} {s:?}");
                assert_eq!(bits(&dk), bits(&gradients[1][kv_rows.clone()]), "{isa:?} {s:?}");
                assert_eq!(bits(&dv), bits(&gradients[2][kv_rows.clone()]), "{isa:?} {s:?}");
            }
        }
    }
}

struct Transposed<'a>(&'a [[f32; 16]; 16]);

impl Kernel for Transposed<'_> {
    type Output = Vec<[f32; 16]>;

    fn run<S: Simd>(self, s: S) -> Self::Output {
        s.transposed(self.0.map(|row| s.load(&row))).into_iter().map(|column| s.lanes(column)).collect()
    }
}

#[test]
fn rows_become_columns() {
    let rows = std::array::from_fn(|r| std::array::from_fn(|c| (r * 16 + c) as f32));
    for isa in Isa::available() {
        let columns = dispatch(isa, Transposed(&rows));
        for (r, c) in (0..16).flat_map(|r| (0..16).map(move |c| (r, c))) {
            assert_eq!(columns[c][r], rows[r][c], "{isa:?}, row {r}, column {c}");
        }
    }
}

/// Of halves that are no whole vectors, too, and back.
#[test]
fn many_rows_turn_as_each_does() {
    for d in [2, 24, 32, 80] {
        let table = RopeTable::new(d, 10_000.0, 40);
        let positions = [0, 7, 39, 1];
        let x = numbers(3, positions.len() * 3 * d);
        let mut turned = vec![f32::NAN; x.len()];
        table.rotate(&x, turned.as_mut_slice().into(), &positions, 1.0);
        for ((x, turned), position) in x.chunks(3 * d).zip(turned.chunks(3 * d)).zip(positions) {
            let mut row = x.to_vec();
            table.apply(&mut row, position as usize);
            assert_eq!(bits(&row), bits(turned), "heads of {d}, position {position}");
        }
        let mut back = vec![f32::NAN; x.len()];
        table.rotate(&turned, back.as_mut_slice().into(), &positions, -1.0);
        let error = back.iter().zip(&x).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5, "heads of {d}: {error}");
    }
}

#[test]
fn rotation_is_by_the_angle() {
    let table = RopeTable::new(8, 10_000.0, 40);
    let x = numbers(3, 24);
    for position in [0, 1, 39] {
        let mut y = x.clone();
        table.apply(&mut y, position);
        for (h, i) in (0..3).flat_map(|h| (0..4).map(move |i| (h, i))) {
            let angle = position as f64 * 10_000f64.powf(-(2.0 * i as f64) / 8.0);
            let (a, b) = (f64::from(x[h * 8 + i]), f64::from(x[h * 8 + 4 + i]));
            assert!((f64::from(y[h * 8 + i]) - (a * angle.cos() - b * angle.sin())).abs() < 1e-5);
            assert!((f64::from(y[h * 8 + 4 + i]) - (b * angle.cos() + a * angle.sin())).abs() < 1e-5);
        }
    }
}
