//! The program postmapd, which cargo does not build for the tests of this member alone.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The program in the profile of the tests.
pub(crate) static POSTMAPD: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = Path::new(env!("CARGO_BIN_EXE_postmapd-follow")).parent().unwrap();
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
