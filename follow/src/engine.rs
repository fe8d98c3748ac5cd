//! What postmapd-follow asks of a database, whichever it is.
//!
//! A connection answers one question all the time, *which state are the tables in* ([`Connection::state`]), and reads the rows when
//! the answer has changed ([`Connection::read`]). A state is one transaction: whatever a connection reads of several tables
//! belongs together.
//!
//! Everything has a deadline, the setting `hang`: a database that neither answers nor ends the connection is as far away as
//! one that refuses it. After an error a connection is dropped and never used again. Whether the next one reads
//! everything is for its caller to decide, who gives [`Connection::read`] a known state or none.
//!
//! Errors are for the person who must fix them, and contain no value of a row and no password ([`EngineError`]).

pub mod any;
mod login_deadline;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod postgres;
mod queries;
mod settings_error;
mod tls_errors;

use std::time::SystemTime;

use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use thiserror::Error;

use crate::rows::Row;
pub use settings_error::EngineSettingsError;

/// A state of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number, for people and to ask for what has changed since, if the source counts its states. After a failover
    /// another state may have the same number.
    pub revision: Option<u64>,
    /// Its identity. Two states are equal if and only if this is; it has no order.
    pub version: String,
    /// When it was committed, or first seen if the source does not say that.
    pub committed: SystemTime,
}

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Senders and next hops: `postfix-relaymap.cf`.
    Relay,
    /// Logins: `postfix-sasl-password.cf`.
    Credentials,
    /// TLS for each next hop: `postfix-relay-tls.cf`.
    Tls,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 3] = [Self::Relay, Self::Credentials, Self::Tls];

    /// Returns the name in settings, in the log and in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Credentials => "credentials",
            Self::Tls => "tls",
        }
    }

    /// Returns the file that it becomes.
    #[must_use]
    pub fn spec(self) -> &'static TableSpec {
        match self {
            Self::Relay => &RELAY_MAP,
            Self::Credentials => &CREDENTIALS,
            Self::Tls => &RELAY_TLS,
        }
    }
}

/// How much of the tables a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All rows of each table that [`Rows::table`] names.
    Everything,
    /// The keys that have changed since the known state; all other rows of all tables are unchanged.
    Changes,
}

/// Takes what a connection reads, in this order: [`Rows::begin`] once; then for each table [`Rows::table`] and its rows.
///
/// With [`Extent::Everything`], each table of the source comes exactly once, also if it has no rows, and rows with equal keys come
/// in the order in which they have precedence. With [`Extent::Changes`], only tables with changes come, and the keys of a
/// table come in ascending order of their bytes, each once: as a row, or as removed.
///
/// It reports no error, because there is nothing that a connection could do about one: its caller asks for it afterwards.
pub trait Rows {
    /// Begins the read.
    fn begin(&mut self, extent: Extent);

    /// Begins a table.
    fn table(&mut self, table: Table);

    /// Takes a row of the table.
    fn row(&mut self, row: Row<'_>);

    /// Takes a key that has no row any more.
    fn removed(&mut self, key: &[u8]);
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The state that was read.
    pub state: State,
    /// Whether the source has recorded each change since the known state. Then a table without rows was emptied on purpose;
    /// otherwise this may be another database.
    pub is_continuous: bool,
}

/// A database.
#[expect(
    async_fn_in_trait,
    reason = "the futures stay in the thread that creates them"
)]
pub trait Engine {
    /// A connection to it.
    type Connection: Connection;

    /// Connects to the first host that will do.
    ///
    /// # Errors
    ///
    /// The error of the last host; if some may be temporary, the last one of these.
    async fn connect(&mut self) -> Result<Self::Connection, EngineError>;
}

/// A connection to a database, which has one user.
#[expect(
    async_fn_in_trait,
    reason = "the futures stay in the thread that creates them"
)]
pub trait Connection {
    /// Returns the state of the tables.
    async fn state(&mut self) -> Result<State, EngineError>;

