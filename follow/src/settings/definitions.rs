//! The names, defaults and meanings of the settings: for the parser, the errors and the manual page.

use std::fmt;

use self::DefaultValue::{Seconds, Switch, Text};

/// The table of queries.
pub const QUERIES: &str = "queries";

/// Default of `dir`.
pub(super) const DIR: &str = "/var/lib/postmapd";
/// Default of `schema`.
pub(super) const SCHEMA: &str = "postmapd";
/// Default of `poll`, in seconds.
pub(super) const POLL: u64 = 1;
/// Default of `hang`, in seconds.
pub(super) const HANG: u64 = 2;
/// Default of `stale_after`, in seconds.
pub(super) const STALE_AFTER: u64 = 60;
/// Default of `sandbox`.
pub(super) const SANDBOX: bool = true;
/// Default of `every`, in seconds.
pub(super) const EVERY: u64 = 5;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its table in the file; empty for those before any table.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its default.
    pub default: DefaultValue,
    /// What it does, as sentences without the last full stop.
    pub about: &'static str,
}

/// The default of a setting.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// A string, or words that say what holds without the setting.
    Text(&'static str),
    /// A duration in seconds.
    Seconds(u64),
    /// A switch.
    Switch(bool),
}

/// As in the settings file, without quotes.
impl fmt::Display for DefaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Switch(switch) => switch.fmt(f),
        }
    }
}

const fn setting(name: &'static str, default: DefaultValue, about: &'static str) -> Definition {
    Definition {
        table: "",
        name,
        default,
        about,
    }
}

const fn query(name: &'static str, default: DefaultValue, about: &'static str) -> Definition {
    Definition {
        table: QUERIES,
        name,
        default,
        about,
    }
}

/// All settings, in the order of the manual page.
pub static ALL: &[Definition] = &[
    setting(
        "source",
        Text("none; it is required"),
        "The database: postgres://USER@HOST[:PORT][,HOST[:PORT]...]/DATABASE, or mysql:// for MariaDB and MySQL. A host is a name, \
         an address (IPv6 in brackets), or a UNIX socket: for PostgreSQL the directory of its sockets, as %2Frun%2Fpostgresql. \
         The hosts are tried in this order. With ?target_session_attrs=read-write, a standby of PostgreSQL is not used. A password \
         in it is an error",
    ),
    setting(
        "password_file",
        Text("none"),
        "File with the password of the user, without anything else. A warning is logged if every user has access to it; mode 0600, or \
         0640, is right",
    ),
    setting(
        "tls",
        Text("verify-full; off if every host is a UNIX socket"),
        "verify-full: connections use TLS, and the certificate of the server must be valid for the host in source. off: no TLS, \
         which is possible only if every host is a UNIX socket or a loopback address. A UNIX socket is better: while the server is away, \
         any local program can listen at its port and pose as it",
    ),
    setting(
        "ca",
        Text("the certificate authorities of the system"),
        "File with the certificate authorities of the server, PEM",
    ),
    setting(
        "client_cert",
        Text("none"),
        "File with the certificate of this program, PEM. It needs client_key",
    ),
    setting(
        "client_key",
        Text("none"),
        "File with the key of client_cert, PEM. Not every user may have access to it",
    ),
    setting(
        "dir",
        Text(DIR),
        "Directory that this program writes and postmapd reads. It must exist. If it has the set-group-ID bit, its group can read \
         the tables (0640), otherwise only their owner (0600)",
    ),
    setting(
        "schema",
        Text(SCHEMA),
        "Schema of PostgreSQL with the tables of postmapd. Not with [queries]",
    ),
    setting(
        "poll",
        Seconds(POLL),
        "Interval at which the source is asked for its version. A notification of PostgreSQL makes it earlier. Not with [queries]",
    ),
    setting(
        "hang",
        Seconds(HANG),
        "How long the source may take for an answer. Afterwards, the program connects again",
    ),
    setting(
        "stale_after",
        Seconds(STALE_AFTER),
        "Time without the source after which /readyz of the admin listener fails. The answers of postmapd stay as they are",
    ),
    setting(
        "admin",
        Text("none"),
        "Address of the HTTP listener for health, status and metrics: HOST:PORT or unix:PATH",
    ),
    setting(
        "sandbox",
        Switch(SANDBOX),
        "Drop the rights that the program does not need before it connects; see SANDBOX",
    ),
    query(
        "relay",
        Text("none; the file is then not written"),
        "Query for the senders and their next hops: two columns. NULL or an empty next hop is no destination",
    ),
    query(
        "credentials",
        Text("none; the file is then not written"),
        "Query for keys with their user and password: three columns. Both NULL or empty are a key without credentials",
    ),
    query(
        "tls",
        Text("none; the file is then not written"),
        "Query for next hops and the words about TLS: two columns",
    ),
    query(
        "version",
        Text("none; the database computes a checksum of each result"),
        "Query with one value that differs after each change",
    ),
    query(
        "every",
        Seconds(EVERY),
        "Interval at which the queries run, or the one of version if it is set",
    ),
    query(
        "empty",
        Text("refuse"),
        "Whether an empty result may replace rows: refuse keeps them, because the database may be another one or a restored one; \
         allow takes it",
    ),
];

/// Returns the names of the settings of a table; before any table, that of `[queries]` is the last one.
pub(super) fn names(table: &str) -> Vec<&'static str> {
    let names = ALL.iter().filter(|setting| setting.table == table);
    let queries = table.is_empty().then_some(QUERIES);
    names.map(|setting| setting.name).chain(queries).collect()
}
