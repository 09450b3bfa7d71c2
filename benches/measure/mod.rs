//! How benches time themselves, and what those that `benches/peers` drives report.

pub(crate) mod results;

use std::time::Instant;

use anyhow::{Context, Result};
use autodidact::ops::kernels::Arithmetic;
use serde_json::{Value, json};

/// No repetition begins after this time.
const REPEATED_SECONDS: f64 = 30.0;

/// Repeats some work, at most `times`, and reports its best. The work returns the number of its tokens.
pub(crate) fn repeated(times: usize, mut work: impl FnMut() -> Result<usize>) -> Result<Value> {
    let (mut seconds, mut least_cpu, mut tokens) = (Vec::<f64>::new(), f64::INFINITY, 0);
    while seconds.len() < times && seconds.iter().sum::<f64>() < REPEATED_SECONDS {
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        tokens = work()?;
        seconds.push(start.elapsed().as_secs_f64());
        least_cpu = least_cpu.min(cpu_seconds() - cpu_start);
    }
    let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(json!({
        "threads": rayon::current_num_threads(),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens as f64 / fastest,
        "tokens_per_cpu_s": tokens as f64 / least_cpu,
        "peak_mib": peak_mib()?,
    }))
}

/// The arithmetic of products, from the command line: "f32", or how many parts of bf16 a number has.
pub(crate) fn arithmetic(option: Option<&String>) -> Result<Arithmetic> {
    Ok(match option.map(String::as_str) {
        None | Some("f32") => Arithmetic::F32,
        Some(parts) => Arithmetic::Tiles { parts: parts.parse().context("f32, 1, 2 or 3")? },
    })
}

/// Processor time of this process, in seconds; NaN where there is no /proc.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// The most memory that the process has held, in MiB.
fn peak_mib() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("peak memory is read from Linux's /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib >> 10)
}
