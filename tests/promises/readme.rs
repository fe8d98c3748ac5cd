//! The README says nothing untrue: what it shows is run, and comes out as shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::daemon::{Daemon, Setup, finish};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of the fenced block that begins with `opening`.
fn block(readme: &str, opening: &str) -> Vec<String> {
    let (_, rest) = readme.split_once(&format!("\n{opening}\n")).expect("the block");
    let (block, _) = rest.split_once("\n```").expect("its end");
    block.lines().map(ToOwned::to_owned).collect()
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

#[test]
fn the_commands_that_it_shows_print_what_it_shows() {
    let daemon = Daemon::start(
        Setup::in_folder(&repository().join("contrib/example")).listen("socketmap:inet:127.0.0.1:0"),
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_postmapd")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // For postmap, on a machine whose Postfix is not configured.
    let config = tempfile::tempdir().unwrap();
    fs::write(config.path().join("main.cf"), "").unwrap();
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block(&readme(), "```console") {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, expected))) => *expected += &(line + "\n"),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    assert!(commands.len() >= 5, "only {commands:?}");
    for (command, expected) in commands {
        let here = command.replace("127.0.0.1:10451", daemon.address(0));
        let ran = finish(
            Command::new("sh")
                .args(["-c", &here])
                .current_dir(repository())
                .env("PATH", &path)
                .env("MAIL_CONFIG", config.path()),
            b"",
        );
        assert_eq!(ran.stdout, expected, "{command}: {}", ran.stderr);
    }
}

#[test]
fn the_parameters_of_main_cf_are_those_of_postfix() {
    let text = readme();
    let (_, section) = text.split_once("\n## In main.cf\n").unwrap();
    let lines = block(section, "```");
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let (name, value) = line.split_once(" =").unwrap();
        let ran = finish(Command::new("postconf").args(["-d", name]), b"");
        assert!(
            ran.stdout.starts_with(&format!("{name} =")),
            "{name}: {}",
            ran.stderr
        );
        let map = value.trim().strip_prefix("socketmap:inet:127.0.0.1:10451:");
        assert!(
            map.is_none_or(|map| ["relayhost", "sasl"].contains(&map)),
            "{line}"
        );
    }
}

#[test]
fn every_flag_and_variable_of_serve_is_in_its_help_and_every_variable_in_the_readme() {
    let help = Setup::new().command("serve").arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let readme = readme();
    for name in [
        "DIR",
        "CONFIG",
        "LISTEN",
        "RECIPIENT_DELIMITER",
        "SOCKET_OWNER",
        "SOCKET_GROUP",
        "SOCKET_MODE",
        "LOG",
        "LOG_FORMAT",
    ] {
        let variable = format!("POSTMAPD_{name}");
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert!(
            help.contains(&variable) && help.contains(&flag),
            "{name} is not in:\n{help}"
        );
        assert!(
            readme.contains(&format!("`{variable}`")),
            "{variable} is not in the README"
        );
    }
}
