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

#[test]
fn the_manual_of_the_settings_file_names_every_setting_and_its_example_is_right() {
    let manual = fs::read_to_string(repository().join("contrib/man/postmapd.toml.5")).unwrap();
    let (_, example) = manual.split_once(".EX\n").unwrap();
    let (example, _) = example.split_once(".EE").unwrap();
    let setup = Setup::new().settings(example);
    let ran = setup.query(&["relayhost", "x@one.test"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    // What the program itself says are the settings.
    for (text, heading) in [
        ("zzz = 1\n", ".SH SETTINGS"),
        ("[reload]\nzzz = 1\n", ".SS [reload]"),
    ] {
        let ran = Setup::new().settings(text).query(&["relayhost", "x@one.test"]);
        let (_, names) = ran
            .stderr
            .split_once("the settings here are ")
            .expect("a list of settings");
        let (_, section) = manual.split_once(heading).unwrap();
        for name in names.trim().split(", ") {
            assert!(section.contains(name), "{name} is not in the manual");
        }
    }
}

#[test]
fn the_manual_of_the_tables_has_an_example_that_is_right() {
    let manual = fs::read_to_string(repository().join("contrib/man/postmapd-tables.5")).unwrap();
    let (_, example) = manual.split_once(".EX\n").unwrap();
    let (example, _) = example.split_once(".EE").unwrap();
    let (relaymap, credentials) = example.split_once("\n# postfix-sasl-password.cf\n").unwrap();
    let setup = Setup::new().relaymap(relaymap).credentials(credentials);
    for (map, key, expected) in [
        ("relayhost", "x@domain1.com", "[relay1.org]:587\n"),
        ("relayhost", "boss@domain1.com", "[relay9.org]:587\n"),
        ("relayhost", "x@domain3.com", ""),
        ("sasl", "[relay9.org]:587", "boss:another password\n"),
    ] {
        let ran = setup.query(&[map, key]);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            (expected, ""),
            "{key}"
        );
    }
}