    /// Reads the tables in one transaction: if possible what has changed since `known`, otherwise everything.
    async fn read(&mut self, known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError>;

    /// Waits until the database says that the tables may have changed. A hint: it may be early, late or never come.
    /// To be dropped at any time.
    async fn hint(&mut self);
}

/// Why a database cannot be used at the moment. What was read before stays valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{host}: {kind}")]
pub struct EngineError {
    /// The host, as in the setting `source`.
    pub host: String,
    /// What is wrong.
    pub kind: EngineErrorKind,
}

impl EngineError {
    /// Returns the error of the hosts up to one with the error `last`. While one of them may come back, another attempt may succeed
    /// at any moment, whatever must be corrected for the others.
    fn of_hosts(before: Option<Self>, last: Self) -> Self {
        match before {
            Some(before) if before.kind.is_temporary() && !last.kind.is_temporary() => before,
            _ => last,
        }
    }
}

/// The kinds of [`EngineError`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineErrorKind {
    /// The name has no address.
    #[error("the name has no address ({0}); correct source, or check the DNS servers of this host")]
    NoAddress(String),
    /// `tls = "off"`, and a name that leads to another host.
    #[error("the name leads to {0}, which is not a loopback address; remove tls = \"off\" from follow.toml")]
    PlainNetwork(String),
    /// No connection.
    #[error("cannot connect: {0}; check that the server runs and that a firewall lets this host through")]
    Connect(String),
    /// The server has no TLS.
    #[error(
        "the server does not support TLS; enable it there, so that neither passwords nor rows can be read on the way"
    )]
    NoTls,
    /// The TLS handshake fails.
    #[error("TLS: {0}; check the certificate of the server and the setting ca")]
    Tls(String),
    /// The password or the certificate is rejected.
    #[error(
        "the server rejects the user: {0}; check the user in source, password_file, and the access rules of the server"
    )]
    Login(String),
    /// No right to read.
    #[error(
        "the user has no right to read the tables: {0}; grant SELECT on them, as `postmapd-follow init` prints it for the tables of postmapd"
    )]
    Rights(String),
    /// A table or a column is missing.
    #[error("the tables are not those that are expected: {0}; {1}")]
    Tables(String, &'static str),
    /// A host that does not accept writes, and `target_session_attrs=read-write`.
    #[error("the server accepts no writes, and target_session_attrs=read-write is set")]
    ReadOnly,
    /// No answer within this time.
    #[error("no answer within {0} (setting hang); the server or the network hangs")]
    Hang(String),
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Lost(String),
    /// An error that the server reports for a query.
    #[error("the server reports for {query}: {message}")]
    Query {
        /// What was asked, as the settings name it.
        query: &'static str,
        /// The SQLSTATE and the message, without details, which may have values of rows.
        message: String,
    },
    /// The rows changed while they were read, although a transaction read them.
    #[error(
        "the rows changed while they were read; convert their tables to InnoDB, which is the engine with transactions"
    )]
    Changing,
    /// An answer with another shape.
    #[error("the result of {query} is unusable: {reason}")]
    Result {
        /// What was asked, as the settings name it.
        query: &'static str,
        /// What is wrong, without a value.
        reason: String,
    },
}

impl EngineErrorKind {
    /// Returns the error of a host.
    #[must_use]
    pub fn at(self, host: impl Into<String>) -> EngineError {
        EngineError {
            host: host.into(),
            kind: self,
        }
    }

    /// Whether another attempt may succeed without a change of settings, so that `once` exits with 75 and not 1, and `run` tries
    /// again within a second.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoAddress(_)
            | Self::Connect(_)
            | Self::ReadOnly
            | Self::Hang(_)
            | Self::Lost(_)
            | Self::Query { .. }
            | Self::Changing => true,
            Self::PlainNetwork(_)
            | Self::NoTls
            | Self::Tls(_)
            | Self::Login(_)
            | Self::Rights(_)
            | Self::Tables(..)
            | Self::Result { .. } => false,
        }
    }
}
