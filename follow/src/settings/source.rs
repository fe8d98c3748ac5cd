//! The setting `source`: where the database is, and who connects to it.
//!
//! For PostgreSQL it is a URL as libpq takes it, without a password: `postgres://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE`. A host
//! may be the directory of UNIX sockets, as `%2Frun%2Fpostgresql` or in `?host=/run/postgresql`.
//!
//! For MariaDB and MySQL it is `mysql://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE` or the same with `mariadb://`. A host may be a
//! UNIX socket, as `%2Frun%2Fmysqld%2Fmysqld.sock` or in `?socket=/run/mysqld/mysqld.sock`.
//!
//! An error never contains any part of the text, which may be a password in the wrong place.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use postmapd::os::printable::printable_path;
use thiserror::Error;

/// The longest text in bytes that postmapd reads in source.json.
const MAX_LENGTH: usize = 1024;

/// Why a text is not a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// `postgres://user:password@host/database`
    #[error(
        "there is a password in it, which every user who can read this file or a copy of it has now; change the password in \
         the database, write the new one to a file that only postmapd-follow can read, and set password_file"
    )]
    Password,
    /// More bytes than postmapd reads.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Another scheme, or a list of `name=value`.
    #[error(
        "it begins neither with postgres:// nor with mysql://; write postgres://USER@HOST/DATABASE for PostgreSQL, or \
         mysql://USER@HOST/DATABASE for MariaDB and MySQL"
    )]
    Scheme,
    /// `postgres://host/database`
    #[error("there is no user; write USER@HOST/DATABASE after the `://`")]
    NoUser,
    /// `postgres://user@/database`
    #[error("there is no host; write {}", expected_host(*.0))]
    NoHost(Database),
    /// `postgres://user@host`
    #[error("there is no database; write USER@HOST/DATABASE after the `://`")]
    NoDatabase,
    /// A host that is none.
    #[error("host {0} is none; write {expected}", expected = expected_host(*.1))]
    Host(usize, Database),
    /// A port that is none.
    #[error("the port of host {0} is not a number from 1 to 65535")]
    Port(usize),
    /// `mysql://user@%2Frun%2Fmysqld%2Fmysqld.sock:3306/database`
    #[error("host {0} is a UNIX socket, which has no port; remove the port")]
    SocketPort(usize),
    /// `sslmode=` and similar.
    #[error("TLS is not set here; set tls, ca, client_cert and client_key in this file")]
    Tls,
    /// Another parameter of libpq or of MariaDB's libraries.
    #[error("a parameter after the `?` is unknown; {}", match .0 {
        Database::PostgreSql => "the known ones are host and target_session_attrs",
        Database::MariaDb => "the only one is socket",
    })]
    Parameter(Database),
    /// `target_session_attrs` with another value.
    #[error("target_session_attrs is neither any nor read-write")]
    SessionAttributes,
    /// `%` without two hexadecimal digits, or a control character.
    #[error("it contains a control character, or a `%` without two hexadecimal digits")]
    Encoding,
}

/// Returns how a host is written.
fn expected_host(database: Database) -> &'static str {
    match database {
        Database::PostgreSql => {
            "a name, an address (IPv6 in brackets), or the directory of UNIX sockets as %2Frun%2Fpostgresql"
        }
        Database::MariaDb => {
            "a name, an address (IPv6 in brackets), or a UNIX socket as %2Frun%2Fmysqld%2Fmysqld.sock"
        }
    }
}

/// The kind of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// PostgreSQL.
    PostgreSql,
    /// MariaDB and MySQL.
    MariaDb,
}

impl Database {
    /// Returns the kind of a scheme.
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "postgres" | "postgresql" => Some(Self::PostgreSql),
            "mysql" | "mariadb" => Some(Self::MariaDb),
            _ => None,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::PostgreSql => 5432,
            Self::MariaDb => 3306,
        }
    }
}

/// A host of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// PostgreSQL: the directory of UNIX sockets, and the port in the name of the socket. MariaDB: a UNIX socket, and the
    /// default port, which has no meaning.
    Unix(PathBuf, u16),
}

/// The host with its port, or the path.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path, _) => f.write_str(&printable_path(path)),
        }
    }
}

impl Host {
    /// Whether no network is between: a UNIX socket or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(..) => true,
            Self::Tcp(host, _) => match host.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

/// Which servers will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// Any server, also a standby.
    #[default]
    Any,
    /// A server that accepts writes.
    ReadWrite,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    text: String,
    /// The kind of the database.
    pub kind: Database,
    /// The user.
    pub user: String,
    /// The hosts, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// Which of the hosts will do.
    pub session: Session,
}

