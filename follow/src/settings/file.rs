//! The text of `follow.toml` as values with their positions.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postmapd::config::nearest;
use postmapd::diagnostics::Position;
use postmapd::os::printable::printable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::{QUERIES, names};
use super::error::{SettingError, SettingErrorKind};

/// A value and its position.
#[derive(Clone)]
struct Given {
    text: Option<String>,
    /// A number, in seconds.
    seconds: Option<f64>,
    switch: Option<bool>,
    position: Position,
}

/// The values of a file. Each is taken once, and reported if it has the wrong type.
pub(super) struct Values<'a> {
    path: &'a Path,
    given: HashMap<(&'static str, &'static str), Given>,
    /// The position of `[queries]`.
    pub(super) queries: Option<Position>,
    pub(super) errors: Vec<SettingError>,
}

impl<'a> Values<'a> {
    /// Parses the text of the file `path`.
    pub(super) fn parse(path: &'a Path, text: &[u8]) -> Self {
        let mut values = Self {
            path,
            given: HashMap::new(),
            queries: None,
            errors: Vec::new(),
        };
        let Ok(text) = std::str::from_utf8(text) else {
            values.error(SettingErrorKind::NotUtf8, None);
            return values;
        };
        match DeTable::parse(text) {
            Ok(table) => values.read_file(text, table.get_ref()),
            Err(error) => {
                let position = position(text, &error.span().unwrap_or_default());
                values.error(SettingErrorKind::Syntax(error.message().to_owned()), position);
            }
        }
        values
    }

    fn read_file(&mut self, text: &str, table: &DeTable<'_>) {
        let (names, query_names) = (names(""), names(QUERIES));
        for (key, value) in table {
            match find(&names, key.get_ref()) {
                Some(QUERIES) => {
                    self.queries = Some(position(text, &key.span()));
                    let Some(queries) = value.get_ref().as_table() else {
                        self.invalid(
                            QUERIES,
                            "a table: its settings are below the line [queries]",
                            position(text, &value.span()),
                        );
                        continue;
                    };
                    for (key, value) in queries {
                        match find(&query_names, key.get_ref()) {
                            Some(name) => self.insert(QUERIES, name, text, value),
                            None => self.unknown(key.get_ref(), &query_names, position(text, &key.span())),
                        }
                    }
                }
                Some(name) => self.insert("", name, text, value),
                None => self.unknown(key.get_ref(), &names, position(text, &key.span())),
            }
        }
    }

    fn insert(&mut self, table: &'static str, name: &'static str, text: &str, value: &Spanned<DeValue<'_>>) {
        let (string, seconds) = match value.get_ref() {
            DeValue::String(text) => (Some(text.clone().into_owned()), None),
            DeValue::Integer(number) if number.radix() == 10 => (None, number.as_str().parse().ok()),
            DeValue::Float(number) => (None, number.as_str().parse().ok()),
            _ => (None, None),
        };
        let given = Given {
            text: string,
            seconds,
            switch: value.get_ref().as_bool(),
            position: position(text, &value.span()),
        };
        self.given.insert((table, name), given);
    }

    /// Whether the file has any setting with a known name.
    pub(super) fn has_any(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether the file has a setting.
    pub(super) fn has(&self, table: &'static str, name: &'static str) -> bool {
        self.given.contains_key(&(table, name))
    }

    /// Returns the position of a value.
    pub(super) fn position(&self, table: &'static str, name: &'static str) -> Option<Position> {
        self.given.get(&(table, name)).map(|given| given.position)
    }

    /// Returns a text that is not empty, and its position.
    pub(super) fn text(&mut self, table: &'static str, name: &'static str) -> Option<(String, Position)> {
        let given = self.given.remove(&(table, name))?;
        let is_text = |text: &String| !text.trim().is_empty() && !text.contains('\0');
        let text = given.text.filter(is_text);
        if text.is_none() {
            self.invalid(name, "a string that is not empty", given.position);
        }
        Some((text?, given.position))
    }

    /// Returns an absolute path, and its position.
    pub(super) fn path(&mut self, name: &'static str) -> Option<(PathBuf, Position)> {
        let (text, position) = self.text("", name)?;
        let path = PathBuf::from(text);
        if path.is_absolute() {
            return Some((path, position));
        }
        self.invalid(name, "an absolute path, in quotes", position);
        None
    }

    /// Returns a duration: a number of seconds, or a text such as `500ms`. It must be from a tenth of a second to a day.
    pub(super) fn duration(
        &mut self,
        table: &'static str,
        name: &'static str,
    ) -> Option<(Duration, Position)> {
        let given = self.given.remove(&(table, name))?;
        let of_text = given
            .text
            .and_then(|text| humantime::parse_duration(text.trim()).ok());
        let of_number = given
            .seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
        let duration = of_text.or(of_number).filter(|duration| range.contains(duration));
        if duration.is_none() {
            let expected =
                "a number of seconds from 0.1 to 86400, or a duration in quotes, such as \"500ms\"";
            self.invalid(name, expected, given.position);
        }
        Some((duration?, given.position))
    }

    /// Returns a switch: true or false, or a text as postmapd reads it.
    pub(super) fn switch(&mut self, name: &'static str) -> Option<bool> {
        let given = self.given.remove(&("", name))?;
        let of_text = given.text.and_then(|text| match text.as_str() {
            "on" | "yes" | "true" => Some(true),
            "off" | "no" | "false" => Some(false),
            _ => None,
        });
        let switch = given.switch.or(of_text);
        if switch.is_none() {
            self.invalid(name, "true or false", given.position);
        }
        switch
    }

    pub(super) fn invalid(&mut self, key: &'static str, expected: &'static str, position: Position) {
        self.error(SettingErrorKind::Value { key, expected }, position);
    }

    pub(super) fn error(&mut self, kind: SettingErrorKind, position: impl Into<Option<Position>>) {
        self.errors.push(kind.at(self.path, position));
    }

    fn unknown(&mut self, name: &str, known: &[&'static str], position: Position) {
        let near = nearest(name, known.iter().copied());
        // A password may begin like a setting.
        let near = near.filter(|near| name.len() <= near.len() + 2);
        let near = near.and_then(|near| find(known, near));
        let kind = match near {
            Some(near) => SettingErrorKind::Misspelt {
                name: printable(name.as_bytes()),
                near,
            },
            None => SettingErrorKind::Unknown(known.join(", ")),
        };
        self.error(kind, position);
    }
}

fn find(known: &[&'static str], name: &str) -> Option<&'static str> {
    known.iter().copied().find(|known| *known == name)
}

fn position(text: &str, span: &Range<usize>) -> Position {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.bytes().filter(|c| *c == b'\n').count() + 1;
    let column = before.bytes().rev().take_while(|c| *c != b'\n').count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: number(line),
        column: number(column),
    }
}
