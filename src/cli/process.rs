//! Threads and memory of the whole process. Both are set up before anything else happens; freed
//! memory is given back between phases.

#![allow(unsafe_code, reason = "the environment and the C allocator are set")]

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
