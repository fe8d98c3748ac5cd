//! `postmapd.toml`: the settings that can also stand in a file.
//!
//! ```toml
//! listen = ["socketmap:inet:127.0.0.1:10451", "tcp:127.0.0.1:10452:relayhost"]
//! admin = "127.0.0.1:9451"
//! recipient_delimiter = "+"
//! allow_users = ["root", "postfix", 1001]
//! allow_networks = ["192.0.2.0/24"]
//! socket_owner = "root"
//! socket_group = "postfix"
//! socket_mode = "0660"
//! user = "postmapd"
//! confinement = true
//! next_hops = "postmapd"         # or "main.cf"
//!
//! [limits]
//! connections = 10000            # served at once
//! connections_per_peer = 5000    # one user, or one host, has at most
//!
//! [reload]            # in seconds; fractions are fine
//! poll = 5            # how often the files are compared without any hint
//! grace = 5           # how long a table that vanished, or was cut to nothing, is not believed
//! patience = 30       # how long a file that is open for writing is waited for
//! in_flight = 900     # how long mail on its way gets the login of the next hop it goes to
//! ```
//!
//! `listen`, the settings of sockets and the limits count after a restart, the others when the file is saved.
//!
//! A key that is not known is an error, with the nearest one that is: a setting that is ignored in silence is one
//! that somebody relies on.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::Given;
use super::{Limits, Pace, nearest, setting};
use crate::diagnostic::{Code, Finding, Findings, Place, Position};
use crate::printable::printable;

/// Whether this is the name of a setting, or a misspelt one. Anything else may be a password.
#[must_use]
pub fn is_like_a_setting(name: &str) -> bool {
    let tables = setting::TABLES.iter().copied();
    let keys = tables.clone().chain([""]).flat_map(setting::keys);
    let is_key = name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    // What begins as a setting does may go on as a password.
    is_key && nearest(name, keys.chain(tables)).is_some_and(|known| name.len() <= known.len() + 2)
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    pub(super) listen: Option<Given<Vec<String>>>,
    pub(super) admin: Option<Given<String>>,
    pub(super) recipient_delimiter: Option<Given<String>>,
    pub(super) allow_users: Option<Given<Vec<String>>>,
    pub(super) allow_networks: Option<Given<Vec<String>>>,
    pub(super) socket_owner: Option<Given<String>>,
    pub(super) socket_group: Option<Given<String>>,
    pub(super) socket_mode: Option<Given<String>>,
    pub(super) limits: Limits,
    pub(super) user: Option<Given<String>>,
    pub(super) confinement: Option<Given<String>>,
    pub(super) next_hops: Option<Given<String>>,
    pub(super) pace: Pace,
}

