//! What is wrong in `follow.toml`, where, and what to do.

use std::path::Path;

use postmapd::diagnostics::{Place, Position};
use postmapd::net::address::AddressError;
use postmapd::os::whole_file::ReadError;
use thiserror::Error;

use super::source::SourceError;

/// An error in the settings file. It never contains a value, which may be a password in the wrong place.
#[derive(Debug, Error)]
#[error("{place}: error: {kind}")]
pub struct SettingError {
    /// The position in the file, or the file.
    pub place: Place,
    /// What is wrong.
    pub kind: SettingErrorKind,
}

/// The kinds of [`SettingError`].
#[derive(Debug, Error)]
pub enum SettingErrorKind {
    /// The file cannot be read.
    #[error(
        "the settings file cannot be read: {0}; create it, let the user of postmapd-follow read it, or set another one with --config"
    )]
    Unreadable(ReadError),
    /// The file is not UTF-8.
    #[error("the file is not UTF-8; save it as UTF-8")]
    NotUtf8,
    /// The file is not TOML.
    #[error("{0}; write one NAME = VALUE per line, with strings in quotes")]
    Syntax(String),
    /// A misspelt setting.
    #[error("unknown setting `{name}`; did you mean {near}?")]
    Misspelt {
        /// The name in the file.
        name: String,
        /// The nearest setting.
        near: &'static str,
    },
    /// A name unlike any setting, which may be a password.
    #[error("unknown setting; the settings here are {0}")]
    Unknown(String),
    /// A required setting is missing.
    #[error("`{0}` is not set; {1}")]
    Missing(&'static str, &'static str),
    /// A value has the wrong type or is out of range.
    #[error("`{key}` must be {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What is valid.
        expected: &'static str,
    },
    /// A source that is none.
    #[error("`source` is not usable: {0}")]
    Source(#[from] SourceError),
    /// `tls` with a word of libpq's sslmode, or any other.
    #[error(
        "`tls` must be \"verify-full\" or, for UNIX sockets and loopback only, \"off\"; every mode between them accepts a server \
         that has not proved its name, and sends it the password"
    )]
    Tls,
    /// `tls = "off"` with a host on the network.
    #[error(
        "`tls` is off, and host {0} of `source` is reached over a network, which would see the credentials; set tls = \
         \"verify-full\", and ca if the certificate of the server is from an authority of your own"
    )]
    PlainNetwork(usize),
    /// A setting for TLS without TLS.
    #[error(
        "`{0}` has no effect, because no connection uses TLS; remove it, or set tls = \"verify-full\" with a host"
    )]
    WithoutTls(&'static str),
    /// A certificate without its key, or the reverse.
    #[error("`{0}` is set and `{1}` is not; a client certificate needs both")]
    Incomplete(&'static str, &'static str),
    /// `stale_after` is so short that every source is stale.
    #[error(
        "`stale_after` (60 seconds unless it is set) must be longer than `poll`, or `every` of [queries]"
    )]
    StaleTooSoon,
    /// The address of the admin listener is none.
    #[error("`admin` is not an address: {0}; for example, 127.0.0.1:9452 or unix:/run/postmapd-follow/admin")]
    Admin(#[from] AddressError),
    /// A source whose tables are those of other programs, without `[queries]`.
    #[error(
        "`source` is MariaDB or MySQL, and [queries] is missing; add it with the queries relay and credentials, because the \
         tables of postmapd exist for PostgreSQL only"
    )]
    NeedsQueries,
    /// A setting that has no effect with `[queries]`.
    #[error("`{0}` has no effect with [queries]; {1}")]
    WithQueries(&'static str, &'static str),
    /// A table of queries without a query.
    #[error(
        "[queries] has none of relay, credentials and tls; add one, or remove [queries] to read the schema of postmapd"
    )]
    NoQuery,
}

impl SettingErrorKind {
    /// Returns the error at a position of the file `path`, or about the file.
    #[must_use]
    pub fn at(self, path: &Path, position: impl Into<Option<Position>>) -> SettingError {
        SettingError {
            place: Place::File(path.to_owned(), position.into()),
            kind: self,
        }
    }
}
