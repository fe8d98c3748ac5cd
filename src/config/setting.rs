//! Settings: the names, default, meaning, value and time of effect of each.
//!
//! Each is defined once, in `definitions.rs`. Flags, variables and the settings file are three sources of texts
//! ([`Sources::settings`](super::Sources::settings)). All lists of settings are generated from the definitions:
//! `--help`, the manual, the known names, and what needs a restart.

mod definitions;

use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::sourced::Sourced;
use super::{Limits, Settings, value};
use crate::diagnostics::{Code, Finding, Findings, Place};

pub use definitions::{ADMIN, ALL, CONFIG, DIR, LISTEN, LOG, LOG_FORMAT};

/// The definition of a setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the settings file, after its table and a dot if it is in one.
    pub key: Option<&'static str>,
    /// The flag, with its dashes.
    pub flag: Option<&'static str>,
    /// The commands that have the flag.
    pub commands: Commands,
    /// The environment variable.
    pub variable: Option<&'static str>,
    /// The name of its value in a usage line.
    pub value: &'static str,
    /// The value that applies where no source sets it.
    pub default: SettingDefault,
    /// What it means, without a full stop.
    pub about: &'static str,
    /// When a new value takes effect.
    pub takes_effect: TakesEffect,
    /// The syntax of its values, and how they are read.
    pub kind: Kind,
}

/// The commands that have a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// No command: there is no flag.
    None,
    /// Every command that reads the directory, before its own subcommand or after it.
    All,
    /// `serve`, and `postconf`, which prints the main.cf for a server with the same flags.
    Servers,
    /// `serve`, which reads the flag itself: none of [`Settings`].
    Serve,
}

/// The default of a setting.
#[derive(Clone, Copy, Debug)]
pub enum SettingDefault {
    /// A value, which is read like any other.
    Value(&'static str),
    /// A description of the initial value in [`Settings::default`].
    Described(&'static str),
}

impl SettingDefault {
    /// Returns the value or its description.
    #[must_use]
    pub fn text(&self) -> &'static str {
        match self {
            Self::Value(text) | Self::Described(text) => text,
        }
    }
}

/// When a new value takes effect.
#[derive(Clone, Copy, Debug)]
pub enum TakesEffect {
    /// On reload, when the settings file is saved.
    OnReload,
    /// On restart. The function returns whether two readings differ in the setting.
    OnRestart(fn(&Settings, &Settings) -> bool),
}

/// Reads a value into the settings, or returns an error.
type Read = fn(&Sourced, &mut Settings) -> Result<(), Finding>;

/// The syntax of values in the settings file, and how a value is read from any source.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A path, which is not part of [`Settings`].
    Path,
    /// A string that its command parses, and which is not part of [`Settings`].
    Unparsed,
    /// A string.
    Text(Read),
    /// A list of strings, or one; as a text, separated by commas. The first function empties the list, the second adds
    /// an item.
    Texts(fn(&mut Settings), Read),
    /// A string or a whole number.
    Name(Read),
    /// A list of strings or whole numbers, or one; as a text, separated by commas.
    Names(fn(&mut Settings), Read),
    /// A boolean, or a string: on or off in Postfix's words, or in TOML's.
    Switch(Read),
    /// A number of seconds, from 0.01 to 86400.
    Seconds(fn(&mut Settings) -> &mut Duration),
    /// A number of seconds, from 0.01 to 86400, or 0.
    SecondsOrZero(fn(&mut Settings) -> &mut Duration),
    /// A number of connections, from 1 to [`Limits::MAX`].
    Connections(fn(&mut Settings) -> &mut Option<usize>),
}

impl Kind {
    /// Returns whether the value is part of [`Settings`].
    pub(super) fn is_in_settings(&self) -> bool {
        !matches!(self, Self::Path | Self::Unparsed)
    }

    /// Returns whether there can be several values.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Texts(..) | Self::Names(..))
    }
}

impl Setting {
    /// Returns the help text of the flag.
    #[must_use]
    pub fn help(&self) -> String {
        let variable = self
            .variable
            .map(|name| format!(" [env: {name}]"))
            .unwrap_or_default();
        format!("{}{variable} [default: {}]", self.about, self.default.text())
    }

