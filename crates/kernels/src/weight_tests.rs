//! Every storage gives the bits of the same numbers in f32, in both directions and over odd shapes.

use autodidact_testing::assert_refused;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;

/// Every block format, with candle's name of it.
const FORMATS: [(Dtype, GgmlDType); 8] = [
    (Dtype::Q4_0, GgmlDType::Q4_0),
    (Dtype::Q4_1, GgmlDType::Q4_1),
    (Dtype::Q5_0, GgmlDType::Q5_0),
    (Dtype::Q5_1, GgmlDType::Q5_1),
    (Dtype::Q8_0, GgmlDType::Q8_0),
    (Dtype::Q4K, GgmlDType::Q4K),
    (Dtype::Q5K, GgmlDType::Q5K),
    (Dtype::Q6K, GgmlDType::Q6K),
];

/// Numbers that are easily made, from -1 to 1.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| ((i + seed) as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| number(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Holds `weight` to the f32 numbers that it stands for.
fn check(weight: &PackedWeight, values: &[f32], what: &str) {
    let (out, inp) = (weight.out(), weight.inp());
    assert!(bits(&weight.to_rows()) == bits(values), "{what}: rows");
    for m in [1, 3, 49] {
        let (x, dy) = (numbers(m * inp, 5), numbers(m * out, 9));
        for accumulate in [false, true] {
            let (mut y, mut expected) = (numbers(m * out, 2), numbers(m * out, 2));
            weight.forward(&x, m, &mut y, accumulate);
            let packed = Packed::from_columns(values, inp, out);
            gemm(Isa::best(), Left::Rows(&x), m, &packed, &mut expected, accumulate);
            assert!(bits(&y) == bits(&expected), "{what}: forward, {m} rows");
        }
        let (mut dx, mut expected) = (vec![0.0; m * inp], vec![0.0; m * inp]);
        weight.backward(&dy, m, &mut dx);
        let packed = Packed::from_rows(values, out, inp);
        gemm(Isa::best(), Left::Rows(&dy), m, &packed, &mut expected, false);
        assert!(bits(&dx) == bits(&expected), "{what}: backward, {m} rows");
    }
}

#[test]
fn halves_are_widened_exactly() {
    for (out, inp) in [(1, 1), (31, 33), (70, 100), (600, 300)] {
        let w = numbers(out * inp, 1);
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let round = |x: &f32| match precision {
                Precision::F32 => *x,
                Precision::Bf16 => half::bf16::from_f32(*x).to_f32(),
                Precision::F16 => half::f16::from_f32(*x * 1e-4).to_f32(),
            };
            let values: Vec<f32> = w.iter().map(round).collect();
            let rows = |r: Range<usize>| Ok(values[r.start * inp..r.end * inp].to_vec());
            let weight = PackedWeight::from_rows(precision, out, inp, rows).unwrap();
            check(&weight, &values, &format!("{precision:?} ({out}, {inp})"));
        }
    }
}

#[test]
fn every_instruction_set_unpacks_the_same_numbers() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for isa in Isa::available() {
        for (half, finite) in [(Half::Bf16, 0x7f80), (Half::F16, 0x7c00)] {
            let mut lines = vec![Line([0.0; LANES]); all.len() / LANES];
            dispatch(isa, Widen { half, bits: &all, lines: &mut lines });
            for (&bits, x) in all.iter().zip(lines.iter().flat_map(|line| line.0)) {
                let is_right = bits & finite == finite || x.to_bits() == half.widen(bits).to_bits();
                assert!(is_right, "{isa:?}: {half:?} {bits:x} became {x}");
            }
        }
        for (dtype, ggml) in FORMATS {
            let (out, inp) = (45, 512);
            let w = Tensor::from_vec(numbers(out * inp, 3), (out, inp), &Device::Cpu).unwrap();
            let quantised = QTensor::quantize(&w, ggml).unwrap();
            let weight = PackedWeight::from_ggml(dtype, &quantised.data().unwrap(), out, inp).unwrap();
            let mut row = vec![0.0; inp];
            for (panel, inner) in [(0, 0..inp), (1, 32..300)] {
                let mut lines = vec![Line([0.0; LANES]); 2 * inner.len()];
                weight.unpack(isa, panel, inner.clone(), &mut lines);
                for index in panel * PANEL..out.min((panel + 1) * PANEL) {
                    weight.row(index, &mut row);
                    let (half, lane) = (index % PANEL / LANES, index % LANES);
                    let unpacked: Vec<f32> = lines.iter().skip(half).step_by(2).map(|l| l.0[lane]).collect();
                    assert!(bits(&unpacked) == bits(&row[inner.clone()]), "{isa:?}: {dtype:?}, row {index}");
                }
            }
        }
    }
}

#[test]
fn quantised_numbers_are_those_of_ggml() {
    for (dtype, ggml) in FORMATS {
        let (out, inp) = (70, 512);
        let w = Tensor::from_vec(numbers(out * inp, 3), (out, inp), &Device::Cpu).unwrap();
        let quantised = QTensor::quantize(&w, ggml).unwrap();
        let values = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let bytes = quantised.data().unwrap();
        let weight = PackedWeight::from_ggml(dtype, &bytes, out, inp).unwrap();
        check(&weight, &values, &format!("{dtype:?}"));
        assert!(weight.bytes() < out.next_multiple_of(PANEL) * inp * 3 / 2, "{dtype:?}");
        let cut = PackedWeight::from_ggml(dtype, &bytes[1..], out, inp);
        assert_refused(cut, "bytes for (70, 512)");
        let ragged = PackedWeight::from_ggml(dtype, &bytes, out * 2, inp / 2 - 1);
        assert_refused(ragged, "rows of 255 can't be divided");
    }
    let error = PackedWeight::from_ggml(Dtype::from_id(10), &[], 0, 256).unwrap_err().to_string();
    assert!(error.contains("Q2_K") && error.contains("Q8_0"), "{error}");
}

#[test]
fn threads_change_no_bit() {
    let (out, inp, m) = (1000, 700, 64);
    let values: Vec<f32> = numbers(out * inp, 7).iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
    let rows = |r: Range<usize>| Ok(values[r.start * inp..r.end * inp].to_vec());
    let weight = PackedWeight::from_rows(Precision::Bf16, out, inp, rows).unwrap();
    let (x, dy) = (numbers(m * inp, 1), numbers(m * out, 2));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut y, mut dx) = (vec![0.0; m * out], vec![0.0; m * inp]);
            weight.forward(&x, m, &mut y, false);
            weight.backward(&dy, m, &mut dx);
            (bits(&y), bits(&dx))
        })
    };
    assert!(run(1) == run(3));
}
