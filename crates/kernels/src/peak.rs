//! What this machine can do at most: multiply-adds without memory, and reading memory without
//! arithmetic. A profile reports how near operators come to it.
//!
//! Each unit that computes products has its own peak; another one is another [`Unit`] and another
//! kernel here. The clock is handed in. A figure is the best of a few short turns: whatever
//! disturbs one only makes it slower.

use std::hint::black_box;

use rayon::prelude::*;

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::tiles::{has_tiles, multiply_tiles};
use autodidact_domain::profile::{Bandwidth, Machine, Peak, Unit};

/// Turns, the best of which counts.
const TURNS: usize = 5;
/// How long a turn should take at least.
const TURN_NS: u64 = 15_000_000;
/// Rounds of multiply-adds between two looks at the clock.
const ROUNDS: usize = 1 << 16;
/// Bytes that are read: more than most last-level caches have for one process.
const BUFFER: usize = 256 << 20;

/// Measures the machine with all threads of the pool it is called from, in about half a second.
/// `clock` gives nanoseconds.
pub fn measure(clock: fn() -> u64) -> Machine {
    Machine {
        threads: rayon::current_num_threads(),
        instruction_set: super::instruction_set().to_owned(),
        peaks: peaks(clock),
        memory: memory(clock),
    }
}

/// The best of a few turns, in work per second; a turn gives its work and nanoseconds.
fn best(turn: impl Fn() -> (f64, u64)) -> f64 {
    let rates = (0..TURNS).map(|_| {
        let (work, ns) = turn();
        work * 1e9 / ns.max(1) as f64
    });
    rates.fold(0.0, f64::max)
}

/// Of every unit that the processor has.
fn peaks(clock: fn() -> u64) -> Vec<Peak> {
    let mut peaks = vec![peak(Unit::F32, clock, || dispatch(Isa::best(), Chains { rounds: ROUNDS }))];
    if has_tiles() {
        peaks.push(peak(Unit::Bf16Tiles, clock, || multiply_tiles(ROUNDS / 16)));
    }
    peaks
}

/// `work` keeps its unit busy for a moment and gives how many floating-point operations that was.
fn peak(unit: Unit, clock: fn() -> u64, work: impl Fn() -> usize + Sync) -> Peak {
    // Threads stop by the clock, so all of them run to the end.
    let alone = || {
        let (began, mut flops) = (clock(), 0);
        loop {
            flops += work();
            let ns = clock().saturating_sub(began);
            if ns >= TURN_NS {
                return (flops as f64, ns);
            }
        }
    };
    let rate = |(flops, ns): (f64, u64)| flops * 1e9 / ns as f64;
    let together = || (rayon::broadcast(|_| rate(alone())).into_iter().sum(), 1_000_000_000);
    Peak { unit, one_thread_flops_per_s: best(alone), all_threads_flops_per_s: best(together) }
}

/// Independent chains of multiply-adds in registers; gives how many floating-point operations that
/// was.
struct Chains {
    rounds: usize,
}

impl Kernel for Chains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        // As many chains as a product's tile has, which fit into the registers.
        match S::ROWS {
            12.. => chains::<S, 12>(s, self.rounds),
            6..12 => chains::<S, 6>(s, self.rounds),
            _ => chains::<S, 2>(s, self.rounds),
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, rounds: usize) -> usize {
    let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut acc = [s.splat(black_box(1.0)); N];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = s.fma(*acc, a, b);
        }
    }
    let sum = acc.into_iter().fold(s.splat(0.0), |sum, acc| s.add(sum, acc));
    black_box(s.sum(sum));
    2 * LANES * N * rounds
}

fn memory(clock: fn() -> u64) -> Bandwidth {
    // Written, because pages that never were are all the same one.
    let mut buffer = vec![0.0_f32; BUFFER / size_of::<f32>()];
    let share = buffer.len().div_ceil(rayon::current_num_threads()).max(1);
    buffer.par_chunks_mut(share).for_each(|part| part.fill(1.0));
    let turn = |read: &dyn Fn()| {
        let began = clock();
        read();
        (BUFFER as f64, clock().saturating_sub(began))
    };
    let sum = |part: &[f32]| {
        black_box(dispatch(Isa::best(), Sum(part)));
    };
    Bandwidth {
        one_thread_bytes_per_s: best(|| turn(&|| sum(&buffer))),
        all_threads_bytes_per_s: best(|| turn(&|| buffer.par_chunks(share).for_each(sum))),
    }
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut acc = [s.splat(0.0); 4];
        for chunk in self.0.as_chunks::<{ 4 * LANES }>().0 {
            for (acc, x) in acc.iter_mut().zip(chunk.as_chunks::<LANES>().0) {
                *acc = s.add(*acc, s.load(x));
            }
        }
        s.sum(acc.into_iter().fold(s.splat(0.0), |sum, acc| s.add(sum, acc)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Since the first call.
    fn nanoseconds() -> u64 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    #[test]
    fn a_machine_has_peaks() {
        let Machine { threads, peaks, memory, .. } = measure(nanoseconds);
        assert_eq!(threads, rayon::current_num_threads());
        let units = if has_tiles() { Unit::ALL } else { &[Unit::F32] };
        assert!(peaks.iter().map(|p| p.unit).eq(units.iter().copied()), "{peaks:?}");
        let rates = peaks.iter().flat_map(|p| [p.one_thread_flops_per_s, p.all_threads_flops_per_s]);
        let rates = rates.chain([memory.one_thread_bytes_per_s, memory.all_threads_bytes_per_s]);
        for rate in rates {
            // Any machine that runs this does more than ten million and less than 10^16.
            assert!((1e7..1e16).contains(&rate), "{rate} per second");
        }
    }

    #[test]
    fn every_instruction_set_counts_its_own_work() {
        for isa in Isa::available() {
            let flops = dispatch(isa, Chains { rounds: 10 });
            assert!(flops % (2 * LANES * 10) == 0 && flops > 0, "{isa:?}: {flops}");
            let ones = vec![1.0_f32; 4 * LANES * 3];
            assert_eq!(dispatch(isa, Sum(&ones)), 192.0, "{isa:?}");
        }
    }
}
