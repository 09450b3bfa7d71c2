//! The processor's own tiles: 16 rows of 32 bf16 numbers by 32 rows of 16, accumulated in f32 (Intel AMX-BF16,
//! Architecture Instruction Set Extensions, TDPBF16PS).
//!
//! For an element of C the processor adds 16 products of even and 16 of odd positions in two f32 chains, adds their
//! sum to C, and takes subnormal numbers for 0: the same whatever the other rows and columns are.

use std::arch::asm;
use std::sync::OnceLock;

use super::Tile;

/// Whether this processor and its operating system have tiles of bf16, and AVX-512 to fill them. Linux is asked for leave once.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        is_present()
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
            && is_granted()
    })
}

/// Bits 22 and 24 of leaf 7: AMX-BF16 and AMX-TILE.
fn is_present() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    __cpuid(0).eax >= 7 && {
        let edx = __cpuid_count(7, 0).edx;
        edx & (1 << 22) != 0 && edx & (1 << 24) != 0
    }
}

#[cfg(target_os = "linux")]
fn is_granted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and touches no memory; the kernel overwrites rcx and r11. Threads started
    // later inherit the leave, and those that run already share it.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_granted() -> bool {
    false
}

/// Shapes of the tile registers.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const CONFIGURATION: Configuration = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// This thread's tile registers, ready for use; given back when dropped.
pub(super) struct Registers(());

impl Registers {
    /// `None` if there are no tiles here.
    pub(super) fn take() -> Option<Self> {
        if !available() {
            return None;
        }
        // SAFETY: the processor has tiles, and the configuration is a valid one of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
        Some(Self(()))
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: tiles were configured by this thread, and nobody else of it uses them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Multiplies tiles of zeros as fast as the processor can; gives how many floating-point operations that was.
pub(super) fn multiply(rounds: usize) -> usize {
    let registers = Registers::take();
    assert!(registers.is_some() && rounds > 0, "{rounds} rounds of tiles");
    // SAFETY: the registers are taken, and no memory is touched.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
    rounds * 4 * 2 * 16 * 16 * 32
}

/// C (32 or 16, 32) gets a product over some blocks of the inner dimension.
#[derive(Clone, Copy)]
pub(super) struct Product {
    /// Tiles (block, part) of the first 16 rows.
    pub a: *const Tile,
    /// Those of the next 16 rows.
    pub a_next: *const Tile,
    /// Tiles (block, part, half).
    pub b: *const Tile,
    /// What will be B for the next product: it is asked for from memory meanwhile. Need not be readable.
    pub next: *const Tile,
    /// At least 1.
    pub blocks: usize,
    pub c: *mut f32,
    /// Elements between C's rows.
    pub c_stride: usize,
    /// `C += A B` instead of `C = A B`.
    pub accumulate: bool,
}

macro_rules! load_b {
    ($part:literal) => {
        concat!(
            "tileloadd tmm6, [{b} + {line}*1 + ",
            $part,
            "*2048]\n",
            "tileloadd tmm7, [{b} + {line}*1 + ",
            $part,
            "*2048 + 1024]"
        )
    };
}

/// Two tiles of B that the next product will read: 32 cache lines.
macro_rules! prefetch {
    ($part:literal $($line:literal)+) => {
        concat!($("prefetcht1 [{next} + ", $part, "*2048 + ", $line, "*64]\n",)+ "")
    };
}

/// B is near already.
macro_rules! nothing {
    ($part:literal $($line:literal)+) => {
        ""
    };
}

macro_rules! multiply_two {
    ($part:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {line}*1 + ",
            $part,
            "*1024]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm5, [{a_next} + {line}*1 + ",
            $part,
            "*1024]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7"
        )
    };
}

macro_rules! multiply_one {
    ($part:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {line}*1 + ",
            $part,
            "*1024]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7"
        )
    };
}

