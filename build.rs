//! Rebuilds the crate when a migration changes: `sqlx::migrate!` embeds them, and cargo can't see that.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