/// The text of the setting, which has no password.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Source {
    /// Parses the setting.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if has_password(text) {
            return Err(SourceError::Password);
        }
        if text.len() > MAX_LENGTH {
            return Err(SourceError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(SourceError::Scheme)?;
        let kind = Database::of_scheme(scheme).ok_or(SourceError::Scheme)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(SourceError::NoDatabase)?;
        let (user, hosts) = authority.split_once('@').ok_or(SourceError::NoUser)?;
        let (user, database) = (decode(user)?, decode(database)?);
        if user.is_empty() {
            return Err(SourceError::NoUser);
        }
        if database.is_empty() {
            return Err(SourceError::NoDatabase);
        }
        let mut source = Self {
            text: text.to_owned(),
            kind,
            user,
            hosts: Vec::new(),
            database,
            session: Session::default(),
        };
        source.add_hosts(hosts)?;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            source.add_parameter(parameter)?;
        }
        if source.hosts.is_empty() {
            return Err(SourceError::NoHost(kind));
        }
        Ok(source)
    }

    fn add_parameter(&mut self, parameter: &str) -> Result<(), SourceError> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (self.kind, name, value) {
            (Database::PostgreSql, "host", hosts) => return self.add_hosts(hosts),
            (Database::PostgreSql, "target_session_attrs", "any") => self.session = Session::Any,
            (Database::PostgreSql, "target_session_attrs", "read-write") => self.session = Session::ReadWrite,
            (Database::PostgreSql, "target_session_attrs", _) => return Err(SourceError::SessionAttributes),
            (Database::MariaDb, "socket", path) => {
                let number = self.hosts.len() + 1;
                match parse_host(path, number, self.kind)? {
                    socket @ Host::Unix(..) => self.hosts.push(socket),
                    Host::Tcp(..) => return Err(SourceError::Host(number, self.kind)),
                }
            }
            _ if ["ssl", "tls", "verify"].iter().any(|word| name.contains(word)) => {
                return Err(SourceError::Tls);
            }
            _ => return Err(SourceError::Parameter(self.kind)),
        }
        Ok(())
    }

    fn add_hosts(&mut self, list: &str) -> Result<(), SourceError> {
        if list.is_empty() {
            return Ok(());
        }
        for host in list.split(',') {
            let number = self.hosts.len() + 1;
            self.hosts.push(parse_host(host, number, self.kind)?);
        }
        Ok(())
    }
}

/// Whether a text has a password or may have one. It may contain any character of the syntax, so all that precedes the last
/// `@` is the user and the password.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let lower_case = text.to_ascii_lowercase();
    // `%3a` is a `:` in a URL, and postmapd, which reads the source in source.json, rejects both.
    let has_separator = |login: &str| login.contains(':') || login.to_ascii_lowercase().contains("%3a");
    rest.rsplit_once('@')
        .is_some_and(|(login, _)| has_separator(login))
        || ["password", "passwd", "pwd"]
            .iter()
            .any(|name| lower_case.contains(&format!("{name}=")))
}

/// Parses the host with this number.
fn parse_host(text: &str, number: usize, kind: Database) -> Result<Host, SourceError> {
    let not_a_host = || SourceError::Host(number, kind);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(not_a_host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| not_a_host())?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(not_a_host()),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let given_port = match port {
        Some(port) if port.bytes().all(|c| c.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|port| *port > 0);
            Some(port.ok_or(SourceError::Port(number))?)
        }
        Some(_) => return Err(SourceError::Port(number)),
        None => None,
    };
    let port = given_port.unwrap_or_else(|| kind.default_port());
    let host = decode(host)?;
    if host.starts_with('/') {
        if kind == Database::MariaDb && given_port.is_some() {
            return Err(SourceError::SocketPort(number));
        }
        return Ok(Host::Unix(host.into(), port));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if host.is_empty() || !host.chars().all(is_of_name) {
        return Err(not_a_host());
    }
    Ok(Host::Tcp(host, port))
}

/// Replaces `%2F` and the like (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, SourceError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        decoded.push(value.ok_or(SourceError::Encoding)?);
    }
    String::from_utf8(decoded)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or(SourceError::Encoding)
}

#[cfg(test)]
mod tests;
