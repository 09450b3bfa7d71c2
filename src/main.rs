//! The `autodidact` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first statement of the process, before any other thread exists.
    #[allow(unsafe_code, reason = "no other thread runs yet")]
    unsafe {
        autodidact::cli::prepare()
    };
    autodidact::cli::main()
}
