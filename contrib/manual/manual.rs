//! Writes the manual pages and the completions: `cargo run --example manual`.
//!
//! They are in the repository so that packages need no Rust to install them. A test compares them with what this
//! would write (tests/promises/manual.rs).

mod pages;

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    for (path, content) in pages::all()? {
        let path = contrib.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}
