//! `postmapd.toml`: the settings file, read into the same texts as flags and variables.
//!
//! An unknown key is an error that names the nearest known one: a setting that is silently ignored is one that an
//! operator relies on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest;
use super::setting::{self, Kind, Setting};
use super::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::os::printable::printable;

/// Returns whether this is the name of a setting, or a misspelt one. Anything else may be a password.
pub(crate) fn is_like_a_setting(name: &str) -> bool {
    let known = setting::tables().into_iter().chain([""]).flat_map(setting::keys);
    let is_key = name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    // A password may begin like a setting.
    is_key && nearest(name, known).is_some_and(|known| name.len() <= known.len() + 2)
}

/// The texts of the settings in a file, by key. Several values are joined by commas.
pub(super) type Texts = HashMap<&'static str, Sourced>;

/// Parses the text of the file `path`, and adds a finding for each error of syntax, name or type.
pub(super) fn read(path: &Path, text: &[u8], findings: &mut Findings) -> Texts {
    let (whole, is_utf8) = match std::str::from_utf8(text) {
        Ok(text) => (text, true),
        Err(error) => {
            let valid = text.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(valid).unwrap_or_default(), false)
        }
    };
    let mut reader = Reader {
        path,
        text: whole,
        findings,
        texts: Texts::new(),
    };
    if !is_utf8 {
        let end = whole.len()..whole.len();
        reader.error(Code::BadToml, end, "the file is not UTF-8", "save it as UTF-8");
        return reader.texts;
    }
    match DeTable::parse(whole) {
        Ok(table) => reader.file(table.get_ref()),
        Err(error) => {
            let help = "write one NAME = VALUE per line, with strings in quotes; see postmapd.toml(5)";
            let span = error.span().unwrap_or_default();
            reader.error(Code::BadToml, span, error.message(), help);
        }
    }
    reader.texts
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    findings: &'a mut Findings,
    texts: Texts,
}

