//! `follow.toml`: which source to follow, how, and where to write its tables.
//!
//! [`definitions`] lists the settings with their defaults and meanings.
//!
//! With a table `[queries]`, the rows come from the results of queries and not from the schema of postmapd, and `schema` and
//! `poll` are errors. A source of MariaDB or MySQL needs it.
//!
//! Durations are numbers of seconds or texts such as `500ms`. All errors of the file are reported at once
//! ([`SettingError`]), with their positions and without the value.

mod credential_files;
pub mod definitions;
mod error;
mod file;
pub mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use postmapd::diagnostics::Position;
use postmapd::net::address::Address;
use postmapd::os::whole_file::{MAX_TEXT, read_secret};

pub use credential_files::{CredentialFileError, CredentialFileErrorKind, OpenFile};
use definitions::QUERIES;
pub use error::{SettingError, SettingErrorKind};
use file::Values;
use source::{Database, Host, Source};

/// How connections to hosts on a network are protected. UNIX sockets never use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// TLS; the certificate of the server must be valid for its name.
    #[default]
    VerifyFull,
    /// No TLS, because every host is a UNIX socket or a loopback address.
    Off,
}

/// What an empty result may replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// Only an empty table: a restored or wrong database must not route all mail directly.
    #[default]
    Refuse,
    /// Any table.
    Allow,
}

/// The queries for tables that are not those of postmapd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// Returns sender and next hop.
    pub relay: Option<String>,
    /// Returns key, user and password.
    pub credentials: Option<String>,
    /// Returns next hop and the words about TLS.
    pub tls: Option<String>,
    /// Returns a value that differs after each change.
    pub version: Option<String>,
    /// The interval.
    pub every: Duration,
    /// Whether an empty result may replace rows.
    pub empty: Empty,
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database.
    pub source: Source,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// Whether connections use TLS.
    pub tls: Tls,
    /// The certificate authorities of the server; those of the system if unset.
    pub ca: Option<PathBuf>,
    /// The client certificate, and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The directory to write.
    pub dir: PathBuf,
    /// The schema with the tables of postmapd.
    pub schema: String,
    /// The interval of the polls.
    pub poll: Duration,
    /// The time that an answer may take.
    pub hang: Duration,
    /// The time without the source after which the program is not ready.
    pub stale_after: Duration,
    /// The address of the admin listener.
    pub admin: Option<Address>,
    /// Whether the program drops the rights that it does not need.
    pub sandbox: bool,
    /// The queries, if the tables are not those of postmapd.
    pub queries: Option<Queries>,
}

impl Settings {
    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// All errors in the file.
    pub fn read(path: &Path) -> Result<Self, Vec<SettingError>> {
        match read_secret(path, MAX_TEXT) {
            Ok(text) => Self::parse(path, text.expose()),
            Err(error) => Err(vec![SettingErrorKind::Unreadable(error).at(path, None)]),
        }
    }

    /// Parses the text of the file `path`.
    ///
    /// # Errors
    ///
    /// All errors in the text.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, Vec<SettingError>> {
        let mut values = Values::parse(path, text);
        let settings = read(&mut values);
        match settings {
            Some(settings) if values.errors.is_empty() => Ok(settings),
            _ => Err(values.errors),
        }
    }

    /// Returns the interval at which the source is asked whether it has changed.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.queries.as_ref().map_or(self.poll, |queries| queries.every)
    }
}

/// Reads all settings, so that all errors are reported. `None` after an error in a required one.
fn read(values: &mut Values<'_>) -> Option<Settings> {
    // Without any value, the file as a whole is wrong.
    let is_readable = values.errors.is_empty() || values.has_any();
    let source = source(values, is_readable);
    let tls = tls(values, source.as_ref());
    reject_without_effect(values, source.as_ref());
    let poll = values.duration("", "poll");
    let hang = values.duration("", "hang");
    let stale_after = values.duration("", "stale_after");
    let settings = Settings {
        password_file: values.path("password_file").map(|(path, _)| path),
        ca: for_tls(values, "ca", tls),
        client_certificate: client_certificate(values, tls),
        tls,
        dir: values
            .path("dir")
            .map_or_else(|| PathBuf::from(definitions::DIR), |(path, _)| path),
        schema: schema(values),
        poll: given_or(poll, definitions::POLL),
        hang: given_or(hang, definitions::HANG),
        stale_after: given_or(stale_after, definitions::STALE_AFTER),
        admin: admin(values),
        sandbox: values.switch("sandbox").unwrap_or(definitions::SANDBOX),
        queries: queries(values),
        source: source?,
    };
    if settings.stale_after <= settings.interval() {
        let position = stale_after.or(poll).map(|(_, position)| position);
        values.error(SettingErrorKind::StaleTooSoon, position);
    }
    Some(settings)
}

/// Returns a duration of the file, or its default in seconds.
fn given_or(given: Option<(Duration, Position)>, default: u64) -> Duration {
    given.map_or(Duration::from_secs(default), |(duration, _)| duration)
}

fn source(values: &mut Values<'_>, is_readable: bool) -> Option<Source> {
    if !values.has("", "source") {
        if is_readable {
            let help =
                "set it to postgres://USER@HOST/DATABASE, or mysql://USER@HOST/DATABASE with [queries]";
            values.error(SettingErrorKind::Missing("source", help), None);
        }
        return None;
    }
    let (text, position) = values.text("", "source")?;
    match Source::parse(&text) {
        Ok(source) => Some(source),
        Err(error) => {
            values.error(error.into(), position);
            None
        }
    }
}

