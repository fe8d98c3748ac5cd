//! Promise: a setting is defined once, and every list of settings contains each of them: help, manual, the known names,
//! and the settings that need a restart. A new setting is tested here without an additional line.

use std::fs;
use std::path::Path;

use postmapd::cli;
use postmapd::config::options::{Options, ServiceOptions};
use postmapd::config::setting::{self, Commands, Setting, TakesEffect};
use postmapd::config::{Settings, Sources};
use postmapd::diagnostics::Findings;

use crate::harness::daemon::{Daemon, SETTINGS, Setup, finish};

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_flag_is_in_the_help_of_exactly_its_commands() {
    let definition = cli::definition();
    for command in definition.get_subcommands().map(clap::Command::get_name) {
        let help = finish(Setup::new().command(command).arg("--help"), b"").stdout;
        let help = words(&help);
        for setting in setting::ALL.iter().filter(|setting| setting.flag.is_some()) {
            let entry = words(&format!(
                "{} <{}> {}",
                setting.flag.unwrap(),
                setting.value,
                setting.help()
            ));
            let has_it = match setting.commands {
                Commands::None => false,
                Commands::All => true,
                Commands::Servers => ["serve", "postconf"].contains(&command),
                Commands::Serve => command == "serve",
            };
            assert_eq!(help.contains(&entry), has_it, "{command}: {entry}\n{help}");
        }
    }
}

#[test]
fn every_key_is_in_the_manual_of_the_settings_file() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/man/postmapd.toml.5");
    let page = fs::read_to_string(page).unwrap();
    for setting in setting::ALL {
        let Some((_, key)) = setting.table_and_key() else {
            continue;
        };
        let (_, entry) = page.split_once(&format!(".TP\n.B {key}\n")).expect(key);
        let entry = entry
            .split(".TP")
            .next()
            .unwrap()
            .replace("\\-", "-")
            .replace("\\(aq", "'");
        let sentence = match setting.takes_effect {
            TakesEffect::OnReload => "Takes effect on reload.",
            TakesEffect::OnRestart(_) => "Takes effect on restart.",
        };
        let names = [setting.flag, setting.variable].into_iter().flatten();
        for part in [setting.about, setting.default.text(), sentence]
            .into_iter()
            .chain(names)
        {
            assert!(entry.contains(part), "{key}: no {part:?} in {entry}");
        }
    }
}

#[test]
fn a_misspelt_name_of_every_setting_is_recognised() {
    let keys = setting::ALL.iter().filter_map(|setting| setting.key);
    let lines: Vec<String> = keys.map(|key| format!("{key}x = 1\n")).collect();
    let setup = Setup::new().settings(lines.concat());
    let mut check = setup.command("check");
    check.envs(setting::variables().map(|name| (format!("{name}X"), "1")));
    let message = finish(&mut check, b"").stdout;
    for setting in setting::ALL {
        let key = setting.table_and_key().map(|(_, key)| key);
        for name in [key, setting.variable].into_iter().flatten() {
            assert!(
                message.contains(&format!("did you mean {name}?")),
                "{name}: {message}"
            );
        }
    }
}

/// A line of the settings file that sets a setting to another value than its default.
fn another_value(setting: &Setting) -> String {
    let read = |text: &str| -> (Settings, usize) {
        let mut findings = Findings::default();
        let sources = Sources::unchecked(Options::default(), ServiceOptions::default(), &mut findings);
        let mut findings = Findings::default();
        let settings = sources.settings(text.as_bytes(), &mut findings);
        (settings, findings.errors())
    };
    let (usual, _) = read("");
    let values = [
        "7",
        "false",
        "\"0600\"",
        "\"root\"",
        "\"main.cf\"",
        "\"holes\"",
        "\"192.0.2.7\"",
        "\"127.0.0.1:1\"",
        "\"tcp:127.0.0.1:1:sasl\"",
    ];
    let lines = values.map(|value| format!("{} = {value}\n", setting.key.unwrap()));
    let is_another = |line: &&String| {
        let (settings, errors) = read(line);
        errors == 0 && settings != usual
    };
    let line = lines.iter().find(is_another);
    line.unwrap_or_else(|| panic!("no other value: {setting:?}"))
        .clone()
}

#[test]
fn exactly_the_startup_settings_are_logged_as_needing_a_restart_when_edited() {
    let usual = "listen = \"socketmap:inet:127.0.0.1:0\"\n";
    let setup = Setup::new().settings(usual);
    let daemon = Daemon::start(setup.announces(&["socketmap:inet:127.0.0.1:0"]));
    let (at_start, when_saved): (Vec<&Setting>, Vec<&Setting>) = setting::ALL
        .iter()
        .copied()
        .filter(|setting| setting.key.is_some())
        .partition(|setting| matches!(setting.takes_effect, TakesEffect::OnRestart(_)));
    let lines = |settings: &[&Setting]| -> String {
        let lines = settings.iter().map(|setting| another_value(setting));
        lines.collect()
    };

    daemon.replace(SETTINGS, usual.to_owned() + &lines(&when_saved));
    let log = daemon.wait_for_log(|line| line.contains("loaded generation=2"));
    assert!(!daemon.log().contains("on restart"), "{log}");

    daemon.replace(SETTINGS, lines(&at_start));
    for setting in at_start {
        let field = format!("setting={}", setting.key.unwrap());
        daemon.wait_for_log(|line| {
            line.contains("takes effect on restart") && line.trim_end().ends_with(&field)
        });
    }
}
