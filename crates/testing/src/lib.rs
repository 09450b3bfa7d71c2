//! What tests of all crates share. A test that can't run here prints that it is skipped. Where it
//! must run, it fails.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_may_not_be_skipped() {
        refuse_if_required("amx", "shared-data, network");
        refuse_if_required("amx", "");
        let refused = std::panic::catch_unwind(|| refuse_if_required("amx", "shared-data, amx"));
        assert!(refused.is_err());
        assert!(!is_skipped("anything", true));
    }
}