/// Reports `[queries]` if it is missing, and what has no effect with it.
fn reject_without_effect(values: &mut Values<'_>, source: Option<&Source>) {
    let is_mariadb = source.is_some_and(|source| source.kind == Database::MariaDb);
    if values.queries.is_none() {
        if !is_mariadb {
            return;
        }
        values.error(SettingErrorKind::NeedsQueries, None);
    }
    for (name, help) in [
        (
            "schema",
            "remove it, and name the tables in the queries as DATABASE.TABLE or SCHEMA.TABLE where necessary",
        ),
        ("poll", "set every below [queries] instead"),
    ] {
        if let Some(position) = values.position("", name) {
            values.error(SettingErrorKind::WithQueries(name, help), position);
        }
    }
}

/// Reads `tls`. Connections to UNIX sockets alone use none, whatever it is.
fn tls(values: &mut Values<'_>, source: Option<&Source>) -> Tls {
    let hosts = source.map_or(&[][..], |source| &source.hosts);
    let is_unix = !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(..)));
    let default = if is_unix { Tls::Off } else { Tls::VerifyFull };
    let Some((text, position)) = values.text("", "tls") else {
        return default;
    };
    match text.as_str() {
        "verify-full" => default,
        "off" => {
            if let Some(remote) = hosts.iter().position(|host| !host.is_local()) {
                values.error(SettingErrorKind::PlainNetwork(remote + 1), position);
            }
            Tls::Off
        }
        _ => {
            values.error(SettingErrorKind::Tls, position);
            default
        }
    }
}

/// Returns the path of a setting that has an effect only with TLS.
fn for_tls(values: &mut Values<'_>, name: &'static str, tls: Tls) -> Option<PathBuf> {
    let (path, position) = values.path(name)?;
    if tls == Tls::Off {
        values.error(SettingErrorKind::WithoutTls(name), position);
    }
    Some(path)
}

fn client_certificate(values: &mut Values<'_>, tls: Tls) -> Option<(PathBuf, PathBuf)> {
    const NAMES: [&str; 2] = ["client_cert", "client_key"];
    let [has_certificate, has_key] = NAMES.map(|name| values.position("", name));
    match (has_certificate, has_key) {
        (Some(position), None) => {
            values.error(
                SettingErrorKind::Incomplete("client_cert", "client_key"),
                position,
            );
        }
        (None, Some(position)) => {
            values.error(
                SettingErrorKind::Incomplete("client_key", "client_cert"),
                position,
            );
        }
        _ => {}
    }
    let [certificate, key] = NAMES.map(|name| for_tls(values, name, tls));
    certificate.zip(key)
}

/// Reads a name that SQL accepts without quotes.
fn schema(values: &mut Values<'_>) -> String {
    let default = definitions::SCHEMA.to_owned();
    let Some((name, position)) = values.text("", "schema") else {
        return default;
    };
    let is_of_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    let begins_well = !name.starts_with(|c: char| c.is_ascii_digit());
    // The limit of PostgreSQL, NAMEDATALEN.
    if begins_well && name.len() <= 63 && name.bytes().all(is_of_name) {
        return name;
    }
    let expected =
        "a name of lower-case letters, digits and `_`, of at most 63 bytes, that does not begin with a digit";
    values.invalid("schema", expected, position);
    default
}

fn admin(values: &mut Values<'_>) -> Option<Address> {
    let (text, position) = values.text("", "admin")?;
    match Address::parse(&text) {
        Ok(address) => Some(address),
        Err(error) => {
            values.error(error.into(), position);
            None
        }
    }
}

fn queries(values: &mut Values<'_>) -> Option<Queries> {
    let position = values.queries?;
    let names = ["relay", "credentials", "tls"];
    if !names.iter().any(|name| values.has(QUERIES, name)) {
        values.error(SettingErrorKind::NoQuery, position);
    }
    let [relay, credentials, tls] = names.map(|name| query(values, name));
    Some(Queries {
        relay,
        credentials,
        tls,
        version: query(values, "version"),
        every: given_or(values.duration(QUERIES, "every"), definitions::EVERY),
        empty: empty(values),
    })
}

/// Returns a query without the semicolon at its end: it also runs as a part of another query.
fn query(values: &mut Values<'_>, name: &'static str) -> Option<String> {
    let (text, position) = values.text(QUERIES, name)?;
    let query = text
        .trim()
        .trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let first_word = query
        .split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    if ["select", "with", "values", "table"]
        .iter()
        .any(|word| first_word.eq_ignore_ascii_case(word))
    {
        return Some(query.to_owned());
    }
    let expected = "one query that only reads: it begins with SELECT or WITH";
    values.invalid(name, expected, position);
    None
}

fn empty(values: &mut Values<'_>) -> Empty {
    let Some((text, position)) = values.text(QUERIES, "empty") else {
        return Empty::default();
    };
    match text.as_str() {
        "refuse" => Empty::Refuse,
        "allow" => Empty::Allow,
        _ => {
            values.invalid("empty", "\"refuse\" or \"allow\"", position);
            Empty::default()
        }
    }
}

#[cfg(test)]
mod tests;
