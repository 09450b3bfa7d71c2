//! Threads, memory and clock of the whole process. The first two are set up before anything else
//! happens; freed memory is given back between phases.

#![allow(unsafe_code, reason = "the environment and the C allocator are set")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Prepares this process to compute: threads and memory.
///
/// # Safety
/// The first statement of the process: no other thread exists.
pub unsafe fn prepare() {
    // candle's own thread pool spins, and competes with rayon's for the cores. Only our own code
    // computes in parallel.
    // SAFETY: as the caller promises.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    keep_freed_memory();
}

/// Keeps freed memory in the process, because the next update of a small model needs what the last
/// one freed. Otherwise malloc returns it to the system and fetches it again, page by page. Up to
/// 256 MiB stay with malloc's first arena and 64 MiB with each other one. Pieces above 32 MiB are
/// still mapped and unmapped one by one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: two numbers, set before any other thread exists. A setting that is refused leaves the
    // default.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

/// Gives freed memory back to the system. It is called between phases, because each phase needs
/// other memory than the one before. Otherwise what the phases free adds up: hardly a piece of one
/// phase fits into the gaps of another.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back_freed_memory() {
    // SAFETY: touches only free memory, under malloc's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back_freed_memory() {}

/// The time of day. A clock before 1970 or after 9999 has no RFC 3339 text, and counts as the
/// nearest time that has one.
pub(super) fn now() -> SystemTime {
    /// 9999-12-31T23:59:59Z, in seconds since 1970.
    const LAST: u64 = 253_402_300_799;
    within(SystemTime::now(), UNIX_EPOCH + Duration::from_secs(LAST))
}

fn within(now: SystemTime, last: SystemTime) -> SystemTime {
    now.clamp(UNIX_EPOCH, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_has_a_text() {
        let day = Duration::from_secs(86_400);
        let last = UNIX_EPOCH + 3 * day;
        assert_eq!(within(UNIX_EPOCH - day, last), UNIX_EPOCH);
        assert_eq!(within(UNIX_EPOCH + 9 * day, last), last);
        assert_eq!(humantime::format_rfc3339_seconds(now()).to_string().len(), "2026-01-01T00:00:00Z".len());
    }
}