impl Reader<'_> {
    fn file(&mut self, file: &DeTable<'_>) {
        let tables = setting::tables();
        for (key, value) in file {
            let name = key.get_ref().as_ref();
            if !tables.contains(&name) {
                self.setting("", key, value);
            } else if let Some(table) = value.get_ref().as_table() {
                for (key, value) in table {
                    self.setting(name, key, value);
                }
            } else {
                let message = format!("`{name}` must be a table");
                let help = format!("write its settings below the line [{name}]");
                self.error(Code::BadSetting, value.span(), &message, &help);
            }
        }
    }

    fn setting(&mut self, table: &str, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        let Some(setting) = setting::with_key(table, name) else {
            return self.unknown(name, key.span(), table);
        };
        let text = match value.get_ref().as_array() {
            Some(list) if setting.kind.is_list() => {
                let texts: Vec<_> = list.iter().map(|item| self.text(setting, item)).collect();
                let texts: Option<Vec<String>> = texts.into_iter().collect();
                texts.map(|texts| texts.join(","))
            }
            _ => self.text(setting, value),
        };
        if let (Some(key), Some(text)) = (setting.key, text) {
            self.texts
                .insert(key, Sourced::trimmed(&text, self.place(value.span())));
        }
    }

    /// Returns a single value as the text of a flag.
    fn text(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Option<String> {
        use Kind::{Connections, Name, Names, Path, Seconds, SecondsOrZero, Switch, Text, Texts, Unparsed};
        let text = match (value.get_ref(), setting.kind) {
            (
                DeValue::String(text),
                Path | Unparsed | Text(_) | Texts(..) | Name(_) | Names(..) | Switch(_),
            ) => Some(text.clone().into_owned()),
            (
                DeValue::Integer(number),
                Name(_) | Names(..) | Seconds(_) | SecondsOrZero(_) | Connections(_),
            ) if number.radix() == 10 => Some(number.as_str().to_owned()),
            (DeValue::Float(number), Seconds(_) | SecondsOrZero(_)) => Some(number.as_str().to_owned()),
            (DeValue::Boolean(is_on), Switch(_)) => Some(is_on.to_string()),
            _ => None,
        };
        if text.is_none() {
            let place = self.place(value.span());
            self.findings.push(setting.invalid(place));
        }
        text
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, table: &str) {
        let known = setting::keys(table);
        // A name unlike any setting may be a password.
        let (message, help) = match nearest(name, known.iter().copied()) {
            Some(near) => (
                format!("unknown setting `{}`", printable(name.as_bytes())),
                format!("did you mean {near}?"),
            ),
            None => (
                "unknown setting".to_owned(),
                format!("the settings here are {}", known.join(", ")),
            ),
        };
        self.error(Code::UnknownSetting, span, &message, &help);
    }

    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|c| *c == b'\n').count() + 1;
        let column = before.bytes().rev().take_while(|c| *c != b'\n').count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (number(line), number(column));
        Place::File(self.path.into(), Some(Position { line, column }))
    }

    fn error(&mut self, code: Code, span: Range<usize>, message: &str, help: &str) {
        let finding = Finding::new(code, self.place(span));
        self.findings.push(finding.message(message).help(help));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::Texts;
    use crate::config::{Settings, setting};
    use crate::diagnostics::Findings;

    fn parse(text: &str) -> (Texts, Vec<String>) {
        let mut findings = Findings::default();
        let texts = super::read(Path::new("postmapd.toml"), text.as_bytes(), &mut findings);
        (texts, findings.iter().map(ToString::to_string).collect())
    }

    fn settings(text: &str) -> (Settings, Vec<String>) {
        let (mut settings, mut findings) = (Settings::default(), Findings::default());
        let texts = super::read(Path::new("postmapd.toml"), text.as_bytes(), &mut findings);
        for setting in setting::ALL {
            if let Some(given) = setting.key.and_then(|key| texts.get(key)) {
                setting.read(given, &mut settings, &mut findings);
            }
        }
        (settings, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_are_read_with_their_positions() {
        let (texts, messages) =
            parse("listen = [\"a\", \"b\"]\nrecipient_delimiter = \"+-\"\nsocket_mode = \"0600\"\n");
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(texts["listen"].value, "a,b");
        let delimiter = &texts["recipient_delimiter"];
        assert_eq!(
            (delimiter.value.as_str(), delimiter.place.to_string().as_str()),
            ("+-", "postmapd.toml:2:23")
        );
        assert_eq!(parse("listen = \"a\"").0["listen"].value, "a");
    }

    #[test]
    fn users_are_names_or_ids_and_a_single_one_needs_no_list() {
        let users = |text: &str| {
            let (texts, messages) = parse(text);
            assert!(messages.is_empty(), "{messages:?}");
            texts["allow_users"]
                .items()
                .map(|word| word.value)
                .collect::<Vec<_>>()
        };
        assert_eq!(users("allow_users = [\"root\", 1001]"), ["root", "1001"]);
        assert_eq!(users("allow_users = 1001"), ["1001"]);
        assert_eq!(users("allow_users = \"root\""), ["root"]);
        assert!(users("allow_users = []").is_empty());
        for wrong in ["[true]", "1.5", "0x10", "[[1]]"] {
            let messages = parse(&format!("allow_users = {wrong}")).1.join("\n");
            assert!(messages.contains("postmapd.toml:1:1"), "{wrong}: {messages}");
        }
        assert!(
            parse("allow_networks = [10]")
                .1
                .join("\n")
                .contains("postmapd.toml:1:19")
        );
    }

    #[test]
    fn a_switch_is_a_boolean_or_a_word() {
        for (written, read) in [("true", "true"), ("false", "false"), ("\"off\"", "off")] {
            let (texts, messages) = parse(&format!("sandbox = {written}"));
            assert!(messages.is_empty(), "{messages:?}");
            assert_eq!(texts["sandbox"].value, read);
        }
        assert!(parse("sandbox = 0").1.join("\n").contains("postmapd.toml:1:11"));
    }

    #[test]
    fn an_error_is_reported_with_its_position() {
        let messages = |text: &str| parse(text).1.join("\n");
        assert!(
            messages("\n lisen = 1")
                .contains("postmapd.toml:2:2: error: unknown setting `lisen`; did you mean listen?")
        );
        assert!(messages("zzz = 1").contains("the settings here are listen"));
        assert!(
            messages("socket_mode = 660")
                .contains("postmapd.toml:1:15: error: `socket_mode` must be a string")
        );
        assert!(messages("listen = [1]").contains("postmapd.toml:1:11"));
        assert!(messages("listen = ").contains("postmapd.toml:1:"));
        assert!(messages("[reload]\npoll_inteval = 1").contains(
            "postmapd.toml:2:1: error: unknown setting `poll_inteval`; did you mean poll_interval?"
        ));
        for wrong in ["-1", "0", "\"5\"", "true", "nan", "1e9"] {
            let messages = settings(&format!("[reload]\nempty_grace = {wrong}")).1.join("\n");
            assert!(
                messages.contains("postmapd.toml:2:15: error: `empty_grace` must be"),
                "{wrong}: {messages}"
            );
        }
    }

    #[test]
    fn reload_timing_is_in_seconds() {
        let (settings, messages) = settings("[reload]\npoll_interval = 0.25\nwriter_timeout = 60\n");
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(settings.reload_timing.poll_interval, Duration::from_millis(250));
        assert_eq!(settings.reload_timing.writer_timeout, Duration::from_secs(60));
        assert_eq!(
            settings.reload_timing.empty_grace,
            Settings::default().reload_timing.empty_grace
        );
    }

    #[test]
    fn connection_limits_are_whole_numbers_up_to_the_limit_of_linux() {
        let (read, messages) = settings("[limits]\nconnections = 1\nconnections_per_peer = 1048576\n");
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(read.limits.connections, Some(1));
        assert_eq!(read.limits.connections_per_peer, Some(1_048_576));
        for wrong in [
            "0",
            "-1",
            "1048577",
            "99999999999999999999",
            "1.5",
            "\"5\"",
            "0x10",
        ] {
            let messages = settings(&format!("[limits]\nconnections = {wrong}")).1.join("\n");
            assert!(
                messages.contains("postmapd.toml:2:15: error: `connections` must be a whole number"),
                "{wrong}: {messages}"
            );
        }
        assert!(
            parse("limits = 5")
                .1
                .join("\n")
                .contains("write its settings below the line [limits]")
        );
        let messages = parse("[limits]\nconections = 5").1.join("\n");
        assert!(messages.contains("did you mean connections?"), "{messages}");
    }
}
