//! Sixteen f32 lanes on three instruction sets, with the same bits on each.
//!
//! A kernel is written once against [`Simd`] and compiled three times by [`dispatch`]: AVX-512F, AVX2 with
//! FMA, and portable code that the compiler vectorises where it can. Every operation is one correctly rounded
//! IEEE 754 operation per lane, so the choice can't be seen in a result.
//!
//! The value that implements [`Simd`] is the proof that the processor has the instructions: only [`dispatch`]
//! makes one, after detection.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, Ordering};

/// Lanes of a vector.
pub const LANES: usize = 16;

/// An instruction set that [`dispatch`] can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// What this machine can run, fastest last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "not every instruction set needs it")]
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// The fastest one, detected once.
    pub fn best() -> Self {
        static BEST: AtomicU8 = AtomicU8::new(u8::MAX);
        match BEST.load(Ordering::Relaxed) {
            0 => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            1 => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            2 => Self::Avx512,
            _ => {
                let best = *Self::available().last().unwrap_or(&Self::Portable);
                BEST.store(best as u8, Ordering::Relaxed);
                best
            }
        }
    }
}

/// Code that runs on any instruction set.
pub trait Kernel {
    /// What the call returns.
    type Output;

    /// Must be `#[inline(always)]`, as must everything it calls with `simd`: only then does the body take on
    /// the instruction set of its caller.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on `isa`, or on portable code if this machine lacks it.
pub fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        Isa::Portable => kernel.run(Portable),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
            // SAFETY: the features that `avx2` enables were just detected.
            unsafe { x86::avx2(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_x86_feature_detected!("avx512f") => {
            // SAFETY: the feature that `avx512` enables was just detected.
            unsafe { x86::avx512(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        _ => kernel.run(Portable),
    }
}

/// 2^(127 - 15): what the exponent field of an f16 lacks of one of f32. Multiplied by it, the bits of an f16 at the place
/// of an f32's become its number, subnormal ones too, without branches.
pub(super) const F16_EXPONENT: f32 = f32::from_bits(0x7780_0000);

/// As [`std::array::from_fn`], but always a part of the kernel that calls it: whatever stays a separate function is
/// compiled without the kernel's instruction set, and passes vectors through memory.
#[inline(always)]
pub fn array<T, const N: usize>(make: impl Fn(usize) -> T) -> [T; N] {
    let mut all = [const { MaybeUninit::<T>::uninit() }; N];
    for (i, element) in all.iter_mut().enumerate() {
        element.write(make(i));
    }
    // SAFETY: every element was just written.
    unsafe { all.as_ptr().cast::<[T; N]>().read() }
}

/// The bits of the nearest bf16 number, of two equally near ones the even one; NaN stays NaN.
#[inline(always)]
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x40_0000 } else { rounded } >> 16) as u16
}

/// Operations on 16 lanes.
pub trait Simd: Copy {
    /// 16 numbers.
    type V: Copy;
    /// Most rows of a GEMM register tile.
    const ROWS: usize;
    /// Vectors of a GEMM register tile of more than three rows.
    const VECTORS: usize;
    /// Vectors of a GEMM register tile of one row.
    const VECTORS_MAX: usize;

    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Reads 16 numbers.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Writes 16 numbers.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// bf16 numbers by their bits.
    fn bf16(self, x: &[u16; LANES]) -> Self::V;
    /// The nearest bf16 numbers, as [`bf16_bits`] rounds.
    fn to_bf16(self, v: Self::V) -> Self::V;
    /// f16 numbers by their bits, infinities and NaN excepted.
    fn f16(self, x: &[u16; LANES]) -> Self::V;
    /// Integers, exactly.
    fn signed(self, x: &[i8; LANES]) -> Self::V;
    /// The low and the high halves of bytes, exactly.
    fn nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V);
    /// The element at `from` in every lane.
    ///
    /// # Safety
    /// `from` is readable.
    unsafe fn broadcast(self, from: *const f32) -> Self::V;
    /// 16 lanes at `from`.
    ///
    /// # Safety
    /// `from` is readable for 16 elements.
    unsafe fn at(self, from: *const f32) -> Self::V;
    /// 16 lanes to `to`.
    ///
    /// # Safety
    /// `to` is writable for 16 elements.
    unsafe fn put_at(self, v: Self::V, to: *mut f32);
    /// The first `n` lanes from memory, the others 0.
    ///
    /// # Safety
    /// `n <= 16` and `from` is readable for `n` elements.
    unsafe fn read(self, from: *const f32, n: usize) -> Self::V;
    /// The first `n` lanes to memory.
    ///
    /// # Safety
    /// `n <= 16` and `to` is writable for `n` elements.
    unsafe fn write(self, v: Self::V, to: *mut f32, n: usize);
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `if a > b { yes } else { no }`
    fn select_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `p * 2^n`, where the lowest bits of `t` hold `n`, and neither `p` nor the result is subnormal.
    fn scale_by_power(self, p: Self::V, t: Self::V) -> Self::V;

