//! The setting `source`: where the database is, and who connects to it.
//!
//! It is a URL as libpq takes it, without a password: `postgres://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE`. A host may be the
//! directory of UNIX sockets, as `%2Frun%2Fpostgresql` or in `?host=/run/postgresql`.
//!
//! An error never contains any part of the text, which may be a password in the wrong place.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

const DEFAULT_PORT: u16 = 5432;

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
    #[error("it does not begin with postgres://; write postgres://USER@HOST/DATABASE")]
    Scheme,
    /// `postgres://host/database`
    #[error("there is no user; write postgres://USER@HOST/DATABASE")]
    NoUser,
    /// `postgres://user@/database`
    #[error(
        "there is no host; write postgres://USER@HOST/DATABASE, or USER@%2Frun%2Fpostgresql for UNIX sockets"
    )]
    NoHost,
    /// `postgres://user@host`
    #[error("there is no database; write postgres://USER@HOST/DATABASE")]
    NoDatabase,
    /// A host that is none.
    #[error(
        "host {0} is not a name, an address (IPv6 in brackets), or the directory of UNIX sockets as %2Frun%2Fpostgresql"
    )]
    Host(usize),
    /// A port that is none.
    #[error("the port of host {0} is not a number from 1 to 65535")]
    Port(usize),
    /// `sslmode=` and similar.
    #[error("TLS is not set here; set tls, ca, client_cert and client_key in this file")]
    Tls,
    /// Another parameter of libpq.
    #[error("a parameter after the `?` is unknown; the known ones are host and target_session_attrs")]
    Parameter,
    /// `target_session_attrs` with another value.
    #[error("target_session_attrs is neither any nor read-write")]
    SessionAttributes,
    /// `%` without two hexadecimal digits, or a control character.
    #[error("it contains a control character, or a `%` without two hexadecimal digits")]
    Encoding,
}

