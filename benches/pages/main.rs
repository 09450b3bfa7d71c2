//! Writes the generated pages of the documentation: `cargo bench --bench pages`.
//!
//! `cargo test --bench pages` does the same without optimisation. A page that is up to date is not touched.

#[path = "mod.rs"]
mod pages;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in pages::pages(root)? {
        let path = root.join(name);
        let state = match std::fs::read_to_string(&path) {
            Ok(old) if old == text => "up to date",
            _ => {
                std::fs::write(&path, &text).with_context(|| format!("cannot write {name}"))?;
                "written"
            }
        };
        println!("{name}: {state}");
    }
    Ok(())
}
