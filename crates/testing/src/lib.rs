//! What tests of all crates share. A test that can't run here prints that it is skipped. Where it
//! must run, it fails. A test that expects an error states which one.

#![forbid(unsafe_code)]

pub mod shell;

use std::fmt;

/// The variable that names what must be there, separated by commas:
/// `AUTODIDACT_REQUIRE=amx,shared-data`.
pub const REQUIRE: &str = "AUTODIDACT_REQUIRE";

/// Whether a test has to be skipped because `need` is not there; prints `skipped: needs …` then.
///
/// # Panics
/// Where [`REQUIRE`] names `need`: on such a machine a skipped test is a failed one.
#[must_use]
pub fn is_skipped(need: &str, is_there: bool) -> bool {
    if !is_there {
        let required = std::env::var(REQUIRE).unwrap_or_default();
        refuse_if_required(need, &required);
        println!("skipped: needs {need}");
    }
    !is_there
}

fn refuse_if_required(need: &str, required: &str) {
    assert!(
        !required.split(',').any(|name| name.trim() == need),
        "{REQUIRE} asks for `{need}`, which is not here"
    );
}

/// Asserts that `result` is an error whose message (with its causes) contains `part`.
///
/// # Panics
/// The call succeeded, or it was refused for another reason.
#[track_caller]
pub fn assert_refused<T, E: fmt::Display>(result: Result<T, E>, part: &str) {
    match result {
        Ok(_) => panic!("it should be refused with {part:?}, but it succeeded"),
        Err(error) => {
            // With `#`, anyhow prints the causes too.
            let message = format!("{error:#}");
            assert!(message.contains(part), "it should be refused with {part:?}, not with: {message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic_of(call: impl FnOnce() + std::panic::UnwindSafe) -> String {
        *std::panic::catch_unwind(call).unwrap_err().downcast::<String>().unwrap()
    }

    /// Prints its cause where it is asked for, as anyhow's errors do.
    struct Caused;

    impl fmt::Display for Caused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if f.alternate() { "can't write: the disk is full" } else { "can't write" })
        }
    }

    #[test]
    fn what_is_required_may_not_be_skipped() {
        refuse_if_required("amx", "shared-data, network");
        refuse_if_required("amx", "");
        let panic = panic_of(|| refuse_if_required("amx", "shared-data, amx"));
        assert!(panic.contains("asks for `amx`"), "{panic}");
        assert!(!is_skipped("anything", true));
    }

    #[test]
    fn an_error_must_have_the_expected_message() {
        let refused: Result<(), _> = Err(Caused);
        assert_refused(refused, "the disk is full");
        let panic = panic_of(|| assert_refused(Err::<(), _>("no such file"), "the disk is full"));
        assert!(panic.contains("the disk is full") && panic.contains("no such file"), "{panic}");
        let panic = panic_of(|| assert_refused(Ok::<_, Caused>(()), "the disk is full"));
        assert!(panic.contains("the disk is full") && panic.contains("succeeded"), "{panic}");
    }
}
