//! What a setting is: its names, its default, what it means, when it counts, and how it is read.
//!
//! Each stands once, in `definitions.rs`. Flags, variables and the settings file are three sources of texts that are
//! looked up by it ([`Sources::settings`](super::Sources::settings)), and all else that lists settings is made from the
//! definitions: `--help`, the manual, the names that are known, and what needs a restart.

mod definitions;

use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::given::Given;
use super::{Limits, Settings, value};
use crate::diagnostics::{Code, Finding, Findings, Place};

pub use definitions::{ADMIN, ALL, CONFIG, DIR, LISTEN, LOG, LOG_FORMAT};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the settings file; before a dot stands its table.
    pub key: Option<&'static str>,
    /// The flag.
    pub flag: Option<&'static str>,
    /// Which commands have the flag.
    pub commands: Commands,
    /// The variable.
    pub variable: Option<&'static str>,
    /// What its value is called in a usage line.
    pub value: &'static str,
    /// What counts where nothing is said.
    pub default: Fallback,
    /// What it means, without a full stop.
    pub about: &'static str,
    /// When a new value counts.
    pub counts: Counts,
    /// How a value is written, and read.
    pub kind: Kind,
}

/// The commands that have a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// None: there is no flag.
    None,
    /// Every command that reads the folder, before its own subcommand or behind it.
    All,
    /// `serve`, and `postconf`, which prints what suits a server with the same flags.
    Servers,
    /// `serve`.
    Serve,
}

/// What counts where nothing is said.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value, which is read as any other.
    Value(&'static str),
    /// What this text describes, and [`Settings::default`] begins with.
    Described(&'static str),
}

impl Fallback {
    /// The value or its description.
    #[must_use]
    pub fn text(&self) -> &'static str {
        match self {
            Self::Value(text) | Self::Described(text) => text,
        }
    }
}

/// When a new value counts.
#[derive(Clone, Copy, Debug)]
pub enum Counts {
    /// When the settings file is saved.
    WhenSaved,
    /// When the server starts. Says whether the values of two readings differ.
    AtStart(fn(&Settings, &Settings) -> bool),
}

/// Reads a value into the settings, or says what is wrong with it.
type Read = fn(&Given, &mut Settings) -> Result<(), Finding>;

/// How a value is written in the settings file, and how it is read from whichever source.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A path, which is none of the [`Settings`].
    Path,
    /// A string that its command reads, and which is none of the [`Settings`].
    Unparsed,
    /// A string.
    Text(Read),
    /// Several strings, or one; in one text with commas. The list is emptied, and each is added to it.
    Texts(fn(&mut Settings), Read),
    /// A string or a whole number.
    Name(Read),
    /// Several of them, or one; in one text with commas.
    Names(fn(&mut Settings), Read),
    /// true or false, or a string: on or off in Postfix's words, or in TOML's.
    Switch(Read),
    /// A number of seconds, from 0.01 to 86400.
    Seconds(fn(&mut Settings) -> &mut Duration),
    /// Likewise, or 0.
    SecondsOrZero(fn(&mut Settings) -> &mut Duration),
    /// A number of connections, from 1 to [`Limits::MOST`].
    Connections(fn(&mut Settings) -> &mut Option<usize>),
}

impl Kind {
    /// Whether the value is one of [`Settings`].
    pub(super) fn is_of_settings(&self) -> bool {
        !matches!(self, Self::Path | Self::Unparsed)
    }

    /// Whether there may be several values.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Texts(..) | Self::Names(..))
    }
}

impl Setting {
    /// The help text of the flag.
    #[must_use]
    pub fn help(&self) -> String {
        let variable = self
            .variable
            .map(|name| format!(" [env: {name}]"))
            .unwrap_or_default();
        format!("{}{variable} [default: {}]", self.about, self.default.text())
    }

