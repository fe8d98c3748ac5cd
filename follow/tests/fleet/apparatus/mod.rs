//! What the tests and the benchmark of fleets share: a PostgreSQL, mail servers, and clients. It uses no code of postmapd or
//! postmapd-follow, only their programs.

pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod mail_server;
pub(crate) mod pairs;
pub(crate) mod pgbouncer;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod senders;
pub(crate) mod sql;

use std::env;
use std::ffi::OsString;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use crate::database::processes::DEADLINE;

/// The program postmapd-follow.
pub(crate) const FOLLOW: &str = env!("CARGO_BIN_EXE_postmapd-follow");

/// The program postmapd in the same profile, which cargo does not build for the tests of this member alone.
pub(crate) static POSTMAPD: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = Path::new(FOLLOW).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--locked", "--offline", "--bin", "postmapd"])
        .current_dir(root);
    if directory.ends_with("release") {
        build.arg("--release");
    }
    // What cargo sets for this test would make it run build scripts again.
    let of_this_test = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for name in env::vars_os().map(|(name, _)| name).filter(of_this_test) {
        build.env_remove(name);
    }
    let built = build.output().unwrap();
    let error = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{error}");
    directory.join("postmapd")
});

/// Observes until the condition holds, and returns how long that took. Fails with the last observation.
#[track_caller]
pub(crate) fn eventually<T: Debug>(
    mut observe: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let observed = observe();
        if condition(&observed) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < DEADLINE, "it stays like this: {observed:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
