//! Against the processor manual's description of the operation, bit for bit, and against f64. Where
//! the processor has no tiles there is nothing to run, and asking for them is an error.

use autodidact_gguf::Dtype;
use autodidact_testing::is_skipped;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;
use crate::dense::Dense;
use crate::{Arithmetic, PackedWeight, Precision};

/// Numbers from -1 to 1, of very different sizes.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7 + seed) as u32).wrapping_mul(2_654_435_761) >> 8;
    let uniform = |i: usize| number(i) as f32 / (1 << 23) as f32 - 1.0;
    (0..count).map(|i| uniform(i) * (0.1f32).powi((number(i + 3) % 5) as i32)).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Subnormal numbers count as 0.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

fn bf16_parts(x: f32, parts: usize) -> Vec<f32> {
    let mut rest = x;
    let part = |_| {
        let part = half::bf16::from_f32(rest).to_f32();
        rest -= part;
        flushed(part)
    };
    (0..parts).map(part).collect()
}

/// One element by the definition in the module's documentation; a and b are parts of all inner
/// positions.
fn element(a: &[Vec<f32>], b: &[Vec<f32>], wanted: usize, c: f32) -> f32 {
    let (k, parts) = (a.len(), b.first().map_or(0, Vec::len));
    let mut c = c;
    for start in (0..k).step_by(BLOCK) {
        for j in (0..parts).rev() {
            for i in (0..wanted - j).rev() {
                let mut chains = [0.0; 2];
                for p in start..k.min(start + BLOCK) {
                    let chain = &mut chains[p % 2];
                    *chain = flushed(a[p][i].mul_add(b[p][j], *chain));
                }
                c = flushed(c + flushed(chains[0] + chains[1]));
            }
        }
    }
    c
}

/// `C = A B`, or `C += A B`: a (m, k), b (n, k), c (m, n).
fn reference(a: &[f32], b: &[f32], k: usize, wanted: usize, parts: usize, c: &mut [f32]) {
    let split = |x: &[f32], parts| -> Vec<Vec<Vec<f32>>> {
        x.chunks_exact(k).map(|row| row.iter().map(|&x| bf16_parts(x, parts)).collect()).collect()
    };
    let (a, b) = (split(a, wanted), split(b, parts));
    for (a, c) in a.iter().zip(c.chunks_exact_mut(b.len())) {
        for (b, c) in b.iter().zip(c) {
            *c = element(a, b, wanted, *c);
        }
    }
}

fn transposed(w: &[f32], out: usize, inp: usize) -> Vec<f32> {
    (0..inp).flat_map(|i| (0..out).map(move |o| w[o * inp + i])).collect()
}

/// Holds `weight`, that stands for `values`, to the reference in both directions.
fn check(weight: &PackedWeight, values: &[f32], wanted: usize, parts: usize, what: &str) {
    let (out, inp) = (weight.out(), weight.inp());
    assert!(bits(&weight.to_rows()) == bits(values), "{what}: rows");
    let heights: &[usize] = if out * inp < 100_000 { &[1, 17, 33, 70] } else { &[33] };
    for &m in heights {
        let (x, dy) = (numbers(m * inp, 5), numbers(m * out, 9));
        for accumulate in [false, true] {
            let mut y = numbers(m * out, 2);
            let mut expected = if accumulate { y.clone() } else { vec![0.0; m * out] };
            weight.forward(&x, m, &mut y, accumulate);
            reference(&x, values, inp, wanted, parts, &mut expected);
            assert!(bits(&y) == bits(&expected), "{what}: forward, {m} rows, accumulate {accumulate}");
        }
        let (mut dx, mut expected) = (vec![1.0; m * inp], vec![0.0; m * inp]);
        weight.backward(&dy, m, &mut dx);
        reference(&dy, &transposed(values, out, inp), out, wanted, parts, &mut expected);
        assert!(bits(&dx) == bits(&expected), "{what}: backward, {m} rows");
    }
}

