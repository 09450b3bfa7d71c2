//! Threads and memory of the whole process: settled before it does anything, given back between phases.

/// Prepares this process to compute: threads and memory.
///
/// # Safety
/// The first statement of the process: no other thread exists.
pub unsafe fn prepare() {
    // candle's own spinning thread pool fights rayon's for the cores; parallelism is ours alone.
    // SAFETY: as the caller promises.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    keep_freed_memory();
}

/// What one update of a small model frees, the next one needs: otherwise it is handed back to the system and fetched
/// again, page by page. Up to 256 MiB stay with malloc's first arena and 64 MiB with each other one; pieces above 32 MiB
/// still come and go by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: two numbers, set before any other thread exists. A setting that is refused leaves the default.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

/// Gives what was freed back to the system: between phases, of which each needs other memory than the one before.
/// Otherwise what they leave adds up, because hardly a piece of one fits into the gaps of another.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back_freed_memory() {
    // SAFETY: touches free memory alone, under malloc's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back_freed_memory() {}
