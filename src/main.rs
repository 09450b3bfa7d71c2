//! The `autodidact` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first statement of the process, before any other thread exists.
    unsafe { autodidact::cli::prepare() };
    autodidact::cli::main()
}