    /// Asks for what is at `from`, which may be any address, before it is needed: into the first-level cache.
    #[inline(always)]
    fn fetch(self, from: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which reads nothing and never faults; every x86-64 processor has it.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(from.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = from;
    }

    /// `x[at..]`, up to 16 elements of it, the other lanes 0.
    #[inline(always)]
    fn get(self, x: &[f32], at: usize) -> Self::V {
        let rest = &x[at..];
        match rest.first_chunk::<LANES>() {
            Some(chunk) => self.load(chunk),
            // SAFETY: `rest` has `rest.len() < 16` elements.
            None => unsafe { self.read(rest.as_ptr(), rest.len()) },
        }
    }

    /// Writes to `y[at..]`, at most 16 elements.
    #[inline(always)]
    fn put(self, v: Self::V, y: &mut [f32], at: usize) {
        let rest = &mut y[at..];
        match rest.first_chunk_mut::<LANES>() {
            Some(chunk) => self.store(v, chunk),
            // SAFETY: `rest` has `rest.len() < 16` elements.
            None => unsafe { self.write(v, rest.as_mut_ptr(), rest.len()) },
        }
    }

    /// `if a > b { a } else { b }`
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        self.select_gt(a, b, a, b)
    }

    /// The 16 numbers as an array.
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes
    }

    /// Sum of the lanes: halves onto halves.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let l = self.lanes(v);
        let mut a = [0.0; 8];
        for i in 0..8 {
            a[i] = l[i] + l[i + 8];
        }
        let b = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (b[0] + b[2]) + (b[1] + b[3])
    }

    /// Rows become columns.
    #[inline(always)]
    fn transposed(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let rows: [[f32; LANES]; LANES] = array(|r| self.lanes(rows[r]));
        let mut columns = [[0.0; LANES]; LANES];
        for (r, row) in rows.iter().enumerate() {
            columns.iter_mut().zip(row).for_each(|(column, &x)| column[r] = x);
        }
        array(|c| self.load(&columns[c]))
    }

    /// Largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let l = self.lanes(v);
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let mut a = [0.0; 8];
        for i in 0..8 {
            a[i] = larger(l[i], l[i + 8]);
        }
        let b = [larger(a[0], a[4]), larger(a[1], a[5]), larger(a[2], a[6]), larger(a[3], a[7])];
        larger(larger(b[0], b[2]), larger(b[1], b[3]))
    }
}

/// Plain Rust; fused multiply-add by `f32::mul_add`.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut y = [0.0; LANES];
    for i in 0..LANES {
        y[i] = f(a[i], b[i]);
    }
    y
}

impl Simd for Portable {
    type V = [f32; LANES];
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const VECTORS_MAX: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn bf16(self, x: &[u16; LANES]) -> Self::V {
        x.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    fn to_bf16(self, v: Self::V) -> Self::V {
        v.map(|x| f32::from_bits(u32::from(bf16_bits(x)) << 16))
    }
    #[inline(always)]
    fn f16(self, x: &[u16; LANES]) -> Self::V {
        x.map(|bits| {
            let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * F16_EXPONENT;
            f32::from_bits(u32::from(bits & 0x8000) << 16 | magnitude.to_bits())
        })
    }
    #[inline(always)]
    fn signed(self, x: &[i8; LANES]) -> Self::V {
        x.map(f32::from)
    }
    #[inline(always)]
    fn nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V) {
        (x.map(|byte| f32::from(byte & 15)), x.map(|byte| f32::from(byte >> 4)))
    }
    #[inline(always)]
    unsafe fn broadcast(self, from: *const f32) -> Self::V {
        // SAFETY: the caller promises one readable element.
        [unsafe { *from }; LANES]
    }
    #[inline(always)]
    unsafe fn at(self, from: *const f32) -> Self::V {
        // SAFETY: the caller promises 16 readable elements; an array needs f32's alignment only.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn put_at(self, v: Self::V, to: *mut f32) {
        // SAFETY: the caller promises 16 writable elements; an array needs f32's alignment only.
        unsafe { *to.cast() = v };
    }
    #[inline(always)]
    unsafe fn read(self, from: *const f32, n: usize) -> Self::V {
        let mut v = [0.0; LANES];
        // SAFETY: the caller promises `n <= 16` readable elements.
        unsafe { std::ptr::copy_nonoverlapping(from, v.as_mut_ptr(), n) };
        v
    }
    #[inline(always)]
    unsafe fn write(self, v: Self::V, to: *mut f32, n: usize) {
        // SAFETY: the caller promises `n <= 16` writable elements.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), to, n) };
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut y = [0.0; LANES];
        for i in 0..LANES {
            y[i] = a[i].mul_add(b[i], c[i]);
        }
        y
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn select_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        let mut y = no;
        for i in 0..LANES {
            y[i] = if a[i] > b[i] { yes[i] } else { no[i] };
        }
        y
    }
    #[inline(always)]
    fn scale_by_power(self, p: Self::V, t: Self::V) -> Self::V {
        zip(p, t, |p, t| f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23)))
    }
}

#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
mod x86;