/// A host of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// The directory of UNIX sockets, and the port in the name of the socket.
    Unix(PathBuf, u16),
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
        let rest = ["postgres://", "postgresql://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .ok_or(SourceError::Scheme)?;
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
            user,
            hosts: Vec::new(),
            database,
            session: Session::default(),
        };
        source.add_hosts(hosts)?;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("host", hosts) => source.add_hosts(hosts)?,
                ("target_session_attrs", "any") => source.session = Session::Any,
                ("target_session_attrs", "read-write") => source.session = Session::ReadWrite,
                ("target_session_attrs", _) => return Err(SourceError::SessionAttributes),
                (name, _) if name.starts_with("ssl") => return Err(SourceError::Tls),
                _ => return Err(SourceError::Parameter),
            }
        }
        if source.hosts.is_empty() {
            return Err(SourceError::NoHost);
        }
        Ok(source)
    }

    fn add_hosts(&mut self, list: &str) -> Result<(), SourceError> {
        if list.is_empty() {
            return Ok(());
        }
        for host in list.split(',') {
            let number = self.hosts.len() + 1;
            self.hosts.push(parse_host(host, number)?);
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
fn parse_host(text: &str, number: usize) -> Result<Host, SourceError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(SourceError::Host(number))?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| SourceError::Host(number))?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(SourceError::Host(number)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) if port.bytes().all(|c| c.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|port| *port > 0);
            port.ok_or(SourceError::Port(number))?
        }
        Some(_) => return Err(SourceError::Port(number)),
        None => DEFAULT_PORT,
    };
    let host = decode(host)?;
    if host.starts_with('/') {
        return Ok(Host::Unix(host.into(), port));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if host.is_empty() || !host.chars().all(is_of_name) {
        return Err(SourceError::Host(number));
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
mod tests {
    use postmapd::lookup::directory_source::DirectorySource;
    use proptest::prelude::*;

    use super::{Host, Session, Source, SourceError};

    fn tcp(host: &str, port: u16) -> Host {
        Host::Tcp(host.to_owned(), port)
    }

    #[test]
    fn a_source_names_user_hosts_and_database() {
        let socket = || Host::Unix("/run/postgresql".into(), 5432);
        for (text, hosts, is_local) in [
            ("postgres://u@db.test/mail", vec![tcp("db.test", 5432)], false),
            (
                "postgresql://u@db1.test:1,192.0.2.1,[2001:db8::1]:3/mail",
                vec![tcp("db1.test", 1), tcp("192.0.2.1", 5432), tcp("2001:db8::1", 3)],
                false,
            ),
            (
                "postgres://u@localhost,127.0.0.2,[::1]/mail",
                vec![tcp("localhost", 5432), tcp("127.0.0.2", 5432), tcp("::1", 5432)],
                true,
            ),
            ("postgres://u@%2Frun%2fpostgresql/mail", vec![socket()], true),
            ("postgres://u@/mail?host=/run/postgresql", vec![socket()], true),
            (
                "postgres://u@localhost.evil.test/mail",
                vec![tcp("localhost.evil.test", 5432)],
                false,
            ),
            ("postgres://u@0.0.0.0/mail", vec![tcp("0.0.0.0", 5432)], false),
        ] {
            let source = Source::parse(text).unwrap();
            assert_eq!(source.hosts, hosts, "{text}");
            assert_eq!((source.user.as_str(), source.database.as_str()), ("u", "mail"));
            assert_eq!(source.hosts.iter().all(Host::is_local), is_local, "{text}");
            assert_eq!(source.to_string(), text);
            assert_eq!(source.session, Session::Any);
        }
        let source = Source::parse("postgres://r%40x@h/a%20b?target_session_attrs=read-write").unwrap();
        assert_eq!((source.user.as_str(), source.database.as_str()), ("r@x", "a b"));
        assert_eq!(source.session, Session::ReadWrite);
    }

    #[test]
    fn what_is_not_a_source_is_refused() {
        for (text, error) in [
            ("", SourceError::Scheme),
            ("db.test", SourceError::Scheme),
            ("host=db.test user=u", SourceError::Scheme),
            ("mysql://u@db.test/mail", SourceError::Scheme),
            ("postgres://db.test/mail", SourceError::NoUser),
            ("postgres://@db.test/mail", SourceError::NoUser),
            ("postgres://u@db.test", SourceError::NoDatabase),
            ("postgres://u@db.test/", SourceError::NoDatabase),
            ("postgres://u@/mail", SourceError::NoHost),
            ("postgres://u@db.test,/mail", SourceError::Host(2)),
            ("postgres://u@a b/mail", SourceError::Host(1)),
            ("postgres://u@[db.test]/mail", SourceError::Host(1)),
            ("postgres://u@[::1/mail", SourceError::Host(1)),
            ("postgres://u@a,b:0/mail", SourceError::Port(2)),
            ("postgres://u@a:+1/mail", SourceError::Port(1)),
            ("postgres://u@a:/mail", SourceError::Port(1)),
            ("postgres://u@a:65536/mail", SourceError::Port(1)),
            ("postgres://u@a/mail?sslmode=disable", SourceError::Tls),
            ("postgres://u@a/mail?options=-c", SourceError::Parameter),
            (
                "postgres://u@a/mail?target_session_attrs=standby",
                SourceError::SessionAttributes,
            ),
            ("postgres://u@a/ma%2", SourceError::Encoding),
            ("postgres://u@a/ma%0Ail", SourceError::Encoding),
            ("postgres://u@a/ma%ffil", SourceError::Encoding),
        ] {
            assert_eq!(Source::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_source_is_as_long_as_postmapd_reads_it() {
        let of_length = |length: usize| {
            let text = format!("postgres://u@db.test/{}", "m".repeat(length - 21));
            assert_eq!(text.len(), length);
            Source::parse(&text)
        };
        let longest = of_length(1024).unwrap();
        let json = serde_json::json!({ "source": longest.to_string() }).to_string();
        assert!(DirectorySource::parse(json.as_bytes()).is_ok());
        assert_eq!(of_length(1025).unwrap_err(), SourceError::TooLong);
    }

    #[test]
    fn a_password_is_found_wherever_it_is() {
        for text in [
            "postgres://u:hunter2@db.test/mail",
            "postgres://u:@db.test/mail",
            "postgres://u%3Ahunter2@db.test/mail",
            "postgres://u:hun/ter2@db.test/mail",
            "postgres://u:hun@ter2@db.test/mail",
            "postgres://u:hun?ter2@db.test/mail",
            "mysql://u:hunter2@db.test/mail",
            "u:hunter2@db.test/mail",
            "postgres://u@db.test/mail?password=hunter2",
            "postgres://u@db.test/mail?sslpassword=hunter2",
            "host=db.test user=u PASSWORD=hunter2",
        ] {
            assert_eq!(Source::parse(text).unwrap_err(), SourceError::Password, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_password_is_refused(password in "[ -~]{1,20}") {
            let url = format!("postgres://u:{password}@db.test/mail");
            prop_assert_eq!(Source::parse(&url).unwrap_err(), SourceError::Password);
            let parameter = format!("postgres://u@db.test/mail?password={password}");
            prop_assert_eq!(Source::parse(&parameter).unwrap_err(), SourceError::Password);
        }
    }
}
