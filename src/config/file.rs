//! `postmapd.toml`: the settings that can also stand in a file.
//!
//! ```toml
//! listen = ["socketmap:inet:127.0.0.1:10451", "tcp:127.0.0.1:10452:relayhost"]
//! recipient_delimiter = "+"
//! socket_owner = "root"
//! socket_group = "postfix"
//! socket_mode = "0660"
//! ```
//!
//! A key that is not known is an error, with the nearest one that is: a setting that is ignored in silence is one
//! that somebody relies on.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;
use super::options::Given;
use crate::diagnostic::{Finding, Findings, Place, Position, Severity};

/// Every key.
const KEYS: [&str; 5] = [
    "listen",
    "recipient_delimiter",
    "socket_owner",
    "socket_group",
    "socket_mode",
];

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    pub(super) listen: Option<Given<Vec<String>>>,
    pub(super) recipient_delimiter: Option<Given<String>>,
    pub(super) socket_owner: Option<Given<String>>,
    pub(super) socket_group: Option<Given<String>>,
    pub(super) socket_mode: Option<Given<String>>,
}

impl SettingsFile {
    /// Reads the file that was named, which must be there, or `postmapd.toml` in `dir`, if it is there.
    pub(super) fn read(named: Option<PathBuf>, dir: &Path, findings: &mut Findings) -> Self {
        let (path, wanted) = match named {
            Some(path) => (path, true),
            None => (dir.join("postmapd.toml"), false),
        };
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text, findings),
            Err(error) if error.kind() == ErrorKind::NotFound && !wanted => Self::default(),
            Err(error) => {
                findings.push(
                    Finding::error("settings-unreadable", &path, None)
                        .says(format!("the settings cannot be read: {error}"))
                        .help("mend its path or its permissions"),
                );
                Self::default()
            }
        }
    }

    fn parse(path: &Path, text: &str, findings: &mut Findings) -> Self {
        let mut reader = Reader { path, text, findings };
        let mut settings = Self::default();
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                reader.error("bad-toml", error.span().unwrap_or_default(), error.message(), "");
                return settings;
            }
        };
        for (key, value) in &table {
            let name = key.get_ref().as_ref();
            match name {
                "listen" => settings.listen = reader.strings(name, value),
                "recipient_delimiter" => settings.recipient_delimiter = reader.string(name, value),
                "socket_owner" => settings.socket_owner = reader.string(name, value),
                "socket_group" => settings.socket_group = reader.string(name, value),
                "socket_mode" => settings.socket_mode = reader.string(name, value),
                unknown => {
                    let help = match nearest(unknown, KEYS) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("the settings are {}", KEYS.join(", ")),
                    };
                    reader.error(
                        "unknown-setting",
                        key.span(),
                        &format!("there is no setting `{unknown}`"),
                        &help,
                    );
                }
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
    fn string(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<String>> {
        let place = Place::File(self.path.into(), Some(self.position(value.span())));
        if let Some(text) = value.get_ref().as_str() {
            return Some(Given {
                value: text.to_owned(),
                place,
            });
        }
        self.error(
            "bad-setting",
            value.span(),
            &format!("`{key}` must be a string"),
            "put it in quotes",
        );
        None
    }

    /// A list of strings, or one string.
    fn strings(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Given<Vec<String>>> {
        let place = Place::File(self.path.into(), Some(self.position(value.span())));
        let Some(list) = value.get_ref().as_array() else {
            let one = self.string(key, value)?;
            return Some(Given {
                value: vec![one.value],
                place,
            });
        };
        let strings: Option<Vec<_>> = list
            .iter()
            .map(|item| self.string(key, item).map(|given| given.value))
            .collect();
        strings.map(|value| Given { value, place })
    }

    fn position(&self, span: Range<usize>) -> Position {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|c| *c == b'\n').count() + 1;
        let column = before.bytes().rev().take_while(|c| *c != b'\n').count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            line: number(line),
            column: number(column),
        }
    }

    fn error(&mut self, code: &'static str, span: Range<usize>, message: &str, help: &str) {
        let place = Place::File(self.path.into(), Some(self.position(span)));
        self.findings.push(
            Finding::new(Severity::Error, code, place)
                .says(message)
                .help(help),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::SettingsFile;
    use crate::diagnostic::Findings;

    fn parse(text: &str) -> (SettingsFile, Vec<String>) {
        let mut findings = Findings::default();
        let settings = SettingsFile::parse(Path::new("postmapd.toml"), text, &mut findings);
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
    fn what_is_wrong_is_said_with_its_place() {
        let said = |text| parse(text).1.join("\n");
        assert!(
            said("\n lisen = 1")
                .contains("postmapd.toml:2:2: error: there is no setting `lisen`; did you mean listen?")
        );
        assert!(said("zzz = 1").contains("the settings are listen"));
        assert!(
            said("socket_mode = 660").contains("postmapd.toml:1:15: error: `socket_mode` must be a string")
        );
        assert!(said("listen = [1]").contains("postmapd.toml:1:11"));
        assert!(said("listen = ").contains("postmapd.toml:1:"));
    }
}
