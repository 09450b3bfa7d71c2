//! What the drivers of `benches/peers` report beside their own figures.

use anyhow::{Context, Result};

/// The most memory that the process has held, in MiB.
pub fn peak_mib() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("peak memory is read from Linux's /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib >> 10)
}
