//! The image of postmapd-follow: one static program, the user of postmapd, and a directory for the tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::engine::{SERVER, repository};
use super::image::Image;

/// Builds the image from the static program that tests/run-all has built, without a network.
fn build() -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let name = format!("postmapd-follow-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["300", "unshare", "--net"]);
    command.arg(repository().join("contrib/container/build"));
    command
        .arg(directory.path())
        .arg(target.join("package").join(name));
    let built = command.arg("postmapd-follow").output().unwrap();
    let [output, complaints] = [built.stdout, built.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(built.status.success(), "{output}{complaints}");
    fs::read(output.lines().last().expect("the name of the archive")).unwrap()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_image_of_the_follower_has_its_program_and_a_directory_without_tables_yet() {
    let archive = build();
    assert!(archive.len() < 10_000_000, "{}", archive.len());
    assert!(archive == build(), "two builds differ");
    let Image {
        config,
        files,
        program,
    } = Image::of_program("postmapd-follow", &archive);
    assert!(program.starts_with(b"\x7fELF"));
    let expected = [
        "drwxr-xr-x 0/0 etc",
        "-rw-r--r-- 0/0 etc/group",
        "-rw-r--r-- 0/0 etc/passwd",
        "drwxr-xr-x 0/0 etc/postmapd",
        "drwxr-xr-x 0/0 usr",
        "drwxr-xr-x 0/0 usr/bin",
        "-rwxr-xr-x 0/0 usr/bin/postmapd-follow",
        "drwxr-xr-x 0/0 var",
        "drwxr-xr-x 0/0 var/lib",
        "drwxr-xr-x 10451/10451 var/lib/postmapd",
        // It leads to nothing, and lookups return temporary errors until the first state of the source.
        "lrwxrwxrwx 10451/10451 var/lib/postmapd/postfix-relaymap.cf",
    ];
    assert_eq!(files, expected);
    let config = &config["config"];
    for (name, value) in [
        ("User", json!(format!("{SERVER}:{SERVER}"))),
        ("Entrypoint", json!(["postmapd-follow"])),
        ("Cmd", json!(["run"])),
        ("StopSignal", json!("SIGTERM")),
        ("Env", json!(["PATH=/usr/bin"])),
    ] {
        assert_eq!(config[name], value, "{name}");
    }
}