#[test]
fn every_storage_gives_the_bits_of_the_definition() {
    if is_skipped("amx", has_tiles()) {
        let refused = PackedWeight::new(&[1.0], 1, 1).computing(Arithmetic::Tiles { parts: 3 });
        assert!(refused.unwrap_err().to_string().contains("AMX"));
        return;
    }
    // The last one has too many tiles for a cache.
    for (out, inp) in [(1, 1), (31, 33), (70, 100), (64, 96), (544, 530)] {
        let w = numbers(out * inp, 1);
        for (precision, natural) in [(Precision::Bf16, 1), (Precision::F16, 2), (Precision::F32, 3)] {
            let round = |x: &f32| match precision {
                Precision::F32 => *x,
                Precision::Bf16 => half::bf16::from_f32(*x).to_f32(),
                Precision::F16 => half::f16::from_f32(*x).to_f32(),
            };
            let values: Vec<f32> = w.iter().map(round).collect();
            for parts in 1..=3 {
                let rows = |r: Range<usize>| Ok(values[r.start * inp..r.end * inp].to_vec());
                let weight = PackedWeight::from_rows(precision, out, inp, rows).unwrap();
                let weight = weight.computing(Arithmetic::Tiles { parts }).unwrap();
                check(&weight, &values, parts, natural.min(parts), &format!("{precision:?} ({out}, {inp})"));
                let back = weight.computing(Arithmetic::F32).unwrap();
                assert!(bits(&back.to_rows()) == bits(&values), "{precision:?} ({out}, {inp}): back");
            }
        }
    }
    let (out, inp) = (70, 512);
    let w = Tensor::from_vec(numbers(out * inp, 3), (out, inp), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&w, GgmlDType::Q8_0).unwrap();
    let values: Vec<f32> =
        quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let weight = PackedWeight::from_ggml(Dtype::Q8_0, &quantised.data().unwrap(), out, inp).unwrap();
    check(&weight.computing(Arithmetic::Tiles { parts: 2 }).unwrap(), &values, 2, 2, "Q8_0");
}

/// Numbers as they lie in memory, whichever way round.
#[test]
fn every_layout_gives_the_bits_of_the_definition() {
    if is_skipped("amx", has_tiles()) {
        return;
    }
    for (m, k, n) in [(1, 1, 1), (17, 31, 33), (32, 33, 70), (70, 100, 16), (50, 1100, 40)] {
        let (a, b) = (numbers(m * k, 5), numbers(n * k, 1));
        let (a_columns, b_rows) = (transposed(&a, m, k), transposed(&b, n, k));
        for parts in 1..=3 {
            let arithmetic = Arithmetic::Tiles { parts };
            for accumulate in [false, true] {
                let before = if accumulate { numbers(m * n, 2) } else { vec![0.0; m * n] };
                let mut expected = before.clone();
                reference(&a, &b, k, parts, parts, &mut expected);
                for right in [Dense::columns(&b, k, n), Dense::rows(&b_rows, k, n)] {
                    for left in [Left::Rows(&a), Left::Columns(&a_columns)] {
                        let (mut c, mut again) = (before.clone(), before.clone());
                        right.multiply(arithmetic, left, m, &mut c, accumulate);
                        right.prepared(arithmetic).multiply(left, m, &mut again, accumulate);
                        assert!(bits(&c) == bits(&expected), "({m}, {k}, {n}), {parts} parts");
                        assert!(bits(&again) == bits(&expected), "({m}, {k}, {n}), {parts} parts, prepared");
                    }
                }
            }
        }
    }
}

/// Deep and wide enough for several chunks, slabs and strips, and for threads.
#[test]
fn neither_threads_nor_neighbours_change_a_bit() {
    if is_skipped("amx", has_tiles()) {
        return;
    }
    // The second has a right-hand side that stays in a cache.
    for (out, inp, m) in [(600, 2300, 200), (96, 300, 900)] {
        no_bit_hangs_on_threads_or_neighbours(out, inp, m);
    }
}

