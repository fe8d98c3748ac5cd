//! `postmapd-follow check`, run as a program.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The exit code, standard output and standard error.
fn check(settings: &Path) -> (Option<i32>, String, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_postmapd-follow"))
        .args(["check", "--offline", "--config"])
        .arg(settings)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (program.status.code(), text(program.stdout), text(program.stderr))
}

#[test]
fn valid_settings_are_summarised_without_the_password() {
    let temp = tempfile::tempdir().unwrap();
    let (settings, password) = (temp.path().join("follow.toml"), temp.path().join("password"));
    fs::write(&password, "hunter2\n").unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "source = \"postgres://reader@db.test/mail\"\npassword_file = \"{}\"\n",
        password.to_str().unwrap()
    );
    fs::write(&settings, text).unwrap();
    let (code, out, err) = check(&settings);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("source: postgres://reader@db.test/mail, schema postmapd, tls verify-full\n"),
        "{out}"
    );
    assert!(
        out.contains("directory: /var/lib/postmapd\n") && !out.contains("hunter"),
        "{out}"
    );

    fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
    let (code, out, err) = check(&settings);
    assert_eq!(code, Some(0));
    assert!(out.contains("no errors"), "{out}");
    assert!(
        err.contains("warning: the file of `password_file` is open to all users") && !err.contains("hunter"),
        "{err}"
    );
}

#[test]
fn every_error_is_a_line_on_standard_error_and_the_exit_code_is_1() {
    let temp = tempfile::tempdir().unwrap();
    let settings = temp.path().join("follow.toml");
    fs::write(
        &settings,
        "source = \"postgres://u:hunter2@db.test/mail\"\npol = 1\nhang = 0\n",
    )
    .unwrap();
    let (code, out, err) = check(&settings);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let places = [
        "follow.toml:1:10: error: `source`",
        "follow.toml:2:1: error: ",
        "follow.toml:3:8: error: `hang`",
    ];
    for place in places {
        assert!(err.contains(place), "{err}");
    }
    assert_eq!(err.lines().count(), 3, "{err}");
    assert!(!err.contains("hunter"), "{err}");

    let (code, _, err) = check(&temp.path().join("missing.toml"));
    assert_eq!(code, Some(1));
    assert!(err.contains("the settings file cannot be read"), "{err}");
}

#[test]
fn a_usage_error_is_2() {
    let program = Command::new(env!("CARGO_BIN_EXE_postmapd-follow"));
    let code = |arguments: &[&str]| {
        let mut program = Command::new(program.get_program());
        program.args(arguments).output().unwrap().status.code()
    };
    assert_eq!(code(&["chekc"]), Some(2));
    assert_eq!(code(&["check", "--no-such-flag"]), Some(2));
    assert_eq!(code(&["--version"]), Some(0));
}
