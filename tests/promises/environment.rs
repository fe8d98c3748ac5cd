//! Promise: the variables of the default relay mean what their users intended, or an error says why not; half a login
//! is never *not found*; and a command reports whose environment it has checked, and uses the server's where it has
//! none of its own.
//!
//! The cases in tests/cases/answers have the meaning of the variables, and those in tests/cases/serve what is refused.

use crate::harness::daemon::{Daemon, Setup, finish};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn server() -> Daemon {
    Daemon::start(
        Setup::new()
            .relaymap("@own.test [own.test]:25\n")
            .credentials("@b.test bob:CANARY\n")
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "shared")
            .env("RELAY_PASSWORD", "CANARY"),
    )
}

/// The same directory in a shell without the server's environment.
fn shell(dir: &Path) -> Setup {
    Setup::in_directory(dir)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_command_uses_the_default_relay_of_the_server_running_on_its_directory() {
    let server = server();
    let shell = shell(server.dir());
    let whose = format!("process {}", server.pid());
    let listed = shell.run_line("relay list");
    assert!(
        listed
            .stdout
            .contains("@b.test    [default.test]:25  starttls secure  bob\n"),
        "{listed:?}"
    );
    let removed = shell.run_line("relay remove-domain own.test");
    assert_eq!(removed.stdout, "@own.test: [default.test]:25 as shared\n");
    let explained = shell.run_line("query --explain relayhost x@else.test");
    assert_eq!(explained.code, Some(0), "{explained:?}");
    let checked = shell.run_line("check");
    let queried = shell.run_query(&["relayhost", "x@else.test"]);
    assert_eq!(queried.stdout, "[default.test]:25\n");
    for output in [
        &listed.stderr,
        &removed.stderr,
        &explained.stdout,
        &checked.stdout,
    ] {
        assert!(output.contains(&whose), "{output}");
    }
    for ran in [listed, removed, explained, checked] {
        assert!(!format!("{ran:?}").contains("CANARY"), "{ran:?}");
    }
    // Also by another name of the directory.
    let link = server.root().join("link");
    std::os::unix::fs::symlink(server.dir(), &link).unwrap();
    let queried = Setup::in_directory(&link).run_query(&["relayhost", "x@else.test"]);
    assert_eq!(queried.stdout, "[default.test]:25\n");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_commands_own_variables_override_the_servers_and_the_difference_is_reported() {
    let server = server();
    let shell = shell(server.dir()).env("RELAY_HOST", "other.test");
    let explained = shell.run_line("query --explain relayhost x@else.test");
    assert!(
        explained.stdout.contains("found: [other.test]:25"),
        "{explained:?}"
    );
    let whose = format!("that of process {}", server.pid());
    assert!(explained.stdout.contains(&whose), "{explained:?}");
    // With equal variables there is no difference to report.
    let same = server.setup().run_line("relay list");
    assert_eq!(same.stderr, "");
}

#[test]
fn without_a_server_a_command_uses_the_environment_file_beside_the_tables() {
    let setup = Setup::new()
        .relaymap("@own.test [own.test]\n")
        .credentials("@b.test bob:CANARY\n");
    let explained = setup.run_line("query --explain relayhost x@b.test");
    assert_eq!(explained.code, Some(1));
    assert!(
        explained
            .stdout
            .contains("evaluated with the environment of this command")
            && explained.stdout.contains("no running server"),
        "{explained:?}"
    );
    let checked = setup.run_line("check");
    assert!(
        checked
            .stdout
            .contains("evaluated with the environment of this command"),
        "{checked:?}"
    );
    let setup = setup.file(
        "postmapd.env",
        "# made by import\nDEFAULT_RELAY_HOST=\"[isp.test]:587\"\nRELAY_USER=u\nRELAY_PASSWORD=CANARY\n",
    );
    let explained = setup.run_line("query --explain relayhost x@b.test");
    assert!(
        explained.stdout.contains("found: [isp.test]:587") && explained.stdout.contains("postmapd.env"),
        "{explained:?}"
    );
    assert!(!explained.stdout.contains("CANARY"));
    let setup = setup.env("RELAY_HOST", "mine.test");
    assert_eq!(
        setup.run_query(&["relayhost", "x@b.test"]).stdout,
        "[mine.test]:25\n"
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_command_that_may_not_read_the_servers_environment_reports_so() {
    let server = server();
    for name in [
        crate::harness::daemon::RELAYMAP,
        crate::harness::daemon::CREDENTIALS,
    ] {
        fs::set_permissions(server.dir().join(name), PermissionsExt::from_mode(0o644)).unwrap();
    }
    // That user may not be able to reach the binary.
    let copy = server.root().join("copy-of-postmapd");
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("query")
        .arg("--dir")
        .arg(server.dir())
        .args(["relayhost", "x@else.test"]);
    let ran = finish(&mut command, b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let whose = format!("process {}", server.pid());
    assert!(
        ran.stderr.contains(&whose) && ran.stderr.contains("only root can read"),
        "{ran:?}"
    );
}

#[test]
fn no_document_puts_a_password_on_a_command_line() {
    fn pages(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // Completions contain no other commands.
            if path.is_dir() && !path.ends_with("completions") {
                pages(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![
        root.join("README.md"),
        root.join("SECURITY.md"),
        root.join("CHANGELOG.md"),
    ];
    pages(&root.join("contrib"), &mut files);
    let mut commands = 0;
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for line in text.lines() {
            let words = line.split("relay add-auth ").nth(1).or_else(|| {
                let (_, rest) = line.split_once(" relay ")?;
                rest.split(" add-auth ").nth(1)
            });
            let Some(words) = words else { continue };
            // The words up to the next command.
            let words = words.split(['&', '|', ';', '<', '`', ')']).next().unwrap();
            let words: Vec<_> = words
                .split_whitespace()
                .take_while(|word| !word.starts_with('#'))
                .filter(|word| !word.starts_with('-') && !word.starts_with("\\-"))
                .collect();
            // A usage line has the password in capitals.
            let is_usage = words
                .iter()
                .any(|word| word.contains("OPTIONS") || word.contains("DOMAIN"));
            assert!(words.len() <= 2 || is_usage, "{}: {line}", file.display());
            commands += 1;
        }
    }
    assert!(commands > 3, "{commands}");
}