fn no_bit_hangs_on_threads_or_neighbours(out: usize, inp: usize, m: usize) {
    let values: Vec<f32> = numbers(out * inp, 7).iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
    let (x, dy) = (numbers(m * inp, 1), numbers(m * out, 2));
    for (precision, parts) in [(Precision::Bf16, 3), (Precision::F32, 2)] {
        let rows = |r: Range<usize>| Ok(values[r.start * inp..r.end * inp].to_vec());
        let weight = PackedWeight::from_rows(precision, out, inp, rows).unwrap();
        let weight = weight.computing(Arithmetic::Tiles { parts }).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut y, mut dx) = (vec![0.0; m * out], vec![0.0; m * inp]);
                weight.forward(&x, m, &mut y, false);
                weight.backward(&dy, m, &mut dx);
                (y, dx)
            })
        };
        let (y, dx) = run(1);
        let (y_3, dx_3) = run(3);
        assert!(bits(&y) == bits(&y_3) && bits(&dx) == bits(&dx_3), "threads");
        let weight_gradient = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut dw = vec![0.0; out * inp];
            let x = Dense::rows(&x, m, inp);
            pool.install(|| x.multiply(Arithmetic::Tiles { parts }, Left::Columns(&dy), out, &mut dw, false));
            dw
        };
        assert!(bits(&weight_gradient(1)) == bits(&weight_gradient(3)), "threads, the weight's gradient");
        for row in [0, 31, 199] {
            let mut alone = vec![0.0; out];
            weight.forward(&x[row * inp..][..inp], 1, &mut alone, false);
            assert!(bits(&alone) == bits(&y[row * out..][..out]), "row {row} by itself");
        }
    }
}

/// With this many rows, A is packed a few blocks at a time.
#[test]
fn a_tall_product_has_the_bits_of_its_rows() {
    if is_skipped("amx", has_tiles()) {
        return;
    }
    let (m, k, n, few) = (12_000, 600, 200, 50);
    let (a, b) = (numbers(m * k, 5), numbers(n * k, 1));
    let product = |a: &[f32], m: usize| {
        let mut c = vec![0.0; m * n];
        Dense::columns(&b, k, n).multiply(Arithmetic::Tiles { parts: 3 }, Left::Rows(a), m, &mut c, false);
        c
    };
    let all = product(&a, m);
    for first in [0, 5_000, m - few] {
        let own = product(&a[first * k..(first + few) * k], few);
        assert!(bits(&own) == bits(&all[first * n..(first + few) * n]), "rows from {first} on");
    }
}

/// Relative to the sum of the products' sizes: f32 itself is at about 1e-7 there.
#[test]
fn three_parts_have_the_precision_of_f32() {
    if is_skipped("amx", has_tiles()) {
        return;
    }
    let (out, inp, m) = (40, 1000, 3);
    let (w, x) = (numbers(out * inp, 7), numbers(m * inp, 1));
    for (parts, tolerance) in [(1, 3e-3), (2, 1e-5), (3, 1e-6)] {
        let weight = PackedWeight::new(&w, out, inp).computing(Arithmetic::Tiles { parts }).unwrap();
        let mut y = vec![0.0; m * out];
        weight.forward(&x, m, &mut y, false);
        let mut worst = 0.0f64;
        for (x, y) in x.chunks_exact(inp).zip(y.chunks_exact(out)) {
            for (w, y) in w.chunks_exact(inp).zip(y) {
                let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let size: f64 = products.clone().map(f64::abs).sum();
                worst = worst.max((products.sum::<f64>() - f64::from(*y)).abs() / size);
            }
        }
        assert!(worst < tolerance, "{parts} parts: {worst:.1e}");
        assert!(worst > tolerance / 300.0, "{parts} parts: {worst:.1e}, too good to be them");
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    if is_skipped("amx", has_tiles()) {
        return;
    }
    let w = PackedWeight::new(&[1.0; 64], 2, 32).computing(Arithmetic::Tiles { parts: 3 }).unwrap();
    for bad in [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY, f32::NEG_INFINITY] {
        let (mut x, mut y) = ([1.0; 32], [0.0; 2]);
        x[7] = bad;
        w.forward(&x, 1, &mut y, false);
        assert!(y.iter().all(|y| !y.is_finite()), "{bad} became {y:?}");
    }
}
