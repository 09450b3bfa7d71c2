//! [`Simd`] on x86: AVX-512F in one register, AVX2 with FMA in two.

use std::arch::x86_64::*;

use super::{F16_EXPONENT, Kernel, LANES, Simd};

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Exists only where AVX-512F does.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Exists only where AVX2 and FMA do.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Simd for Avx512 {
    type V = __m512;
    const ROWS: usize = 12;
    const VECTORS: usize = 2;
    const VECTORS_MAX: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn bf16(self, x: &[u16; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; 32 bytes are read of 32.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn to_bf16(self, v: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
            _mm512_castsi512_ps(_mm512_and_si512(chosen, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        }
    }
    #[inline(always)]
    fn f16(self, x: &[u16; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn signed(self, x: &[i8; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; 16 bytes are read of 16.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V) {
        // SAFETY: as for `signed`.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn broadcast(self, from: *const f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        unsafe { _mm512_broadcastss_ps(_mm_load_ss(from)) }
    }
    #[inline(always)]
    unsafe fn at(self, from: *const f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn put_at(self, v: Self::V, to: *mut f32) {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn read(self, from: *const f32, n: usize) -> Self::V {
        // SAFETY: as for `at`; lanes that are masked out are not touched.
        unsafe { _mm512_maskz_loadu_ps(mask(n), from) }
    }
    #[inline(always)]
    unsafe fn write(self, v: Self::V, to: *mut f32, n: usize) {
        // SAFETY: as for `at`; lanes that are masked out are not touched.
        unsafe { _mm512_mask_storeu_ps(to, mask(n), v) }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn select_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn scale_by_power(self, p: Self::V, t: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe {
            let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), power))
        }
    }

    #[inline(always)]
    fn transposed(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { transposed_16x16(rows) }
    }
}

/// The lowest `n` of 16 bits.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    checked!(n <= LANES, "{n} of 16 lanes");
    ((1u32 << n) - 1) as __mmask16
}

/// Pairs of rows, then pairs of pairs, come together lane by lane; then quarters of 128 bits, in two steps.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn transposed_16x16(rows: [__m512; LANES]) -> [__m512; LANES] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut pairs = rows;
        for i in (0..LANES).step_by(2) {
            pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        // `fours[4 i + c]` holds column c of each quarter, of rows 4 i to 4 i + 3.
        let mut fours = pairs;
        for i in (0..LANES).step_by(4) {
            let (low, high) = (_mm512_castps_pd(pairs[i]), _mm512_castps_pd(pairs[i + 1]));
            let (low_next, high_next) = (_mm512_castps_pd(pairs[i + 2]), _mm512_castps_pd(pairs[i + 3]));
            fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low_next));
            fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low_next));
            fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high_next));
            fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high_next));
        }
        let mut columns = fours;
        for c in 0..4 {
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[c], fours[4 + c]);
            let even_next = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + c], fours[12 + c]);
            let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[c], fours[4 + c]);
            let odd_next = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + c], fours[12 + c]);
            columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even, even_next);
            columns[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd, odd_next);
            columns[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even, even_next);
            columns[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd, odd_next);
        }
        columns
    }
}

impl Simd for Avx2 {
    type V = (__m256, __m256);
    const ROWS: usize = 6;
    const VECTORS: usize = 1;
    const VECTORS_MAX: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
        }
    }
    #[inline(always)]
    fn bf16(self, x: &[u16; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; 32 bytes are read of 32.
        unsafe {
            let from: *const __m128i = x.as_ptr().cast();
            let half = |bits| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)));
            (half(_mm_loadu_si128(from)), half(_mm_loadu_si128(from.add(1))))
        }
    }
    #[inline(always)]
    fn to_bf16(self, v: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        let half = |v| unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let chosen = _mm256_blendv_epi8(rounded, quiet, nan);
            _mm256_castsi256_ps(_mm256_and_si256(chosen, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
        };
        (half(v.0), half(v.1))
    }
    #[inline(always)]
    fn f16(self, x: &[u16; LANES]) -> Self::V {
        // SAFETY: as for `bf16`.
        unsafe {
            let from: *const __m128i = x.as_ptr().cast();
            let half = |bits| {
                let bits = _mm256_cvtepu16_epi32(bits);
                let sign = _mm256_slli_epi32::<16>(_mm256_and_si256(bits, _mm256_set1_epi32(0x8000)));
                let rest = _mm256_slli_epi32::<13>(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fff)));
                let magnitude = _mm256_mul_ps(_mm256_castsi256_ps(rest), _mm256_set1_ps(F16_EXPONENT));
                _mm256_or_ps(magnitude, _mm256_castsi256_ps(sign))
            };
            (half(_mm_loadu_si128(from)), half(_mm_loadu_si128(from.add(1))))
        }
    }
    #[inline(always)]
    fn signed(self, x: &[i8; LANES]) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; 16 bytes are read of 16.
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            let half = |bytes| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            (half(bytes), half(_mm_srli_si128::<8>(bytes)))
        }
    }
    #[inline(always)]
    fn nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V) {
        // SAFETY: as for `signed`.
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            let (first, second) =
                (_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)));
            let low = |x| _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(15)));
            let high = |x| _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(x));
            ((low(first), low(second)), (high(first), high(second)))
        }
    }
    #[inline(always)]
    unsafe fn broadcast(self, from: *const f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        let x = unsafe { _mm256_broadcastss_ps(_mm_load_ss(from)) };
        (x, x)
    }
    #[inline(always)]
    unsafe fn at(self, from: *const f32) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.wrapping_add(8))) }
    }
    #[inline(always)]
    unsafe fn put_at(self, v: Self::V, to: *mut f32) {
        // SAFETY: `self` exists, so the processor has the instructions; the caller promises the memory.
        unsafe {
            _mm256_storeu_ps(to, v.0);
            _mm256_storeu_ps(to.wrapping_add(8), v.1);
        }
    }
    #[inline(always)]
    unsafe fn read(self, from: *const f32, n: usize) -> Self::V {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller promises `n <= 16` readable elements.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n) };
        self.load(&lanes)
    }
    #[inline(always)]
    unsafe fn write(self, v: Self::V, to: *mut f32, n: usize) {
        // SAFETY: the caller promises `n <= 16` writable elements.
        unsafe { std::ptr::copy_nonoverlapping(self.lanes(v).as_ptr(), to, n) };
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1)) }
    }
    #[inline(always)]
    fn select_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe {
            let (m, n) = (_mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1));
            (_mm256_blendv_ps(no.0, yes.0, m), _mm256_blendv_ps(no.1, yes.1, n))
        }
    }
    #[inline(always)]
    fn scale_by_power(self, p: Self::V, t: Self::V) -> Self::V {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { (shift_and_add(p.0, t.0), shift_and_add(p.1, t.1)) }
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn shift_and_add(p: __m256, t: __m256) -> __m256 {
    // SAFETY: as promised by the caller.
    unsafe {
        let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power))
    }
}