/// A product of 16 or 32 rows of A with `$p` parts and B with `$q`: for each part of B, the parts of A that it meets.
macro_rules! product {
    ($name:ident, $multiply:ident, $fetch:ident, $p:literal, $q:literal, $($j:literal [$($i:literal)+])+) => {
        /// # Safety
        /// This thread holds [`Registers`]; A and B have their tiles, and C its rows of 32.
        unsafe fn $name(product: Product) {
            let Product { a, a_next, b, next, blocks, c, c_stride, accumulate } = product;
            // SAFETY: as the caller promises. Tile registers are used by no one else between `take` and `drop`.
            unsafe {
                asm!(
                    "test {accumulate:e}, {accumulate:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{c} + {stride}*1]",
                    "tileloadd tmm1, [{c} + {stride}*1 + 64]",
                    product!(@next $multiply "tileloadd tmm2, [{c_next} + {stride}*1]"),
                    product!(@next $multiply "tileloadd tmm3, [{c_next} + {stride}*1 + 64]"),
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    $(
                        $fetch!($j 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31),
                        load_b!($j),
                        $($multiply!($i),)+
                    )+
                    concat!("add {a}, ", $p, "*1024"),
                    concat!("add {a_next}, ", $p, "*1024"),
                    concat!("add {b}, ", $q, "*2048"),
                    concat!("add {next}, ", $q, "*2048"),
                    "dec {blocks}",
                    "jnz 2b",
                    "tilestored [{c} + {stride}*1], tmm0",
                    "tilestored [{c} + {stride}*1 + 64], tmm1",
                    product!(@next $multiply "tilestored [{c_next} + {stride}*1], tmm2"),
                    product!(@next $multiply "tilestored [{c_next} + {stride}*1 + 64], tmm3"),
                    accumulate = in(reg) u32::from(accumulate),
                    a = inout(reg) a => _,
                    a_next = inout(reg) a_next => _,
                    b = inout(reg) b => _,
                    next = inout(reg) next => _,
                    blocks = inout(reg) blocks => _,
                    c = in(reg) c,
                    c_next = in(reg) c.wrapping_add(16 * c_stride),
                    stride = in(reg) c_stride * 4,
                    line = in(reg) 64_usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
    (@next multiply_two $text:literal) => { $text };
    // The name must be mentioned for the operand to be one.
    (@next multiply_one $text:literal) => { "/* {c_next} */" };
}

/// Products that ask for what comes next, in a module, and those that don't, in another one.
macro_rules! products {
    ($($module:ident $fetch:ident),+) => {
        $(
            mod $module {
                use super::*;

                product!(one_1_1, multiply_one, $fetch, 1, 1, 0[0]);
                product!(two_1_1, multiply_two, $fetch, 1, 1, 0[0]);
                product!(one_2_1, multiply_one, $fetch, 2, 1, 0 [1 0]);
                product!(two_2_1, multiply_two, $fetch, 2, 1, 0 [1 0]);
                product!(one_2_2, multiply_one, $fetch, 2, 2, 1 [0] 0 [1 0]);
                product!(two_2_2, multiply_two, $fetch, 2, 2, 1 [0] 0 [1 0]);
                product!(one_3_1, multiply_one, $fetch, 3, 1, 0 [2 1 0]);
                product!(two_3_1, multiply_two, $fetch, 3, 1, 0 [2 1 0]);
                product!(one_3_2, multiply_one, $fetch, 3, 2, 1 [1 0] 0 [2 1 0]);
                product!(two_3_2, multiply_two, $fetch, 3, 2, 1 [1 0] 0 [2 1 0]);
                product!(one_3_3, multiply_one, $fetch, 3, 3, 2 [0] 1 [1 0] 0 [2 1 0]);
                product!(two_3_3, multiply_two, $fetch, 3, 3, 2 [0] 1 [1 0] 0 [2 1 0]);

                pub(super) fn compute(p: usize, q: usize) -> (Compute, Compute) {
                    match (p, q) {
                        (1, 1) => (one_1_1, two_1_1),
                        (2, 1) => (one_2_1, two_2_1),
                        (2, 2) => (one_2_2, two_2_2),
                        (3, 1) => (one_3_1, two_3_1),
                        (3, 2) => (one_3_2, two_3_2),
                        (3, 3) => (one_3_3, two_3_3),
                        _ => unreachable!("no products of {p} and {q} parts"),
                    }
                }
            }
        )+
    };
}

products!(fetching prefetch, near nothing);

/// Computes [`Product`]s of one kind.
pub(super) type Compute = unsafe fn(Product);

/// Products of 16 and of 32 rows, of A with `p` parts and B with `q`, that ask for the next tiles of B or leave it;
/// unsafe as the `product`s are.
pub(super) fn compute(p: usize, q: usize, fetches: bool) -> (Compute, Compute) {
    if fetches { fetching::compute(p, q) } else { near::compute(p, q) }
}