    /// Returns the flag as an argument of clap.
    pub(super) fn clap_arg(&self) -> Option<Arg> {
        let argument = Arg::new(self.flag?)
            .long(self.flag?.trim_start_matches('-'))
            .value_name(self.value)
            .help(self.help())
            .global(self.commands == Commands::All);
        let parser = match self.kind {
            Kind::Path => ValueParser::path_buf(),
            _ => ValueParser::string(),
        };
        let action = if self.kind.is_list() {
            ArgAction::Append
        } else {
            ArgAction::Set
        };
        Some(argument.value_parser(parser).action(action))
    }

    /// Returns its table in the settings file, empty for the top level, and its key there.
    #[must_use]
    pub fn table_and_key(&self) -> Option<(&'static str, &'static str)> {
        self.key.map(|key| key.split_once('.').unwrap_or(("", key)))
    }

    /// Reads a value into the settings, or adds an error.
    pub(super) fn read(&self, given: &Sourced, settings: &mut Settings, findings: &mut Findings) {
        let text = &given.value;
        let wrong = || self.invalid(given.place.clone());
        let read = match self.kind {
            Kind::Path | Kind::Unparsed => Ok(()),
            Kind::Text(read) | Kind::Name(read) | Kind::Switch(read) => read(given, settings),
            Kind::Texts(clear, read) | Kind::Names(clear, read) => {
                clear(settings);
                let wrong = given.items().filter_map(|word| read(&word, settings).err());
                return wrong.for_each(|finding| findings.push(finding));
            }
            Kind::Seconds(field) | Kind::SecondsOrZero(field) => {
                let value = value::seconds(text, matches!(self.kind, Kind::SecondsOrZero(_)));
                value.map(|value| *field(settings) = value).ok_or_else(wrong)
            }
            Kind::Connections(field) => {
                let value = value::connections(text);
                value
                    .map(|value| *field(settings) = Some(value))
                    .ok_or_else(wrong)
            }
        };
        if let Err(finding) = read {
            findings.push(finding);
        }
    }

    /// Reads the default into the settings, if it is a value.
    pub(super) fn read_default(&self, settings: &mut Settings) {
        if let SettingDefault::Value(text) = self.default {
            let place = Place::Setting(self.flag.or(self.key).unwrap_or_default());
            // A test checks that the value is valid.
            self.read(&Sourced::trimmed(text, place), settings, &mut Findings::default());
        }
    }

    /// Returns the error that a value is not of this kind.
    pub(super) fn invalid(&self, place: Place) -> Finding {
        let connections = format!("a whole number from 1 to {}", Limits::MAX);
        let (what, help) = match self.kind {
            Kind::Seconds(_) => ("a number of seconds, from 0.01 to 86400", "for example, 5"),
            Kind::SecondsOrZero(_) => (
                "a number of seconds, from 0.01 to 86400, or 0",
                "for example, 900",
            ),
            Kind::Connections(_) => (connections.as_str(), "for example, 10000"),
            _ => ("a string", "enclose it in quotes"),
        };
        let (_, key) = self.table_and_key().unwrap_or_default();
        let finding = Finding::new(Code::BadSetting, place);
        finding.message(format!("`{key}` must be {what}")).help(help)
    }
}

/// Returns the setting with this key in a table of the settings file; an empty name is the top level.
pub(super) fn with_key(table: &str, key: &str) -> Option<&'static Setting> {
    let mut all = ALL.iter().copied();
    all.find(|setting| setting.table_and_key() == Some((table, key)))
}

/// Returns the keys of a table of the settings file; an empty name is the top level.
pub(super) fn keys(table: &str) -> Vec<&'static str> {
    let all = ALL.iter().filter_map(|setting| setting.table_and_key());
    let own = all.filter_map(|(own, key)| (own == table).then_some(key));
    own.chain(tables().into_iter().filter(|_| table.is_empty()))
        .collect()
}