impl SettingsFile {
    /// Reads the text of the file `path`.
    pub(super) fn parse(path: &Path, text: &[u8], findings: &mut Findings) -> Self {
        let mut settings = Self::default();
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let text = text.get(..error.valid_up_to()).unwrap_or_default();
                let text = std::str::from_utf8(text).unwrap_or_default();
                let end = text.len()..text.len();
                Reader { path, text, findings }.error(
                    Code::BadToml,
                    end,
                    "the file is not UTF-8",
                    "save it as UTF-8",
                );
                return settings;
            }
        };
        let mut reader = Reader { path, text, findings };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let help = "write NAME = VALUE, one a line, with text in quotes; see postmapd.toml(5)";
                reader.error(
                    Code::BadToml,
                    error.span().unwrap_or_default(),
                    error.message(),
                    help,
                );
                return settings;
            }
        };
        for (key, value) in &table {
            let name = key.get_ref().as_ref();
            match name {
                "listen" => settings.listen = reader.strings(name, value),
                "admin" => settings.admin = reader.string(name, value),
                "allow_users" => settings.allow_users = reader.words(name, value),
                "allow_networks" => settings.allow_networks = reader.strings(name, value),
                "recipient_delimiter" => settings.recipient_delimiter = reader.string(name, value),
                "socket_owner" => settings.socket_owner = reader.word(name, value),
                "socket_group" => settings.socket_group = reader.word(name, value),
                "socket_mode" => settings.socket_mode = reader.string(name, value),
                "limits" => settings.limits = reader.limits(value),
                "user" => settings.user = reader.word(name, value),
                "confinement" => settings.confinement = reader.switch(name, value),
                "next_hops" => settings.next_hops = reader.string(name, value),
                "reload" => settings.pace = reader.pace(value),
                unknown => reader.unknown(unknown, key.span(), ""),
            }
        }
        settings
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn pace(&mut self, value: &Spanned<DeValue<'_>>) -> Pace {
        let mut pace = Pace::default();
        for (key, value) in self.table("reload", value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let known = match name {
                "poll" => &mut pace.poll,
                "grace" => &mut pace.grace,
                "patience" => &mut pace.patience,
                "in_flight" => &mut pace.in_flight,
                unknown => {
                    self.unknown(unknown, key.span(), "reload");
                    continue;
                }
            };
            let may_be_zero = name == "in_flight";
            if let Some(duration) = seconds(value.get_ref(), may_be_zero) {
                *known = duration;
            } else {
                let (or, example) = if may_be_zero { (", or 0", 900) } else { ("", 5) };
                let message = format!("`{name}` must be a number of seconds, from 0.01 to 86400{or}");
                self.bad(value, &message, &format!("write for example {example}"));
            }
        }
        pace
    }

    fn limits(&mut self, value: &Spanned<DeValue<'_>>) -> Limits {
        let mut limits = Limits::default();
        for (key, value) in self.table("limits", value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let known = match name {
                "connections" => &mut limits.connections,
                "connections_per_peer" => &mut limits.connections_per_peer,
                unknown => {
                    self.unknown(unknown, key.span(), "limits");
                    continue;
                }
            };
            *known = connections(value.get_ref());
            if known.is_none() {
                let message = format!("`{name}` must be a whole number from 1 to {}", Limits::MOST);
                self.bad(value, &message, "write for example 10000");
            }
        }
        limits
    }

    /// What stands under `[name]`.
    fn table<'v>(&mut self, name: &str, value: &'v Spanned<DeValue<'_>>) -> Option<&'v DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("`{name}` must be a table");
            let help = format!("begin it with the line [{name}]");
            self.bad(value, &message, &help);
        }
        table
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, table: &str) {
        let tables = setting::TABLES.iter().copied().filter(|_| table.is_empty());
        let known: Vec<&str> = setting::keys(table).chain(tables).collect();
        // What is not even like the name of a setting may be a password.
        let (message, help) = match nearest(name, known.iter().copied()) {
            Some(near) => (
                format!("there is no setting `{}`", printable(name.as_bytes())),
                format!("did you mean {near}?"),
            ),
            None => (
                "there is no setting of this name".to_owned(),
                format!("the settings here are {}", known.join(", ")),
            ),
        };
        self.error(Code::UnknownSetting, span, &message, &help);
    }

    fn string(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<String>> {
        let place = self.place(value.span());
        if let Some(text) = value.get_ref().as_str() {
            return Some(Given::word(text, place));
        }
        self.bad(value, &format!("`{key}` must be a string"), "put it in quotes");
        None
    }

    /// A list of strings, or one string.
    fn strings(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<Vec<String>>> {
        self.list(key, value, Self::string)
    }

    /// A list of strings and whole numbers, or one of them.
    fn words(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<Vec<String>>> {
        self.list(key, value, Self::word)
    }

    /// A string or a whole number.
    fn word(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<String>> {
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => Some(Given {
                value: number.as_str().to_owned(),
                place: self.place(value.span()),
            }),
            _ => self.string(key, value),
        }
    }

    /// A string, or true or false.
    fn switch(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<String>> {
        match value.get_ref() {
            DeValue::Boolean(is_on) => Some(Given {
                value: is_on.to_string(),
                place: self.place(value.span()),
            }),
            _ => self.string(key, value),
        }
    }

    /// A list, or one item by itself.
    fn list(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl Fn(&mut Self, &str, &Spanned<DeValue<'_>>) -> Option<Given<String>>,
    ) -> Option<Given<Vec<String>>> {
        let place = self.place(value.span());
        let items = match value.get_ref().as_array() {
            Some(list) => list.iter().map(|item| read(self, key, item)).collect(),
            None => vec![read(self, key, value)],
        };
        let words: Option<Vec<_>> = items
            .into_iter()
            .map(|given| given.map(|given| given.value))
            .collect();
        words.map(|words| Given::words(&words, place))
    }

    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|c| *c == b'\n').count() + 1;
        let column = before.bytes().rev().take_while(|c| *c != b'\n').count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (number(line), number(column));
        Place::File(self.path.into(), Some(Position { line, column }))
    }

    fn bad(&mut self, value: &Spanned<DeValue<'_>>, message: &str, help: &str) {
        self.error(Code::BadSetting, value.span(), message, help);
    }

    fn error(&mut self, code: Code, span: Range<usize>, message: &str, help: &str) {
        let finding = Finding::new(code, self.place(span));
        self.findings.push(finding.says(message).help(help));
    }
}

fn seconds(value: &DeValue<'_>, may_be_zero: bool) -> Option<Duration> {
    let number: f64 = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok()?,
        DeValue::Float(number) => number.as_str().parse().ok()?,
        _ => return None,
    };
    ((0.01..=86400.0).contains(&number) || (may_be_zero && number == 0.0))
        .then(|| Duration::from_secs_f64(number))
}

fn connections(value: &DeValue<'_>) -> Option<usize> {
    let DeValue::Integer(number) = value else {
        return None;
    };
    let number = number.as_str().parse().ok().filter(|_| number.radix() == 10);
    number.filter(|number| (1..=Limits::MOST).contains(number))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Pace, SettingsFile};
    use crate::diagnostic::Findings;

    fn parse(text: &str) -> (SettingsFile, Vec<String>) {
        let mut findings = Findings::default();
        let settings = SettingsFile::parse(Path::new("postmapd.toml"), text.as_bytes(), &mut findings);
        (settings, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_are_read_with_their_places() {
        let (settings, said) =
            parse("listen = [\"a\", \"b\"]\nrecipient_delimiter = \"+-\"\nsocket_mode = \"0600\"\n");
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(settings.listen.unwrap().value, ["a", "b"]);
        let delimiter = settings.recipient_delimiter.unwrap();
        assert_eq!(
            (delimiter.value.as_str(), delimiter.place.to_string().as_str()),
            ("+-", "postmapd.toml:2:23")
        );
        assert_eq!(parse("listen = \"a\"").0.listen.unwrap().value, ["a"]);
    }

    #[test]
    fn users_are_names_or_numbers_and_one_needs_no_list() {
        let users = |text: &str| {
            let (settings, said) = parse(text);
            assert!(said.is_empty(), "{said:?}");
            settings.allow_users.unwrap().value
        };
        assert_eq!(users("allow_users = [\"root\", 1001]"), ["root", "1001"]);
        assert_eq!(users("allow_users = 1001"), ["1001"]);
        assert_eq!(users("allow_users = \"root\""), ["root"]);
        assert!(users("allow_users = []").is_empty());
        for wrong in ["[true]", "1.5", "0x10", "[[1]]"] {
            let said = parse(&format!("allow_users = {wrong}")).1.join("\n");
            assert!(said.contains("postmapd.toml:1:1"), "{wrong}: {said}");
        }
        assert!(
            parse("allow_networks = [10]")
                .1
                .join("\n")
                .contains("postmapd.toml:1:19")
        );
    }

    #[test]
    fn a_switch_is_true_or_false_or_a_word() {
        for (written, read) in [("true", "true"), ("false", "false"), ("\"off\"", "off")] {
            let (settings, said) = parse(&format!("confinement = {written}"));
            assert!(said.is_empty(), "{said:?}");
            assert_eq!(settings.confinement.unwrap().value, read);
        }
        assert!(
            parse("confinement = 0")
                .1
                .join("\n")
                .contains("postmapd.toml:1:15")
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let said = |text: &str| parse(text).1.join("\n");
        assert!(
            said("\n lisen = 1")
                .contains("postmapd.toml:2:2: error: there is no setting `lisen`; did you mean listen?")
        );
        assert!(said("zzz = 1").contains("the settings here are listen"));
        assert!(
            said("socket_mode = 660").contains("postmapd.toml:1:15: error: `socket_mode` must be a string")
        );
        assert!(said("listen = [1]").contains("postmapd.toml:1:11"));
        assert!(said("listen = ").contains("postmapd.toml:1:"));
        assert!(
            said("[reload]\npol = 1")
                .contains("postmapd.toml:2:1: error: there is no setting `pol`; did you mean poll?")
        );
        for wrong in ["-1", "0", "\"5\"", "true", "nan", "1e9"] {
            let said = parse(&format!("[reload]\ngrace = {wrong}")).1.join("\n");
            assert!(
                said.contains("postmapd.toml:2:9: error: `grace` must be"),
                "{wrong}: {said}"
            );
        }
    }

    #[test]
    fn the_pace_of_reloads_is_in_seconds() {
        let (settings, said) = parse("[reload]\npoll = 0.25\npatience = 60\n");
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(settings.pace.poll, Duration::from_millis(250));
        assert_eq!(settings.pace.patience, Duration::from_secs(60));
        assert_eq!(settings.pace.grace, Pace::default().grace);
    }

    #[test]
    fn connections_are_whole_numbers_within_what_linux_allows() {
        let (settings, said) = parse("[limits]\nconnections = 1\nconnections_per_peer = 1048576\n");
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(settings.limits.connections, Some(1));
        assert_eq!(settings.limits.connections_per_peer, Some(1_048_576));
        for wrong in [
            "0",
            "-1",
            "1048577",
            "99999999999999999999",
            "1.5",
            "\"5\"",
            "0x10",
        ] {
            let said = parse(&format!("[limits]\nconnections = {wrong}")).1.join("\n");
            assert!(
                said.contains("postmapd.toml:2:15: error: `connections` must be a whole number"),
                "{wrong}: {said}"
            );
        }
        assert!(
            parse("limits = 5")
                .1
                .join("\n")
                .contains("begin it with the line [limits]")
        );
        let said = parse("[limits]\nconections = 5").1.join("\n");
        assert!(said.contains("did you mean connections?"), "{said}");
    }
}
