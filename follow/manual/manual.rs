//! Writes the manual pages and the completions of postmapd-follow: `cargo run -p postmapd-follow --example follow-manual`.
//!
//! They are in contrib/follow, so that packages need no Rust to install them. A test compares them with what this would write
//! (follow/tests/manual.rs).

mod pages;

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/follow");
    for (path, content) in pages::all()? {
        let path = contrib.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}
