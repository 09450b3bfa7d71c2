//! The `autodidact` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // candle's own spinning thread pool fights rayon's for the cores; parallelism is ours alone.
    // SAFETY: the first statement of the process, before any other thread exists.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    autodidact::cli::main()
}