    /// The flag, as clap has it.
    pub(super) fn argument(&self) -> Option<Arg> {
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

    /// The table of the settings file in which it stands, empty for the file itself, and its key there.
    #[must_use]
    pub fn table_and_key(&self) -> Option<(&'static str, &'static str)> {
        self.key.map(|key| key.split_once('.').unwrap_or(("", key)))
    }

    /// Reads a value into the settings, or says what is wrong with it.
    pub(super) fn read(&self, given: &Given, settings: &mut Settings, findings: &mut Findings) {
        let text = &given.value;
        let wrong = || self.wrong(given.place.clone());
        let read = match self.kind {
            Kind::Path | Kind::Unparsed => Ok(()),
            Kind::Text(read) | Kind::Name(read) | Kind::Switch(read) => read(given, settings),
            Kind::Texts(clear, read) | Kind::Names(clear, read) => {
                clear(settings);
                let wrong = given.words().filter_map(|word| read(&word, settings).err());
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

    /// Reads the value that counts where nothing is said, if it is one.
    pub(super) fn read_default(&self, settings: &mut Settings) {
        if let Fallback::Value(text) = self.default {
            let place = Place::Setting(self.flag.or(self.key).unwrap_or_default());
            // A test sees to it that nothing is wrong with it.
            self.read(&Given::word(text, place), settings, &mut Findings::default());
        }
    }

    /// Says that a value is not of this kind.
    pub(super) fn wrong(&self, place: Place) -> Finding {
        let connections = format!("a whole number from 1 to {}", Limits::MOST);
        let (what, help) = match self.kind {
            Kind::Seconds(_) => ("a number of seconds, from 0.01 to 86400", "write for example 5"),
            Kind::SecondsOrZero(_) => (
                "a number of seconds, from 0.01 to 86400, or 0",
                "write for example 900",
            ),
            Kind::Connections(_) => (connections.as_str(), "write for example 10000"),
            _ => ("a string", "put it in quotes"),
        };
        let (_, key) = self.table_and_key().unwrap_or_default();
        let finding = Finding::new(Code::BadSetting, place);
        finding.says(format!("`{key}` must be {what}")).help(help)
    }
}

/// The setting with this key in a table of the settings file, or in the file itself for an empty name.
pub(super) fn with_key(table: &str, key: &str) -> Option<&'static Setting> {
    let mut all = ALL.iter().copied();
    all.find(|setting| setting.table_and_key() == Some((table, key)))
}

/// What may stand in one table of the settings file, or in the file itself for an empty name.
pub(super) fn keys(table: &str) -> Vec<&'static str> {
    let all = ALL.iter().filter_map(|setting| setting.table_and_key());
    let own = all.filter_map(|(own, key)| (own == table).then_some(key));
    own.chain(tables().into_iter().filter(|_| table.is_empty()))
        .collect()
}

/// The tables of the settings file, whose settings stand together in [`ALL`].
#[must_use]
pub fn tables() -> Vec<&'static str> {
    let all = ALL.iter().filter_map(|setting| setting.key?.split_once('.'));
    let mut tables: Vec<&str> = all.map(|(table, _)| table).collect();
    tables.dedup();
    tables
}

/// Every variable.
pub fn variables() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter_map(|setting| setting.variable)
}

/// The keys of the settings that count when the server starts, and that differ from those of `others`.
pub(crate) fn changed_for_the_next_start(settings: &Settings, others: &Settings) -> Vec<&'static str> {
    let all = ALL.iter().filter(|setting| match setting.counts {
        Counts::WhenSaved => false,
        Counts::AtStart(differ) => differ(settings, others),
    });
    all.filter_map(|setting| setting.key).collect()
}

#[cfg(test)]
mod tests {
    use super::{ALL, Counts, Fallback, Setting, changed_for_the_next_start};
    use crate::config::Settings;
    use crate::config::given::Given;
    use crate::diagnostics::{Findings, Place};

    /// The settings with this value, if it is right.
    fn with(setting: &Setting, value: &str) -> Result<Settings, Findings> {
        let (mut settings, mut findings) = (Settings::default(), Findings::default());
        let given = Given::word(value, Place::Setting("--setting"));
        setting.read(&given, &mut settings, &mut findings);
        if findings.is_empty() {
            Ok(settings)
        } else {
            Err(findings)
        }
    }

    #[test]
    fn the_names_of_a_setting_are_one_name() {
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
    fn a_default_that_is_a_value_is_a_right_one() {
        for setting in ALL {
            if let Fallback::Value(text) = setting.default {
                let mut read = with(setting, text).unwrap_or_else(|findings| panic!("{text}: {findings:?}"));
                read.listen_is_default = true;
                assert!(read == Settings::default(), "{text}");
            }
        }
    }

    /// Of every kind, and other than each default.
    const VALUES: [&str; 8] = [
        "7",
        "0600",
        "off",
        "root",
        "main.cf",
        "192.0.2.7",
        "192.0.2.7:1",
        "socketmap:inet:127.0.0.1:1",
    ];

    #[test]
    fn every_key_changes_its_own_setting_and_what_counts_at_the_start_is_named_and_nothing_else() {
        let usual = Settings::default();
        let mut changed = Vec::new();
        for setting in ALL.iter().filter(|setting| setting.key.is_some()) {
            let expected = match setting.counts {
                Counts::AtStart(_) => setting.key,
                Counts::WhenSaved => None,
            };
            let before = changed.len();
            for value in VALUES {
                let Ok(other) = with(setting, value) else { continue };
                if other != usual {
                    let named = changed_for_the_next_start(&other, &usual);
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