/// Returns the tables of the settings file. The settings of a table are adjacent in [`ALL`].
#[must_use]
pub fn tables() -> Vec<&'static str> {
    let all = ALL.iter().filter_map(|setting| setting.key?.split_once('.'));
    let mut tables: Vec<&str> = all.map(|(table, _)| table).collect();
    tables.dedup();
    tables
}

/// Returns the variables of all settings.
pub fn variables() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter_map(|setting| setting.variable)
}

/// Returns the keys of the settings that take effect on restart and differ from those of `others`.
pub(crate) fn keys_needing_restart(settings: &Settings, others: &Settings) -> Vec<&'static str> {
    let all = ALL.iter().filter(|setting| match setting.takes_effect {
        TakesEffect::OnReload => false,
        TakesEffect::OnRestart(differ) => differ(settings, others),
    });
    all.filter_map(|setting| setting.key).collect()
}

#[cfg(test)]
mod tests {
    use super::{ALL, Commands, Setting, SettingDefault, TakesEffect, keys_needing_restart};
    use crate::config::Settings;
    use crate::config::sourced::Sourced;
    use crate::diagnostics::{Findings, Place};

    /// Returns the settings with this value, if it is valid.
    fn with(setting: &Setting, value: &str) -> Result<Settings, Findings> {
        let (mut settings, mut findings) = (Settings::default(), Findings::default());
        let given = Sourced::trimmed(value, Place::Setting("--setting"));
        setting.read(&given, &mut settings, &mut findings);
        if findings.is_empty() {
            Ok(settings)
        } else {
            Err(findings)
        }
    }

    #[test]
    fn key_flag_and_variable_of_a_setting_have_the_same_name() {
        for setting in ALL {
            let name = setting
                .flag
                .map(|flag| flag.trim_start_matches("--").replace('-', "_"));
            if let (Some(name), Some(variable)) = (&name, setting.variable) {
                assert_eq!(variable, format!("POSTMAPD_{}", name.to_uppercase()));
            }
            if let (Some(name), Some(key)) = (&name, setting.key) {
                assert_eq!(key.replace('.', "_"), *name);
            }
            assert!(setting.key.is_some() || setting.flag.is_some());
        }
    }

    #[test]
    fn every_flag_of_a_setting_is_read() {
        for setting in ALL.iter().filter(|setting| setting.kind.is_in_settings()) {
            assert_ne!(
                setting.commands,
                Commands::Serve,
                "{setting:?}: `Servers` is read"
            );
        }
    }

    #[test]
    fn every_default_value_is_valid() {
        for setting in ALL {
            if let SettingDefault::Value(text) = setting.default {
                let mut read = with(setting, text).unwrap_or_else(|findings| panic!("{text}: {findings:?}"));
                read.listen_is_default = true;
                assert!(read == Settings::default(), "{text}");
            }
        }
    }

    /// Values of every kind, which differ from each default.
    const VALUES: [&str; 9] = [
        "7",
        "0600",
        "off",
        "root",
        "main.cf",
        "holes",
        "192.0.2.7",
        "192.0.2.7:1",
        "socketmap:inet:127.0.0.1:1",
    ];

    #[test]
    fn every_key_changes_its_own_setting_and_is_reported_where_it_needs_a_restart() {
        let defaults = Settings::default();
        let mut changed = Vec::new();
        for setting in ALL.iter().filter(|setting| setting.key.is_some()) {
            let expected = match setting.takes_effect {
                TakesEffect::OnRestart(_) => setting.key,
                TakesEffect::OnReload => None,
            };
            let before = changed.len();
            for value in VALUES {
                let Ok(other) = with(setting, value) else { continue };
                if other != defaults {
                    let named = keys_needing_restart(&other, &defaults);
                    assert_eq!(named, Vec::from_iter(expected), "{setting:?}");
                    assert!(
                        !changed.contains(&(value, other.clone())),
                        "{setting:?}: not its own"
                    );
                    changed.push((value, other));
                }
            }
            assert!(changed.len() > before, "{setting:?}: no value changes it");
        }
    }
}
