//! Promise: the README.md is true: its commands are run, and their output is as shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use postmapd::config::setting;

use crate::harness::daemon::{Daemon, RELAY_TLS, Setup, finish};

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
#[ignore = "needs programs that tests/run-all installs"]
fn the_commands_of_the_readme_print_what_it_shows() {
    let daemon = Daemon::start(
        Setup::in_directory(&repository().join("contrib/example")).listen("socketmap:inet:127.0.0.1:0"),
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_postmapd")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    // For postmap on a machine whose Postfix is not configured.
    let config = tempfile::tempdir().unwrap();
    fs::write(config.path().join("main.cf"), "").unwrap();
    // The first blocks are about the repository, the others about a separate directory.
    let directory = tempfile::tempdir().unwrap();
    let readme = readme();
    let blocks: Vec<&str> = readme.split("\n```console\n").skip(1).collect();
    assert!(blocks.len() >= 3, "only {} blocks", blocks.len());
    for (number, block) in blocks.into_iter().enumerate() {
        let (block, _) = block.split_once("\n```").expect("its end");
        let here = if number < 2 {
            repository()
        } else {
            directory.path()
        };
        for (command, expected) in commands(block) {
            // The daemon above replaces it: the same command, with another build and another port.
            if command == "cargo run --release -- serve --dir contrib/example" {
                assert_eq!(number, 0);
                continue;
            }
            let ran = finish(
                Command::new("sh")
                    .args(["-c", &command.replace("127.0.0.1:10451", daemon.address(0))])
                    .current_dir(here)
                    .env("PATH", &path)
                    .env("MAIL_CONFIG", config.path())
                    .env("POSTMAPD_DIR", directory.path()),
                b"",
            );
            let output = ran.stdout.trim_end().lines().map(str::trim_end);
            let expected = expected.trim_end().lines().map(str::trim_end);
            assert!(output.eq(expected), "{command}: {}{}", ran.stdout, ran.stderr);
        }
    }
}

/// The commands of a block, each with what it prints.
fn commands(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, expected))) => expected.extend([line, "\n"]),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    assert!(!commands.is_empty(), "{block}");
    commands
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn every_documented_parameter_of_main_cf_exists_in_postfix() {
    let text = readme();
    let (_, section) = text.split_once("\n## In main.cf\n").unwrap();
    let lines = block(section, "```");
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let (name, value) = line.split_once(" =").unwrap();
        if name == "tls_required_enable" {
            // Debian 12 has an older Postfix; tests/cases/postconf/lines has the line for a newer one.
            continue;
        }
        let ran = finish(Command::new("postconf").args(["-d", name]), b"");
        assert!(
            ran.stdout.starts_with(&format!("{name} =")),
            "{name}: {}",
            ran.stderr
        );
        let map = value.trim().strip_prefix("socketmap:inet:127.0.0.1:10451:");
        assert!(
            map.is_none_or(|map| ["relayhost", "sasl", "tls"].contains(&map)),
            "{line}"
        );
    }
}

#[test]
fn every_flag_and_variable_of_serve_is_in_its_help_and_every_variable_in_the_readme() {
    let help = Setup::new().command("serve").arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let readme = readme();
    let mut variables = 0;
    for setting in setting::ALL {
        let Some(variable) = setting.variable else {
            continue;
        };
        variables += 1;
        // The variables that begin with RELAY_ have no flag.
        let flag = setting.flag.unwrap_or_default();
        assert!(
            help.contains(variable) && help.contains(flag),
            "{variable} is not in:\n{help}"
        );
        assert!(
            readme.contains(&format!("`{variable}`")),
            "{variable} is not in the README"
        );
    }
    assert!(variables >= 14, "only {variables}");
}

#[test]
fn the_manual_of_the_settings_file_names_every_setting_and_its_example_is_valid() {
    let manual = fs::read_to_string(repository().join("contrib/man/postmapd.toml.5")).unwrap();
    let (_, example) = manual.split_once(".EX\n").unwrap();
    let (example, _) = example.split_once(".EE").unwrap();
    let setup = Setup::new().settings(example);
    let ran = setup.run_query(&["relayhost", "x@one.test"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    // The settings according to the program itself.
    for (text, heading) in [
        ("zzz = 1\n", ".SH SETTINGS"),
        ("[limits]\nzzz = 1\n", ".SS [limits]"),
        ("[transport]\nzzz = 1\n", ".SS [transport]"),
        ("[reload]\nzzz = 1\n", ".SS [reload]"),
    ] {
        let ran = Setup::new()
            .settings(text)
            .run_query(&["relayhost", "x@one.test"]);
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
fn the_manual_of_the_tables_has_a_valid_example() {
    let manual = fs::read_to_string(repository().join("contrib/man/postmapd-tables.5")).unwrap();
    let (_, example) = manual.split_once(".EX\n").unwrap();
    let (example, _) = example.split_once(".EE").unwrap();
    let (relaymap, credentials) = example.split_once("\n# postfix-sasl-password.cf\n").unwrap();
    let (credentials, tls) = credentials.split_once("\n# postfix-relay-tls.cf\n").unwrap();
    let setup = Setup::new().relaymap(relaymap).credentials(credentials);
    let setup = setup.file(RELAY_TLS, tls);
    for (map, key, expected) in [
        (
            "tls",
            "[relay1.org]:587",
            "verify match=nexthop:mail.relay1.org\n",
        ),
        ("transport", "boss@domain1.com", "relay-oauth:[relay9.org]:587\n"),
        ("relayhost", "x@domain1.com", "[relay1.org]:587\n"),
        ("relayhost", "boss@domain1.com", "[relay9.org]:587\n"),
        ("relayhost", "x@domain3.com", ""),
        ("sasl", "[relay9.org]:587", "boss:another password\n"),
    ] {
        let ran = setup.run_query(&[map, key]);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            (expected, ""),
            "{key}"
        );
    }
}

/// The names in the list of commands of a help text.
fn commands_of(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("\nCommands:\n").unwrap_or_default();
    let (list, _) = list.split_once("\n\n").unwrap_or((list, ""));
    let names = list.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split_whitespace().next().unwrap_or_default().to_owned())
    });
    names.filter(|name| !name.is_empty() && name != "help").collect()
}

#[test]
fn each_command_and_each_subcommand_has_examples_in_its_help() {
    let help = |words: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postmapd"));
        let finished = finish(command.args(words).arg("--help"), b"");
        assert_eq!(finished.code, Some(0), "{words:?}");
        finished.stdout
    };
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(words) = left.pop() {
        let text = help(&words);
        for name in commands_of(&text) {
            left.push([words.as_slice(), &[name]].concat());
        }
        if words.is_empty() {
            continue;
        }
        seen += 1;
        let (_, examples) = text
            .split_once("\nExamples:\n")
            .or_else(|| text.split_once("\nExample:\n"))
            .unwrap_or_else(|| panic!("{words:?} has none:\n{text}"));
        let own = format!("postmapd {}", words[0]);
        assert!(examples.contains(&own), "{words:?}: {examples}");
    }
    assert!(seen >= 8 + 6, "{seen}");
}
