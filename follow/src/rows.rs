//! Rows of a table as lines of a file.
//!
//! A row is not a line: a text from a database can have line ends, comments, whitespace at its ends or a byte order mark, and
//! would then be several entries, or another one. So each line is parsed by the grammar of the server before it is
//! used, and must be exactly one entry with the key and the value of the row. Any other row is a [`BadRow`].
//!
//! A bad row whose key is valid becomes an entry with an invalid value, so that lookups of this key return a temporary
//! error, and not the entry of the domain or *not found*. The server accepts such a file with `[reload] errors = "holes"`. So does
//! one whose key has whitespace around a valid one, as the type `char(64)` of PostgreSQL has it: for the key without it. A
//! row whose key is invalid otherwise is left out: no sender has such a key, and a line with it would be a temporary error for all
//! senders.
//!
//! Limits: rows with the same key are not detected; the first one answers, as in every file.

use std::fmt;
use std::path::Path;

use postmapd::diagnostics::{Findings, Severity};
use postmapd::lookup::table::grammar::{self, Content};
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::os::printable::printable;
use postmapd::os::secret::Secret;
use thiserror::Error;

/// The longest part of a key that an error shows, in characters.
const MAX_SHOWN: usize = 256;

/// A value that no kind of file accepts: no next hop, no `user:password`, no word about TLS.
const INVALID: &[u8] = b"[bad-row";

/// A row of one of the tables, as the source has it. An empty text means the same as NULL.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    /// A sender and its next hop. NULL: its mail is delivered directly.
    Relay {
        /// The sender.
        key: &'a [u8],
        /// The next hop.
        next_hop: Option<&'a [u8]>,
    },
    /// A sender, a host or a next hop, and its login. Both NULL: this sender has no credentials.
    Credentials {
        /// The sender, host or next hop.
        key: &'a [u8],
        /// The user.
        user: Option<&'a [u8]>,
        /// The password.
        password: Option<&'a [u8]>,
    },
    /// A next hop or a host, and how to speak TLS to it.
    Tls {
        /// The next hop, host or `*`.
        key: &'a [u8],
        /// The words about TLS.
        value: Option<&'a [u8]>,
    },
}

/// A column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The first column of every table.
    Key,
    /// The next hop of the relay table.
    NextHop,
    /// The user of the credentials.
    User,
    /// The password of the credentials.
    Password,
    /// The value of the TLS table.
    Value,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::NextHop => "nexthop",
            Self::User => "user",
            Self::Password => "password",
            Self::Value => "value",
        })
    }
}

/// A row that cannot be an entry: where, and why. It never contains a value. The key is shown unless it is invalid and
/// from the credentials, where it may be a password of a query that has its columns in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{table}: {}column {column}: {reason}", place(*row, key.as_deref()))]
pub struct BadRow {
    /// The name of the table in the settings.
    pub table: &'static str,
    /// The number of the row in its table, from 1, if the whole table was read.
    pub row: Option<u64>,
    /// The key, made printable.
    pub key: Option<String>,
    /// The column that is wrong.
    pub column: Column,
    /// What is wrong with it, without its text.
    pub reason: String,
}

fn place(row: Option<u64>, key: Option<&str>) -> String {
    match (row, key) {
        (Some(row), Some(key)) => format!("row {row} (key {key}): "),
        (Some(row), None) => format!("row {row}: "),
        (None, Some(key)) => format!("key {key}: "),
        (None, None) => String::new(),
    }
}

/// The bad rows of a read.
#[derive(Clone, Debug, Default)]
pub struct BadRows {
    count: u64,
    first: Vec<BadRow>,
}

impl BadRows {
    /// The number of rows that are kept; others are only counted.
    pub const MAX_FIRST: usize = 20;

