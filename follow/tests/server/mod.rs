//! `postmapd serve` on a directory of postmapd-follow, with the harness of its own tests.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses a part of it, and a test ends where something fails"
)]

#[path = "../../../tests/promises/harness/admin.rs"]
pub(crate) mod admin;
#[path = "../../../tests/promises/harness/client.rs"]
pub(crate) mod client;
#[path = "../../../tests/promises/harness/daemon.rs"]
pub(crate) mod daemon;

use std::env;
use std::ffi::OsString;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// The program postmapd, which `cargo test` of this member alone does not build.
pub(crate) static POSTMAPD: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--locked", "--offline", "--bin", "postmapd"])
        .current_dir(root);
    // What cargo sets for this test would make it run build scripts again.
    let of_this_test = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for name in env::vars_os().map(|(name, _)| name).filter(of_this_test) {
        build.env_remove(name);
    }
    let build = build.output().unwrap();
    assert!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );
    Path::new(env!("CARGO_BIN_EXE_postmapd-follow")).with_file_name("postmapd")
});

/// Observes until the condition holds, and returns how long that took. Fails the test with the last observation.
#[track_caller]
pub(crate) fn eventually<T: Debug>(
    mut observe: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let observed = observe();
        if condition(&observed) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < daemon::DEADLINE,
            "it stays like this: {observed:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}
