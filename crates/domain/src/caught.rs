//! Code of others on data that nobody vouches for: its panics become errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use anyhow::{Result, anyhow};

thread_local! {
    /// Whether this thread's panic is about to become an error, which is reported in its place.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; if it panics, that is an error which names `what` was worked on.
///
/// Nothing that `work` has changed may be used after an error.
///
/// # Errors
/// Those of `work`, and its panic.
pub fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                report(info);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    outcome.unwrap_or_else(|panic| {
        Err(anyhow!("{what} is damaged, or of a kind that can't be read: {}", message(panic.as_ref())))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a library failed on it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_rest_passes() {
        assert_eq!(caught("x", || Ok(3)).unwrap(), 3);
        let error = caught::<()>("x", || Err(anyhow!("its own"))).unwrap_err();
        assert_eq!(error.to_string(), "its own");
        let zero = std::hint::black_box(0);
        let error = caught("m.gguf", || Ok(1 / zero)).unwrap_err().to_string();
        assert!(error.starts_with("m.gguf is damaged") && error.contains("divide by zero"), "{error}");
        assert!(!CAUGHT.get(), "the next panic of this thread is reported again");
    }
}