    /// Adds the error of a line, if it has one.
    pub fn add(&mut self, error: Option<BadRow>) {
        self.count += u64::from(error.is_some());
        if self.first.len() < Self::MAX_FIRST {
            self.first.extend(error);
        }
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the first of them, at most [`Self::MAX_FIRST`].
    #[must_use]
    pub fn first(&self) -> &[BadRow] {
        &self.first
    }
}

/// The line of a row.
pub struct Line {
    /// With its line end. That of a bad row is an invalid entry, or empty if its key is invalid, too.
    pub text: Secret,
    /// Why the row is bad.
    pub error: Option<BadRow>,
}

impl Line {
    /// Returns the line of a row. `number` is that of the row in its table, if it has one.
    #[must_use]
    pub fn new(row: Row<'_>, number: Option<u64>) -> Self {
        let (column, reason) = match checked_entry(row) {
            Ok(text) => return Self { text, error: None },
            Err(error) => error,
        };
        let has_valid_key = column != Column::Key;
        let mut text = Secret::default();
        let key = row.key().trim_ascii();
        let is_padded = key != row.key() && entry(row.spec(), key, row.valid_value()).is_ok();
        if has_valid_key || is_padded {
            let invalid = line(key, INVALID);
            if matches!(parse(row.spec(), &invalid), Parsed::Invalid(parsed, _) if parsed == key) {
                text = invalid;
            }
        }
        let error = BadRow {
            table: row.table(),
            row: number,
            key: (has_valid_key || !row.spec().is_secret()).then(|| shown(row.key())),
            column,
            reason,
        };
        Self {
            text,
            error: Some(error),
        }
    }
}

/// Returns the entry of a row, or the column that is wrong, and why.
fn checked_entry(row: Row<'_>) -> Result<Secret, (Column, String)> {
    let key = row.key();
    if key.is_empty() {
        return Err((Column::Key, "the key is empty".to_owned()));
    }
    let error = match row.value() {
        Ok(value) => match entry(row.spec(), key, value.expose()) {
            Ok(line) => return Ok(line),
            Err(reason) => (row.wrong_value(), reason),
        },
        Err(error) => error,
    };
    match entry(row.spec(), key, row.valid_value()) {
        Ok(_) => Err(error),
        Err(reason) => Err((Column::Key, reason)),
    }
}

/// Whether a value is that of the entry of a bad row.
pub(crate) fn is_bad_value(value: &[u8]) -> bool {
    value == INVALID
}

impl<'a> Row<'a> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Relay { key, .. } | Self::Credentials { key, .. } | Self::Tls { key, .. } => key,
        }
    }

    /// Returns the file that its table becomes.
    #[must_use]
    pub fn spec(&self) -> &'static TableSpec {
        match self {
            Self::Relay { .. } => &RELAY_MAP,
            Self::Credentials { .. } => &CREDENTIALS,
            Self::Tls { .. } => &RELAY_TLS,
        }
    }

    /// Returns the name of the table in the settings.
    fn table(&self) -> &'static str {
        match self {
            Self::Relay { .. } => "relay",
            Self::Credentials { .. } => "credentials",
            Self::Tls { .. } => "tls",
        }
    }

    /// Returns a value that is valid for every valid key.
    fn valid_value(&self) -> &'static [u8] {
        match self {
            Self::Relay { .. } => b"relay.invalid",
            Self::Credentials { .. } => b"user:password",
            Self::Tls { .. } => b"encrypt",
        }
    }

    /// Returns the column to which it is due that a row with a valid key is no entry.
    fn wrong_value(&self) -> Column {
        match self {
            Self::Relay { .. } => Column::NextHop,
            Self::Tls { .. } => Column::Value,
            Self::Credentials { key, user, .. } => {
                let user = user.unwrap_or_default();
                let with_user = entry(self.spec(), key, login(user, b"password").expose());
                if user.is_empty() || with_user.is_err() {
                    Column::User
                } else {
                    Column::Password
                }
            }
        }
    }

    /// Returns the value of the entry; empty for none.
    fn value(&self) -> Result<Secret, (Column, String)> {
        match *self {
            Self::Relay { next_hop: value, .. } | Self::Tls { value, .. } => {
                Ok(Secret::from(value.unwrap_or_default().to_vec()))
            }
            Self::Credentials { user, password, .. } => {
                match (user.unwrap_or_default(), password.unwrap_or_default()) {
                    (b"", b"") => Ok(Secret::default()),
                    (b"", _) => Err((Column::User, "there is a password and no user".to_owned())),
                    (_, b"") => Err((Column::Password, "there is a user and no password".to_owned())),
                    (user, _) if user.contains(&b':') => {
                        let reason =
                            "the user contains a `:`, at which the server would split user and password";
                        Err((Column::User, reason.to_owned()))
                    }
                    (user, password) => Ok(login(user, password)),
                }
            }
        }
    }
}

fn login(user: &[u8], password: &[u8]) -> Secret {
    let mut login = Secret::with_capacity(user.len() + password.len() + 1);
    for part in [user, b":", password] {
        login.append(part);
    }
    login
}

fn line(key: &[u8], value: &[u8]) -> Secret {
    let mut line = Secret::with_capacity(key.len() + value.len() + 2);
    line.append(key);
    if !value.is_empty() {
        line.append(b" ");
        line.append(value);
    }
    line.append(b"\n");
    line
}

/// A line, as the server would read it.
enum Parsed<'a> {
    /// One entry.
    Entry(&'a [u8], Content<'a>),
    /// One entry with an invalid value, and what is wrong with it.
    Invalid(&'a [u8], String),
    /// No entry, several, or a key that cannot be read; and what is wrong, if the grammar says it.
    Other(Option<String>),
}

fn parse<'a>(spec: &TableSpec, line: &'a Secret) -> Parsed<'a> {
    let mut findings = Findings::default();
    let mut records = Vec::new();
    let summary = grammar::parse(
        spec.format,
        Path::new(""),
        line.expose(),
        &mut findings,
        |record, _| {
            records.push(record);
        },
    );
    let error = findings
        .with_severity(Severity::Error)
        .next()
        .map(|finding| finding.message.clone());
    match (records.as_slice(), error) {
        ([one], None) if !summary.has_unreadable_keys => Parsed::Entry(one.key, one.content),
        ([one], Some(error)) if !summary.has_unreadable_keys && matches!(one.content, Content::Invalid) => {
            Parsed::Invalid(one.key, error)
        }
        (_, error) => Parsed::Other(error),
    }
}

/// Returns the line that is exactly one entry with this key and this value, or why there is none.
fn entry(spec: &TableSpec, key: &[u8], value: &[u8]) -> Result<Secret, String> {
    let misread = || {
        "the file format cannot represent the text: a line end, whitespace at its start or end, or a comment in it would be \
         read as something else"
            .to_owned()
    };
    let line = line(key, value);
    // Neither a key nor a value that was parsed has a line end, so an equal one has none either.
    match parse(spec, &line) {
        Parsed::Entry(parsed, Content::Value(content)) if parsed == key && content == value => {}
        // An empty value, or DUNNO.
        Parsed::Entry(parsed, Content::NoValue) if parsed == key && is_no_value(value) => {}
        Parsed::Invalid(_, error) | Parsed::Other(Some(error)) => return Err(error),
        Parsed::Entry(..) | Parsed::Other(None) => return Err(misread()),
    }
    Ok(line)
}

fn is_no_value(value: &[u8]) -> bool {
    value.is_empty() || value.eq_ignore_ascii_case(b"DUNNO")
}

fn shown(key: &[u8]) -> String {
    let text = printable(key);
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests;
