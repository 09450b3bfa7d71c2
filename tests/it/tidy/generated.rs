//! The generated pages of the documentation are what their sources give.

#[path = "../../../benches/pages/mod.rs"]
mod pages;

pub(super) use pages::anchor;

use std::path::Path;

#[test]
fn generated_pages_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages::pages(root).unwrap_or_else(|error| panic!("{error:#}"));
    for (name, text) in pages {
        let committed = std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let differs = text.lines().zip(committed.lines()).find(|(new, old)| new != old);
        assert!(
            text == committed,
            "{name} is out of date; run `cargo test --bench pages`. The first line that differs: {differs:?}"
        );
    }
}
