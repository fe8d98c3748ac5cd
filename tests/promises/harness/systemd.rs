//! This machine's systemd, booted in its own namespaces (tests/systemd/boot).

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Runs a script of tests/systemd there, with those files next to it. Returns what it printed and what was logged. Fails
/// the test where the script fails.
#[track_caller]
pub(crate) fn boot<S: AsRef<OsStr>>(script: &str, files: impl IntoIterator<Item = S>) -> (String, String) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd");
    let booted = Command::new(scripts.join("boot"))
        .arg(scripts.join(script))
        .args(files)
        .output()
        .expect("tests/systemd/boot");
    let [output, log] =
        [booted.stdout, booted.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(booted.status.success(), "{log}");
    (output, log)
}
